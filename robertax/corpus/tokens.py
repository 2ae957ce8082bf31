"""The ids of a block's documents, sentence by sentence, and how they are made.

Runs in worker processes, so it imports nothing heavy and knows no files.
"""

from collections import Counter
from collections.abc import Iterator
import contextlib
import dataclasses
import itertools
import json
import os
import time
from typing import Any, NamedTuple
import zlib

import numpy as np

from robertax import files
from robertax.corpus.blocks import Shard, part_of
from robertax.corpus.records import (
    discard,
    publish,
    staging,
    write_json,
    writing_records,
)
from robertax.corpus.sentences import SPLITTERS
from robertax.errors import InputError
from robertax.files import DAMAGE_ADVICE, Checksum
from robertax.text import Tokenizer

# What the library keeps of an encoding is far larger than its ids: characters
# that are encoded at once.
CHARS_AT_ONCE = 1 << 19


@dataclasses.dataclass(frozen=True)
class Tokens:
  """The documents of one block as ids.

  Attributes:
    ids: uint16 or uint32 [tokens], no special tokens among them.
    sentences: uint32[sentences], tokens of each.
    documents: uint32[documents], sentences of each.
    seconds: what it took, by stage.
  """
  ids: np.ndarray
  sentences: np.ndarray
  documents: np.ndarray
  seconds: dict[str, float] = dataclasses.field(default_factory=dict)

  def nested(self) -> list[list[np.ndarray]]:
    """The ids of each sentence of each document: views.

    >>> tokens = Tokens(np.arange(5), np.array([2, 1, 2]), np.array([1, 2]))
    >>> [[ids.tolist() for ids in d] for d in tokens.nested()]
    [[[0, 1]], [[2], [3, 4]]]
    """
    ends = itertools.accumulate(self.sentences.tolist(), initial=0)
    sentences = iter([self.ids[a:b] for a, b in itertools.pairwise(ends)])
    return [list(itertools.islice(sentences, number))
            for number in self.documents.tolist()]


class TextRecipe(NamedTuple):
  """All that decides the ids of given texts.

  Attributes:
    tokenizer: the text of a tokenizer.json.
    sentences: a splitter's name.
  """
  tokenizer: str
  sentences: str


class Texts(NamedTuple):
  """The documents of a block, and `Block.part`."""
  documents: list[str]
  part: str = 'all'


class Tokenizing:
  """Called with the `Texts` of a block, gives its `Tokens`."""

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
    tokens = Tokens(
        np.concatenate([np.zeros(0, self._tokenizer.dtype), *encoded]),
        np.fromiter(map(len, encoded), np.uint32, len(encoded)),
        np.array(numbers, np.uint32))
    tokens.seconds.update(splitting=split - started,
                          tokenizing=time.monotonic() - split)
    return tokens


def _portions(sentences: list[str]) -> Iterator[list[str]]:
  """As many at once as memory likes."""
  start = chars = 0
  for stop, sentence in enumerate(sentences, 1):
    chars += len(sentence)
    if chars >= CHARS_AT_ONCE:
      yield sentences[start:stop]
      start, chars = stop, 0
  if start < len(sentences):
    yield sentences[start:]


# The store: a corpus tokenized once, for every format and length.
#
# `<cache_dir>/tokens/<corpus>-<hash>/` holds, for each shard of its text,
#
#     <split>-0000i-of-0000N.tokens   the blocks of the shard, back to back
#     <split>-0000i-of-0000N.json     written last: where they lie, checksums
#
# A block is three little-endian arrays, back to back: ids (uint16 or uint32, no
# special tokens), uint32 tokens of each sentence, uint32 sentences of each
# document. 2 bytes a token and 4 a sentence. The hash is of the text, the
# tokenizer and the splitter, and of nothing else: see `preparation`.


STORE_VERSION = 1  # Raised whenever a byte of the store would change.
_SIZES = np.dtype('<u4')


class BlockPlace(NamedTuple):
  """Where a block lies: enough to read it, from any process.

  Attributes:
    path: of the shard's file.
    offset: of the block in it, in bytes.
    tokens, sentences, documents: their numbers.
    crc: the CRC-32 of the block's bytes.
    dtype: of the ids.
  """
  path: str
  offset: int
  tokens: int
  sentences: int
  documents: int
  crc: int
  dtype: str


def read_block(place: BlockPlace) -> Tokens:
  """Reads a block.

  Raises:
    InputError: missing, or not what was written.
  """
  ids = np.dtype(place.dtype).newbyteorder('<')
  split = place.tokens * ids.itemsize
  ends = split + place.sentences * _SIZES.itemsize
  size = ends + place.documents * _SIZES.itemsize
  try:
    with files.open(place.path, 'rb') as f:
      f.seek(place.offset)
      data = f.read(size)
  except OSError as e:
    raise InputError(f'{place.path}: cannot be read ({e.strerror or e}): '
                     f'{DAMAGE_ADVICE}.') from e
  if len(data) != size or zlib.crc32(data) != place.crc:
    raise InputError(
        f'{place.path}: damaged or truncated between byte {place.offset:,} and '
        f'{place.offset + size:,}: {DAMAGE_ADVICE}.')
  return Tokens(np.frombuffer(data[:split], ids),
                np.frombuffer(data[split:ends], _SIZES),
                np.frombuffer(data[ends:], _SIZES))


class TokenStore:
  """The store of one corpus, tokenizer and splitter."""

  def __init__(self, folder: str, dtype: str):
    """Makes nothing yet; `dtype` is that of the ids."""
    self.folder, self._dtype = folder, dtype

  def path(self, shard: Shard) -> str:
    return os.path.join(self.folder, f'{shard.name}.tokens')

  def places(self, shard: Shard) -> list[BlockPlace] | None:
    """Where its blocks lie; None: it is not finished."""
    found = self._index(shard)
    if found is None:
      return None
    return [BlockPlace(self.path(shard), *numbers, self._dtype)
            for numbers in found['blocks']]

  def seconds(self, shard: Shard) -> dict[str, float]:
    """What a finished shard took, by stage."""
    return self._index(shard)['seconds']

  def _index(self, shard: Shard) -> dict[str, Any] | None:
    found = read_index(self.folder, shard.name)
    if found is None or found['shard'] != shard.identity:
      return None
    path = self.path(shard)
    return (found if files.exists(path)
            and files.stat(path).size == found['file']['size'] else None)

  def remove(self) -> None:
    """Removes all of it."""
    with writing_records(self.folder):
      files.rmtree(self.folder)

  def writer(self, shard: Shard) -> 'TokenWriter':
    return TokenWriter(self.path(shard), shard)


class TokenWriter:
  """Writes one shard; a context that drops what an error leaves unfinished."""

  def __init__(self, path: str, shard: Shard):
    self._path, self._shard = path, shard
    self._partial = staging(path)
    self._blocks, self._offset, self._seconds = [], 0, Counter()
    with writing_records(path):
      self._file = open(self._partial, 'wb')

  def write(self, tokens: Tokens) -> None:
    """Writes the next block of the shard."""
    ids = tokens.ids.astype(tokens.ids.dtype.newbyteorder('<'), copy=False)
    data = b''.join((ids.tobytes(),
                     tokens.sentences.astype(_SIZES).tobytes(),
                     tokens.documents.astype(_SIZES).tobytes()))
    with writing_records(self._path):
      self._file.write(data)
    self._blocks.append((self._offset, len(tokens.ids), len(tokens.sentences),
                         len(tokens.documents), zlib.crc32(data)))
    self._offset += len(data)
    self._seconds.update(tokens.seconds)

  def close(self, **seconds: float) -> None:
    """The shard is finished.

    Args:
      **seconds: of further stages.
    """
    self._seconds.update(seconds)
    with writing_records(self._path):
      self._file.close()
    file = publish(self._partial, self._path)
    write_json(self._path.removesuffix('.tokens') + '.json', {
        'version': STORE_VERSION, 'shard': self._shard.identity,
        'blocks': self._blocks, 'file': file._asdict(),
        'seconds': {k: round(v, 3) for k, v in self._seconds.items()}})

  def abandon(self) -> None:
    """Drops what was written, on the way out of an error."""
    with contextlib.suppress(OSError):  # A full disk: it is thrown away.
      self._file.close()
    discard(self._partial)

  def __enter__(self):
    return self

  def __exit__(self, kind, *rest):
    if kind:
      self.abandon()


def read_index(folder: str, name: str) -> dict[str, Any] | None:
  """A shard's JSON; None: not there, or not readable, or of other code."""
  try:
    with files.open(os.path.join(folder, f'{name}.json')) as f:
      found = json.load(f)
    return found if found['version'] == STORE_VERSION else None
  except (OSError, ValueError, KeyError, TypeError):
    return None


def stored_files(folder: str) -> dict[str, Checksum]:
  """What a store's finished files should be, by name."""
  found = {}
  for name in files.listdir(folder):
    shard = name.removesuffix('.json')
    index = read_index(folder, shard) if name.endswith('.json') else None
    if index is not None:
      found[f'{shard}.tokens'] = Checksum(**index['file'])
  return found
