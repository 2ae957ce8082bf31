"""WordPiece against transformers' BertTokenizerFast, on real sentences.

Needs transformers (requirements-oracle.txt) and ROBERTAX_TEST_DATA.
"""

import glob
import itertools
import os

import pytest

from robertax import text

transformers = pytest.importorskip('transformers')
DATA = os.environ.get('ROBERTAX_TEST_DATA', '')
VOCAB = os.path.join(DATA, 'bpe', 'bert-base-uncased-vocab.txt')
pytestmark = [
    pytest.mark.oracle,
    pytest.mark.skipif(not os.path.isfile(VOCAB), reason=(
        'ROBERTAX_TEST_DATA names no folder with bpe/ and glue/'))]
ODD = ['', 'naïve Café', '中文 and 日本', 'a\u200bb\x00c', "don't -- U.S.A.",
       '[MASK', 'ﬁne Å İstanbul ß Σίσυφος', '🙂 ok', 'x' * 101, '##ing # ##']


@pytest.fixture(scope='module')
def sentences():
  lines = []
  for path in sorted(glob.glob(os.path.join(DATA, 'glue', '*', 'dev*'))):
    with open(path, encoding='utf-8') as f:
      lines += [line.rstrip('\n') for line in itertools.islice(f, 100)]
  assert len(lines) > 500
  return lines + ODD


def test_ids_of_berts_vocabulary(sentences):
  ours = text.load(VOCAB)
  theirs = transformers.BertTokenizerFast(
      vocab_file=VOCAB, vocab=VOCAB, do_lower_case=True)
  assert theirs.convert_tokens_to_ids(['unaffable', 'the']) == [100, 1996]
  wanted = theirs(sentences, add_special_tokens=False)['input_ids']
  found = [ids.tolist() for ids in ours.encode_batch(sentences)]
  assert found == wanted


@pytest.mark.parametrize('trained', [False, True])
def test_saved_is_read_by_transformers(sentences, tmp_path, trained):
  ours = (text.train_wordpiece(lambda: sentences, 2000) if trained
          else text.load(VOCAB))
  path = tmp_path / 'tokenizer.json'
  ours.save(path)
  theirs = transformers.PreTrainedTokenizerFast(tokenizer_file=str(path))
  wanted = theirs(sentences)['input_ids']
  found = [[ours.bos_id, *ids.tolist(), ours.eos_id]
           for ids in ours.encode_batch(sentences)]
  assert found == wanted
