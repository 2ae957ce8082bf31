"""How groups of examples come to lie in rows, so that padding is not paid for.

Short examples are packed into rows, each with segment number of its own, as in
pretraining: attention and positions begin anew in each, so that an example's
states are those it has alone. Rows are as long as the longest example of the
batch needs (a ladder of lengths), and there are as many as are filled (a ladder
of counts), so that few shapes are compiled.

A *block* is K consecutive rows which hold whole groups: K is 1, unless there
are groups that one row of the greatest length cannot hold. A block has Q slots,
each for one example; a group takes M consecutive slots, M being the examples of
the largest group, and leaves those it has no example for empty. Slot q of a
block is segment q + 1 of its row.

Example: T = 8, K = 1, groups (a b), (c d) and (e), of 2, 2, 1, 3, 2 tokens:

  row 0   a a b b c d d d    segments 1 1 2 2 3 4 4 4    slots a b c d
  row 1   e e . . . . . .    segments 1 1 0 0 0 0 0 0    slots e - - -

The blocks of a batch do not depend on devices, but for empty ones at the end.
"""

from collections.abc import Iterable, Sequence
import dataclasses
import math

import numpy as np

from robertax.data.examples import Examples

ENOUGH = 128
LENGTHS = (32, 64, 96, 128, 192, 256, 384, 512)


@dataclasses.dataclass(frozen=True)
class Placed:
  """Where the examples of a batch lie.

  Attributes:
    length: T.
    blocks: how many, empty ones at the end included.
    slots: Q.
    examples, block, slot, start: int64[n] each, of each example its number, its
      block, its slot, and its first token's place in the block (row x T +
      column).
    groups, group_slot: int64[g] each, the number of a group and block x (Q / M)
      + its slots' number / M.
  """
  length: int
  blocks: int
  slots: int
  examples: np.ndarray
  block: np.ndarray
  slot: np.ndarray
  start: np.ndarray
  groups: np.ndarray
  group_slot: np.ndarray


class Blocks:
  """The law by which the groups of one split are laid out.

  Attributes:
    rows: K.
    members: M.
  """

  def __init__(self, examples: Examples, max_length: int, unit: int):
    """Reads lengths only.

    Args:
      examples: of the split.
      max_length: longest row; no example is longer.
      unit: blocks come in multiples of this: the devices that share a
        micro-batch x micro-batches.
    """
    self._lengths = examples.lengths
    self._firsts = examples.firsts
    self._unit = unit
    self.members = examples.members
    longest = int(self._lengths.max(initial=1))
    if longest > max_length:
      raise ValueError(
          f'an example of {longest} tokens in rows of {max_length}')
    self._ladder = [n for n in LENGTHS if n < max_length] + [max_length]
    sizes = [self._lengths[a:b] for a, b in zip(self._firsts,
                                                self._firsts[1:])]
    self.rows = next(k for k in range(1, self.members + 1)
                     if all(_fit(s, [max_length] * k) for s in sizes
                            if self.members > 1) or k == self.members)
    self._mean = self._lengths.mean() if len(self._lengths) else 1.0
    # Rows that hold four or more are filled well; beyond 128 tokens longer ones
    # cost more attention than padding saves.
    self._ladder = [n for n in self._ladder if n >= min(
        4 * self._mean, ENOUGH, max_length)]

  def slots(self, length: int) -> int:
    """Q of blocks whose rows have this length."""
    # For half as many again as a row holds on average.
    wanted = math.ceil(1.5 * self.rows * length / self._mean)
    return self.members * max(1, math.ceil(wanted / self.members))

  def place(self, groups: Sequence[int]) -> Placed:
    """A batch of these groups, whatever room they need: by first fit, the
    largest first.
    """
    order = self._by_size(groups)
    length = self._need(order[0])
    packer = _Packer(self, length)
    for group in order:
      if not packer.add(group):
        packer.open()
        packer.add(group)
    return packer.placed(ladder(len(packer.free), self._unit))

  def cut(self, tokens: int) -> Iterable[Placed]:
    """All groups, in batches of about so many tokens: the longest first, so
    that each has rows no longer than it needs.
    """
    order = self._by_size(range(len(self._firsts) - 1))
    at = 0
    while at < len(order):
      length = self._need(order[at])
      most = self._unit * max(1, tokens // (length * self.rows * self._unit))
      packer = _Packer(self, length)
      while at < len(order):
        if not packer.add(order[at]):
          if len(packer.free) == most:
            break
          packer.open()
          packer.add(order[at])
        at += 1
      # Only the last batch is not full.
      yield packer.placed(min(most, ladder(len(packer.free), self._unit)))

  def sizes(self, group: int) -> np.ndarray:
    """Tokens of each example of a group."""
    return self._lengths[self._firsts[group]:self._firsts[group + 1]]

  def first(self, group: int) -> int:
    """The first example of a group."""
    return int(self._firsts[group])

  def _by_size(self, groups):
    return sorted(groups, key=lambda g: (
        -self._need(g), -int(self.sizes(g).sum()), g))

  def _need(self, group: int) -> int:
    """The smallest length of rows in which a block holds the group."""
    sizes = self.sizes(group)
    return next((length for length in self._ladder
                 if _fit(sizes, [length] * self.rows)), self._ladder[-1])


class _Packer:
  """Fills blocks of one length."""

  def __init__(self, law: Blocks, length: int):
    self._law, self._length = law, length
    self._slots = law.slots(length)
    self.free, self._taken, self._found, self._groups = [], [], [], []
    self.open()

  def open(self):
    self.free.append([self._length] * self._law.rows)
    self._taken.append(0)

  def add(self, group: int) -> bool:
    """Into the first block that has room."""
    sizes = self._law.sizes(group)
    for block, free in enumerate(self.free):
      if self._taken[block] + self._law.members > self._slots:
        continue
      rows = _fit(sizes, free)
      if not rows:
        continue
      first = self._law.first(group)
      for n, (row, size) in enumerate(zip(rows, sizes)):
        self._found.append((
            first + n, block, self._taken[block] + n,
            row * self._length + self._length - free[row]))
        free[row] -= int(size)
      self._groups.append((group, block, self._taken[block]))
      self._taken[block] += self._law.members
      return True
    return False

  def placed(self, blocks: int) -> Placed:
    found = np.array(self._found, np.int64).reshape(-1, 4).T
    group, block, slot = np.array(self._groups, np.int64).reshape(-1, 3).T
    per_block = self._slots // self._law.members
    return Placed(self._length, blocks, self._slots, *found, group,
                  block * per_block + slot // self._law.members)


def _fit(sizes, free: Sequence[int]) -> list[int]:
  """The row of each, by first fit in their order; [] where they do not fit."""
  left, rows = list(free), []
  for size in sizes:
    row = next((r for r, room in enumerate(left) if room >= size), -1)
    if row < 0:
      return []
    left[row] -= int(size)
    rows.append(row)
  return rows


def ladder(count: int, unit: int) -> int:
  """The smallest of unit x (1, 2, 3, 4, 6, 8, 12, ...) that is not less.

  >>> [ladder(n, 1) for n in (1, 3, 5, 7, 9, 13)], ladder(5, 4)
  ([1, 3, 6, 8, 12, 16], 8)
  """
  count = max(1, math.ceil(count / unit))
  power = 1 << (count - 1).bit_length()
  return unit * (3 * power // 4 if power >= 4 and 3 * power // 4 >= count
                 else power)
