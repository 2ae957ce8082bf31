
import numpy as np
import pytest

from robertax.data.hashing import NumPyArrays, TensorFlowArrays


@pytest.fixture(name='both', scope='module')
def both_fixture():
  tf = pytest.importorskip('tensorflow')
  return NumPyArrays(), TensorFlowArrays(tf)


def test_the_same_in_both(both):
  rng = np.random.default_rng(0)
  x = rng.integers(0, 2**40, (5, 9))
  numbers = rng.integers(0, 4, (5, 9)).astype(np.int32)
  a, b = both
  for operation in (
      lambda o: o.shift(o.constant(x), 7),
      lambda o: o.shift(o.constant(x.astype(np.uint32)), 16),
      lambda o: o.starts(o.constant(x)),
      lambda o: o.sum(o.constant(x % 2 == 0)),
      lambda o: o.count(o.constant(numbers), 4),
      lambda o: o.smallest(o.constant(x), 4),
      lambda o: o.smallest(o.constant(x), 9),
      lambda o: o.nonzero(o.constant(x % 3 == 0))[0],
      lambda o: o.nonzero(o.constant(x % 3 == 0))[1],
      lambda o: o.where(o.constant(x > 5), o.constant(x), -1),
      lambda o: o.where(o.constant(x > 5), 1 << 40, o.constant(x)),
      lambda o: o.scatter(o.constant(np.array([3, 8])),
                          o.constant(np.array([7, 9])), (2, 5)),
      lambda o: o.update(o.constant(x), o.constant(np.array([0, 4])),
                         o.constant(np.array([8, 1])),
                         o.constant(np.array([-1, -2])))):
    left, right = operation(a), operation(b).numpy()
    assert left.dtype == right.dtype
    np.testing.assert_array_equal(left, right)


def test_demand(both):
  a, b = both
  results = {'x': np.ones(2)}
  assert a.demand(np.array([True]), 'too many', results) is results
  with pytest.raises(ValueError, match='too many'):
    a.demand(np.array([True, False]), 'too many', results)
  with pytest.raises(Exception, match='too many'):
    b.demand(np.array([True, False]), 'too many', results)
