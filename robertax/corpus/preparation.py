"""Preparation: corpora become records, on this machine or with Apache Beam.

A first pass over the text learns its blocks (blocks.py), and a tokenizer is
read or trained. A second pass tokenizes the blocks into a store (tokens.py),
and a third packs the store into records (shards.py). Each pass skips what is
already finished. `verify_prepared` checks that the files are still as they were
written.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
import contextlib
import dataclasses
import functools
import glob
import itertools
import os
import re
import threading
import time

from robertax import descriptors, errors, files, text
from robertax.config import DataConfig, TokenizerConfig, check_data
from robertax.corpus import records, shards, tokens, workers
from robertax.corpus.blocks import Surveys
from robertax.corpus.documents import all_corpora
from robertax.corpus.formats import FORMATS
from robertax.corpus.readers import cut
from robertax.corpus.records import Manifest, SplitCounts, writing_records
from robertax.corpus.sentences import SPLITTERS
from robertax.corpus.unknown import refuse_unknown
from robertax.corpus.workers import Job, fill_records, fill_tokens
from robertax.errors import MANY, InputError, print_result, unknown
from robertax.progress import progress_bar, say, say_once
from robertax.text import Tokenizer, encoders

TRAINING_VERSION = 1  # Raised if corpora would train another tokenizer.
# A document of less than one of so many parts of a sample is taken whole.
SAMPLED_WHOLE = 50
# Characters of a corpus for which a fast encoder is tried.
SAMPLE_CHARS = 1 << 16
SHORTEST = 8  # Tokens; shorter rows have hardly anything to predict from.
STAGES = ('reading', 'splitting', 'tokenizing', 'packing', 'writing')
OUR_FILES = (records.MANIFEST, '.lock')
INSTALL = ("--beam needs the package apache-beam: pip install "
           "'apache-beam==2.77.0', or '.[beam]' in robertax's folder.")


def _tokenizer_path(config: TokenizerConfig, corpora: list, sentences: str,
                    cache_dir: str) -> str:
  """Returns the path of the tokenizer that is trained on these corpora."""
  facts = [TRAINING_VERSION, config.sample_chars, config.vocab_size, sentences,
           [corpus.fingerprint() for corpus in corpora]]
  # Older tokenizers keep their names, which do not have newer keys.
  if config.kind != 'byte_bpe':
    facts += [config.kind, config.lowercase]
  if (config.pre_tokenizer, config.alphabet_limit) != ('default', 1000):
    facts += [config.pre_tokenizer, config.alphabet_limit]
  name = files.json_hash(facts)[:16]
  return os.path.join(cache_dir, 'tokenizers', name, 'tokenizer.json')


def tokenizer_for(config: TokenizerConfig, corpora: list, surveys: Surveys,
                  sentences: str, cache_dir: str, progress: bool = True,
                  only_kept: bool = False) -> tuple[Tokenizer, str]:
  """Reads or trains the tokenizer of a config; also returns its file's path.

  It is trained on the sentences of the training documents and kept in
  `cache_dir`; with `only_kept` a missing one is an InputError, as are a wrong
  file, an unknown kind and too small a vocabulary.
  """
  if config.path:
    tokenizer = text.load(config.path, config.lowercase)
    for line in tokenizer.notes if progress else ():
      say(line)
    return tokenizer, config.path
  text.check(config)
  path = _tokenizer_path(config, corpora, sentences, cache_dir)
  if only_kept and not files.exists(path):
    raise InputError(f'no tokenizer was trained on these corpora: {path} does '
                     'not exist. Run python -m robertax.prepare.')
  # Where nothing is written, nothing is locked: the cache may be read-only.
  made = files.exists(path)
  with contextlib.nullcontext() if made else files.locked(
      os.path.dirname(path)):
    if not made and not files.exists(path):
      share = _training_plan(corpora, surveys, config.sample_chars)[2]
      if share < 1:
        say(f'The tokenizer is trained on {share:.1%} of the text, on '
            'documents that are spread evenly over it '
            '(tokenizer.sample_chars).')
      tokenizer, lines = text.train(config, functools.partial(
          _training_texts, corpora, surveys, SPLITTERS[sentences],
          config.sample_chars, progress))
      for line in lines:
        say(line)
      with errors.writing(path):
        files.makedirs(os.path.dirname(path))
        tokenizer.save(path)
    try:
      return text.load(path), path
    except InputError as e:
      raise InputError(f'{e} Rename that file: it is trained again.') from e


def _training_texts(corpora, surveys, split, most, progress
                    ) -> Iterator[list[str]]:
  """Yields training documents' sentences; of too many, an even sample.

  A document that is large for the sample is taken or left in portions.
  """
  heads, total, share = _training_plan(corpora, surveys, most)
  seen = taken = 0
  with progress_bar(total, 'char', 'tokenizer: reading', progress) as shown:
    for corpus, blocks in zip(corpora, heads):
      part_of = {block.start: block.part for block in blocks}
      for number, document in enumerate(itertools.islice(
          corpus.documents(), blocks[-1].stop if blocks else 0)):
        portion = max(min(1 << 12, most // 4), most // SAMPLED_WHOLE, 1)
        whole = share == 1 or len(document) <= portion
        portions = tokens.sentences_of(
            document, split, part_of.get(number, 'all'), not whole and portion)
        for size, sentences in ([(len(document), portions)] if whole
                                else _cut_portions(portions, portion)):
          seen += size
          shown.update(size)
          if taken <= share * seen - size * share or share == 1:
            taken += size
            yield from sentences
  if progress:
    say('tokenizer: learning from it')


def _cut_portions(portions, most: int
                  ) -> Iterator[tuple[int, list[list[str]]]]:
  """Yields portions of a document with their sizes; cuts long sentences."""
  for sentences in portions:
    pieces = list(cut(sentences, most, Counter()))
    several = len(pieces) > len(sentences)
    for one in [[piece] for piece in pieces] if several else [pieces]:
      yield sum(map(len, one)), [one]


def _training_plan(corpora, surveys, most: int) -> tuple[list, int, float]:
  """Returns each corpus's training blocks, their characters, the share used."""
  heads = [[block for block in surveys(corpus) if block.split == 'train']
           for corpus in corpora]
  total = sum(block.chars for blocks in heads for block in blocks)
  if not total:
    raise _no_text(corpora)
  return heads, total, min(1., most / max(1, total))


def _no_text(corpora, key: str = 'corpora') -> InputError:
  return InputError(f'data.{key}: ' + '; '.join(
      f'{corpus.name} holds no text: '
      f'{", ".join(corpus.files[:3]) or "no files"}'
      for corpus in corpora[:MANY]) + '.')


def finish_records(job: Job, seconds: float, unk_id: int) -> Manifest:
  """Completes a folder of finished shards, and writes its manifest last."""
  started = time.monotonic()
  entries = [(shard, shards.read_entry(job.folder, shard, job.forms))
             for shard in job.shards()]
  splits = _split_counts(job, entries)
  counts, sums = Counter(job.survey.counts), {}
  stages = Counter(reading=job.survey.seconds)
  for shard, entry in entries:
    stages.update(job.store.seconds(shard))
    counts.update(entry['counts'])
    stages.update(entry['seconds'])
    counts.update(_unknown_counts(job, [shard], unk_id))
    sums |= files.checksums_from_json(entry['checksums'])
  if 'array_record' in job.forms:
    sums |= files.checksums(job.folder, records.write_tfds_metadata(
        job.folder, splits, records.PAIR_FIELDS if job.recipe.pair_law else
        records.ROW_FIELDS))
  if 'memmap' in job.forms:
    for name in splits:
      parts = [shards.part_name(shard, name) for shard, _ in entries
               if name in records.split_names(shard.split, job.duplicates)]
      sums |= shards.join_arrays(job.folder, name, parts, job.recipe.dtype)
      for part in parts:
        for file in shards.array_names(part):
          sums.pop(file, None)
    sums |= shards.finish_arrays(job.folder, list(splits))
  slots = job.recipe.sequence_length * sum(
      split.num_records for split in splits.values())
  counts['padding_fraction'] = round(
      counts['padding_tokens'] / max(1, slots), 4)
  took = time.monotonic() - started
  manifest = Manifest(
      folder=job.folder, corpus=job.corpus.name, forms=job.forms, splits=splits,
      max_examples_per_row=FORMATS[job.recipe.format].examples_per_row(
          job.recipe.sequence_length),
      dtype=job.recipe.dtype, vocab_size=job.vocab_size,
      counts=dict(sorted(counts.items())), seconds=round(seconds + took, 1),
      stages={name: round(stages[name] + (took if name == 'writing' else 0), 2)
              for name in STAGES}, checksums=sums, **job.facts)
  manifest.write()
  return manifest


def _unknown_counts(job: Job, found: Sequence, unk_id: int) -> dict[str, int]:
  """Counts the unknown tokens of shards, and all without <s> and </s>."""
  pairs = [job.store.unknown(shard, unk_id) for shard in found]
  return {'unknown_tokens': sum(unknown for unknown, _ in pairs),
          'text_tokens': sum(total for _, total in pairs)}


def _judge_unknown(job: Job, counts: Mapping[str, int], tokenizer: Tokenizer,
                   most: float) -> None:
  refuse_unknown(
      f'data.corpora: {job.corpus.name}', counts['unknown_tokens'],
      counts['text_tokens'], most, tokenizer, job.corpus.documents(),
      "A tokenizer of this text's language (tokenizer.path) or one that is "
      "trained on it and knows every byte (tokenizer.kind='byte_bpe')")


def _split_counts(job: Job, entries: list) -> dict[str, SplitCounts]:
  splits = {}
  for split in records.SPLITS:
    own = [entry for shard, entry in entries if shard.split == split]
    for name in records.split_names(split, job.duplicates) if own else ():
      parts = [entry['splits'][name] for entry in own]
      total = sum(map(Counter, parts), Counter())
      splits[name] = SplitCounts(**total, shard_lengths=tuple(
          part['num_records'] for part in parts))
  return splits


def add_forms(manifest: Manifest, forms: Sequence[str]) -> Manifest:
  """Adds the memory-mapped form to finished records that lack it."""
  if 'memmap' not in forms or 'memmap' in manifest.forms:
    return manifest
  sums = shards.arrays_from_records(manifest)
  manifest = dataclasses.replace(
      manifest, forms=(*manifest.forms, 'memmap'),
      # Old records without checksums get none.
      checksums=manifest.checksums and manifest.checksums | sums)
  manifest.write()
  return manifest


@dataclasses.dataclass(frozen=True)
class Prepared:
  """The prepared records, a manifest for each corpus that has enough text.

  They are in the order of data.corpora, and of data.eval_corpora.
  """
  tokenizer: Tokenizer
  manifests: list[Manifest]
  tokenizer_path: str  # The file or folder that the tokenizer was read from.
  # Of the evaluation sets; empty: they are splits of `manifests`.
  eval_manifests: list[Manifest] = dataclasses.field(default_factory=list)


def default_cache_dir() -> str:
  """Returns the folder that is used if data.cache_dir is empty."""
  base = os.environ.get('XDG_CACHE_HOME') or os.path.join('~', '.cache')
  return os.path.join(os.path.expanduser(base), 'robertax')


@dataclasses.dataclass(frozen=True)
class Plan:
  """A job for each corpus, all with one tokenizer."""
  tokenizer: Tokenizer
  tokenizer_path: str
  jobs: list[Job]  # Those of data.eval_corpora last.
  forms: tuple[str, ...]  # Those of the jobs, and those made from them later.


def plan(data: DataConfig, tokenizer_config: TokenizerConfig, *, out: str = '',
         memmap: bool = False, vocab_size: int = 0, progress: bool = True,
         only_kept: bool = False) -> Plan:
  """Checks the config, surveys all text that is not prepared, and makes jobs.

  Arguments and errors are those of `prepare`. With `only_kept` no text is read
  and no tokenizer is trained; it is an error if an earlier plan left none.
  """
  for name, table in (('format', FORMATS), ('sentences', SPLITTERS)):
    if getattr(data, name) not in table:
      raise unknown(f'data.{name}', getattr(data, name), table)
  if data.sequence_length < SHORTEST:
    raise InputError(f'data.sequence_length={data.sequence_length}: at least '
                     f'{SHORTEST} would do.')
  check_data(data)
  if data.workers < 0:
    raise InputError(f'data.workers={data.workers}: a number of processes, or '
                     '0 for one per core, would do.')
  cache = files.absolute(out or data.cache_dir or default_cache_dir())
  # Without array_record only one form can be made.
  forms = ['array_record'] if records.array_record_module() else []
  if memmap or data.backend == 'numpy' or not forms:
    forms.append('memmap')
  made = tuple(forms)
  if files.is_remote(cache):
    if 'array_record' not in forms:
      raise InputError(f'{cache}: to prepare records in a remote place needs '
                       'array_record: pip install array-record.')
    # Remote arrays cannot be mapped and joined, so they are made from records.
    made, forms = ('array_record', 'memmap'), ['array_record']
  if data.sentences == 'none' and FORMATS[data.format].pairs:
    raise InputError(f'data.format={data.format!r} with data.sentences=none: '
                     'a pair needs two sentences of a document.')
  corpora, held = all_corpora(data)
  surveys = Surveys(cache, progress, only_kept)
  tokenizer, path = tokenizer_for(
      tokenizer_config, corpora, surveys, data.sentences, cache, progress,
      only_kept)
  if vocab_size not in (0, tokenizer.vocab_size):
    raise InputError(
        f'model.vocab_size={vocab_size}, but the tokenizer {path} has '
        f'{tokenizer.vocab_size} ids: 0 takes its number.')
  jobs = workers.jobs_of(data, corpora + held, tokenizer, cache, tuple(forms),
                         surveys)
  for part, key in ((corpora, 'corpora'), (held, 'eval_corpora')):
    if part and not any(job.corpus in part for job in jobs):
      raise _no_text(part, key)
  return Plan(tokenizer, path, _with_encoder(jobs, data.encoder, tokenizer,
                                             progress), made)


def _with_encoder(jobs: list[Job], wanted: str, tokenizer: Tokenizer,
                  progress: bool) -> list[Job]:
  """Chooses the encoder of jobs that have text to tokenize, if there are any.

  A sample of their text, too, must have the ids of the tokenizers library.
  """
  if wanted == encoders.DEFAULT:
    return jobs
  sample = list(itertools.chain.from_iterable(map(_sample, jobs)))
  if not sample:
    return jobs
  chosen = tokenizer.choose_encoder(wanted, sample)
  if chosen.said and progress:
    say(chosen.said)
  return [dataclasses.replace(job, text_recipe=job.text_recipe._replace(
      encoder=chosen.name)) for job in jobs]


def _sample(job: Job) -> list[str]:
  """Returns the beginning of a corpus's text, if not all is tokenized."""
  if job.survey is None or not job.without_tokens():
    return []
  with contextlib.closing(job.corpus.documents()) as documents:
    found, chars = [], 0
    for document in documents:
      found.append(document[:SAMPLE_CHARS])
      chars += len(found[-1])
      if chars >= SAMPLE_CHARS:
        break
  return found


def prepare(data: DataConfig, tokenizer_config: TokenizerConfig, *,
            out: str = '', memmap: bool = False, vocab_size: int = 0,
            progress: bool = True) -> Prepared:
  """Prepares the corpora of a config, except what is prepared already.

  Args:
    data, tokenizer_config: sections of a config.
    out: a folder to use instead of data.cache_dir.
    memmap: make the memory-mapped form too; data.backend='numpy' implies it.
    vocab_size: the size that the tokenizer must have; 0 allows any.
    progress: show progress bars, and a line for each corpus, on stderr.

  Raises:
    InputError: whatever is wrong with config, text, tokenizer or disk.
  """
  planned = plan(data, tokenizer_config, out=out, memmap=memmap,
                 vocab_size=vocab_size, progress=progress)
  descriptors.limit()
  manifests = {'': [], 'train': [], 'eval': []}
  short = []
  for job in planned.jobs:
    judge = functools.partial(
        _judge_unknown, job, tokenizer=planned.tokenizer,
        most=tokenizer_config.max_unknown_share)
    manifest = _finished(job, data, planned.forms, progress, judge,
                         planned.tokenizer.unk_id)
    missing = [name for name, split in manifest.splits.items()
               if not split.num_records]
    if missing:
      short.append(
          f'{manifest.corpus}: its text is too short to split: nothing is left '
          f'for {"evaluation" if missing == ["eval"] else "training"}. It '
          'needs at least two '
          + ('documents' if data.sentences == 'none' else 'sentences'))
      continue
    if progress:
      say(describe_manifest(manifest))
    if 'unknown_tokens' in manifest.counts:
      judge(manifest.counts)
    elif progress and planned.tokenizer.kind != 'byte_bpe':
      say(f'{manifest.corpus}: an earlier version has prepared it, which did '
          'not count unknown tokens.')
    manifests[getattr(job.corpus, 'split', '')].append(manifest)
  train = manifests[''] + manifests['train']
  held = manifests['eval']
  if not train or data.eval_corpora and not held:
    raise InputError('. '.join(short) + '.')
  for line in short:
    say_once(f'{line}; it is left out.')
  return Prepared(planned.tokenizer, train, planned.tokenizer_path, held)


def _finished(job: Job, data: DataConfig, forms: Sequence[str], progress: bool,
              judge: Callable[[Mapping[str, int]], None], unk_id: int
              ) -> Manifest:
  """Finishes a corpus, unless it is: then nothing is locked or written."""
  manifest = None
  if records.is_finished(job.folder):
    manifest = _own_manifest(job)
  if manifest is None or not set(forms) <= set(manifest.forms):
    with files.locked(job.folder):
      if not records.is_finished(job.folder):
        _fill_corpus(job, data.workers or workers.available_cores(),
                     data.keep_tokens, progress, judge, unk_id)
      manifest = add_forms(_own_manifest(job), forms)
  left = [name for name in files.listdir(job.folder)
          if name not in manifest.checksums and (
              '-of-' in name or name.endswith(files.PARTIAL))]
  if left and manifest.checksums:
    # These are entries and arrays of shards, and files of killed processes.
    with contextlib.suppress(InputError, OSError), files.locked(job.folder):
      for name in left:
        files.remove(os.path.join(job.folder, name))
  return manifest


def _own_manifest(job: Job) -> Manifest:
  manifest = Manifest.read(job.folder)
  manifest.check(corpus=job.corpus.name, vocab_size=job.vocab_size,
                 dtype=job.recipe.dtype, **job.facts)
  return manifest


def _fill_corpus(job: Job, processes: int, keep_tokens: bool,
                 progress: bool, judge: Callable[[Mapping[str, int]], None],
                 unk_id: int) -> None:
  """Makes the second and third pass over a corpus, and its manifest."""
  started = time.monotonic()
  with files.locked(job.store_folder):
    for folder in (job.folder, job.store_folder):
      if not files.is_remote(folder):
        with writing_records(folder):
          for stale in glob.glob(f'{glob.escape(folder)}/*{files.PARTIAL}'):
            os.remove(stale)
    missing = job.without_tokens()
    if progress:
      whole, left = len(job.shards()), len(job.without_records())
      if left < whole or len(missing) < whole:
        say(f'{job.corpus.name}: of {whole} shards {whole - len(missing)} '
            f'are tokenized and {whole - left} packed already.')
    fill_tokens(job, missing, processes, progress)
    judge(_unknown_counts(job, job.shards(), unk_id))  # Before packing.
    fill_records(job, job.without_records(), processes, progress)
    manifest = finish_records(job, time.monotonic() - started, unk_id)
    if not keep_tokens:
      with writing_records(job.store_folder):
        files.rmtree(job.store_folder)
  if progress:
    say(f'{manifest.corpus}: made in {manifest.seconds:.1f} seconds; '
        'work on it, the survey and tokens included: '
        + ', '.join(f'{name} {took:.1f}'
                    for name, took in manifest.stages.items())
        + (f' (of {processes} processes together)' if processes > 1 else ''))


# Counts of sizes and of packing, which manifests have and no line says.
_UNSAID = ('characters', 'utf8_bytes', 'padding_fraction', 'padding_tokens',
           'block_end_waste_tokens', 'text_tokens', 'pairs', 'negative_pairs',
           'forced_negatives')


def describe_manifest(manifest: Manifest) -> str:
  """Returns a line with a corpus's size, and what was cut or dropped."""
  splits = [manifest.splits[name] for name in records.SPLITS
            if name in manifest.splits]
  held = manifest.splits.get('eval', records.SplitCounts()).num_examples
  drawn = ('' if manifest.duplicates == 1 else
           f', pairs drawn {manifest.duplicates} times, all counted')
  sizes = ', '.join(
      f'{sum(split[f"num_{what}"] for split in splits):,} {what}'
      for what in ('documents', 'sentences', 'tokens', 'examples'))
  cut = ''.join(f', {count:,} {name.replace("_", " ")}'
                for name, count in manifest.counts.items()
                if count and name not in _UNSAID)
  return (f'{manifest.corpus}: {sizes} ({held:,} of them for '
          f'evaluation){drawn}, in rows of {manifest.sequence_length} with '
          f'{manifest.counts["padding_fraction"]:.2%} padding{cut}. '
          f'{manifest.folder}')


def verify_files(folder: str, expected: Mapping[str, files.Checksum],
                 progress: bool = False) -> Iterator[files.Damage]:
  """Reads every file of a folder and yields what is not as expected."""
  with progress_bar(sum(file.size for file in expected.values()), 'B',
                    f'{folder}: reading', progress) as shown:
    for name, file in sorted(expected.items()):
      if found := files.find_damage(os.path.join(folder, name), file):
        yield found
      shown.update(file.size)
  for name in files.listdir(folder):
    # Nothing reads a `.partial`, and the next preparation removes it. The index
    # of a store has no checksum of its own.
    if not (name in expected or name in OUR_FILES
            or name.removesuffix('.json') + '.tokens' in expected
            or name.endswith(files.PARTIAL)):
      yield files.Damage(os.path.join(folder, name), None,
                         'not one of the files that were written',
                         files.DOUBT_ADVICE)


def verify_prepared(folders, progress: bool = True) -> bool:
  """Checks folders of records and stores of tokens, and prints the result.

  Returns whether all are as they were written, which takes checksums. A folder
  of neither kind, or with a damaged manifest, is an InputError.
  """
  whole = True
  for folder in folders:
    expected = {}
    if files.isdir(folder) and not records.is_finished(folder):
      expected = tokens.stored_files(folder)
    # Without either kind of files this raises an InputError.
    expected = expected or Manifest.read(folder).checksums
    if not expected:
      whole = False
      print_result(f'{folder}: it has no checksums, because an old version '
                   'prepared it, so it cannot be checked: '
                   f'{files.DOUBT_ADVICE} if in doubt.', saved=False)
      continue
    size = sum(file.size for file in expected.values())
    said = [f'{damaged}: {damaged.advice}.'
            for damaged in verify_files(folder, expected, progress)]
    whole = whole and not said
    print_result('\n'.join(said or [
        f'OK {folder}: {len(expected)} files, {size:,} bytes']), saved=False)
  return whole


def verify_config(data: DataConfig, tokenizer_config: TokenizerConfig,
                  **options) -> bool:
  """Verifies all records of a config, and its tokens if they were kept.

  If the preparation is not finished, it raises an InputError.
  """
  jobs = plan(data, tokenizer_config, progress=False, only_kept=True,
              **options).jobs
  folders = [job.folder for job in jobs]
  folders += [job.store_folder for job in jobs
              if files.isdir(job.store_folder)
              and tokens.stored_files(job.store_folder)]
  return verify_prepared(folders)


# On many machines the shards are elements of a Beam pipeline. The first machine
# surveys the text and trains the tokenizer; for each shard a worker reads its
# documents, tokenizes them into the store and packs the store into records,
# with the functions of the local preparation, so the bytes are the same and no
# finished shard is made again. `prepare` then writes the manifest.
#
# All workers must see text and data.cache_dir, on gs:// or in a mounted folder.
# A worker reads the first file of a shard from the beginning, so a large corpus
# should have files of at most a GB. Corpora without marks (`Corpus.mark`: TFDS,
# and cleaned corpora) are read from their beginning up to the shard, so one
# machine prepares them faster.


class Planned:
  """The plan, which each worker makes again from what the first machine kept.

  So a pipeline carries only the config, a few hundred bytes.
  """
  _plans: dict[str, Plan] = {}  # Shared by all threads of this process.
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
    options: command-line options of Beam and its runner, such as
      ['--runner=DataflowRunner', '--project=p'].
    progress: show progress bars of the work on this machine.
    **plan_options: out, memmap, vocab_size, as for `prepare`.

  Raises:
    InputError: the input is wrong, here or on a worker; Beam is not installed.
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
      # Beam distributes elements anew between two stages, and does not repeat a
      # finished stage when it loses a worker.
      pipeline | 'Shards' >> beam.Create(elements) | (  # noqa: B018
          'Deal out' >> beam.Reshuffle()) | (
          'Tokenize' >> beam.Map(_tokenize, planned)) | (
          'Deal out again' >> beam.Reshuffle()) | (
          'Pack' >> beam.Map(_pack, planned))
  except Exception as e:
    # The message of a worker's error is somewhere in a long text.
    found = re.search(r'InputError: (.*)', str(e))
    if found is None:
      raise
    raise InputError(re.sub(r" \[while running '.*", '', found[1])) from e


def _tokenize(element, planned: Planned):
  job, found = _find(element, planned)
  fill_tokens(job, [shard for shard in found
                    if job.store.places(shard) is None], 1, False)
  return element


def _pack(element, planned: Planned):
  fill_records(*_find(element, planned), 1, False)
  return element


def _find(element, planned: Planned):
  """Returns the job of an element, and its shard in a list."""
  number, split, index, folder = element
  job = planned.jobs()[number]
  if job.folder != folder:
    raise InputError(
        f'{job.corpus.name}: this worker sees other text or another tokenizer '
        f'than the machine that started it: {job.folder}, not {folder}.')
  if job.survey is None:  # Somebody else has finished it meanwhile.
    return job, []
  return job, [shard for shard in job.shards()
               if (shard.split, shard.index) == (split, index)]
