"""The store: a corpus tokenized once, for every format and length.

`<cache_dir>/tokens/<corpus>-<hash>/` holds, for each shard of its text,

    <split>-0000i-of-0000N.tokens   the blocks of the shard, back to back
    <split>-0000i-of-0000N.json     written last: where they lie, checksums

A block is three little-endian arrays, back to back: ids (uint16 or uint32, no
special tokens), uint32 tokens of each sentence, uint32 sentences of each
document. 2 bytes a token and 4 a sentence. The hash is of the text, the
tokenizer and the splitter, and of nothing else: see `preparation`.
"""

from collections import Counter
import contextlib
import json
import os
from typing import Any, NamedTuple
import zlib

import numpy as np

from robertax import paths
from robertax.corpus.blocks import Shard
from robertax.corpus.checksums import ADVICE, Checksum
from robertax.corpus.manifest import write_json, writing
from robertax.corpus.publishing import discard, publish, staging
from robertax.corpus.tokens import Tokens
from robertax.errors import InputError

VERSION = 1  # Raised whenever a byte of the store would change.
_SIZES = np.dtype('<u4')


class Place(NamedTuple):
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


def read(place: Place) -> Tokens:
  """Reads a block.

  Raises:
    InputError: missing, or not what was written.
  """
  ids = np.dtype(place.dtype).newbyteorder('<')
  split = place.tokens * ids.itemsize
  ends = split + place.sentences * _SIZES.itemsize
  size = ends + place.documents * _SIZES.itemsize
  try:
    with paths.open(place.path, 'rb') as f:
      f.seek(place.offset)
      data = f.read(size)
  except OSError as e:
    raise InputError(f'{place.path}: cannot be read ({e.strerror or e}): '
                     f'{ADVICE}.') from e
  if len(data) != size or zlib.crc32(data) != place.crc:
    raise InputError(
        f'{place.path}: damaged or truncated between byte {place.offset:,} and '
        f'{place.offset + size:,}: {ADVICE}.')
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

  def places(self, shard: Shard) -> list[Place] | None:
    """Where its blocks lie; None: it is not finished."""
    found = self._index(shard)
    if found is None:
      return None
    return [Place(self.path(shard), *numbers, self._dtype)
            for numbers in found['blocks']]

  def seconds(self, shard: Shard) -> dict[str, float]:
    """What a finished shard took, by stage."""
    return self._index(shard)['seconds']

  def _index(self, shard: Shard) -> dict[str, Any] | None:
    found = read_index(self.folder, shard.name)
    if found is None or found['shard'] != shard.identity:
      return None
    path = self.path(shard)
    return (found if paths.exists(path)
            and paths.stat(path).size == found['file']['size'] else None)

  def remove(self) -> None:
    """Removes all of it."""
    with writing(self.folder):
      paths.rmtree(self.folder)

  def writer(self, shard: Shard) -> 'TokenWriter':
    return TokenWriter(self.path(shard), shard)


class TokenWriter:
  """Writes one shard; a context that drops what an error leaves unfinished."""

  def __init__(self, path: str, shard: Shard):
    self._path, self._shard = path, shard
    self._partial = staging(path)
    self._blocks, self._offset, self._seconds = [], 0, Counter()
    with writing(path):
      self._file = open(self._partial, 'wb')

  def write(self, tokens: Tokens) -> None:
    """Writes the next block of the shard."""
    ids = tokens.ids.astype(tokens.ids.dtype.newbyteorder('<'), copy=False)
    data = b''.join((ids.tobytes(),
                     tokens.sentences.astype(_SIZES).tobytes(),
                     tokens.documents.astype(_SIZES).tobytes()))
    with writing(self._path):
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
    with writing(self._path):
      self._file.close()
    file = publish(self._partial, self._path)
    write_json(self._path.removesuffix('.tokens') + '.json', {
        'version': VERSION, 'shard': self._shard.identity,
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
    with paths.open(os.path.join(folder, f'{name}.json')) as f:
      found = json.load(f)
    return found if found['version'] == VERSION else None
  except (OSError, ValueError, KeyError, TypeError):
    return None


def stored(folder: str) -> dict[str, Checksum]:
  """What a store's finished files should be, by name."""
  found = {}
  for name in paths.listdir(folder):
    shard = name.removesuffix('.json')
    index = read_index(folder, shard) if name.endswith('.json') else None
    if index is not None:
      found[f'{shard}.tokens'] = Checksum(**index['file'])
  return found
