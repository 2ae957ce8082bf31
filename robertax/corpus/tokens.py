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
from collections.abc import Iterator
import dataclasses
import itertools
import os
import time
from typing import Any, NamedTuple
import zlib

import numpy as np

from robertax import files
from robertax.corpus.blocks import Shard, part_of
from robertax.corpus.records import FileWriter, write_json
from robertax.corpus.sentences import SPLITTERS
from robertax.errors import InputError, reading
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

  def nested(self) -> list[list[np.ndarray]]:
    """Returns views of the ids of each sentence of each document.

    >>> tokens = Tokens(np.arange(5), np.array([2, 1, 2]), np.array([1, 2]))
    >>> [[ids.tolist() for ids in d] for d in tokens.nested()]
    [[[0, 1]], [[2], [3, 4]]]
    """
    ends = itertools.accumulate(self.sentences.tolist(), initial=0)
    sentences = iter([self.ids[a:b] for a, b in itertools.pairwise(ends)])
    return [list(itertools.islice(sentences, number))
            for number in self.documents.tolist()]


class TextRecipe(NamedTuple):
  """What decides the ids of texts: a tokenizer.json and a splitter."""
  tokenizer: str
  sentences: str


class Texts(NamedTuple):
  """The documents of a block, and `Block.part`."""
  documents: list[str]
  part: str = 'all'


class BlockTokenizer:
  """Tokenizes blocks, in worker processes, so it imports nothing heavy."""

  def __init__(self, recipe: TextRecipe):
    self._tokenizer = Tokenizer.from_json(recipe.tokenizer)
    self._split = SPLITTERS[recipe.sentences]

  def __call__(self, texts: Texts) -> Tokens:
    started = time.monotonic()
    sentences, numbers = [], []
    for document in texts.documents:
      found = part_of(self._split(document), texts.part)
      sentences += found
      numbers.append(len(found))
    split = time.monotonic()
    encoded = [ids for some in _portions(sentences)
               for ids in self._tokenizer.encode_batch(some)]
    ids = np.concatenate([np.zeros(0, self._tokenizer.dtype), *encoded])
    tokens = Tokens(
        ids, np.fromiter(map(len, encoded), np.uint32, len(encoded)),
        np.array(numbers, np.uint32),
        int(np.count_nonzero(ids == self._tokenizer.unk_id)))
    tokens.seconds.update(splitting=split - started,
                          tokenizing=time.monotonic() - split)
    return tokens


def _portions(sentences: list[str]) -> Iterator[list[str]]:
  """Yields runs of sentences of about CHARS_AT_ONCE characters."""
  start = chars = 0
  for stop, sentence in enumerate(sentences, 1):
    chars += len(sentence)
    if chars >= CHARS_AT_ONCE:
      yield sentences[start:stop]
      start, chars = stop, 0
  if start < len(sentences):
    yield sentences[start:]


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
  with reading(place.path, 'cannot be read', f': {DAMAGE_ADVICE}.'), (
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
  try:
    found = files.read_json(os.path.join(folder, f'{name}.json'))
    return found if found['version'] == STORE_VERSION else None
  except (OSError, ValueError, KeyError, TypeError):
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
