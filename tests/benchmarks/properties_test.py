from collections import Counter

from benchmarks import properties

BEFORE = '''
def test_one():
  pass
class Some:
  def test_two(self):
    pass
def helper():
  pass
'''


def test_a_lost_test_is_found_wherever_it_stood():
  before = properties.names([BEFORE, 'def test_one(): pass'])
  assert before == Counter(test_one=2, test_two=1)
  now = properties.names(['def test_one(): pass', 'def test_new(): pass'])
  assert properties.lost(before, now, {}) == ['test_one', 'test_two']
  assert properties.lost(before, now, {'test_one': 'told twice'}) == [
      'test_two']
  assert properties.lost(before, before, {}) == []
