"""In which order the records of a corpus are read.

Epochs are permutations of all records, or, where there are several duplicates
of the records, of one duplicate after another. To let storage be read in large
pieces, contiguous blocks of records are permuted, and only the records of
`window` consecutive blocks are mixed with each other. Both permutations are
keyed Feistel networks, so that the record at any place of any epoch is
arithmetic: no list is shuffled, kept, or skipped through.

Example: 10 records, blocks of 3, windows of 2 blocks. The blocks 012 345 678 9
come, say, in the order 678 9 | 012 345; records mix within a window:

  7 9 6 8 | 4 0 1 3 5 2

Several hosts that each read a storage of their own accord would all need every
block, for a window's records lie anywhere in a batch. `lanes` keeps them apart:
the records are cut into L equal parts, lane l is an endless sequence of epochs
of part l alone, and has the l-th of L equal runs of each batch's rows. A host
whose rows are some lanes' reads their parts and no others. The batch is again
the same on any number of hosts: lanes belong to the order, not to the hosts.
"""

from collections.abc import Sequence

import numpy as np

from robertax.data.hashing import fold, mix64, text_key
from robertax.errors import InputError

# What parts the rounds. Four rounds already pass for random (Luby and Rackoff
# 1988); here are six.
_ROUNDS = mix64(np.arange(6))


class Order:
  """Which record stands at which place.

  Attributes:
    starts: int64[D + 1], the first record of each duplicate, and the total.
  """

  def __init__(self, num_records: int | Sequence[int], seed: int,
               block: int = 64, window: int = 128, lanes: int = 1):
    """Nothing is computed yet.

    Args:
      num_records: of the corpus; or of each of its D duplicates: epoch e then
        has the records of duplicate e mod D, which are numbered behind those
        of the duplicates before it.
      seed: another seed, another order.
      block: contiguous records that stay in one window.
      window: blocks whose records are mixed.
      lanes: L, parts of the records that are read apart from each other.

    Raises:
      InputError: a number below 1, or more lanes than records.
    """
    lengths = np.atleast_1d(np.asarray(num_records, np.int64))
    for name, value in (('the number of records', lengths.min()),
                        ('data.shuffle_block', block),
                        ('data.shuffle_window', window),
                        ('data.shuffle_lanes', lanes)):
      if value < 1:
        raise InputError(f'{name} is {value}: at least 1 is needed.')
    if lanes > lengths.min():
      raise InputError(f'data.shuffle_lanes={lanes}: more than the records, '
                       f'which are {lengths.min()}.')
    self.starts = np.concatenate([[0], np.cumsum(lengths)])
    # Of each duplicate, where its lanes begin, and its end.
    self._cuts = (self.starts[:-1, None]
                  + lengths[:, None] * np.arange(lanes + 1) // lanes)
    self._lengths = np.diff(self._cuts)
    self._lane_ends = np.cumsum(self._lengths, 0)
    self._block, self._window = block, window
    key = fold(text_key('order'), seed)
    # One lane has the key that an order without lanes has.
    self._keys = np.array([fold(key, lane) if lanes > 1 else key
                           for lane in range(lanes)], np.uint64)

  def locate(self, start: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Epochs and records at the places start, start + 1, ...

    Args:
      start: place in the endless sequence of epochs; step k of batches of B
        records starts at k * B.
      count: places.

    Returns:
      epochs int64[count], records int64[count].
    """
    return self.at(np.arange(start, start + count, dtype=np.int64))

  def at(self, places: np.ndarray, lanes: np.ndarray | int = 0
         ) -> tuple[np.ndarray, np.ndarray]:
    """Epochs and records at any places: O(len(places)), wherever they are.

    Args:
      places: int64[n], each in its lane's own sequence.
      lanes: int64[n], of each.

    Returns:
      epochs int64[n], of its lane, records int64[n].
    """
    block, window = self._block, self._window
    lanes = np.broadcast_to(lanes, np.shape(places))
    epochs, place, duplicate = self._epochs(places, lanes)
    key = fold(self._keys[lanes], epochs)
    length = self._lengths[duplicate, lanes]
    # The last block of the corpus may be short. It gets a random place among
    # the others in each epoch; windows behind it begin `missing` places early.
    full, rest = np.divmod(length, block)
    blocks = full + (rest > 0)
    missing = np.where(rest > 0, block - rest, 0)
    short = fold(fold(key, 1), 0) % blocks.astype(np.uint64)
    short = np.where(rest > 0, short.astype(np.int64), blocks)
    short_window = short // window

    behind = place >= (short_window + 1) * window * block - missing
    place = place + missing * behind
    number = place // (window * block)  # Of the window.
    first = number * window
    num_blocks = np.minimum(window, blocks - first)
    is_short = (number == short_window) & (rest > 0)
    size = num_blocks * block - missing * is_short
    slot = permute(place - first * block, size, fold(fold(key, 2), number))

    # Inside its window the short block stands last: the mixing hides it.
    turn, offset = np.divmod(slot, block)
    turn_place = first + turn
    last = is_short & (turn == num_blocks - 1)
    turn_place = np.where(
        last, short, turn_place + (is_short & (turn_place >= short)))
    index = turn_place - (turn_place > short)
    index = np.where(turn_place == short, 0, index)
    chosen = permute(index, np.maximum(full, 1), fold(key, 3))
    chosen = np.where(turn_place == short, full, chosen)
    return epochs, self._cuts[duplicate, lanes] + chosen * block + offset

  def blocks(self, records: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The blocks that records lie in: what is read for one is for all of it.

    Args:
      records: int64[n].

    Returns:
      First record int64[n] of each one's block, and the one behind its last.
    """
    cuts = np.append(self._cuts[:, :-1].ravel(), self.starts[-1])
    part = np.searchsorted(cuts, records, side='right') - 1
    first = cuts[part] + (records - cuts[part]) // self._block * self._block
    return first, np.minimum(first + self._block, cuts[part + 1])

  def passes(self, places: int) -> float:
    """Epochs that so many places, of all lanes together, are."""
    cycles, rest = divmod(int(places), int(self.starts[-1]))
    duplicate = int(np.searchsorted(self.starts, rest, side='right')) - 1
    first, end = self.starts[duplicate:duplicate + 2].tolist()
    return (cycles * len(self._lengths) + duplicate
            + (rest - first) / (end - first))

  def _epochs(self, places: np.ndarray, lanes: np.ndarray):
    """Epochs, places in them, and their duplicates; all of their lanes."""
    ends = self._lane_ends[:, lanes]
    cycles, rest = np.divmod(np.asarray(places, np.int64), ends[-1])
    if len(ends) == 1:
      return cycles, rest, np.zeros_like(cycles)
    duplicate = (rest >= ends).sum(0)
    before = (ends - self._lengths[:, lanes])[duplicate, np.arange(len(rest))]
    return cycles * len(ends) + duplicate, rest - before, duplicate


class Lanes:
  """Which lane a place of the run is of, and its place in that lane.

  Example: batches of 4 rows and 2 lanes:

    place           0  1  2  3 | 4  5  6  7 | 8
    lane            0  0  1  1 | 0  0  1  1 | 0
    place in it     0  1  0  1 | 2  3  2  3 | 4
  """

  def __init__(self, lanes: int, batch_size: int):
    """Args: `lanes` as in Order; `batch_size` is the global one.

    Raises:
      InputError: the rows of a batch do not come out even.
    """
    if batch_size % lanes:
      raise InputError(f'data.batch_size={batch_size} is not a multiple of '
                       f'data.shuffle_lanes={lanes}.')
    self._batch, self._rows = batch_size, batch_size // lanes

  def split(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lanes int64[n], and places in their own sequences int64[n]."""
    steps, rows = np.divmod(np.asarray(places, np.int64), self._batch)
    lanes, rows = np.divmod(rows, self._rows)
    return lanes, steps * self._rows + rows


def permute(x: np.ndarray, size: np.ndarray, key: np.ndarray) -> np.ndarray:
  """A keyed permutation of 0 .. size - 1, elementwise.

  A Feistel network on pairs of digits (left < a, right < b, a * b >= size; the
  generalised network of Black and Rogaway 2002), and cycle walking for the few
  results that are not below `size`.

  Args:
    x: int64[n], 0 <= x < size.
    size: int64[n], at least 1.
    key: uint64[n]; equal size and key: the same permutation.

  Returns:
    int64[n].
  """
  x, size = x.astype(np.uint64), size.astype(np.uint64)
  a = np.ceil(np.sqrt(size.astype(np.float64))).astype(np.uint64)
  b = (size + a - np.uint64(1)) // a
  result = np.empty_like(x)
  todo = np.arange(len(x))
  while len(todo):
    left, right = np.divmod(x, b)
    for number in range(0, len(_ROUNDS), 2):
      left = (left + mix64(key + _ROUNDS[number] ^ right) % a) % a
      right = (right + mix64(key + _ROUNDS[number + 1] ^ left) % b) % b
    x = left * b + right
    done = x < size
    result[todo[done]] = x[done]
    walk = ~done
    todo, x, size, key, a, b = (
        v[walk] for v in (todo, x, size, key, a, b))
  return result.astype(np.int64)
