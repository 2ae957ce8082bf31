
import numpy as np

from robertax.data import hashing


def test_splitmix64_known_outputs():
  # Vigna's splitmix64.c seeded with 0 and with 1234567 (the latter are the
  # values Rosetta Code lists); state n is seed + n * golden.
  golden = 0x9E3779B97F4A7C15
  states = [(1234567 + n * golden) % 2**64 for n in range(5)]
  assert hashing.mix64(np.array(states, np.uint64)).tolist() == [
      6457827717110365317, 3203168211198807973, 9817491932198370423,
      4593380528125082431, 16408922859458223821]
  assert int(hashing.mix64(np.uint64(0))) == 0xE220A8397B1DCDAF


def test_keys_depend_on_everything_they_should():
  ids = np.arange(50)[:, None] << 8 | np.arange(3)
  epochs = np.arange(50) % 2
  keys = [hashing.train_keys(0, epochs, ids),
          hashing.train_keys(1, epochs, ids),
          hashing.train_keys(0, epochs + 2, ids),
          hashing.eval_keys('a', ids), hashing.eval_keys('b', ids)]
  words = np.stack(keys).astype(np.uint64)
  assert words.shape == (5, 50, 3, 2)
  whole = words[..., 0] << np.uint64(32) | words[..., 1]
  assert len(np.unique(whole)) == whole.size


def test_keys_are_balanced():
  keys = hashing.train_keys(
      7, np.zeros(4096, np.int64), np.arange(4096)[:, None])
  bits = keys[:, 0, :, None] >> np.arange(32, dtype=np.uint32) & 1
  assert abs(bits.mean(0) - 0.5).max() < 5 * 0.5 / np.sqrt(4096)


def test_negative_words_are_allowed():
  assert hashing.fold_key(hashing.text_key('x'), -1) != hashing.fold_key(
      hashing.text_key('x'), 1)
