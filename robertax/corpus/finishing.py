"""Finishing: the shards of a corpus become one whole with a manifest."""

from collections import Counter
from collections.abc import Sequence
import dataclasses
import glob
import os
import time

from robertax import paths
from robertax.corpus import checksums, records, shards
from robertax.corpus.formats import FORMATS
from robertax.corpus.jobs import Job
from robertax.corpus.records import (
    SPLITS,
    Manifest,
    Split,
    split_names,
    writing,
)
from robertax.corpus.split_files import part_name, read_entry
from robertax.corpus.wire import FIELDS, PAIR_FIELDS
from robertax.errors import InputError

STAGES = ('reading', 'splitting', 'tokenizing', 'packing', 'writing')


def clear(job: Job) -> None:
  """Removes what an interrupted preparation left unfinished."""
  for folder in (job.folder, job.store_folder):
    if not paths.is_remote(folder):
      with writing(folder):
        for stale in glob.glob(f'{glob.escape(folder)}/*.partial'):
          os.remove(stale)


def finish(job: Job, seconds: float) -> Manifest:
  """Writes what a folder has besides its shards, the manifest last.

  Args:
    job: all of its shards are finished.
    seconds: the preparation took, so far.

  Raises:
    InputError: too little text; the disk.
  """
  started = time.monotonic()
  entries = [(shard, read_entry(job.folder, shard, job.forms))
             for shard in job.shards()]
  splits = _splits(job, entries)
  counts, sums = Counter(job.survey.counts), {}
  stages = Counter(reading=job.survey.seconds)
  for shard, entry in entries:
    stages.update(job.store.seconds(shard))
    counts.update(entry['counts'])
    stages.update(entry['seconds'])
    sums |= checksums.from_json(entry['checksums'])
  if 'array_record' in job.forms:
    sums |= checksums.checksums(job.folder, records.write_tfds_metadata(
        job.folder, splits, PAIR_FIELDS if job.recipe.pair_law else FIELDS))
  if 'memmap' in job.forms:
    parts = {name: [part_name(shard, name) for shard, _ in entries
                    if name in split_names(shard.split, job.duplicates)]
             for name in splits}
    for name in splits:
      sums |= shards.join(job.folder, name, parts[name], job.recipe.dtype)
      for part in parts[name]:
        for file in shards.file_names(part):
          sums.pop(file, None)
    sums |= shards.finish(job.folder, list(splits))
  slots = job.recipe.sequence_length * sum(
      split.num_records for split in splits.values())
  counts['padding_fraction'] = round(counts['padding_tokens'] / slots, 4)
  took = time.monotonic() - started
  manifest = Manifest(
      folder=job.folder, corpus=job.corpus.name, forms=job.forms, splits=splits,
      max_examples_per_row=FORMATS[job.recipe.format].examples_per_row(
          job.recipe.sequence_length),
      dtype=job.recipe.dtype, vocab_size=job.vocab_size,
      counts=dict(sorted(counts.items())),
      seconds=round(seconds + took, 1),
      stages={name: round(stages[name] + (took if name == 'writing' else 0), 2)
              for name in STAGES},
      checksums=sums, **job.facts)
  manifest.write()
  return manifest


def _splits(job: Job, entries: list) -> dict[str, Split]:
  """Counts of each split, of all its shards together."""
  splits = {}
  for split in SPLITS:
    own = [entry for shard, entry in entries if shard.split == split]
    for name in split_names(split, job.duplicates):
      parts = [entry['splits'][name] for entry in own]
      total = sum(map(Counter, parts), Counter())
      if not total['num_records']:
        raise InputError(
            f'{job.corpus.name}: its text is too short to split: nothing is '
            f'left for {"evaluation" if name == "eval" else "training"}. Two '
            'sentences are the least.')
      splits[name] = Split(**total, shard_lengths=tuple(
          part['num_records'] for part in parts))
  return splits


def left_over(manifest: Manifest) -> None:
  """Removes what the making of finished records needed, and they do not.

  Entries of shards, parts of arrays, files of a preparation by other code.
  """
  if manifest.checksums:
    for name in paths.listdir(manifest.folder):
      if '-of-' in name and name not in manifest.checksums:
        paths.remove(os.path.join(manifest.folder, name))


def with_forms(manifest: Manifest, forms: Sequence[str]) -> Manifest:
  """Adds the memory-mapped form to finished records that lack it."""
  if 'memmap' not in forms or 'memmap' in manifest.forms:
    return manifest
  sums = shards.from_records(manifest)
  if manifest.checksums:  # Else it was prepared before there were any.
    sums = manifest.checksums | sums
  else:
    sums = {}
  manifest = dataclasses.replace(
      manifest, forms=(*manifest.forms, 'memmap'), checksums=sums)
  manifest.write()
  return manifest
