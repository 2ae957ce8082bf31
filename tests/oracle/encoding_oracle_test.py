"""Our examples of texts against Hugging Face's fast tokenizer and its cuts."""

import pytest

from robertax import text
from robertax.tasks.finetune import encode_texts

transformers = pytest.importorskip('transformers')
pytestmark = pytest.mark.oracle

TEXTS = [
    ('A short one.', 'And its pair.'),
    ('One that is much longer than the other one is, by far, by far.', 'b'),
    ('a', 'One that is much longer than the other one is, by far, by far.'),
    ('Ünïcode naïve café — “quotes” … 日本語 🙂', 'emoji 🙂🙂 and a\ttab'),
    ('Both of these are long, and so both of them lose some of their tokens.',
     'Both of these are long, and so both of them lose some of their ends.'),
    ('', 'an empty first'), ('an empty second', '')]


@pytest.fixture(scope='module')
def both(tmp_path_factory):
  ours = text.train_byte_bpe([' '.join(pair) for pair in TEXTS] * 5,
                             vocab_size=400)
  path = tmp_path_factory.mktemp('tokenizer') / 'tokenizer.json'
  ours.save(str(path))
  return ours, transformers.PreTrainedTokenizerFast(tokenizer_file=str(path))


@pytest.mark.parametrize('most', [512, 40, 23, 16, 9])
def test_pairs(both, most):
  ours, theirs = both
  found = encode_texts(ours, TEXTS, most)
  wanted = theirs([a for a, _ in TEXTS], [b for _, b in TEXTS],
                  truncation='longest_first', max_length=most)['input_ids']
  assert [s.tolist() for s in found.sequences] == wanted
  whole = theirs([a for a, _ in TEXTS], [b for _, b in TEXTS])['input_ids']
  assert found.truncated == sum(len(ids) > most for ids in whole)


@pytest.mark.parametrize('most', [512, 20, 7])
def test_single_texts(both, most):
  ours, theirs = both
  single = [[t] for pair in TEXTS for t in pair]
  wanted = theirs([t for t, in single], truncation=True, max_length=most)
  assert [s.tolist() for s in encode_texts(ours, single, most).sequences
          ] == wanted['input_ids']
