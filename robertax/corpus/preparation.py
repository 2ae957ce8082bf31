"""Preparation: corpora become records, tokenizer included.

A first pass reads everything, so that what is wrong with the text is said
before any work is done, and learns the blocks (corpus/surveys.py). A second
tokenizes them into a store (corpus/token_store.py), a third packs the store
into records. Each goes on from what is finished, by whomever. A folder of
records is finished when its manifest is there, and not before.
"""

import dataclasses
import os
import sys
import time

from robertax import paths
from robertax.corpus import finishing, records
from robertax.corpus.blocks import Shard
from robertax.corpus.documents import corpora_of
from robertax.corpus.filling import fill_records, fill_tokens
from robertax.corpus.formats import FORMATS
from robertax.corpus.jobs import Job, jobs_of
from robertax.corpus.locks import locked
from robertax.corpus.records import SPLITS, Manifest
from robertax.corpus.sentences import SPLITTERS
from robertax.corpus.surveys import Surveys
from robertax.corpus.vocabulary import tokenizer_for
from robertax.corpus.workers import available_cores
from robertax.errors import InputError, unknown
from robertax.text import Tokenizer

SHORTEST = 8  # Tokens; below, there is hardly anything to predict from.


@dataclasses.dataclass(frozen=True)
class Prepared:
  """What `prepare` gives.

  Attributes:
    tokenizer: the tokenizer of the records.
    manifests: one a corpus, in the order of data.corpora.
    tokenizer_path: the file or folder the tokenizer was read from.
  """
  tokenizer: Tokenizer
  manifests: list[Manifest]
  tokenizer_path: str


def default_cache_dir() -> str:
  """Where records are kept if data.cache_dir is empty."""
  base = os.environ.get('XDG_CACHE_HOME') or os.path.join('~', '.cache')
  return os.path.join(os.path.expanduser(base), 'robertax')


@dataclasses.dataclass(frozen=True)
class Plan:
  """What there is to do: of each corpus a job, all with one tokenizer."""
  tokenizer: Tokenizer
  tokenizer_path: str
  jobs: list[Job]
  forms: tuple[str, ...]  # Those of jobs, and what is made of these.


def plan(data, tokenizer_config, *, out: str = '', memmap: bool = False,
         vocab_size: int = 0, progress: bool = True, only_kept: bool = False
         ) -> Plan:
  """Checks the config, reads all text that is not prepared, and plans.

  Args:
    data, tokenizer_config, out, memmap, vocab_size, progress: as `prepare`.
    only_kept: read no text and train no tokenizer: what the plan needs was
      kept by an earlier one, or it is an error.

  Raises:
    InputError: whatever is wrong with config, text or tokenizer.
  """
  for name, table in (('format', FORMATS), ('sentences', SPLITTERS)):
    if getattr(data, name) not in table:
      raise unknown(f'data.{name}', getattr(data, name), table)
  if data.sequence_length < SHORTEST:
    raise InputError(f'data.sequence_length={data.sequence_length}: at least '
                     f'{SHORTEST} would do.')
  if data.workers < 0:
    raise InputError(f'data.workers={data.workers}: a number of processes, or '
                     '0 for one a core, would do.')
  cache = paths.absolute(out or data.cache_dir or default_cache_dir())
  # Without array_record there is one form only, and it is always made.
  forms = ['array_record'] if records.array_record_module() else []
  if memmap or data.backend == 'numpy' or not forms:
    forms.append('memmap')
  made = tuple(forms)
  if paths.is_remote(cache):
    if 'array_record' not in forms:
      raise InputError(f'{cache}: to prepare records in a remote place needs '
                       'array_record: pip install array-record.')
    # Whatever the backend, what is remote is read in the other form, and that
    # is made of these: arrays cannot be mapped there to be joined.
    made, forms = ('array_record', 'memmap'), ['array_record']
  corpora = corpora_of(data)
  surveys = Surveys(cache, progress, only_kept)
  tokenizer, path = tokenizer_for(
      tokenizer_config, corpora, surveys, data.sentences, cache, progress,
      only_kept)
  if vocab_size not in (0, tokenizer.vocab_size):
    raise InputError(
        f'model.vocab_size={vocab_size}, but the tokenizer {path} has '
        f'{tokenizer.vocab_size} ids: 0 takes its number.')
  return Plan(tokenizer, path, jobs_of(data, corpora, tokenizer, cache,
                                       tuple(forms), surveys), made)


def prepare(data, tokenizer_config, *, out: str = '', memmap: bool = False,
            vocab_size: int = 0, progress: bool = True) -> Prepared:
  """Prepares what is missing and returns all of it.

  Args:
    data: has corpora and what else says which documents
      (documents.corpora_of), sentences, format, sequence_length, pair_*,
      cache_dir, keep_tokens, workers, backend (data.DataConfig).
    tokenizer_config: has path and vocab_size (text.TokenizerConfig).
    out: a folder instead of data.cache_dir.
    memmap: make the memory-mapped form too; data.backend='numpy' implies it.
    vocab_size: what the tokenizer must have (model.vocab_size); 0: anything.
    progress: show progress bars, and a line a corpus, on stderr.

  Raises:
    InputError: whatever is wrong with config, text, tokenizer or disk.
  """
  planned = plan(data, tokenizer_config, out=out, memmap=memmap,
                 vocab_size=vocab_size, progress=progress)
  manifests = []
  for job in planned.jobs:
    with locked(job.folder):
      if not records.is_finished(job.folder):
        _fill(job, data.workers or available_cores(), data.keep_tokens,
              progress)
      manifest = Manifest.read(job.folder)
      manifest.check(corpus=job.corpus.name, vocab_size=job.vocab_size,
                     dtype=job.recipe.dtype, **job.facts)
      finishing.left_over(manifest)
      manifest = finishing.with_forms(manifest, planned.forms)
    if progress:
      print(summary(manifest), file=sys.stderr)
    manifests.append(manifest)
  return Prepared(planned.tokenizer, manifests, planned.tokenizer_path)


def _fill(job: Job, workers: int, keep_tokens: bool, progress: bool) -> None:
  """The second and third pass over one corpus, up to its manifest."""
  started = time.monotonic()
  with locked(job.store_folder):
    finishing.clear(job)
    missing = job.without_tokens()
    if progress:
      _going_on(job, missing)
    fill_tokens(job, missing, workers, progress)
    fill_records(job, job.without_records(), workers, progress)
    manifest = finishing.finish(job, time.monotonic() - started)
    if not keep_tokens:
      job.store.remove()
  if progress:
    print(seconds(manifest, workers), file=sys.stderr)


def _going_on(job: Job, missing: list[Shard]) -> None:
  """Says what an earlier preparation left to go on from."""
  whole, left = len(job.shards()), len(job.without_records())
  if left < whole or len(missing) < whole:
    print(f'{job.corpus.name}: of {whole} shards {whole - len(missing)} are '
          f'tokenized and {whole - left} packed already.', file=sys.stderr)


def seconds(manifest: Manifest, workers: int) -> str:
  """Where the time of a preparation went, in a line.

  Reading, splitting and tokenizing may have been done for another format.
  """
  return (f'{manifest.corpus}: {manifest.seconds:.1f} seconds; '
          + ', '.join(f'{name} {took:.1f}'
                      for name, took in manifest.stages.items())
          + (f' (of {workers} processes together)' if workers > 1 else ''))


def summary(manifest: Manifest) -> str:
  """A corpus in a line: its size, and whatever was cut, dropped or wasted."""
  splits = [manifest.splits[name] for name in SPLITS]
  drawn = ('' if manifest.duplicates == 1 else
           f', pairs drawn {manifest.duplicates} times, all counted')
  sizes = ', '.join(
      f'{sum(split[f"num_{what}"] for split in splits):,} {what}'
      for what in ('documents', 'sentences', 'tokens', 'examples'))
  counts = ', '.join(
      f'{name.replace("_", " ")} '
      + (f'{count:.2%}' if name.endswith('_fraction') else f'{count:,}')
      for name, count in manifest.counts.items() if count)
  return (f'{manifest.corpus}: {sizes} ({splits[1].num_examples:,} of them for '
          f'evaluation){drawn}; {counts}. {manifest.folder}')
