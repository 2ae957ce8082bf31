"""Writing a shard: rows into records, arrays, or both, and what was written.

A shard is finished when its entry, `<split>-0000i-of-0000N.json`, is there: a
preparation that is started again keeps it. The entries become the manifest.
"""

from collections import Counter
from collections.abc import Sequence
import json
import os
import time
from typing import Any

from robertax import paths
from robertax.corpus import checksums, records, shards
from robertax.corpus.blocks import Block, Shard
from robertax.corpus.packing import Rows
from robertax.corpus.records import split_names, write_json

COUNTS = ('num_records', 'num_examples', 'num_tokens', 'num_documents',
          'num_sentences')


class ShardFiles:
  """The files of one shard, for each duplicate of its split.

  A context that drops what an error leaves unfinished.
  """

  def __init__(self, folder: str, shard: Shard, dtype: str,
               forms: Sequence[str], duplicates: int):
    """Makes the files.

    Args:
      folder: of the records.
      shard: what is going to be written.
      dtype: of the ids.
      forms: as in Manifest.
      duplicates: of the training split.
    """
    self._folder, self._shard, self._forms = folder, shard, forms
    self._names = split_names(shard.split, duplicates)
    self._records, self._arrays = [], []
    try:
      for name in self._names:
        if 'array_record' in forms:
          self._records.append(records.ShardWriter(records.shard_path(
              folder, name, shard.index, shard.total)))
        if 'memmap' in forms:
          self._arrays.append(shards.SplitWriter(
              folder, part_name(shard, name), dtype))
    except BaseException:
      self.abandon()
      raise
    self._totals = {name: Counter(dict.fromkeys(COUNTS, 0))
                    for name in self._names}
    self._counts, self._seconds = Counter(), Counter(packing=0., writing=0.)

  def write(self, block: Block, drawn: Sequence[Rows]) -> None:
    """Writes the rows of the next block, for each duplicate."""
    started = time.monotonic()
    for number, (name, rows) in enumerate(zip(self._names, drawn)):
      if self._records:
        for record in rows.records:
          self._records[number].write(record)
      if self._arrays:
        self._arrays[number].write_rows(rows, block.start)
      self._totals[name].update(
          num_records=len(rows.row_lengths), num_examples=len(rows.lengths),
          num_tokens=len(rows.ids), num_documents=block.stop - block.start,
          num_sentences=rows.counts['num_sentences'])
      self._counts.update(rows.counts)
      self._seconds['packing'] += rows.seconds
    self._seconds['writing'] += time.monotonic() - started

  def close(self) -> None:
    """The shard is finished: its files and its entry have their names."""
    started = time.monotonic()
    sums = {}
    for number, name in enumerate(self._names):
      if self._records:
        path = records.shard_path('', name, self._shard.index,
                                  self._shard.total)
        sums[path] = self._records[number].close()
      if self._arrays:
        sums |= self._arrays[number].close()
    del self._counts['num_sentences']  # Stands with the splits.
    self._seconds['writing'] += time.monotonic() - started
    write_json(entry_path(self._folder, self._shard), {
        'version': records.VERSION, 'shard': self._shard.identity,
        'forms': list(self._forms),
        'splits': self._totals, 'counts': self._counts,
        'seconds': {k: round(v, 3) for k, v in self._seconds.items()},
        'checksums': checksums.to_json(sums)})

  def abandon(self) -> None:
    """Drops unfinished files, on the way out of an error."""
    for writer in self._records + self._arrays:
      writer.abandon()

  def __enter__(self):
    return self

  def __exit__(self, kind, *rest):
    if kind:
      self.abandon()


def part_name(shard: Shard, name: str) -> str:
  """A shard of a split in memory-mapped form: a split that is joined later."""
  return f'{name}-{shard.index:05d}-of-{shard.total:05d}'


def entry_path(folder: str, shard: Shard) -> str:
  """Where what is known of a finished shard is kept until the manifest is."""
  return os.path.join(folder, f'{shard.name}.json')


def read_entry(folder: str, shard: Shard, forms: Sequence[str]
               ) -> dict[str, Any] | None:
  """What is known of a finished shard; None: it is not, or not in all forms."""
  try:
    with paths.open(entry_path(folder, shard)) as f:
      entry = json.load(f)
    whole = (entry['version'] == records.VERSION
             and entry['shard'] == shard.identity
             and set(forms) <= set(entry['forms'])
             and all(paths.stat(os.path.join(folder, name)).size == file['size']
                     for name, file in entry['checksums'].items()))
    return entry if whole else None
  except (OSError, ValueError, KeyError, TypeError):
    return None
