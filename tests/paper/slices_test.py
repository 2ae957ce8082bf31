"""Slices of corpora: different documents, made once."""

import json

import pytest

from robertax.errors import InputError
from robertax.paper.inputs import SLICE_LONGEST, write_slices


@pytest.fixture(name='corpus')
def _corpus(tmp_path):
  path = tmp_path / 'news.jsonl'
  path.write_text(''.join(
      json.dumps({'text': f'{n} ' + 'word ' * 20}) + '\n' for n in range(60)))
  return path


def texts(folder, part):
  lines = (folder / part / 'news.jsonl').read_text().splitlines()
  return [json.loads(line)['text'] for line in lines]


def test_slices_are_of_different_documents(corpus, tmp_path):
  out = tmp_path / 'out'
  write_slices(str(corpus), str(out), 1000)
  found = {part: texts(out, part) for part in ('train', 'heldout')}
  for some in found.values():
    assert 1000 <= sum(map(len, some)) < 1200
  assert not set(found['train']) & set(found['heldout'])


def test_killed_between_the_two_it_goes_on_behind_the_first(corpus, tmp_path):
  out = tmp_path / 'out'
  write_slices(str(corpus), str(out), 1000)
  whole = texts(out, 'heldout')
  before = (out / 'train' / 'news.jsonl').stat().st_mtime_ns
  (out / 'heldout' / 'news.jsonl').unlink()
  write_slices(str(corpus), str(out), 1000)
  assert texts(out, 'heldout') == whole
  # Records are kept by the file's time: it is not written again.
  assert (out / 'train' / 'news.jsonl').stat().st_mtime_ns == before


def test_too_little_text_is_an_error(corpus, tmp_path):
  with pytest.raises(InputError, match='corpus news.*5,000 characters'):
    write_slices(str(corpus), str(tmp_path / 'all'), 5000)


def test_of_a_long_document_the_beginning_is_taken(tmp_path):
  path = tmp_path / 'news.txt'
  document = '\n'.join('a line of some words' for _ in range(500))
  path.write_text('\n\n'.join([document] * 2))
  write_slices(str(path), str(tmp_path / 'out'), 2000)
  (one,) = texts(tmp_path / 'out', 'train')
  assert len(one) <= SLICE_LONGEST and document.startswith(one + '\n')


def test_a_document_that_is_not_cut_is_whole(tmp_path):
  path = tmp_path / 'news.jsonl'
  wanted = [f'Title {n}\nThe body in one line.' for n in range(6)]
  path.write_text(''.join(json.dumps({'text': t}) + '\n' for t in wanted))
  write_slices(str(path), str(tmp_path / 'out'), 80)
  assert texts(tmp_path / 'out', 'train') == wanted[:3]
  assert texts(tmp_path / 'out', 'heldout') == wanted[3:]


def test_of_few_long_documents_longer_beginnings_are_taken(tmp_path):
  """Books: 20 documents, whose first LONGEST characters are not enough."""
  path = tmp_path / 'news.txt'
  documents = ['\n'.join(f'line {i} of book {n}' for i in range(2000))
               for n in range(20)]
  path.write_text('\n\n'.join(documents))
  wanted = 15 * SLICE_LONGEST
  write_slices(str(path), str(tmp_path / 'out'), wanted)
  found = {part: texts(tmp_path / 'out', part)
           for part in ('train', 'heldout')}
  for some in found.values():
    assert wanted <= sum(map(len, some)) < wanted + 2 * SLICE_LONGEST
    assert all(SLICE_LONGEST < len(text) <= 2 * SLICE_LONGEST for text in some)
    assert all(any(d.startswith(text + '\n') for d in documents)
               for text in some)
  assert not set(found['train']) & set(found['heldout'])
  # Not when even whole documents are too little.
  with pytest.raises(InputError, match='more text is needed'):
    write_slices(str(path), str(tmp_path / 'all'), 100 * SLICE_LONGEST)
