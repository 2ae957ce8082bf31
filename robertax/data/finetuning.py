"""Batches for fine-tuning: batch k is a pure function of the seed and k.

Fields, with B rows of T tokens in B / K blocks of Q slots (data.blocks; where
no group is longer than a row, K is 1, and Q the slots of a row):

  input_ids, segment_ids    int32[B, T]; segment q + 1 is slot q; 0 is padding
  type_ids                  int32[B, T], of models with types: 1 in B of a pair
  class_positions           int32[B / K, Q]: each example's <s>, counted through
                            the block (row x T + column), 0 in an empty slot
  class_weights             float32[B / K, Q]: 1 for an example, 0 if empty
  example_ids               int64[B / K, Q], for the host only, -1 if empty
  <name> of Examples.values [B / K, Q, ...], 0 if empty
  <name> of Examples.marks  int32[B / K, Q, ...], counted as class_positions, 0
                            where there is none
and, where groups have several examples (G = Q / M groups a block),
  group_weights             float32[B / K, G]
  <name> of .group_values   [B / K, G, ...]

A loss over groups reshapes [B / K, Q] to [B / K, G, M] and leaves out (by
model.losses.OUTSIDE) what has no weight. Each epoch has all groups in another
order, the last batch of an epoch what is left: batches do not run over its end.
"""

from collections.abc import Callable, Iterator
import dataclasses

import numpy as np

from robertax.data.blocks import Blocks, Placed
from robertax.data.examples import Examples
from robertax.data.order import Order

Batch = dict[str, np.ndarray]
Rows = Callable[[int], np.ndarray]  # size of a global batch -> a host's rows


@dataclasses.dataclass(frozen=True)
class Survey:
  """What batches look like.

  Attributes:
    shapes: (rows, tokens) of each kind that was met, and how often.
    padding_fraction: share of all places that is padding.
  """
  shapes: dict[tuple[int, int], int]
  padding_fraction: float

  def __str__(self) -> str:
    found = ', '.join(f'{rows} x {tokens}' for rows, tokens in sorted(
        self.shapes, key=lambda shape: -self.shapes[shape]))
    return (f'{len(self.shapes)} shapes of batches ({found}), '
            f'{self.padding_fraction:.0%} padding')


class TuningBatches:
  """Training batches of a split, and evaluation batches of one.

  Attributes:
    examples: the split.
    epoch_steps: batches an epoch.
  """

  def __init__(self, examples: Examples, *, batch_size: int, seed: int,
               max_length: int, unit: int = 1, pad_id: int = 1,
               types: bool = False):
    """Makes nothing yet.

    Args:
      examples: of the split.
      batch_size: groups a batch.
      seed: of the order.
      max_length: longest row.
      unit: rows come in multiples of K x this.
      pad_id: what stands where nothing is.
      types: whether there are type_ids.
    """
    self.examples, self._batch_size = examples, batch_size
    self._blocks = Blocks(examples, max_length, unit)
    self._pad_id, self._types = pad_id, types
    count = max(1, examples.num_groups)
    self._count, self._cuts = count, {}
    self._order = Order(count, seed, block=1, window=count)
    self.epoch_steps = -(-count // batch_size)

  def groups(self, step: int) -> np.ndarray:
    """int64[n]: the groups of batch `step`, in order; the first is 0."""
    epoch, number = divmod(step, self.epoch_steps)
    first = number * self._batch_size
    count = min(self._batch_size, self._count - first)
    return self._order.locate(epoch * self._count + first, count)[1]

  def make_batch(self, step: int) -> Batch:
    """Batch `step`, all rows of it."""
    return self._fill(self._blocks.place(self.groups(step)))

  def train(self, start_step: int, rows: Rows) -> Iterator[Batch]:
    """Batches from `start_step` on, without end, only a host's rows of each."""
    while True:
      yield self.of_host(self.make_batch(start_step), rows)
      start_step += 1

  def evaluation(self, tokens: int) -> Iterator[Batch]:
    """All groups once, in batches of about so many tokens."""
    if tokens not in self._cuts:
      self._cuts[tokens] = list(self._blocks.cut(tokens))
    for placed in self._cuts[tokens]:
      yield self._fill(placed)

  def of_host(self, batch: Batch, rows: Rows) -> Batch:
    """A host's part: whole blocks, of all fields."""
    kept = rows(len(batch['class_positions']))
    per_block = self._blocks.rows

    def part(name, value):
      if len(value) == len(batch['class_positions']):
        return value[kept]
      blocks = value.reshape(-1, per_block, *value.shape[1:])[kept]
      return blocks.reshape(-1, *value.shape[1:])
    return {name: part(name, value) for name, value in batch.items()}

  def survey(self, steps: int) -> Survey:
    """The shapes of so many steps from the first on; fills no batch."""
    shapes, places, tokens = {}, 0, 0
    for step in range(steps):
      placed = self._blocks.place(self.groups(step))
      shape = placed.blocks * self._blocks.rows, placed.length
      shapes[shape] = shapes.get(shape, 0) + 1
      places += shape[0] * shape[1]
      tokens += int(self.examples.lengths[placed.examples].sum())
    return Survey(shapes, 1 - tokens / max(places, 1))

  def _fill(self, placed: Placed) -> Batch:
    found, where = self.examples, (placed.block, placed.slot)
    per_block, length = self._blocks.rows, placed.length
    tokens = (placed.blocks, per_block * length)
    slots = (placed.blocks, placed.slots)
    ids = np.full(tokens, self._pad_id, np.int32)
    segments, types = np.zeros(tokens, np.int32), np.zeros(tokens, np.int32)
    for number, block, slot, start in zip(
        placed.examples, placed.block, placed.slot, placed.start):
      sequence = found.sequence(number)
      here = slice(start, start + len(sequence))
      ids[block, here], segments[block, here] = sequence, slot + 1
      types[block, start + found.second_starts[number]:here.stop] = 1

    def scatter(values, shape, places, dtype):
      field = np.zeros((*shape, *np.shape(values)[1:]), dtype)
      field.reshape(-1, *np.shape(values)[1:])[places] = values
      return field

    flat = np.ravel_multi_index(where, slots)
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
    if self._blocks.members > 1:
      shape = (placed.blocks, placed.slots // self._blocks.members)
      batch['group_weights'] = scatter(
          np.ones(len(placed.groups)), shape, placed.group_slot, np.float32)
      for name, values in found.group_values.items():
        batch[name] = scatter(values[placed.groups], shape, placed.group_slot,
                              values.dtype)
    return batch


def collect(examples: Examples, outputs: Iterator[tuple[Batch, Batch]],
            token_outputs: frozenset[str] = frozenset()
            ) -> dict[str, np.ndarray]:
  """What a model said of each example, in the order of the examples.

  Args:
    examples: of the split.
    outputs: pairs of a whole evaluation batch and, by name, what came out: [B /
      K, Q, ...] of slots; [B, T, ...] of tokens.
    token_outputs: which of the names are of tokens.

  Returns:
    name -> [E, ...]; of tokens, [tokens, ...] laid out as `examples.ids`, so
    that those of example e are at starts[e]:starts[e + 1].
  """
  result = {}
  for batch, found in outputs:
    numbers = batch['example_ids']
    blocks, slots = np.nonzero(numbers >= 0)
    numbers = numbers[blocks, slots]
    for name, values in found.items():
      values, of_tokens = np.asarray(values), name in token_outputs
      if name not in result:
        count = len(examples.ids) if of_tokens else len(examples)
        result[name] = np.zeros((count, *values.shape[2:]), values.dtype)
      if not of_tokens:
        result[name][numbers] = values[blocks, slots]
        continue
      lines = values.reshape(len(batch['class_positions']), -1,
                             *values.shape[2:])
      starts = batch['class_positions'][blocks, slots]
      for number, block, start in zip(numbers, blocks, starts):
        to = slice(examples.starts[number], examples.starts[number + 1])
        result[name][to] = lines[block, start:start + to.stop - to.start]
  return result
