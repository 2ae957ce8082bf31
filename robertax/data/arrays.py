"""The array operations that the masking law needs, in NumPy and in TensorFlow.

The law (masking.py) is written once against these, and since all of it is
integer arithmetic, both give the same bits. Operators (+, *, ^, <, &) are used
directly: they mean the same on NumPy arrays and on tf.Tensors.
"""

from types import ModuleType

import numpy as np


class NumPyArrays:
  """NumPy, compiled for this machine's vectors: the faster of the two."""

  where = staticmethod(np.where)
  reshape = staticmethod(np.reshape)

  def constant(self, values: np.ndarray) -> np.ndarray:
    return values

  def cast(self, x, dtype: str):
    return x.astype(dtype)

  def arange(self, n, dtype: str):
    return np.arange(n, dtype=dtype)

  def size(self, x, axis: int):
    return x.shape[axis]

  def shift(self, x, bits: int):
    """x >> bits."""
    return x >> x.dtype.type(bits)

  def take(self, x, indices):
    """x[indices], along the first axis."""
    return np.take(x, indices, axis=0)

  def sum(self, x):
    """[B,T] bool -> int64[B]."""
    return x.sum(-1, dtype=np.int64)

  def starts(self, x):
    """Exclusive running sum along the last axis."""
    return np.cumsum(x, -1) - x

  def count(self, numbers, below: int):
    """How often 0 .. below - 1 stand in each row: [B,T] -> int64[B,below]."""
    rows = len(numbers)
    flat = numbers + below * np.arange(rows)[:, None]
    return np.bincount(flat.ravel(), minlength=rows * below).reshape(
        rows, below)

  def smallest(self, x, n: int):
    """The n smallest of each row, ascending."""
    if n < x.shape[-1]:
      x = np.partition(x, n - 1, -1)[:, :n]
    return np.sort(x, -1)

  def nonzero(self, x):
    """Rows and columns of what is true, in reading order."""
    return np.divmod(np.flatnonzero(x), x.shape[-1])

  def scatter(self, flat_indices, values, shape):
    """Zeros of `shape`, but `values` at indices of the flattened array."""
    out = np.zeros(shape, values.dtype)
    out.ravel()[flat_indices] = values
    return out

  def update(self, x, rows, columns, values):
    """A copy of x [B,T] with `values` at (rows, columns)."""
    x = x.copy()
    x[rows, columns] = values
    return x

  def demand(self, true, message: str, results):
    """`results`, once `true` holds everywhere."""
    if not np.all(true):
      raise ValueError(message)
    return results


class TensorFlowArrays:
  """The same in TensorFlow ops, for use inside a tf.data pipeline."""

  def __init__(self, tf: ModuleType):
    self._tf = tf
    self.reshape = tf.reshape
    self.constant = tf.constant

  def cast(self, x, dtype: str):
    return self._tf.cast(x, dtype)

  def where(self, true, x, y):
    # A Python number would become an int32, whatever stands beside it.
    y = self._tf.convert_to_tensor(y, getattr(x, 'dtype', None))
    return self._tf.where(true, self._tf.convert_to_tensor(x, y.dtype), y)

  def arange(self, n, dtype: str):
    # There is no uint32 kernel of range.
    return self._tf.cast(self._tf.range(n), dtype)

  def size(self, x, axis: int):
    static = x.shape[axis]
    return self._tf.shape(x)[axis] if static is None else static

  def shift(self, x, bits: int):
    return self._tf.bitwise.right_shift(x, self._tf.constant(bits, x.dtype))

  def take(self, x, indices):
    return self._tf.gather(x, indices)

  def sum(self, x):
    return self._tf.reduce_sum(self._tf.cast(x, 'int64'), -1)

  def starts(self, x):
    return self._tf.cumsum(x, -1, exclusive=True)

  def count(self, numbers, below: int):
    return self._tf.cast(self._tf.math.bincount(
        numbers, minlength=below, maxlength=below, axis=-1), 'int64')

  def smallest(self, x, n: int):
    return -self._tf.math.top_k(-x, n).values

  def nonzero(self, x):
    where = self._tf.where(x)
    return where[:, 0], where[:, 1]

  def scatter(self, flat_indices, values, shape):
    size = self._tf.cast(shape[0] * shape[1], flat_indices.dtype)
    return self._tf.reshape(self._tf.scatter_nd(
        flat_indices[:, None], values, size[None]), shape)

  def update(self, x, rows, columns, values):
    return self._tf.tensor_scatter_nd_update(
        x, self._tf.stack([rows, columns], -1), values)

  def demand(self, true, message: str, results):
    tf = self._tf
    check = tf.debugging.Assert(tf.reduce_all(true), [message])
    with tf.control_dependencies([check]):
      return {name: tf.identity(x) for name, x in results.items()}


def counts(o, segment_ids, which, examples: int):
  """How many of `which` lie in each example.

  Args:
    o: NumPyArrays or TensorFlowArrays.
    segment_ids: int32[B,T].
    which: bool[B,T].
    examples: P.

  Returns:
    int64[B,P].
  """
  if examples == 1:
    return o.sum(which)[:, None]
  numbers = o.where(which, segment_ids, 0)
  return o.count(numbers, examples + 1)[:, 1:]


def flat_examples(o, segment_ids, examples: int):
  """int64[B,T]: index of a token's example among all B * P of the batch."""
  rows = o.arange(o.size(segment_ids, 0), 'int64')[:, None]
  example = o.cast(segment_ids, 'int64') - 1
  return rows * examples + o.where(example < 0, 0, example)
