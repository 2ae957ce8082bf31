"""Rows of records that lie in a remote storage.

They are read in their memory-mapped form, whose arrays are plain files: of a
block of contiguous rows its ranges are fetched, five requests in all, whole and
nothing else, into the block cache, and rows are gathered from there.
"""

from collections.abc import Sequence
import hashlib
import io
import json
from typing import NamedTuple

import numpy as np

from robertax import files
from robertax.corpus import records, shards
from robertax.corpus.records import Manifest
from robertax.data.block_cache import Block, BlockCache
from robertax.data.rows import PREPARE_AGAIN, copy_rows, slotted
from robertax.errors import InputError

_HEAD = 128  # Bytes of a .npy before its numbers, as memmap writes it.
GRID = 64  # Rows of a block where no order says which are read together.


class Span(NamedTuple):
  """Contiguous rows first <= i < stop of one split."""
  first: int
  stop: int


class Remote:
  """The rows of one split in a storage."""

  def __init__(self, manifest: Manifest, split: str, cache: BlockCache):
    """Looks at the size of each array.

    Args:
      manifest: of the records, whose folder is a URL.
      split: its name on disk.
      cache: where blocks are kept.

    Raises:
      InputError: a file is missing or not of the manifest's size; records that
        lack the memory-mapped form.
    """
    self.cache = cache
    self._manifest, self._split = manifest, split
    if 'memmap' not in manifest.forms:
      raise InputError(
          f'{manifest.folder}: remote records are read in their memory-mapped '
          'form, and this folder lacks it: prepare with --memmap.')
    info = manifest.splits[split]
    self._pairs = manifest.pair_law is not None
    self._slotted = slotted(self._pairs)
    self._rows, self._tokens = info.num_records, info.num_tokens
    self._examples = info.num_examples
    # Of the ids' bytes on disk, whatever this machine's are.
    kinds = shards.array_dtypes(manifest.dtype)
    self._kinds = {name: np.dtype(kind) for name, kind in
                   zip(shards.MappedArrays._fields, kinds)}
    pairs = self._examples if self._pairs else 0
    sizes = shards.MappedArrays(
        self._tokens, self._rows + 1, self._examples, self._rows + 1,
        self._examples, pairs, pairs)
    for name, size in zip(shards.MappedArrays._fields, sizes):
      self._check(name, size)
    # Other records in the same place have other blocks.
    text = json.dumps([manifest.folder, split, manifest.seconds, sizes,
                       manifest.tokenizer, records.VERSION])
    self._digest = hashlib.sha256(text.encode()).hexdigest()[:16]

  def block(self, span: Span) -> Block:
    """What is fetched for these rows."""
    rows, manifest = span.stop - span.first, self._manifest
    slots = min(self._examples, rows * manifest.max_examples_per_row)
    size = (64 + 16 * (rows + 1) + slots * (16 if self._pairs else 8)
            + rows * manifest.sequence_length * self._kinds['ids'].itemsize)
    return Block(f'{self._digest}-{span.first}-{span.stop}', size,
                 lambda: self._fetch(span))

  def arrays(self, span: Span, data: np.ndarray) -> shards.MappedArrays:
    """The arrays of a block's bytes; starts are counted from its first row."""
    rows = span.stop - span.first + 1
    starts = data[:16 * rows].view('<i8').reshape(2, rows)
    examples, tokens = int(starts[1, -1]), int(starts[0, -1])
    pairs = examples if self._pairs else 0
    at, found = 16 * rows, {'row_starts': starts[0],
                            'example_starts': starts[1]}
    for name, size in (('lengths', examples), ('documents', examples),
                       ('first_lengths', pairs), ('second_documents', pairs),
                       ('ids', tokens)):
      end = at + size * self._kinds[name].itemsize
      found[name] = data[at:end].view(self._kinds[name])
      at = end
    return shards.MappedArrays(**found)

  def fill(self, local, places, rows, spans):
    order = np.argsort(local, kind='stable')
    local, places = local[order], places[order]
    cuts = np.flatnonzero(np.diff(spans[order, 0], prepend=-1))
    todo = [(Span(*spans[order[a]].tolist()), local[a:b], places[a:b])
            for a, b in zip(cuts, [*cuts[1:], len(local)])]
    while todo:
      held = []
      try:
        # All are on their way at once, as far as there is room.
        for span, *_ in todo:
          entry = self.cache.pin(self.block(span))
          if entry is None and not held:
            entry = self.cache.wait_to_pin(self.block(span))
          if entry is None:
            break
          held.append(entry)
        for entry, (span, numbers, where) in zip(held, todo):
          copy_rows(self.arrays(span, entry.arrays.result()), self._slotted,
                self._manifest.folder, numbers - span.first, where, rows)
      finally:
        for entry in held:
          self.cache.unpin(entry)
      todo = todo[len(held):]

  def _fetch(self, span: Span) -> Sequence[np.ndarray]:
    rows = self._read('row_starts', span.first, span.stop + 1)
    examples = self._read('example_starts', span.first, span.stop + 1)
    for starts, total in ((rows, self._tokens), (examples, self._examples)):
      if not (0 <= starts[0] and starts[-1] <= total
              and (np.diff(starts) >= 0).all()):
        raise InputError(f'{self._manifest.folder}: its memory-mapped records '
                         f'are damaged: {PREPARE_AGAIN}')
    slots = [self._read(name, *examples[[0, -1]]) for name in (
        'lengths', 'documents', *(('first_lengths', 'second_documents')
                                  if self._pairs else ()))]
    return [rows - rows[0], examples - examples[0], *slots,
            self._read('ids', *rows[[0, -1]])]

  def _path(self, name: str) -> str:
    return shards.array_path(self._manifest.folder, self._split, name)

  def _read(self, name: str, first: int, stop: int) -> np.ndarray:
    kind, head = self._kinds[name], 0 if name == 'ids' else _HEAD
    return np.frombuffer(self._bytes(name, head + int(first) * kind.itemsize,
                                     head + int(stop) * kind.itemsize), kind)

  def _bytes(self, name: str, start: int, stop: int) -> bytes:
    try:
      return files.read_range(self._path(name), start, stop)
    except OSError as e:
      raise InputError(f'{self._path(name)}: cannot be read '
                       f'({e.strerror or e}): {PREPARE_AGAIN}') from e

  def _check(self, name: str, size: int) -> None:
    """Whether a file is there and has so many numbers."""
    path = self._path(name)
    try:
      if name == 'ids':
        found = files.stat(path).size // self._kinds[name].itemsize
      else:
        head = io.BytesIO(self._bytes(name, 0, _HEAD))
        np.lib.format.read_magic(head)
        (found,), _, kind = np.lib.format.read_array_header_1_0(head)
        if kind != self._kinds[name] or head.tell() != _HEAD:
          raise ValueError(f'of {kind}')
    except (OSError, ValueError) as e:
      if isinstance(e, InputError):
        raise
      raise InputError(
          f'{path}: missing or damaged ({e}): {PREPARE_AGAIN}') from e
    if found != size:
      raise InputError(f'{path}: {found} numbers, its manifest says {size}: '
                       f'{PREPARE_AGAIN}')
