from hypothesis import given, settings
from hypothesis import strategies as st
import pytest

from robertax.corpus import blocks
from robertax.corpus.blocks import Block, Changed, Survey, read_blocks


def survey(sizes):
  seen = Survey()
  for size in sizes:
    seen.add(size)
  return seen.blocks()


def plain(sizes):
  """The laws, said once more without streaming."""
  n = len(sizes)
  held = next((k for k in range(max(1, n // 100), 0, -1)
               if sum(sizes[n - k:]) <= .05 * sum(sizes)), 0)
  cut = n - held
  found = []
  if not held:  # The last document is more than 5 % of all.
    cut, n = n - 1, n - 1
  for split, start, stop in (('train', 0, cut), ('eval', cut, n)):
    first = start
    for i in range(start, stop):
      chars, docs = sum(sizes[first:i + 1]), i + 1 - first
      if (chars >= 2 << 20 and docs >= 8 or docs >= 1024 or
          chars >= 32 << 20 or i == stop - 1):
        found.append(Block(split, first, i + 1, chars))
        first = i + 1
  if not held:
    found += [Block('train', n, n + 1, sizes[n], 'start'),
              Block('eval', n, n + 1, sizes[n], 'end')]
  return found


@settings(deadline=None, max_examples=50)
@given(st.lists(st.sampled_from(
    [1, 1000, 300_000, 2 << 20, 40 << 20]), min_size=2, max_size=600))
def test_blocks_follow_the_laws(sizes):
  assert survey(sizes) == plain(sizes)


def test_many_small_documents():
  sizes = [10] * 30_000
  found = survey(sizes)
  assert found == plain(sizes)
  assert found[0].stop == 1024
  assert sum(b.stop - b.start for b in found if b.split == 'eval') == 300


def test_the_survey_stays_small():
  seen = Survey()
  for _ in range(50_000):
    seen.add(10)
  assert len(seen._tail) == 500
  assert len(seen._closed) == 49_500 // 1024


def test_one_document_gives_its_last_sentences():
  assert survey([7]) == [Block('train', 0, 1, 7, 'head'),
                         Block('eval', 0, 1, 7, 'tail')]
  sentences = [str(i) for i in range(100)]
  assert blocks.part_of(sentences, 'head') == sentences[:95]
  assert blocks.part_of(sentences, 'tail') == sentences[95:]
  assert blocks.part_of(sentences, 'all') == sentences
  assert blocks.part_of(['a', 'b'], 'tail') == ['b']
  assert blocks.part_of(['a'], 'head') == []
  assert blocks.part_of(['a', 'b', 'c'], 'end') == ['b', 'c']
  assert blocks.part_of(['a', 'b'], 'start') == []
  long = ['word ' * 1000]
  start, end = (blocks.part_of(long, part) for part in ('start', 'end'))
  assert start[0] + end[0] == long[0] and 150 < len(end[0]) <= 250


def test_reading_gives_each_document_once():
  texts = [str(i) * (1 + i % 7) for i in range(2500)]
  plan = survey(map(len, texts))
  read = list(read_blocks(iter(texts), plan))
  assert [block for block, _ in read] == plan
  assert [text for _, found in read for text in found] == texts


def test_one_document_is_read_once_and_given_twice():
  plan = survey([3])
  assert [found for _, found in read_blocks(iter(['abc']), plan)] == [
      ['abc'], ['abc']]


@pytest.mark.parametrize('texts', [
    ['aa', 'b'], ['aa', 'b', 'cc'], ['aa', 'b', 'c', 'd'], []])
def test_a_change_is_seen(texts):
  plan = survey([2, 1, 1])
  with pytest.raises(Changed):
    list(read_blocks(iter(texts), plan))
