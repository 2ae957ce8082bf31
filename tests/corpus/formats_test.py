
from collections import Counter
import doctest
import pathlib

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

from robertax.corpus import formats
from robertax.corpus.shards import fill_rows

GOLDEN = pathlib.Path(__file__).parent / 'golden'


def pack(documents, length, name='full_sentences'):
  counts = Counter()
  found = list(formats.FORMATS[name].pack(
      [[np.array(s, np.uint16) for s in d] for d in documents],
      sequence_length=length, bos_id=0, eos_id=2, counts=counts))
  return found, counts


def test_worked_examples():
  found = doctest.testmod(formats)
  assert not found.failed and found.attempted >= 4


@pytest.mark.parametrize('name, owners, counted', [
    ('full_sentences', [0, 0, 2, 3, 3, 3, 4, 4], {'over_long_sentences': 1}),
    ('doc_sentences', [0, 0, 1, 2, 3, 3, 4, 4, 5],
     {'over_long_sentences': 2, 'dropped_examples': 1})])
def test_golden(name, owners, counted):
  lines = [line for line in (GOLDEN / f'{name}.txt').read_text().split('\n')
           if not line.startswith('# ') or line in ('# Examples', '# Rows')]
  cut, end = lines.index('# Examples'), len(lines)
  if '# Rows' in lines:
    end = lines.index('# Rows')
  expected = [line for line in lines[cut + 1:end] if line]
  text = '\n'.join(lines[:cut]).strip()
  words = ['<s>', '<pad>', '</s>', *sorted(set(text.split()))]
  found, counts = pack(
      [[[words.index(w) for w in line.split()] for line in part.split('\n')]
       for part in text.split('\n\n')], 12, name)
  assert [' '.join(words[i] for i in e.ids) for e in found] == expected
  assert [e.document for e in found] == owners
  assert counts == counted
  rows = fill_rows([len(e.ids) for e in found], 12,
                   formats.FORMATS[name].max_examples_per_row)
  assert rows == ([[int(n) for n in line.split()]
                   for line in lines[end + 1:] if line]
                  or [[n] for n in range(len(found))])


def fairseq_complete(sizes, block_size):
  """fairseq data/token_block_utils_fast.pyx, `complete`: (start, stop)s."""
  slices = []
  tok_idx = sz_idx = curr_size = 0
  while sz_idx < len(sizes):
    if curr_size + sizes[sz_idx] <= block_size or curr_size == 0:
      curr_size += sizes[sz_idx]
      sz_idx += 1
    else:
      slices.append((tok_idx, tok_idx + curr_size))
      tok_idx += curr_size
      curr_size = 0
  if curr_size > 0:
    slices.append((tok_idx, tok_idx + curr_size))
  return slices


@settings(deadline=None, max_examples=300)
@given(st.integers(8, 20),
       st.lists(st.lists(st.integers(1, 45), min_size=1, max_size=6),
                min_size=1, max_size=8))
def test_examples_are_fairseqs(length, sizes):
  rng = np.random.default_rng(0)
  documents = [[rng.integers(4, 99, n) for n in d] for d in sizes]
  stream, pieces, over_long, owner = [], [], 0, []
  for number, document in enumerate(documents):
    for ids in ([[]] if number else []) + document:
      sentence = [*ids, 2]
      over_long += len(sentence) > length - 1
      while sentence:
        piece, sentence = sentence[:length - 1], sentence[length - 1:]
        stream += piece
        owner += [number] * len(piece)
        pieces.append(len(piece))
  slices = fairseq_complete(pieces, length - 1)
  found, counts = pack(documents, length)
  assert [e.ids.tolist() for e in found] == [
      [0, *stream[a:b]] for a, b in slices]
  assert [e.document for e in found] == [owner[a] for a, _ in slices]
  assert all(len(e.ids) <= length for e in found)
  assert counts['over_long_sentences'] == over_long


def fairseq_complete_doc(sizes, block_size, document_sep_len=1):
  """fairseq data/token_block_utils_fast.pyx, `complete_doc`: (start, stop)s."""
  slices = []
  tok_idx = sz_idx = curr_size = 0
  while sz_idx < len(sizes):
    if ((curr_size + sizes[sz_idx] <= block_size or curr_size == 0)
        and sizes[sz_idx] != document_sep_len):
      curr_size += sizes[sz_idx]
      sz_idx += 1
    else:
      if curr_size > 1:
        slices.append((tok_idx, tok_idx + curr_size))
      tok_idx += curr_size
      curr_size = 0
      if sizes[sz_idx] == document_sep_len:
        tok_idx += sizes[sz_idx]
        sz_idx += 1
  if curr_size > 1:
    slices.append((tok_idx, tok_idx + curr_size))
  return slices


@settings(deadline=None, max_examples=200)
@given(st.integers(8, 20),
       st.lists(st.lists(st.integers(1, 45), min_size=1, max_size=6),
                min_size=1, max_size=8))
def test_document_examples_are_fairseqs(length, sizes):
  rng = np.random.default_rng(0)
  # A cut that leaves a lone </s> would be a document's end to fairseq.
  documents = [[rng.integers(4, 99, n + (n % (length - 1) == 0)) for n in d]
               for d in sizes]
  stream, pieces = [], []
  for number, document in enumerate(documents):
    for ids in ([[]] if number else []) + document:
      stream += [*ids, 2]
      whole, rest = divmod(len(ids) + 1, length - 1)
      pieces += [length - 1] * whole + [rest] * (rest > 0)
  found, _ = pack(documents, length, 'doc_sentences')
  assert [e.ids.tolist() for e in found] == [
      [0, *stream[a:b]] for a, b in fairseq_complete_doc(pieces, length - 1)]


def by_documents(documents, block):
  """DOC-SENTENCES in other words: (document, tokens), also lone </s>s."""
  for number, sentences in enumerate(documents):
    pieces = []
    for ids in sentences:
      whole = [*ids, 2]
      pieces += [whole[i:i + block] for i in range(0, len(whole), block)]
    while pieces:
      most = max(n for n in range(1, len(pieces) + 1)
                 if len(sum(pieces[:n], [])) <= block)
      yield number, sum(pieces[:most], [])
      pieces = pieces[most:]


@settings(deadline=None, max_examples=200)
@given(st.integers(8, 14),
       st.lists(st.lists(st.integers(0, 30), max_size=6), max_size=6))
def test_no_example_crosses_a_document(length, sizes):
  # All tokens of a document are its number's, so whose they are can be seen.
  documents = [[[4 + number] * n for n in d] for number, d in enumerate(sizes)]
  found, counts = pack(documents, length, 'doc_sentences')
  expected = list(by_documents(documents, length - 1))
  dropped = [part for _, part in expected if len(part) <= 1]
  assert all(part == [2] for part in dropped)
  assert counts['dropped_examples'] == len(dropped)
  assert counts['over_long_sentences'] == sum(
      n + 1 > length - 1 for d in sizes for n in d)
  assert [(e.document, e.ids.tolist()) for e in found] == [
      (number, [0, *part]) for number, part in expected if len(part) > 1]
  for e in found:
    assert 2 < len(e.ids) <= length
    assert set(e.ids.tolist()) <= {0, 2, 4 + e.document}
  if not dropped:
    for number, sentences in enumerate(documents):
      assert [i for e in found if e.document == number
              for i in e.ids[1:].tolist()] == [
                  i for ids in sentences for i in [*ids, 2]]


@pytest.mark.parametrize('name', ['full_sentences', 'doc_sentences'])
def test_nothing_gives_nothing(name):
  assert pack([], 8, name)[0] == []
  assert pack([[]], 8, name)[0] == []
