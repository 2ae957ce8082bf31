"""Integer hashes: the only source of randomness in this room.

A value is random and yet a pure function of what it is for: no generator has a
state that would have to be saved, skipped over, or split among hosts.
"""

import hashlib

import numpy as np

# The random numbers of a token: hashed as position + one of these, so positions
# must stay below config.MAX_LENGTH.
COUNT, SCORE, ACTION, RANDOM, LENGTH = (i << 16 for i in range(5))
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def mix64(x: np.ndarray) -> np.ndarray:
  """splitmix64's output for state `x` (Steele, Lea and Flood 2014).

  A bijection of uint64 in which every output bit depends on every input bit.

  Args:
    x: uint64[...].
  """
  x = np.asarray(x, np.uint64)
  if not x.ndim:  # NumPy warns where scalars wrap, which is meant here.
    return mix64(x[None])[0]
  x = x + _GOLDEN
  x ^= x >> np.uint64(30)
  x *= np.uint64(0xBF58476D1CE4E5B9)
  x ^= x >> np.uint64(27)
  x *= np.uint64(0x94D049BB133111EB)
  x ^= x >> np.uint64(31)
  return x


def fold(key: np.ndarray, word: np.ndarray | int) -> np.ndarray:
  """A key for `word` under `key`: other words, unrelated keys.

  Args:
    key: uint64[...].
    word: integers that broadcast against it; negative ones wrap around.

  Returns:
    uint64[...].
  """
  return mix64(key ^ mix64(np.asarray(word).astype(np.uint64)))


def text_key(text: str) -> np.ndarray:
  """uint64[]: a key from a name, the same on every machine and Python."""
  digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
  return np.frombuffer(digest, '<u8')[0]


def train_keys(seed: int, epochs: np.ndarray, example_ids: np.ndarray
               ) -> np.ndarray:
  """Keys of training masks: another one in every epoch.

  Args:
    seed: of the run.
    epochs: int64[B].
    example_ids: int64[B,P].

  Returns:
    uint32[B,P,2].
  """
  key = fold(text_key('train masks'), seed)
  return _words(fold(fold(key, epochs)[:, None], example_ids))


def eval_keys(name: str, example_ids: np.ndarray) -> np.ndarray:
  """Keys of evaluation masks: of the set and the example, of nothing else.

  Args:
    name: of the evaluation set.
    example_ids: int64[B,P].

  Returns:
    uint32[B,P,2].
  """
  return _words(fold(fold(text_key('eval masks'), text_key(name)),
                     example_ids))


def bits32(o, key0, key1, counter):
  """32 random bits: two keyed rounds of `lowbias32` (Wellons 2018).

  Args:
    o: NumPyArrays or TensorFlowArrays.
    key0, key1: uint32, the words of the key.
    counter: uint32 or int, what the bits are for.
  """
  return _mix32(o, _mix32(o, key0 ^ counter) ^ key1)


def _mix32(o, x):
  x = (x ^ o.shift(x, 16)) * 0x7FEB352D
  x = (x ^ o.shift(x, 15)) * 0x846CA68B
  return x ^ o.shift(x, 16)


def _words(keys: np.ndarray) -> np.ndarray:
  return np.stack([keys >> np.uint64(32), keys & np.uint64(0xFFFFFFFF)],
                  axis=-1).astype(np.uint32)
