"""Integer hashes, and the counting that masking needs.

Hashes are the only source of randomness in this room. A random value is a pure
function of its purpose, so that there is no generator whose state would have to
be saved, skipped over, or split among hosts.
"""

import hashlib

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


def bits32(key0: np.ndarray, key1: np.ndarray, counter: np.ndarray | int
           ) -> np.ndarray:
  """uint32[...]: two keyed rounds of `lowbias32` (Wellons 2018).

  The key's words are uint32; the counter, uint32 or int, differs from purpose
  to purpose.
  """
  return _mix32(_mix32(key0 ^ counter) ^ key1)


def _mix32(x: np.ndarray) -> np.ndarray:
  x = (x ^ (x >> 16)) * 0x7FEB352D
  x = (x ^ (x >> 15)) * 0x846CA68B
  return x ^ (x >> 16)


def _key_words(keys: np.ndarray) -> np.ndarray:
  return np.stack([keys >> np.uint64(32), keys & np.uint64(0xFFFFFFFF)],
                  axis=-1).astype(np.uint32)


def before(x: np.ndarray) -> np.ndarray:
  """The exclusive running sum along the last dim."""
  return np.cumsum(x, -1) - x


def counts(segment_ids: np.ndarray, which: np.ndarray, examples: int
           ) -> np.ndarray:
  """int64[B,P]: how many of `which` bool[B,T] are in each of P examples."""
  if examples == 1:
    return which.sum(-1, dtype=np.int64)[:, None]
  rows, below = len(which), examples + 1
  numbers = np.where(which, segment_ids, 0) + below * np.arange(rows)[:, None]
  return np.bincount(numbers.ravel(), minlength=rows * below).reshape(
      rows, below)[:, 1:]


def flat_examples(segment_ids: np.ndarray, examples: int) -> np.ndarray:
  """int64[B,T]: the index of a token's example among all B * P of the batch."""
  example = np.maximum(segment_ids.astype(np.int64) - 1, 0)
  return np.arange(len(segment_ids))[:, None] * examples + example
