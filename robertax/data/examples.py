"""The examples of a fine-tuning split, encoded, all of them in memory.

An example is one sequence of ids. What is scored together is a *group*: of one
example (GLUE, a window of SQuAD), of the four options of a question (RACE), of
a query and its candidates (WSC). A batch counts groups; `data.blocks` says how
groups come to lie in rows, `data.tuning` makes batches of them.

Beside its ids an example has
  values   numbers that become fields of the batch as they are, such as its
           class;
  marks    places in it, such as where an answer starts, which become places in
           the row.
A group has `group_values`, such as which of its options is right.

Three layouts, one mechanism:

  classes  Examples.of(sequences, values={'class_targets': int32[E]})
  spans    Examples.of(sequences, marks={'span_starts': int32[E],
                                         'span_ends': int32[E]})
  groups   Examples.of(sequences, groups=int32[E],
                       group_values={'group_targets': int32[G]})
"""

from collections.abc import Mapping, Sequence
import dataclasses
import functools

import numpy as np

Arrays = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Examples:
  """E examples in G groups.

  Attributes:
    ids: uint[tokens], one example after another.
    starts: int64[E + 1], where each begins in `ids`, and the end.
    firsts: int64[G + 1], the first example of each group, and the end.
    values: name -> [E, ...].
    marks: name -> int32[E, ...], places in the example; -1: none.
    group_values: name -> [G, ...].
    second_starts: int32[E], the place of the first token of type 1 (B of a
      pair), the length where there is none.
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
    """From one array of ids an example.

    Args:
      sequences: int[n] each, special tokens included.
      groups: int[E], the group of each example, 0, 0, 1, ...: ascending without
        a gap. None: each example is a group of its own.
      values, marks, group_values, second_starts: as the attributes.
    """
    count = len(sequences)
    starts = np.concatenate([[0], np.cumsum(
        [len(s) for s in sequences], dtype=np.int64)]).astype(np.int64)
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
    for name, size, arrays in (('example', count, found.values | found.marks),
                               ('group', found.num_groups,
                                found.group_values)):
      for key, array in arrays.items():
        if len(array) != size:
          raise ValueError(f'{key}: {len(array)} values, {size} {name}s')
    return found

  def __len__(self) -> int:
    """E."""
    return len(self.starts) - 1

  @property
  def num_groups(self) -> int:
    """G."""
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

  def take(self, groups: np.ndarray) -> 'Examples':
    """These groups alone, in this order."""
    spans = [np.arange(self.firsts[g], self.firsts[g + 1]) for g in groups]
    kept = np.concatenate([*spans, np.zeros(0, np.int64)]).astype(np.int64)
    return Examples.of(
        [self.sequence(n) for n in kept],
        groups=np.repeat(np.arange(len(spans)), [len(s) for s in spans]),
        values={k: v[kept] for k, v in self.values.items()},
        marks={k: v[kept] for k, v in self.marks.items()},
        group_values={k: v[groups] for k, v in self.group_values.items()},
        second_starts=self.second_starts[kept])
