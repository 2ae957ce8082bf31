"""Batches for fine-tuning: batch k is a pure function of the seed and k.

All encoded examples of a split are in memory (`Examples`). A *group* is the
examples that are scored together: one example (GLUE, a window of SQuAD), the
four options of a question (RACE), or a query and its candidates (WSC). Batch
sizes count groups. The rows of a batch come in *row groups* of K rows and Q
slots, which hold whole groups (`RowGroups`).

A batch has B rows of T tokens in B / K row groups; K is 1 where every group
fits into a row. Its fields:

  input_ids, segment_ids    int32[B, T]; segment q + 1 is slot q; 0 is padding
  type_ids                  int32[B, T], for models with types: 1 in B of pairs
  class_positions           int32[B / K, Q]: each example's <s>, counted through
                            the row group (row x T + column), 0 in an empty slot
  class_weights             float32[B / K, Q]: 1 for an example, 0 if empty
  example_ids               int64[B / K, Q], for the host only, -1 if empty
  <name> of Examples.values [B / K, Q, ...], 0 if empty
  <name> of Examples.marks  int32[B / K, Q, ...], counted as class_positions, 0
                            where there is none
and, of groups of several examples or of values (G = Q / M a row group),
  group_weights             float32[B / K, G]
  <name> of .group_values   [B / K, G, ...]

A loss over groups reshapes [B / K, Q] to [B / K, G, M] and masks slots without
weight (by model.heads.OUTSIDE). Each epoch has all groups in a new order, and
its last batch holds what is left, so that no batch spans two epochs.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
import dataclasses
import functools
import itertools
import math
from typing import Any

import numpy as np

from robertax.corpus.records import import_tensorflow
from robertax.corpus.tfds_text import import_tfds
from robertax.data.masking import Batch
from robertax.data.order import Order
from robertax.errors import InputError, first_line

Arrays = Mapping[str, np.ndarray]
# Lengths of rows. Rows with four examples or more have little padding; beyond
# ENOUGH_LENGTHS longer rows cost more attention than they save padding.
ROW_LENGTHS = (32, 64, 96, 128, 192, 256, 384, 512)
ENOUGH_LENGTHS = 128


@dataclasses.dataclass(frozen=True)
class Examples:
  """E examples in G groups.

  Classes:  Examples.of(sequences, values={'class_targets': int32[E]})
  Spans:    Examples.of(sequences, marks={'span_starts': int32[E], ...})
  Groups:   Examples.of(sequences, groups=int32[E],
                        group_values={'group_targets': int32[G]})

  Attributes:
    ids: uint[tokens], one example after another.
    starts: int64[E + 1], where each example begins in `ids`, and the end.
    firsts: int64[G + 1], the first example of each group, and the end.
    values: name -> [E, ...], fields that the batch copies.
    marks: name -> int32[E, ...], positions in the example, which the batch
      turns into positions in the row; -1: none.
    group_values: name -> [G, ...], such as the number of the right option.
    second_starts: int32[E], the position of the first token of type 1 (B of a
      pair), or the length where there is none.
  """
  ids: np.ndarray
  starts: np.ndarray
  firsts: np.ndarray
  values: Arrays
  marks: Arrays
  group_values: Arrays
  second_starts: np.ndarray

  @classmethod
  def of(cls, sequences: Sequence[np.ndarray], *,
         groups: np.ndarray | None = None, values: Arrays | None = None,
         marks: Arrays | None = None, group_values: Arrays | None = None,
         second_starts: np.ndarray | None = None) -> 'Examples':
    """Takes the ids int[n] of each example, with its special tokens.

    `groups` int[E] numbers the group of each example, ascending without a gap
    (0, 0, 1, ...); None makes each example a group of its own.
    """
    count = len(sequences)
    starts = np.cumsum([0, *map(len, sequences)], dtype=np.int64)
    groups = np.arange(count) if groups is None else np.asarray(groups)
    steps = np.diff(groups, prepend=-1)
    if not np.isin(steps, (0, 1)).all() or (count and not steps[0]):
      raise ValueError('groups are numbered 0, 0, 1, ...: ascending, no gap')
    lengths = np.diff(starts).astype(np.int32)
    found = cls(
        np.concatenate([*sequences, np.zeros(0, np.uint16)]).astype(np.uint32),
        starts, np.append(np.flatnonzero(steps), count),
        {k: np.asarray(v) for k, v in (values or {}).items()},
        {k: np.asarray(v, np.int32) for k, v in (marks or {}).items()},
        {k: np.asarray(v) for k, v in (group_values or {}).items()},
        lengths if second_starts is None else np.asarray(
            second_starts, np.int32))
    wanted = dict.fromkeys(found.values | found.marks, count)
    wanted |= dict.fromkeys(found.group_values, found.num_groups)
    for key, array in (found.values | found.marks | found.group_values).items():
      if len(array) != wanted[key]:
        raise ValueError(f'{key}: {len(array)} values, {wanted[key]} expected')
    return found

  def __len__(self) -> int:
    return len(self.starts) - 1

  @property
  def num_groups(self) -> int:
    return len(self.firsts) - 1

  @functools.cached_property
  def lengths(self) -> np.ndarray:
    """int64[E], tokens of each example."""
    return np.diff(self.starts)

  @functools.cached_property
  def members(self) -> int:
    """Examples of the largest group."""
    return int(np.diff(self.firsts).max(initial=1))

  def sequence(self, number: int) -> np.ndarray:
    """int[n]: the ids of one example."""
    return self.ids[self.starts[number]:self.starts[number + 1]]


# How groups of examples are packed into rows to avoid padding.
#
# As in pretraining, each example of a row has its own segment number, and
# attention and positions start anew in each, so that an example's states are
# those it has alone. Rows are as long as the longest example of the batch needs
# (a ladder of lengths), and their number is rounded up (a ladder of counts), so
# that few shapes are compiled.
#
# K, the rows of a row group, is 1 unless one row of the greatest length cannot
# hold some group. Each of the Q slots is for one example. A group takes M
# consecutive slots, where M is the size of the largest group; a smaller group
# leaves the last of them empty. Slot q is segment q + 1 of its row.
#
# Example: T = 8, K = 1, groups (a b), (c d) and (e), of 2, 2, 1, 3, 2 tokens:
#
#   row 0   a a b b c d d d    segments 1 1 2 2 3 4 4 4    slots a b c d
#   row 1   e e . . . . . .    segments 1 1 0 0 0 0 0 0    slots e - - -
#
# Only the empty row groups at a batch's end depend on the devices.

@dataclasses.dataclass(frozen=True)
class Placed:
  """Where a batch's examples are: arrays int64[examples] and int64[groups]."""
  length: int  # T.
  row_groups: int  # Their number, with the empty ones at the end.
  slots: int  # Q.
  examples: np.ndarray
  row_group: np.ndarray  # Of each example.
  slot: np.ndarray  # Of each example.
  start: np.ndarray  # Its first token in the row group: row x T + column.
  groups: np.ndarray
  group_slot: np.ndarray  # Row group x (Q / M) + its slots' number / M.


class RowGroups:
  """Lays out the groups of one split; `rows` is K and `members` is M."""

  def __init__(self, examples: Examples, max_length: int, unit: int,
               few_shapes: bool = False):
    """Reads lengths up to `max_length`; row groups are a multiple of `unit`."""
    self._lengths, self.firsts = examples.lengths, examples.firsts
    self._unit, self.members = unit, examples.members
    self._few_shapes = few_shapes
    longest = int(self._lengths.max(initial=1))
    if longest > max_length:
      raise ValueError(
          f'an example of {longest} tokens in rows of {max_length}')
    sizes = [self._lengths[a:b] for a, b in zip(self.firsts, self.firsts[1:])]
    self.rows = next(k for k in range(1, self.members + 1)
                     if all(_first_fit(s, [max_length] * k) for s in sizes
                            if self.members > 1) or k == self.members)
    self._mean = self._lengths.mean() if len(self._lengths) else 1.0
    enough = min(4 * self._mean, ENOUGH_LENGTHS, max_length)
    self._ladder = [*(n for n in ROW_LENGTHS if enough <= n < max_length),
                    max_length]

  def slots(self, length: int) -> int:
    """Returns Q, the slots of a row group whose rows have this length."""
    # Half as many again as a row holds on average.
    wanted = math.ceil(1.5 * self.rows * length / self._mean)
    if self._few_shapes:
      wanted = 1 << (wanted - 1).bit_length()
    return self.members * max(1, math.ceil(wanted / self.members))

  def place(self, groups: Sequence[int]) -> Placed:
    """Packs these groups into a batch by first fit, the largest first."""
    order = self._by_size(groups)
    length = self._need(order[0])
    packer = _Packer(self, length)
    for group in order:
      if not packer.add(group):
        packer.open()
        packer.add(group)
    return packer.placed(ladder(len(packer.free), self._unit))

  def cut(self, tokens: int) -> Iterable[Placed]:
    """Packs all groups into batches of about `tokens` tokens, longest first."""
    order = self._by_size(range(len(self.firsts) - 1))
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
    """The number of tokens of each example of a group."""
    return self._lengths[self.firsts[group]:self.firsts[group + 1]]

  def _by_size(self, groups: Iterable[int]) -> list[int]:
    return sorted(groups, key=lambda g: (
        -self._need(g), -int(self.sizes(g).sum()), g))

  def _need(self, group: int) -> int:
    """The smallest row length with which a row group can hold the group."""
    sizes = self.sizes(group)
    return next((length for length in self._ladder
                 if _first_fit(sizes, [length] * self.rows)), self._ladder[-1])


class _Packer:
  def __init__(self, layout: RowGroups, length: int):
    self._layout, self._length = layout, length
    self._slots = layout.slots(length)
    self.free, self._taken, self._found, self._groups = [], [], [], []
    self.open()

  def open(self) -> None:
    self.free.append([self._length] * self._layout.rows)
    self._taken.append(0)

  def add(self, group: int) -> bool:
    """Adds a group to the first row group with room; False if none has."""
    sizes = self._layout.sizes(group)
    for number, free in enumerate(self.free):
      taken = self._taken[number]
      full = taken + self._layout.members > self._slots
      rows = [] if full else _first_fit(sizes, free)
      if not rows:
        continue
      first = int(self._layout.firsts[group])
      for n, (row, size) in enumerate(zip(rows, sizes)):
        self._found.append((first + n, number, taken + n,
                            row * self._length + self._length - free[row]))
        free[row] -= int(size)
      self._groups.append((group, number, taken))
      self._taken[number] += self._layout.members
      return True
    return False

  def placed(self, row_groups: int) -> Placed:
    found = np.array(self._found, np.int64).reshape(-1, 4).T
    group, number, slot = np.array(self._groups, np.int64).reshape(-1, 3).T
    members = self._layout.members
    return Placed(self._length, row_groups, self._slots, *found, group,
                  number * (self._slots // members) + slot // members)


def _first_fit(sizes: np.ndarray, free: Sequence[int]) -> list[int]:
  """The row of each size, by first fit in order; [] where they do not fit."""
  left, rows = list(free), []
  for size in sizes:
    row = next((r for r, room in enumerate(left) if room >= size), -1)
    if row < 0:
      return []
    left[row] -= int(size)
    rows.append(row)
  return rows


def ladder(count: int, unit: int) -> int:
  """The smallest of unit x (1, 2, 3, 4, 6, 8, 12, ...) that is at least count.

  >>> [ladder(n, 1) for n in (1, 3, 5, 7, 9, 13)], ladder(5, 4)
  ([1, 3, 6, 8, 12, 16], 8)
  """
  count = max(1, math.ceil(count / unit))
  power = 1 << (count - 1).bit_length()
  return unit * (3 * power // 4 if power >= 4 and 3 * power // 4 >= count
                 else power)


# Maps the size of a global batch to the rows that a host makes.
HostRows = Callable[[int], np.ndarray]


@dataclasses.dataclass(frozen=True)
class BatchSurvey:
  """The shapes of some batches."""
  shapes: dict[tuple[int, int], int]  # How often each (rows, tokens) occurs.
  padding_fraction: float

  def __str__(self) -> str:
    found = ', '.join(f'{rows} x {tokens}' for rows, tokens in sorted(
        self.shapes, key=lambda shape: -self.shapes[shape]))
    return (f'{len(self.shapes)} shapes of batches ({found}), '
            f'{self.padding_fraction:.0%} padding')


class TuningBatches:
  """The training and evaluation batches of a split, `epoch_steps` an epoch."""

  def __init__(self, examples: Examples, *, batch_size: int, seed: int,
               max_length: int, unit: int = 1, pad_id: int = 1,
               types: bool = False, few_shapes: bool = False):
    """Makes no batch yet; `types` says whether the model has type_ids.

    `few_shapes` rounds slots up, so that other examples have the same shapes.
    `unit` is the number of micro-batches times that of the devices that share
    one: the number of row groups is a multiple of it.
    """
    self.examples, self._batch_size = examples, batch_size
    self._layout = RowGroups(examples, max_length, unit, few_shapes)
    self._pad_id, self._types = pad_id, types
    self._count, self._cuts = max(1, examples.num_groups), {}
    self._order = Order(self._count, seed, block=1, window=self._count)
    self.epoch_steps = -(-self._count // batch_size)

  def groups(self, step: int) -> np.ndarray:
    """int64[n]: the groups of batch `step`, counted from 0."""
    epoch, number = divmod(step, self.epoch_steps)
    first = number * self._batch_size
    count = min(self._batch_size, self._count - first)
    return self._order.locate(epoch * self._count + first, count)[1]

  def make_batch(self, step: int) -> Batch:
    """Batch `step` with all of its rows."""
    return self._fill(self._layout.place(self.groups(step)))

  def train(self, start_step: int, rows: HostRows) -> Iterator[Batch]:
    """Yields a host's rows of each batch from `start_step` on, without end."""
    for step in itertools.count(start_step):
      yield self.of_host(self.make_batch(step), rows)

  def evaluation(self, tokens: int) -> Iterator[Batch]:
    """Yields all groups once, in batches of about `tokens` tokens."""
    if tokens not in self._cuts:
      self._cuts[tokens] = list(self._layout.cut(tokens))
    yield from map(self._fill, self._cuts[tokens])

  def of_host(self, batch: Batch, rows: HostRows) -> Batch:
    """A host's row groups of all fields."""
    count = len(batch['class_positions'])
    kept = rows(count)
    return {name: value.reshape(count, -1, *value.shape[1:])[kept].reshape(
        -1, *value.shape[1:]) for name, value in batch.items()}

  def survey(self, steps: int) -> BatchSurvey:
    """Counts the shapes of the first `steps` batches without filling any."""
    shapes, tokens = Counter(), 0
    for step in range(steps):
      placed = self._layout.place(self.groups(step))
      shapes[placed.row_groups * self._layout.rows, placed.length] += 1
      tokens += int(self.examples.lengths[placed.examples].sum())
    places = sum(rows * length * n for (rows, length), n in shapes.items())
    return BatchSurvey(shapes, 1 - tokens / max(places, 1))

  def _fill(self, placed: Placed) -> Batch:
    found, length = self.examples, placed.length
    tokens = (placed.row_groups, self._layout.rows * length)
    slots = (placed.row_groups, placed.slots)
    ids = np.full(tokens, self._pad_id, np.int32)
    segments, types = np.zeros(tokens, np.int32), np.zeros(tokens, np.int32)
    for number, at, slot, start in zip(
        placed.examples, placed.row_group, placed.slot, placed.start):
      sequence = found.sequence(number)
      here = slice(start, start + len(sequence))
      ids[at, here], segments[at, here] = sequence, slot + 1
      types[at, start + found.second_starts[number]:here.stop] = 1

    def scatter(values: np.ndarray, shape: tuple[int, int],
                places: np.ndarray, dtype: Any) -> np.ndarray:
      field = np.zeros((*shape, *np.shape(values)[1:]), dtype)
      field.reshape(-1, *np.shape(values)[1:])[places] = values
      return field
    flat = np.ravel_multi_index((placed.row_group, placed.slot), slots)
    batch = {'input_ids': ids.reshape(-1, length),
             'segment_ids': segments.reshape(-1, length)}
    if self._types:
      batch['type_ids'] = types.reshape(-1, length)
    batch['class_positions'] = scatter(placed.start, slots, flat, np.int32)
    batch['class_weights'] = scatter(
        np.ones(len(flat)), slots, flat, np.float32)
    batch['example_ids'] = scatter(
        placed.examples + 1, slots, flat, np.int64) - 1
    for name, values in found.values.items():
      batch[name] = scatter(values[placed.examples], slots, flat, values.dtype)
    for name, marks in found.marks.items():
      places = marks[placed.examples]
      start = placed.start.reshape(-1, *[1] * (places.ndim - 1))
      batch[name] = scatter(np.where(places < 0, 0, places + start), slots,
                            flat, np.int32)
    if self._layout.members > 1 or any(
        map(np.any, found.group_values.values())):
      shape = (placed.row_groups, placed.slots // self._layout.members)
      batch['group_weights'] = scatter(
          np.ones(len(placed.groups)), shape, placed.group_slot, np.float32)
      for name, values in found.group_values.items():
        batch[name] = scatter(values[placed.groups], shape, placed.group_slot,
                              values.dtype)
    return batch


def collect_answers(examples: Examples, outputs: Iterator[tuple[Batch, Batch]],
                    token_outputs: frozenset[str] = frozenset()
                    ) -> dict[str, np.ndarray]:
  """A model's outputs for each example of a split: name -> [E, ...].

  `outputs` are pairs of a whole evaluation batch and its outputs by name, [B /
  K, Q, ...] for slots or, if `token_outputs` names them, [B, T, ...]. The
  latter become [tokens, ...] in the order of `examples.ids`.
  """
  result = {}
  for batch, found in outputs:
    numbers = batch['example_ids']
    row_groups, slots = np.nonzero(numbers >= 0)
    numbers = numbers[row_groups, slots]
    for name, values in found.items():
      values, of_tokens = np.asarray(values), name in token_outputs
      if name not in result:
        count = len(examples.ids) if of_tokens else len(examples)
        result[name] = np.zeros((count, *values.shape[2:]), values.dtype)
      if not of_tokens:
        result[name][numbers] = values[row_groups, slots]
        continue
      starts = batch['class_positions']
      values = values.reshape(len(starts), -1, *values.shape[2:])
      for number, at, start in zip(numbers, row_groups,
                                   starts[row_groups, slots]):
        to = slice(examples.starts[number], examples.starts[number + 1])
        result[name][to] = values[at, start:start + to.stop - to.start]
  return result


def read_tfds_rows(name: str, split: str, data_dir: str = ''
                   ) -> list[dict[str, Any]] | None:
  """All rows of a TFDS split such as `glue/rte`, `validation`; None if missing.

  Values are str and Python numbers. `data_dir` is where TFDS keeps its data, if
  not in its own folder. InputError if it can be neither read nor downloaded.
  """
  tfds = import_tfds(f'tfds:{name}')
  import_tensorflow()
  try:
    builder = tfds.builder(name, data_dir=data_dir or None)
    builder.download_and_prepare()
    if split not in builder.info.splits:
      return None
    rows = list(tfds.as_numpy(builder.as_dataset(split=split)))
  except Exception as e:  # TFDS raises many kinds, such as without a network.
    raise InputError(
        f'TFDS {name}{f" in {data_dir}" if data_dir else ""}: cannot be read '
        f'({type(e).__name__}: {first_line(e)}). Prepare it there, or connect '
        'to the network so that it can be downloaded.') from e
  return [{key: _plain_value(value) for key, value in row.items()}
          for row in rows]


def _plain_value(value: Any) -> Any:
  if isinstance(value, bytes):
    return value.decode()
  return value.item() if hasattr(value, 'item') else value
