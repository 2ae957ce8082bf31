"""Blocks: the fixed unit of work, and which documents are held out.

A block is a run of documents in input order, and packing never looks outside
it. The documents alone decide where blocks begin and end, so the bytes of the
records do not depend on how many processes made them, in which order, or how
often they were interrupted. The price is the unfilled end of each block's last
example, which is counted.

A first pass, the survey, reads all text, so that errors in it are reported
before any work is done, and finds the blocks. It depends only on the text and
is kept in `<cache_dir>/surveys/<corpus>-<hash>.json`, so a restart, or another
format, length or tokenizer, does not repeat it.
"""

from collections import Counter, deque
from collections.abc import Iterator, Sequence
import dataclasses
import itertools
import json
import os
import time

from robertax import files
from robertax.corpus.records import write_json, writing_records
from robertax.errors import InputError, raise_unless_damage
from robertax.progress import progress_bar, say

SURVEY_VERSION = 1  # Raised whenever the same text would be surveyed otherwise.
LITERALS = ('<s>', '<pad>', '</s>', '<unk>', '<mask>')
MIN_CHARS = 2 << 20
MIN_DOCUMENTS = 8
MAX_CHARS = 32 << 20
MAX_DOCUMENTS = 1024
BLOCKS_PER_SHARD = 64
# Characters and lines; more of both without a blank line are said.
LONG_DOCUMENT, LONG_DOCUMENT_LINES = 20_000, 1_000
HELD_OUT = 100  # One of 100 documents is held out,
HELD_OUT_SENTENCES = 20  # or one of 20 sentences of a single document;
HELD_OUT_CHARS = 20  # at most one of 20 characters.
LONG_SENTENCE = 2_000  # Characters; a longer sentence may be held out in part.


@dataclasses.dataclass(frozen=True)
class Block:
  """Documents start <= i < stop of a corpus, all of one split."""
  split: str  # 'train' or 'eval'.
  start: int
  stop: int
  chars: int  # The characters of all its documents.
  part: str = 'all'  # Or of one document a row of `PARTS`.
  size: int = 0  # Bytes of the corpus's files, for progress bars.
  # The mark of its first document (see `documents.Corpus`), or None if the
  # corpus can only be read from its beginning.
  mark: tuple[int, ...] | None = None

  @property
  def name(self) -> str:
    """Names the block; its random pairs depend on this name."""
    return f'{self.split}/{self.start}/{self.part}'


@dataclasses.dataclass(frozen=True)
class Shard:
  """A run of blocks whose rows share a file: the unit of restart.

  It is number `index` of the `total` shards of its split.
  """
  split: str
  index: int
  total: int
  blocks: tuple[Block, ...]

  @property
  def name(self) -> str:
    """Returns a name such as 'train-00003-of-00012'."""
    return f'{self.split}-{self.index:05d}-of-{self.total:05d}'

  @property
  def size(self) -> int:
    return sum(block.size for block in self.blocks)

  @property
  def identity(self) -> list:
    """Returns facts about its blocks that JSON does not change."""
    return [[b.start, b.stop, b.chars, b.part] for b in self.blocks]


def shards_of(blocks: list[Block]) -> list[Shard]:
  """Groups the blocks into shards of `BLOCKS_PER_SHARD`, in order."""
  shards = []
  for split in ('train', 'eval'):
    own = [block for block in blocks if block.split == split]
    starts = range(0, len(own), BLOCKS_PER_SHARD)
    shards += [Shard(split, index, len(starts),
                     tuple(own[start:start + BLOCKS_PER_SHARD]))
               for index, start in enumerate(starts)]
  return shards


def num_held_out(num_documents: int, num_chars: int = 0,
                 last: Sequence[int] = ()) -> int:
  """Returns how many of the last documents are held out: 1 %, at least one.

  Given the characters of the corpus and of each of its last documents, in
  order, fewer are, if they are more than 5 % of the characters: 0 if the last
  one alone is, of which a part is held out then.

  >>> num_held_out(500, 10_000, [20] * 5), num_held_out(2, 100, [93])
  (5, 0)
  """
  most = max(1, num_documents // HELD_OUT)
  if not last:
    return most
  sums = itertools.accumulate(reversed(last[-most:]))
  return sum(chars * HELD_OUT_CHARS <= num_chars for chars in sums)


# The parts of a document: whether it is the beginning, and how many sentences
# the end has at least. Of several documents, the last one's end has two if it
# can, because a pair of segments needs two.
PARTS = {'head': (True, 1), 'tail': (False, 1),  # Of a single document.
         'start': (True, 2), 'end': (False, 2)}


def beginning(num_sentences: int, part: str) -> int:
  """Returns how many sentences are before the end, which is the last 5 %."""
  return num_sentences - max(min(PARTS[part][1], num_sentences),
                             num_sentences // HELD_OUT_SENTENCES)


def part_of(sentences: list[str], part: str) -> list[str]:
  """Returns the sentences of a part of a document.

  Of a document of one long sentence, the end is its last 5 % of characters,
  from a line or a space on if there is one.
  """
  if part == 'all':
    return sentences
  if len(sentences) == 1 and len(sentences[0]) >= LONG_SENTENCE:
    whole = sentences[0]
    cut = len(whole) - len(whole) // HELD_OUT_SENTENCES
    places = [whole.find(end, cut, (cut + len(whole)) // 2) for end in '\n ']
    cut = next((place + 1 for place in places if place >= 0), cut)
    return [whole[:cut] if PARTS[part][0] else whole[cut:]]
  cut = beginning(len(sentences), part)
  return sentences[:cut] if PARTS[part][0] else sentences[cut:]


def is_full(chars: int, documents: int) -> bool:
  """Whether a block of this size is closed."""
  return (chars >= MIN_CHARS and documents >= MIN_DOCUMENTS
          or documents >= MAX_DOCUMENTS or chars >= MAX_CHARS)


class Survey:
  """Learns a corpus's blocks from the sizes of its documents, in one pass.

  It keeps a few numbers for each block and for each of the last 1 % of
  documents, because only the end of the corpus shows which are held out.
  """

  def __init__(self, split: str = ''):
    """`split` is 'train' or 'eval' if all documents are of that split."""
    self._split = split
    self.num_documents = self.num_chars = 0
    self._closed = []  # Finished blocks.
    self._chars = self._start = 0
    self._mark, self._from, self._position = None, 0, 0
    self._tail = deque()  # Arguments of `add` that may be held out.

  def add(self, chars: int, position: int = 0,
          mark: tuple[int, ...] | None = None) -> None:
    """Adds the next document; `position` is the corpus's after reading it."""
    self.num_documents += 1
    self.num_chars += chars
    self._tail.append((chars, position, mark))
    # A document that has left the tail never returns to it.
    while len(self._tail) > (0 if self._split else
                             num_held_out(self.num_documents)):
      self._settle(self._split or 'train', *self._tail.popleft())

  def _settle(self, split: str, chars: int, position: int, mark) -> None:
    stop = self.num_documents - len(self._tail)
    if stop - 1 == self._start:
      self._mark = mark
    self._chars += chars
    self._position = position
    if is_full(self._chars, stop - self._start):
      self._close(split, stop)

  def _close(self, split: str, stop: int) -> None:
    if stop > self._start:
      self._closed.append(Block(
          split, self._start, stop, self._chars, 'all',
          self._position - self._from, self._mark))
    self._start, self._chars, self._from = stop, 0, self._position

  def blocks(self) -> list[Block]:
    """Returns all blocks in order; call it once, after the last document."""
    if self._split:
      self._close(self._split, self.num_documents)
      return self._closed
    held = num_held_out(self.num_documents, self.num_chars,
                        [chars for chars, *_ in self._tail])
    while len(self._tail) > max(1, held):
      self._settle('train', *self._tail.popleft())
    self._close('train', self.num_documents - len(self._tail))
    if self._tail and not held:
      (chars, position, mark), last = self._tail[0], self.num_documents - 1
      before, after = ('start', 'end') if last else ('head', 'tail')
      return [*self._closed,
              Block('train', last, last + 1, chars, before,
                    position - self._from, mark),
              Block('eval', last, last + 1, chars, after, 0, mark)]
    while self._tail:
      self._settle('eval', *self._tail.popleft())
    self._close('eval', self.num_documents)
    return self._closed


class Changed(Exception):
  """The documents are not those that were surveyed."""


def read_blocks(documents: Iterator[str], blocks: Sequence[Block],
                first: int = 0, to_the_end: bool = True
                ) -> Iterator[tuple[Block, list[str]]]:
  """Yields each of some blocks, in order, with its documents.

  Args:
    documents: the documents of a corpus, from index `first` on.
    to_the_end: whether the last block is at the end of the corpus.

  Raises:
    Changed: the documents are not those that were surveyed.
  """
  documents = iter(documents)
  texts = []
  for block in blocks:
    # The end of a document has the same document as its beginning.
    if not (texts and block.start < first):
      skipped = max(0, block.start - first)
      texts = list(itertools.islice(
          documents, skipped, skipped + block.stop - block.start))
      first = block.stop
    if (len(texts), sum(map(len, texts))) != (
        block.stop - block.start, block.chars):
      raise Changed
    yield block, texts
  if to_the_end and next(documents, None) is not None:
    raise Changed


@dataclasses.dataclass(frozen=True)
class Surveyed:
  """What the first pass over a corpus has found, and the seconds it took."""
  blocks: list[Block]
  counts: Counter
  seconds: float


class Surveys:
  """The surveys of corpora, each made when it is first needed."""

  def __init__(self, cache_dir: str, progress: bool, only_kept: bool = False):
    """With `only_kept` a survey that is not in the cache is an error."""
    self._folder = os.path.join(cache_dir, 'surveys')
    self._progress, self._only_kept = progress, only_kept
    self._known = {}

  def __call__(self, corpus) -> list[Block]:
    """Returns the blocks of a corpus."""
    return self.of(corpus).blocks

  def of(self, corpus) -> Surveyed:
    """Returns the survey of a corpus, [] if it has no text.

    InputError if it has wrong text.
    """
    key = corpus.name, getattr(corpus, 'split', '')
    if key not in self._known:
      self._known[key] = self._find(corpus)
    return self._known[key]

  def _find(self, corpus) -> Surveyed:
    fingerprint = corpus.fingerprint()
    facts = [SURVEY_VERSION, fingerprint, LITERALS, MIN_CHARS,
             MIN_DOCUMENTS, MAX_CHARS, MAX_DOCUMENTS]
    path = os.path.join(self._folder, f'{corpus.name}-'
                        f'{files.json_hash(facts)[:16]}.json')
    found = _read_survey(path)
    if found is None and self._only_kept:
      raise InputError(
          f'{corpus.name}: it is not prepared, or its text has changed, or '
          f'this machine sees other files: {self._folder} has no survey of '
          f'{", ".join(corpus.files[:3])} as it is now.')
    if found is None:
      found = self._survey(corpus)
      if corpus.fingerprint() == fingerprint:  # It did not change meanwhile.
        with writing_records(self._folder):
          files.makedirs(self._folder)
        write_json(path, {
            'blocks': json.dumps([dataclasses.astuple(block)
                                  for block in found.blocks]),
            'counts': found.counts, 'seconds': found.seconds})
    return found

  def _survey(self, corpus) -> Surveyed:
    started = time.monotonic()
    survey, literals, num_bytes = Survey(getattr(corpus, 'split', '')), 0, 0
    longest = 0, 0  # Lines and characters.
    missing = getattr(corpus, 'missing', ())
    if missing and self._progress:
      say(f'{corpus.name}: without {", ".join(missing)}, not installed.')
    with progress_bar(corpus.size, 'B', f'{corpus.name}: reading',
                      self._progress) as shown:
      for text in corpus.documents():
        survey.add(len(text), corpus.position, getattr(corpus, 'mark', None))
        num_bytes += len(text) if text.isascii() else len(text.encode())
        literals += any(token in text for token in LITERALS)
        if len(text) > max(LONG_DOCUMENT, longest[1]):
          longest = text.count('\n') + 1, len(text)
        shown.update(corpus.position - shown.n)
      shown.update(corpus.position - shown.n)
    if longest[0] > LONG_DOCUMENT_LINES and self._progress and getattr(
        corpus, 'blank_lines_end', False):
      say(f'{corpus.name}: {longest[0]:,} lines ({longest[1]:,} characters) '
          f'without a blank line are one document, of '
          f'{survey.num_documents:,}. data.documents=lines makes each line '
          'one, and data.max_document_chars cuts long ones.')
    counts = Counter(corpus.counts)
    counts['documents_naming_special_tokens'] = literals
    counts['characters'] = survey.num_chars
    counts['utf8_bytes'] = num_bytes
    return Surveyed(survey.blocks(), counts,
                    round(time.monotonic() - started, 3))


def _read_survey(path: str) -> Surveyed | None:
  """Reads a survey from the cache; None if there is no usable one."""
  try:
    values = files.read_json(path)
    blocks = [Block(*fields, None if mark is None else tuple(mark))
              for *fields, mark in json.loads(values['blocks'])]
    held = sum(b.chars for b in blocks if (b.split, b.part) == ('eval', 'all'))
    if held * HELD_OUT_CHARS > sum(b.chars for b in blocks) and any(
        b.split == 'train' for b in blocks):
      return None  # By an older law: more than 5 % is held out.
    return Surveyed(blocks, Counter(values['counts']), values['seconds'])
  except (OSError, ValueError, KeyError, TypeError) as e:
    raise_unless_damage(e, path)
    return None
