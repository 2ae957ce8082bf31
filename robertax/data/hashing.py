"""Integer hashes, and the array operations that masking needs.

Hashes are the only source of randomness in this room. A random value is a pure
function of its purpose, so that there is no generator whose state would have to
be saved, skipped over, or split among hosts. Masking (masking.py) is written
once against NumPyArrays and TensorFlowArrays. Both give the same bits, because
all of it is integer arithmetic.
"""

import hashlib
from types import ModuleType

import numpy as np

# A token's random numbers are hashes of its position + one of these, so
# positions must stay below config.MAX_LENGTH.
COUNT, SCORE, ACTION, RANDOM, LENGTH = (i << 16 for i in range(5))
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def mix64(x: np.ndarray) -> np.ndarray:
  """splitmix64's output for state `x` uint64[...] (Steele, Lea and Flood 2014).

  A bijection of uint64 in which every output bit depends on every input bit.
  """
  x = np.asarray(x, np.uint64)
  if not x.ndim:  # NumPy would warn about scalars that wrap, as they should.
    return mix64(x[None])[0]
  x = x + _GOLDEN
  x ^= x >> np.uint64(30)
  x *= np.uint64(0xBF58476D1CE4E5B9)
  x ^= x >> np.uint64(27)
  x *= np.uint64(0x94D049BB133111EB)
  x ^= x >> np.uint64(31)
  return x


def fold_key(key: np.ndarray, word: np.ndarray | int) -> np.ndarray:
  """uint64[...]: keys for integer words, which broadcast, under other keys."""
  return mix64(key ^ mix64(np.asarray(word).astype(np.uint64)))


def text_key(text: str) -> np.ndarray:
  """uint64[]: the key of a name, the same on every machine and Python."""
  digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
  return np.frombuffer(digest, '<u8')[0]


def train_keys(seed: int, epochs: np.ndarray, example_ids: np.ndarray
               ) -> np.ndarray:
  """uint32[B,P,2]: keys of training masks by epoch int64[B] and example id."""
  key = fold_key(text_key('train masks'), seed)
  return _key_words(fold_key(fold_key(key, epochs)[:, None], example_ids))


def eval_keys(name: str, example_ids: np.ndarray) -> np.ndarray:
  """uint32[B,P,2]: keys of an evaluation set's masks, by example id."""
  return _key_words(fold_key(fold_key(text_key('eval masks'), text_key(name)),
                             example_ids))


def bits32(o, key0, key1, counter):
  """32 random bits: two keyed rounds of `lowbias32` (Wellons 2018).

  The key's words are uint32; the counter, uint32 or int, differs from purpose
  to purpose. Here and below, `o` is NumPyArrays or TensorFlowArrays.
  """
  return _mix32(o, _mix32(o, key0 ^ counter) ^ key1)


def _mix32(o, x):
  x = (x ^ o.shift(x, 16)) * 0x7FEB352D
  x = (x ^ o.shift(x, 15)) * 0x846CA68B
  return x ^ o.shift(x, 16)


def _key_words(keys: np.ndarray) -> np.ndarray:
  return np.stack([keys >> np.uint64(32), keys & np.uint64(0xFFFFFFFF)],
                  axis=-1).astype(np.uint32)


class NumPyArrays:
  """NumPy's operations, apart from operators, which tf.Tensors have too."""

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
    """x[indices] along the first dim."""
    return np.take(x, indices, axis=0)

  def sum(self, x):
    """[B,T] bool -> int64[B]."""
    return x.sum(-1, dtype=np.int64)

  def starts(self, x):
    """Exclusive running sum along the last dim."""
    return np.cumsum(x, -1) - x

  def count(self, numbers, below: int):
    """How often 0 .. below - 1 occur in each row: [B,T] -> int64[B,below]."""
    rows = len(numbers)
    flat = numbers + below * np.arange(rows)[:, None]
    return np.bincount(flat.ravel(), minlength=rows * below).reshape(
        rows, below)

  def smallest(self, x, n: int):
    """The n smallest numbers of each row, ascending."""
    if n < x.shape[-1]:
      x = np.partition(x, n - 1, -1)[:, :n]
    return np.sort(x, -1)

  def nonzero(self, x):
    """The rows and columns of true elements, in reading order."""
    return np.divmod(np.flatnonzero(x), x.shape[-1])

  def scatter(self, flat_indices, values, shape):
    """Zeros of `shape` with `values` at indices of the flattened array."""
    out = np.zeros(shape, values.dtype)
    out.ravel()[flat_indices] = values
    return out

  def update(self, x, rows, columns, values):
    """A copy of x[B,T] with `values` at (rows, columns)."""
    x = x.copy()
    x[rows, columns] = values
    return x

  def demand(self, true, message: str, results):
    """`results`; ValueError unless `true` holds everywhere."""
    if not np.all(true):
      raise ValueError(message)
    return results


class TensorFlowArrays:
  """The same operations in TensorFlow, for use inside a tf.data pipeline."""

  def __init__(self, tf: ModuleType):
    self._tf = tf
    self.reshape = tf.reshape
    self.constant = tf.constant

  def cast(self, x, dtype: str):
    return self._tf.cast(x, dtype)

  def where(self, true, x, y):
    # TensorFlow makes a Python number an int32, whatever the other's type is.
    y = self._tf.convert_to_tensor(y, getattr(x, 'dtype', None))
    return self._tf.where(true, self._tf.convert_to_tensor(x, y.dtype), y)

  def arange(self, n, dtype: str):
    # TensorFlow has no uint32 kernel for range.
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
  """int64[B,P]: how many of `which` bool[B,T] are in each of P examples."""
  if examples == 1:
    return o.sum(which)[:, None]
  numbers = o.where(which, segment_ids, 0)
  return o.count(numbers, examples + 1)[:, 1:]


def flat_examples(o, segment_ids, examples: int):
  """int64[B,T]: the index of a token's example among all B * P of the batch."""
  rows = o.arange(o.size(segment_ids, 0), 'int64')[:, None]
  example = o.cast(segment_ids, 'int64') - 1
  return rows * examples + o.where(example < 0, 0, example)
