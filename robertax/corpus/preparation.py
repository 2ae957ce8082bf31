"""Preparation: corpora become records, on this machine or by Apache Beam.

A first pass over the text learns its blocks (blocks.py), and a tokenizer is
read or trained. A second pass tokenizes the blocks into a store (tokens.py), a
third packs the store into records (shards.py). Each pass goes on from what is
finished, by whomever. A folder of records is finished when its manifest is
there, and `verify_prepared` says whether it still is what was written.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import glob
import os
import re
import threading
import time

from robertax import errors, files
from robertax.config import DataConfig, TokenizerConfig
from robertax.corpus import records, shards, tokens
from robertax.corpus.blocks import Surveys, part_of
from robertax.corpus.documents import corpora_of
from robertax.corpus.formats import FORMATS
from robertax.corpus.records import (
    MANIFEST,
    PAIR_FIELDS,
    ROW_FIELDS,
    SPLITS,
    Manifest,
    Split,
    split_names,
    writing_records,
)
from robertax.corpus.sentences import SPLITTERS
from robertax.corpus.shards import part_name, read_entry
from robertax.corpus.workers import (
    Job,
    available_cores,
    fill_records,
    fill_tokens,
    jobs_of,
)
from robertax.errors import InputError, unknown
from robertax.files import DAMAGE_ADVICE, Checksum, Damage, find_damage, locked
from robertax.progress import progress_bar, say
from robertax.text import (
    Tokenizer,
    check,
    load,
    train_byte_bpe,
    train_wordpiece,
)

# Raised whenever the same corpora would train another tokenizer.
TRAINING_VERSION = 1
MAX_TRAINING_CHARS = 256_000_000
SHORTEST = 8  # Tokens; below, there is hardly anything to predict from.
STAGES = ('reading', 'splitting', 'tokenizing', 'packing', 'writing')
OUR_FILES = (MANIFEST, '.lock')
INSTALL = ("--beam needs the package apache-beam: pip install "
           "'apache-beam==2.77.0', or '.[beam]' in robertax's folder.")


def _tokenizer_path(config: TokenizerConfig, corpora: list, sentences: str,
                    cache_dir: str) -> str:
  """Where the tokenizer trained on these corpora is kept."""
  facts = [TRAINING_VERSION, MAX_TRAINING_CHARS, config.vocab_size, sentences,
           [corpus.fingerprint() for corpus in corpora]]
  if config.kind != 'byte_bpe':  # Kept byte_bpe tokenizers keep their names.
    facts += [config.kind, config.lowercase]
  name = files.json_hash(facts)[:16]
  return os.path.join(cache_dir, 'tokenizers', name, 'tokenizer.json')


def tokenizer_for(config: TokenizerConfig, corpora: list, surveys: Surveys,
                  sentences: str, cache_dir: str, progress: bool = True,
                  only_kept: bool = False) -> tuple[Tokenizer, str]:
  """The tokenizer of a config, read or trained, and the path of its file.

  One is trained on the sentences of the training documents, which it will
  encode, and kept in `cache_dir`; with `only_kept`, none is trained.

  Raises:
    InputError: an unknown kind, a wrong file, a vocabulary that is too small.
  """
  if config.path:
    return load(config.path, config.lowercase), config.path
  check(config)
  path = _tokenizer_path(config, corpora, sentences, cache_dir)
  if only_kept and not files.exists(path):
    raise InputError(f'no tokenizer was trained on these corpora: {path} does '
                     'not exist. Run python -m robertax.prepare.')
  with locked(os.path.dirname(path)):
    if not files.exists(path):
      share = _training_plan(corpora, surveys)[2]
      if share < 1:
        say(f'The tokenizer is trained on {share:.1%} of the text, documents '
            'taken evenly.')

      def texts():  # WordPiece goes through it twice.
        return _training_texts(corpora, surveys, SPLITTERS[sentences], progress)

      tokenizer = (
          train_byte_bpe(texts(), config.vocab_size)
          if config.kind == 'byte_bpe' else
          train_wordpiece(texts, config.vocab_size, config.lowercase))
      if tokenizer.vocab_size < config.vocab_size:
        say(f'The text gives a vocabulary of {tokenizer.vocab_size:,} only, '
            f'{config.vocab_size:,} were asked for.')
      with errors.writing(path):
        files.makedirs(os.path.dirname(path))
        tokenizer.save(path)
    try:
      return load(path), path
    except InputError as e:
      raise InputError(f'{e} Delete that file: it is trained again.') from e


def _training_texts(corpora, surveys, split, progress) -> Iterator[list[str]]:
  """Sentences of the training documents, a list a document.

  Of more than MAX_TRAINING_CHARS a part is taken: documents, evenly from
  beginning to end.
  """
  heads, total, share = _training_plan(corpora, surveys)
  seen = taken = 0
  with progress_bar(total, 'char', 'tokenizer: reading', progress) as shown:
    for corpus, blocks in zip(corpora, heads):
      part = blocks[0].part
      for _, text in zip(range(blocks[-1].stop), corpus.documents()):
        seen += len(text)
        shown.update(len(text))
        if taken <= share * seen - len(text) * share or share == 1:
          taken += len(text)
          yield part_of(split(text), part)
  if progress:
    say('tokenizer: learning from it')


def _training_plan(corpora, surveys) -> tuple[list, int, float]:
  """Training blocks of each corpus, their characters, the share to use."""
  heads = [[block for block in surveys(corpus) if block.split == 'train']
           for corpus in corpora]
  total = sum(block.chars for blocks in heads for block in blocks)
  return heads, total, min(1., MAX_TRAINING_CHARS / max(1, total))


def finish_records(job: Job, seconds: float) -> Manifest:
  """Writes what a folder of finished shards lacks, the manifest last."""
  started = time.monotonic()
  entries = [(shard, read_entry(job.folder, shard, job.forms))
             for shard in job.shards()]
  splits = _split_counts(job, entries)
  counts, sums = Counter(job.survey.counts), {}
  stages = Counter(reading=job.survey.seconds)
  for shard, entry in entries:
    stages.update(job.store.seconds(shard))
    counts.update(entry['counts'])
    stages.update(entry['seconds'])
    sums |= files.checksums_from_json(entry['checksums'])
  if 'array_record' in job.forms:
    sums |= files.checksums(job.folder, records.write_tfds_metadata(
        job.folder, splits, PAIR_FIELDS if job.recipe.pair_law else ROW_FIELDS))
  if 'memmap' in job.forms:
    parts = {name: [part_name(shard, name) for shard, _ in entries
                    if name in split_names(shard.split, job.duplicates)]
             for name in splits}
    for name in splits:
      sums |= shards.join_arrays(job.folder, name, parts[name],
                                 job.recipe.dtype)
      for part in parts[name]:
        for file in shards.array_names(part):
          sums.pop(file, None)
    sums |= shards.finish_arrays(job.folder, list(splits))
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


def _split_counts(job: Job, entries: list) -> dict[str, Split]:
  """The counts of each split, summed over its shards."""
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


def add_forms(manifest: Manifest, forms: Sequence[str]) -> Manifest:
  """Adds the memory-mapped form to finished records that lack it."""
  if 'memmap' not in forms or 'memmap' in manifest.forms:
    return manifest
  sums = shards.arrays_from_records(manifest)
  # Without checksums, it was prepared before there were any.
  sums = manifest.checksums | sums if manifest.checksums else {}
  manifest = dataclasses.replace(
      manifest, forms=(*manifest.forms, 'memmap'), checksums=sums)
  manifest.write()
  return manifest


@dataclasses.dataclass(frozen=True)
class Prepared:
  """What `prepare` returns.

  Attributes:
    tokenizer: the tokenizer of the records.
    manifests: one a corpus, in the order of data.corpora.
    tokenizer_path: the file or folder that the tokenizer was read from.
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
  """What there is to do: a job for each corpus, all with one tokenizer."""
  tokenizer: Tokenizer
  tokenizer_path: str
  jobs: list[Job]
  forms: tuple[str, ...]  # Those of the jobs, and what is made of these.


def plan(data: DataConfig, tokenizer_config: TokenizerConfig, *, out: str = '',
         memmap: bool = False, vocab_size: int = 0, progress: bool = True,
         only_kept: bool = False) -> Plan:
  """Checks the config, surveys all text that is not prepared, and plans.

  Arguments and errors are those of `prepare`. With `only_kept`, no text is read
  and no tokenizer trained: what an earlier plan did not keep is an error.
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
  cache = files.absolute(out or data.cache_dir or default_cache_dir())
  # Without array_record there is one form only, and it is always made.
  forms = ['array_record'] if records.array_record_module() else []
  if memmap or data.backend == 'numpy' or not forms:
    forms.append('memmap')
  made = tuple(forms)
  if files.is_remote(cache):
    if 'array_record' not in forms:
      raise InputError(f'{cache}: to prepare records in a remote place needs '
                       'array_record: pip install array-record.')
    # Arrays cannot be mapped there to be joined: they are made of records.
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


def prepare(data: DataConfig, tokenizer_config: TokenizerConfig, *,
            out: str = '', memmap: bool = False, vocab_size: int = 0,
            progress: bool = True) -> Prepared:
  """Prepares what is missing and returns all of it.

  Args:
    data, tokenizer_config: sections of a config.
    out: a folder instead of data.cache_dir.
    memmap: make the memory-mapped form too; data.backend='numpy' implies it.
    vocab_size: that the tokenizer must have (model.vocab_size); 0: any.
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
        _fill_corpus(job, data.workers or available_cores(), data.keep_tokens,
                     progress)
      manifest = Manifest.read(job.folder)
      manifest.check(corpus=job.corpus.name, vocab_size=job.vocab_size,
                     dtype=job.recipe.dtype, **job.facts)
      for name in files.listdir(job.folder) if manifest.checksums else ():
        # Entries and arrays of shards, which only the making needed, and what
        # one that was killed has left.
        if name not in manifest.checksums and (
            '-of-' in name or name.endswith('.partial')):
          files.remove(os.path.join(job.folder, name))
      manifest = add_forms(manifest, planned.forms)
    if progress:
      say(describe_manifest(manifest))
    manifests.append(manifest)
  return Prepared(planned.tokenizer, manifests, planned.tokenizer_path)


def _fill_corpus(job: Job, workers: int, keep_tokens: bool,
                 progress: bool) -> None:
  """Makes the second and third pass over a corpus, and its manifest."""
  started = time.monotonic()
  with locked(job.store_folder):
    for folder in (job.folder, job.store_folder):
      if not files.is_remote(folder):
        with writing_records(folder):
          for stale in glob.glob(f'{glob.escape(folder)}/*.partial'):
            os.remove(stale)
    missing = job.without_tokens()
    if progress:
      whole, left = len(job.shards()), len(job.without_records())
      if left < whole or len(missing) < whole:
        say(f'{job.corpus.name}: of {whole} shards {whole - len(missing)} '
            f'are tokenized and {whole - left} packed already.')
    fill_tokens(job, missing, workers, progress)
    fill_records(job, job.without_records(), workers, progress)
    manifest = finish_records(job, time.monotonic() - started)
    if not keep_tokens:
      with writing_records(job.store_folder):
        files.rmtree(job.store_folder)
  if progress:
    say(describe_seconds(manifest, workers))


def describe_seconds(manifest: Manifest, workers: int) -> str:
  """A line that says where the time of a preparation went.

  Reading, splitting and tokenizing may have been done for another format.
  """
  return (f'{manifest.corpus}: {manifest.seconds:.1f} seconds; '
          + ', '.join(f'{name} {took:.1f}'
                      for name, took in manifest.stages.items())
          + (f' (of {workers} processes together)' if workers > 1 else ''))


def describe_manifest(manifest: Manifest) -> str:
  """A line with a corpus's size, and whatever was cut, dropped or wasted."""
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


def verify_files(folder: str, expected: Mapping[str, Checksum],
                 progress: bool = False) -> Iterator[Damage]:
  """Reads every file of a folder and yields what is not as expected."""
  with progress_bar(sum(file.size for file in expected.values()), 'B',
                    f'{folder}: reading', progress) as shown:
    for name, file in sorted(expected.items()):
      found = find_damage(os.path.join(folder, name), file)
      if found:
        yield found
      shown.update(file.size)
  for name in files.listdir(folder):
    # What is `.partial` nothing reads, and the next preparation removes it.
    known = name in expected or name in OUR_FILES or name.endswith('.partial')
    # A store's index says where in its files the blocks are.
    index = name.removesuffix('.json') + '.tokens' in expected
    if not known and not index:
      yield Damage(os.path.join(folder, name), None,
                   'not one of the files that were written')


def verify_prepared(folders, progress: bool = True) -> bool:
  """Checks folders of records and stores of tokens, and prints what it finds.

  Returns:
    Whether all are what was written. What has no checksums is not.

  Raises:
    InputError: a folder is of neither kind, or its manifest is damaged.
  """
  whole = True
  for folder in folders:
    expected = _expected_files(folder)
    if not expected:
      whole = False
      print(f'{folder}: prepared before there were checksums, so nothing can '
            f'be said: {DAMAGE_ADVICE} if in doubt.')
      continue
    found = list(verify_files(folder, expected, progress))
    for damaged in found:
      print(f'{damaged}: {DAMAGE_ADVICE}.')
    size = sum(file.size for file in expected.values())
    if not found:
      print(f'OK {folder}: {len(expected)} files, {size:,} bytes')
    whole = whole and not found
  return whole


def verify_config(data: DataConfig, tokenizer_config: TokenizerConfig,
                  **options) -> bool:
  """`verify_prepared` of all records, and tokens where kept, of a config.

  Raises:
    InputError: it is not prepared to the end.
  """
  jobs = plan(data, tokenizer_config, progress=False, only_kept=True,
              **options).jobs
  folders = [job.folder for job in jobs]
  folders += [job.store_folder for job in jobs
              if files.isdir(job.store_folder)
              and tokens.stored_files(job.store_folder)]
  return verify_prepared(folders)


def _expected_files(folder: str) -> Mapping[str, Checksum]:
  """Checksums of what a folder should hold."""
  if not files.exists(os.path.join(folder, MANIFEST)) and files.isdir(folder):
    found = tokens.stored_files(folder)
    if found:
      return found
  return Manifest.read(folder).checksums  # If there is none, this says so.


# On many machines the shards are elements of a Beam pipeline. This machine
# surveys the text and trains the tokenizer; a worker that has a shard reads its
# documents, tokenizes them into the store and packs that into records, by the
# functions of the local preparation, so bytes are the same, and shards that are
# finished, whoever made them, are not made again. `prepare` then writes the
# manifest.
#
# Text and data.cache_dir must be paths that all workers see, gs:// or a mounted
# folder. For a shard's text a worker reads the first of its files from the
# beginning, so a large corpus should be many files of a GB at most. Corpora
# without marks (`documents.Corpus.mark`: TFDS, and all that is cleaned of
# duplicates) are read up to the shard, so one machine prepares them better.


class Planned:
  """The plan, made anew on each worker from what the first machine kept.

  So a pipeline carries the config, a few hundred bytes, however long the text.
  """
  _plans: dict[str, Plan] = {}  # Of this process.
  _lock = threading.Lock()

  def __init__(self, data: DataConfig, tokenizer_config: TokenizerConfig,
               **options):
    self._arguments, self._options = (data, tokenizer_config), options

  def jobs(self):
    with self._lock:
      key = repr((self._arguments, self._options))
      if key not in self._plans:
        self._plans[key] = plan(*self._arguments, progress=False,
                                only_kept=True, **self._options)
      return self._plans[key].jobs


def fill_with_beam(data: DataConfig, tokenizer_config: TokenizerConfig,
                   options: Sequence[str], progress: bool = True,
                   **plan_options) -> None:
  """Makes all missing shards of all corpora; `prepare` then finishes them.

  Args:
    data, tokenizer_config: as for `prepare`.
    options: of Beam and its runner, as on a command line, such as
      ['--runner=DataflowRunner', '--project=p'].
    progress: show bars of what is done here.
    **plan_options: out, memmap, vocab_size, as for `prepare`.

  Raises:
    InputError: wrong input, here or on a worker; no Beam.
  """
  try:
    import apache_beam as beam
  except ModuleNotFoundError as e:
    raise InputError(INSTALL) from e
  from apache_beam.options.pipeline_options import PipelineOptions
  jobs = plan(data, tokenizer_config, progress=progress, **plan_options).jobs
  elements = []
  for number, job in enumerate(jobs):
    if job.survey is None:
      continue  # Its records are finished.
    missing = job.without_records()
    elements += [(number, shard.split, shard.index, job.folder)
                 for shard in missing]
    for folder in {job.folder, job.store_folder} if missing else ():
      with errors.writing(folder):
        files.makedirs(folder)
  if not elements:
    return
  planned = Planned(data, tokenizer_config, **plan_options)
  try:
    with beam.Pipeline(options=PipelineOptions(list(options))) as pipeline:
      # Between two stages elements are dealt out anew, and what is done is not
      # done again where a worker is lost.
      pipeline | 'Shards' >> beam.Create(elements) | (  # noqa: B018
          'Deal out' >> beam.Reshuffle()) | (
          'Tokenize' >> beam.Map(_tokenize, planned)) | (
          'Deal out again' >> beam.Reshuffle()) | (
          'Pack' >> beam.Map(_pack, planned))
  except Exception as e:
    # A worker's error comes as text, amid much else.
    found = re.search(r'InputError: (.*)', str(e))
    if found is None:
      raise
    raise InputError(re.sub(r" \[while running '.*", '', found[1])) from e


def _tokenize(element, planned: Planned):
  job, shards = _find(element, planned)
  fill_tokens(job, [shard for shard in shards
                    if job.store.places(shard) is None], 1, False)
  return element


def _pack(element, planned: Planned):
  job, shards = _find(element, planned)
  fill_records(job, shards, 1, False)
  return element


def _find(element, planned: Planned):
  """The job of an element, and its shard in a list."""
  number, split, index, folder = element
  job = planned.jobs()[number]
  if job.folder != folder:
    raise InputError(
        f'{job.corpus.name}: this worker sees other text or another tokenizer '
        f'than the machine that was asked: {job.folder}, not {folder}.')
  if job.survey is None:  # Finished meanwhile, by someone else.
    return job, []
  return job, [shard for shard in job.shards()
               if (shard.split, shard.index) == (split, index)]
