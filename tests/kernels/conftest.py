"""The dropout hash once more, in plain Python integers and NumPy."""

import numpy as np
import pytest

WORD = 0xffffffff


def _mix(x):
  x = int(x)
  x = ((x ^ (x >> 16)) * 0x21f0aaad) & WORD
  x = ((x ^ (x >> 15)) * 0xd35a2d97) & WORD
  return x ^ (x >> 15)


def _fold(key, data):
  first = _mix(key[0] ^ _mix((int(data) + 0x9e3779b9) & WORD))
  second = _mix(key[1] ^ first)
  return (first + second) & WORD, second


def _bits(key, size):
  """uint32[size], in 64-bit arithmetic: nothing wraps on its own."""
  x = np.arange(size, dtype=np.uint64) * np.uint64(0x9e3779b9)
  x = (x + np.uint64(key[0])) & np.uint64(WORD)
  x = ((x ^ (x >> np.uint64(16))) * np.uint64(0x21f0aaad)
       + np.uint64(key[1])) & np.uint64(WORD)
  x = ((x ^ (x >> np.uint64(15))) * np.uint64(0xd35a2d97)) & np.uint64(WORD)
  return (x ^ (x >> np.uint64(15))).astype(np.uint32)


class Oracle:
  """`fold((a, b), data) -> (a, b)` and `bits((a, b), size) -> uint32[size]`."""
  fold = staticmethod(_fold)
  bits = staticmethod(_bits)

  def key(self, seed, step):
    return _fold((seed & WORD, seed >> 32 & WORD), step)

  def keep(self, key, shape, rate):
    kept = self.bits(key, int(np.prod(shape))) >= round(rate * 2**32)
    return kept.reshape(shape)


@pytest.fixture(scope='session')
def oracle():
  return Oracle()
