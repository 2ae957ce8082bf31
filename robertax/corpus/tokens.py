"""Tokens: the ids of a block's documents, and the store that keeps them.

A corpus is tokenized once, for all formats and lengths. The store is the folder
`<cache_dir>/tokens/<corpus>-<hash>/`, and has two files for each shard:

    <split>-0000i-of-0000N.tokens   the blocks of the shard, back to back
    <split>-0000i-of-0000N.json     written last: their offsets and checksums

A block is three little-endian arrays, back to back: ids (uint16 or uint32, no
special tokens), uint32 tokens of each sentence, uint32 sentences of each
document. The hash depends on the text, the tokenizer and the splitter.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
import dataclasses
import itertools
import os
import time
from typing import Any, NamedTuple
import zlib

import numpy as np

from robertax import files
from robertax.corpus.blocks import PARTS, Shard, beginning, part_of
from robertax.corpus.records import FileWriter, write_json
from robertax.corpus.sentences import SPLITTERS, none
from robertax.errors import InputError, raise_unless_damage, reading
from robertax.files import DAMAGE_ADVICE, Checksum
from robertax.text import Tokenizer

STORE_VERSION = 1  # Raised whenever a byte of the store would change.
# Characters that are encoded at once; the library's encodings take far more
# memory than ids.
CHARS_AT_ONCE = 1 << 19
_SIZES = np.dtype('<u4')


@dataclasses.dataclass(frozen=True)
class Tokens:
  """The documents of one block as ids."""
  ids: np.ndarray  # uint16 or uint32 [tokens], without special tokens.
  sentences: np.ndarray  # uint32[sentences], tokens of each.
  documents: np.ndarray  # uint32[documents], sentences of each.
  unknown: int = 0  # How many of the ids are the tokenizer's unk_id.
  # How long it took, by stage.
  seconds: dict[str, float] = dataclasses.field(default_factory=dict)

  def nested(self) -> 'list[Sentences]':
    """Returns the ids of each sentence of each document.

    >>> tokens = Tokens(np.arange(5), np.array([2, 1, 2]), np.array([1, 2]))
    >>> [[ids.tolist() for ids in d] for d in tokens.nested()]
    [[[0, 1]], [[2], [3, 4]]]
    """
    ends = np.concatenate([[0], np.cumsum(self.sentences, dtype=np.int64)])
    stops = np.concatenate([[0], np.cumsum(self.documents, dtype=np.int64)])
    return [Sentences(self.ids, ends[a:b + 1])
            for a, b in itertools.pairwise(stops.tolist())]

  def without_empty(self) -> 'Tokens':
    """Returns them without sentences that have no ids, such as U+200B alone."""
    has = self.sentences > 0
    if has.all():
      return self
    before = np.concatenate([[0], np.cumsum(has)])
    stops = np.concatenate([[0], np.cumsum(self.documents, dtype=np.int64)])
    return dataclasses.replace(self, sentences=self.sentences[has],
                               documents=np.diff(before[stops]))


class Sentences(Sequence):
  """The ids of a document's sentences, each a view that is made when asked for.

  All views of a long document would take many times the memory of its ids.
  """

  def __init__(self, ids: np.ndarray, ends: np.ndarray):
    self._ids, self._ends = ids, ends

  def __len__(self) -> int:
    return len(self._ends) - 1

  def __getitem__(self, number: int) -> np.ndarray:
    if not 0 <= number < len(self):
      raise IndexError(number)
    return self._ids[self._ends[number]:self._ends[number + 1]]


class TextRecipe(NamedTuple):
  """What decides the ids of texts, and which encoder makes them."""
  tokenizer: str  # A tokenizer.json,
  names: dict[str, str]  # with the names of its special tokens.
  sentences: str  # A row of SPLITTERS.
  encoder: str = 'tokenizers'  # A row of text.encoders.ENCODERS; all are alike.


class Texts(NamedTuple):
  """The documents of a block, and `Block.part`."""
  documents: list[str]
  part: str = 'all'


class BlockTokenizer:
  """Tokenizes blocks, in worker processes, so it imports nothing heavy."""

  def __init__(self, recipe: TextRecipe):
    self._tokenizer = Tokenizer.from_json(
        recipe.tokenizer, names=recipe.names).with_encoder(recipe.encoder)
    self._split = SPLITTERS[recipe.sentences]

  def __call__(self, texts: Texts) -> Tokens:
    started, tokenizing = time.monotonic(), 0.
    ids, sizes, numbers = [np.zeros(0, self._tokenizer.dtype)], [], []
    for sentences in self._portions(texts, numbers):
      began = time.monotonic()
      encoded, lengths = self._tokenizer.encode_flat(sentences)
      tokenizing += time.monotonic() - began
      ids.append(encoded)
      sizes.append(lengths.astype(np.uint32))
    flat = np.concatenate(ids)
    tokens = Tokens(
        flat, np.concatenate([np.zeros(0, np.uint32), *sizes]),
        np.array(numbers, np.uint32),
        int(np.count_nonzero(flat == self._tokenizer.unk_id)))
    tokens.seconds.update(
        splitting=time.monotonic() - started - tokenizing,
        tokenizing=tokenizing)
    return tokens

  def _portions(self, texts: Texts, numbers: list[int]) -> Iterator[list[str]]:
    """Yields runs of sentences of about CHARS_AT_ONCE characters.

    `numbers` receives the number of sentences of each document.
    """
    waiting, chars = [], 0
    for document in texts.documents:
      numbers.append(0)
      for found in sentences_of(document, self._split, texts.part):
        numbers[-1] += len(found)
        for sentence in found:
          waiting.append(sentence)
          chars += len(sentence)
          if chars >= CHARS_AT_ONCE:
            yield waiting
            waiting, chars = [], 0
    if waiting:
      yield waiting


def sentences_of(document: str, split: Callable[[str], list[str]],
                 part: str = 'all', portion: int = 0) -> Iterator[list[str]]:
  """Yields the sentences of a part of a document, of a long one in portions.

  Its lines are split by themselves, because no splitter but `none` joins two.
  A portion has about so many characters, or CHARS_AT_ONCE.
  """
  stops, portion = [0], portion or CHARS_AT_ONCE
  while split is not none and len(document) - stops[-1] > portion:
    found = document.find('\n', stops[-1] + portion)
    if found < 0:
      break
    stops.append(found + 1)
  stops.append(len(document))

  def pieces() -> Iterator[list[str]]:
    for start, stop in itertools.pairwise(stops):
      yield split(document[start:stop])
  if part == 'all':
    yield from pieces()
    return
  total = sum(map(len, pieces())) if len(stops) > 2 else 0
  if total < 2:
    yield part_of(split(document), part)
    return
  left = beginning(total, part)
  for found in pieces():
    yield found[:left] if PARTS[part][0] else found[left:]
    left = max(0, left - len(found))


class BlockPlace(NamedTuple):
  """The location of a block, from which any process can read it."""
  path: str  # The file of its shard.
  offset: int  # Bytes before it in that file.
  tokens: int
  sentences: int
  documents: int
  crc: int  # The CRC-32 of its bytes.
  dtype: str  # Of the ids, 'uint16' or 'uint32'.


def read_block(place: BlockPlace) -> Tokens:
  """Reads a block; InputError if it is missing or damaged."""
  ids = np.dtype(place.dtype).newbyteorder('<')
  split = place.tokens * ids.itemsize
  ends = split + place.sentences * _SIZES.itemsize
  size = ends + place.documents * _SIZES.itemsize
  with reading(place.path, advice=': run the same command again.'), (
      files.open(place.path, 'rb')) as f:
    f.seek(place.offset)
    data = f.read(size)
  if len(data) != size or zlib.crc32(data) != place.crc:
    raise InputError(
        f'{place.path}: damaged or truncated between byte {place.offset:,} and '
        f'{place.offset + size:,}: {DAMAGE_ADVICE}.')
  return Tokens(np.frombuffer(data[:split], ids),
                np.frombuffer(data[split:ends], _SIZES),
                np.frombuffer(data[ends:], _SIZES))


class TokenStore:
  """The store of a corpus, tokenizer and splitter; its ids have `dtype`."""

  def __init__(self, folder: str, dtype: str):
    self.folder, self._dtype = folder, dtype

  def path(self, shard: Shard) -> str:
    return os.path.join(self.folder, f'{shard.name}.tokens')

  def places(self, shard: Shard) -> list[BlockPlace] | None:
    """Returns the locations of its blocks; None if it is not finished."""
    found = self._index(shard)
    return found and [BlockPlace(self.path(shard), *numbers, self._dtype)
                      for numbers in found['blocks']]

  def seconds(self, shard: Shard) -> dict[str, float]:
    """Returns how long a finished shard took, by stage."""
    return self._index(shard)['seconds']

  def unknown(self, shard: Shard, unk_id: int) -> tuple[int, int]:
    """Returns the unknown tokens and all tokens of a finished shard."""
    found, places = self._index(shard), self.places(shard)
    if 'unknown' not in found:  # An earlier version has not counted them.
      found['unknown'] = sum(int(np.count_nonzero(read_block(place).ids
                                                  == unk_id))
                             for place in places)
    return found['unknown'], sum(place.tokens for place in places)

  def _index(self, shard: Shard) -> dict[str, Any] | None:
    found = read_index(self.folder, shard.name)
    if found is None or found['shard'] != shard.identity:
      return None
    path = self.path(shard)
    return (found if files.exists(path)
            and files.stat(path).size == found['file']['size'] else None)


class TokenWriter(FileWriter):
  """Writes one shard of a store."""

  def __init__(self, path: str, shard: Shard):
    super().__init__(path)
    self._shard = shard
    self._blocks, self._offset, self._seconds = [], 0, Counter()
    self._unknown = 0

  def write(self, tokens: Tokens) -> None:
    """Writes the next block of the shard."""
    ids = tokens.ids.astype(tokens.ids.dtype.newbyteorder('<'), copy=False)
    data = b''.join((ids.tobytes(), tokens.sentences.astype(_SIZES).tobytes(),
                     tokens.documents.astype(_SIZES).tobytes()))
    super().write(data)
    self._blocks.append((self._offset, len(tokens.ids), len(tokens.sentences),
                         len(tokens.documents), zlib.crc32(data)))
    self._offset += len(data)
    self._unknown += tokens.unknown
    self._seconds.update(tokens.seconds)

  def close(self, **seconds: float) -> None:
    """Finishes the shard; `seconds` are the times of other stages."""
    self._seconds.update(seconds)
    file = super().close()
    write_json(self._path.removesuffix('.tokens') + '.json', {
        'version': STORE_VERSION, 'shard': self._shard.identity,
        'blocks': self._blocks, 'file': file._asdict(),
        'unknown': self._unknown,
        'seconds': {k: round(v, 3) for k, v in self._seconds.items()}})


def read_index(folder: str, name: str) -> dict[str, Any] | None:
  """Reads the index of a shard; None if there is no usable one."""
  path = os.path.join(folder, f'{name}.json')
  try:
    found = files.read_json(path)
    return found if found['version'] == STORE_VERSION else None
  except (OSError, ValueError, KeyError, TypeError) as e:
    raise_unless_damage(e, path)
    return None


def stored_files(folder: str) -> dict[str, Checksum]:
  """Returns the checksums of a store's finished files, by name."""
  found = {}
  for name in files.listdir(folder):
    shard = name.removesuffix('.json')
    index = read_index(folder, shard) if name.endswith('.json') else None
    if index is not None:
      found[f'{shard}.tokens'] = Checksum(**index['file'])
  return found
