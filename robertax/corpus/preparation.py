"""Preparation: corpora become records, tokenizer included, in two passes.

The first pass reads everything, so that what is wrong with the text is said
before any work is done, and learns the blocks. The second tokenizes and packs
them, in processes, and writes the shards in order. A folder of records is
finished when its manifest is there, and not before.
"""

from collections import Counter
import contextlib
import dataclasses
import glob
import hashlib
import itertools
import json
import os
import sys
import time

from robertax.corpus import memmap, records
from robertax.corpus.blocks import Block, Changed, Survey, read_blocks
from robertax.corpus.documents import corpora_of
from robertax.corpus.formats import FORMATS
from robertax.corpus.locks import locked
from robertax.corpus.packing import Packer, Recipe, Work
from robertax.corpus.pairs import PairLaw
from robertax.corpus.progress import bar
from robertax.corpus.records import SPLITS, Manifest, split_names
from robertax.corpus.sentences import SPLITTERS
from robertax.corpus.split_files import SplitFiles
from robertax.corpus.vocabulary import tokenizer_for
from robertax.corpus.wire import FIELDS, PAIR_FIELDS
from robertax.corpus.workers import available_cores, map_in_order
from robertax.errors import InputError
from robertax.sections import unknown
from robertax.text import Tokenizer

SHORTEST = 8  # Tokens; below, there is hardly anything to predict from.
LITERALS = ('<s>', '<pad>', '</s>', '<unk>', '<mask>')


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


def prepare(data, tokenizer_config, *, out: str = '', memmap: bool = False,
            vocab_size: int = 0, progress: bool = True) -> Prepared:
  """Prepares what is missing and returns all of it.

  Args:
    data: has corpora and what else says which documents
      (documents.corpora_of), sentences, format, sequence_length, pair_*,
      cache_dir, workers, backend (data.DataConfig).
    tokenizer_config: has path and vocab_size (text.TokenizerConfig).
    out: a folder instead of data.cache_dir.
    memmap: make the memory-mapped form too; data.backend='numpy' implies it.
    vocab_size: what the tokenizer must have (model.vocab_size); 0: anything.
    progress: show progress bars, and a line a corpus, on stderr.

  Raises:
    InputError: whatever is wrong with config, text, tokenizer or disk.
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
  cache = os.path.abspath(os.path.expanduser(
      out or data.cache_dir or default_cache_dir()))
  if '://' in (out or data.cache_dir):
    raise InputError(f'{out or data.cache_dir}: records are kept on local '
                     'paths only, as yet.')
  corpora = corpora_of(data)
  surveys = _Surveys(progress)
  tokenizer, path = tokenizer_for(
      tokenizer_config, corpora, surveys, data.sentences, cache, progress)
  if vocab_size not in (0, tokenizer.vocab_size):
    raise InputError(
        f'model.vocab_size={vocab_size}, but the tokenizer {path} has '
        f'{tokenizer.vocab_size} ids: 0 takes its number.')
  facts = dict(
      version=records.VERSION, format=data.format, sentences=data.sentences,
      sequence_length=data.sequence_length, tokenizer=tokenizer.fingerprint)
  law = None
  if FORMATS[data.format].pairs:
    law = PairLaw(data.pair_short_rate, data.pair_negatives)
    facts |= dict(pair_law=dataclasses.asdict(law),
                  duplicates=data.pair_duplicates)
  jobs = []
  for corpus in corpora:
    key = json.dumps([corpus.fingerprint(), facts], sort_keys=True)
    folder = os.path.join(
        cache, 'records', f'{corpus.name}-'
        + hashlib.sha256(key.encode()).hexdigest()[:16])
    if not os.path.exists(os.path.join(folder, records.MANIFEST)):
      surveys(corpus)  # All text is checked before the first is tokenized.
    jobs.append((corpus, folder))
  recipe = Recipe(tokenizer.to_json(), data.format, data.sentences,
                  data.sequence_length, law)
  # Without array_record there is one form only, and it is always made.
  forms = ['array_record'] if records.array_record_module() else []
  if memmap or data.backend == 'numpy' or not forms:
    forms.append('memmap')
  manifests = []
  for corpus, folder in jobs:
    with locked(folder):
      if not os.path.exists(os.path.join(folder, records.MANIFEST)):
        _write(corpus, surveys(corpus), surveys.counts(corpus), folder, recipe,
               tokenizer, facts, forms, data.workers or available_cores(),
               progress)
      manifest = Manifest.read(folder)
      manifest.check(corpus=corpus.name, vocab_size=tokenizer.vocab_size,
                     dtype=tokenizer.dtype.__name__, **facts)
      manifest = _with_forms(manifest, forms)
    if progress:
      print(summary(manifest), file=sys.stderr)
    manifests.append(manifest)
  return Prepared(tokenizer, manifests, path)


class _Surveys:
  """The first pass over each corpus, made when it is first asked for."""

  def __init__(self, progress: bool):
    self._progress = progress
    self._known = {}

  def __call__(self, corpus) -> list[Block]:
    if corpus.name not in self._known:
      self._known[corpus.name] = self._survey(corpus)
    return self._known[corpus.name][0]

  def counts(self, corpus) -> Counter:
    return self._known[corpus.name][1]

  def _survey(self, corpus) -> tuple[list[Block], Counter]:
    survey, literals, num_bytes = Survey(), 0, 0
    missing = getattr(corpus, 'missing', ())
    if missing and self._progress:
      print(f'{corpus.name}: not installed, so without: {", ".join(missing)}.',
            file=sys.stderr)
    with bar(corpus.size, 'B', f'{corpus.name}: reading',
             self._progress) as shown:
      for text in corpus.documents():
        survey.add(len(text))
        num_bytes += len(text) if text.isascii() else len(text.encode())
        literals += any(token in text for token in LITERALS)
        shown.update(corpus.position - shown.n)
      shown.update(corpus.position - shown.n)
    if not survey.num_documents:
      raise InputError(
          f'data.corpora: {corpus.name} holds no text: '
          f'{", ".join(corpus.files[:3]) or "no files"}.')
    counts = Counter(corpus.counts)
    counts['documents_naming_special_tokens'] = literals
    counts['characters'] = survey.num_chars
    counts['utf8_bytes'] = num_bytes
    return survey.blocks(), counts


def _write(corpus, blocks, counts, folder, recipe, tokenizer, facts, forms,
           workers, progress) -> None:
  """The second pass over one corpus: everything up to its manifest."""
  started = time.monotonic()
  with records.writing(folder):
    for stale in glob.glob(os.path.join(glob.escape(folder), '*')):
      os.remove(stale)  # An interrupted preparation's.
  counts = Counter(counts)
  files, splits = {}, {}
  try:
    for split in SPLITS:
      number = sum(block.split == split for block in blocks)
      for name in split_names(split, facts.get('duplicates', 1)):
        files[name] = SplitFiles(folder, name, tokenizer.dtype, forms, number)
    _pack(corpus, blocks, recipe, files, counts, workers, progress)
    for name in files:
      splits[name] = files[name].close()
      if not splits[name].num_records:
        raise InputError(
            f'{corpus.name}: its text is too short to split: nothing is left '
            f'for {"evaluation" if name == "eval" else "training"}. Two '
            'sentences are the least.')
  except BaseException:
    for unfinished in files.values():
      unfinished.abandon()
    raise
  if 'array_record' in forms:
    records.write_tfds_metadata(
        folder, splits, PAIR_FIELDS if recipe.pair_law else FIELDS)
  if 'memmap' in forms:
    memmap.finish(folder, list(splits))
  del counts['num_sentences']  # Stands with the splits.
  slots = recipe.sequence_length * sum(s.num_records for s in splits.values())
  counts['padding_fraction'] = round(counts['padding_tokens'] / slots, 4)
  Manifest(
      folder=folder, corpus=corpus.name, forms=tuple(forms), splits=splits,
      max_examples_per_row=FORMATS[recipe.format].examples_per_row(
          recipe.sequence_length),
      dtype=tokenizer.dtype.__name__, vocab_size=tokenizer.vocab_size,
      counts=dict(sorted(counts.items())),
      seconds=round(time.monotonic() - started, 1), **facts).write()


def _pack(corpus, blocks, recipe, files, counts, workers, progress) -> None:
  """Tokenizes and packs all blocks into the files, in order."""
  names = {split: [name for name in files if name.startswith(split)]
           for split in SPLITS}
  work = (Work(texts, block.part, f'{block.split}/{block.start}/{block.part}',
               len(names[block.split]))
          for block, texts in read_blocks(corpus.documents(), blocks))
  done = map_in_order(Packer, recipe, work, min(workers, len(blocks)))
  # Closed on the way out of an error: its processes end before this one.
  with contextlib.closing(done), bar(
      sum(block.chars for block in blocks), 'char',
      f'{corpus.name}: tokenizing', progress) as shown:
    try:
      # `done` is asked once more than there are blocks, and so the reader of
      # the text: it sees whether that ends where it should.
      for rows, block in zip(done, itertools.chain(blocks, [None])):
        for name, drawn in zip(names[block.split], rows):
          files[name].write(block, drawn)
          counts.update(drawn.counts)
        shown.update(block.chars)
    except Changed as e:
      raise InputError(f'{", ".join(corpus.files[:3])}: changed while it was '
                       'read: run the command again.') from e


def _with_forms(manifest: Manifest, forms: list[str]) -> Manifest:
  """Adds the memory-mapped form to finished records that lack it."""
  if 'memmap' not in forms or 'memmap' in manifest.forms:
    return manifest
  memmap.from_records(manifest)
  manifest = dataclasses.replace(manifest, forms=(*manifest.forms, 'memmap'))
  manifest.write()
  return manifest


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
