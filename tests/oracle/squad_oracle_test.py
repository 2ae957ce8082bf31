"""SQuAD's windows against transformers' fast tokenizers, on the real dev sets.

Needs transformers (requirements-oracle.txt) and ROBERTAX_TEST_DATA.
"""

import os

import numpy as np
import pytest

from robertax import text
from robertax.config import DataConfig
from robertax.tasks import squad, squad_files

transformers = pytest.importorskip('transformers')
DATA = os.environ.get('ROBERTAX_TEST_DATA', '')
DEV = os.path.join(DATA, 'squad', 'dev-v{}.json')
pytestmark = [
    pytest.mark.oracle,
    pytest.mark.skipif(not os.path.isfile(DEV.format('1.1')), reason=(
        'ROBERTAX_TEST_DATA names no folder with bpe/ and squad/'))]


def roberta(tmp_path):
  """Ours as transformers reads it: the post-processor is RoBERTa's."""
  ours = text.load(os.path.join(DATA, 'bpe'))
  ours.save(tmp_path / 'tokenizer.json')
  return ours, transformers.PreTrainedTokenizerFast(
      tokenizer_file=str(tmp_path / 'tokenizer.json'))


def bert(tmp_path):
  path = os.path.join(DATA, 'bpe', 'bert-base-uncased-vocab.txt')
  return text.load(path), transformers.BertTokenizerFast(
      vocab_file=path, vocab=path, do_lower_case=True)


@pytest.mark.parametrize('make', [roberta, bert])
@pytest.mark.parametrize('length, stride', [(384, 128), (96, 24)])
def test_windows_are_those_of_run_qa(tmp_path, make, length, stride):
  ours, theirs = make(tmp_path)
  questions = squad_files.read_questions(DEV.format('2.0') + '[::9]', '2.0')
  encoded = squad.encode_questions(questions, ours)
  law = squad.Windowing.of(length, DataConfig(
      doc_stride=stride, question_length=64), ours.layout)
  wanted = theirs(
      [q.question.strip() for q in questions], [q.context for q in questions],
      truncation='only_second', max_length=length, stride=stride,
      return_overflowing_tokens=True, return_offsets_mapping=True)
  found = squad.make_windows(encoded, law)
  assert [w.number for w in found] == wanted['overflow_to_sample_mapping']
  for i, window in enumerate(found):
    ids = squad.window_ids(window, encoded, law, ours)
    assert ids.tolist() == wanted['input_ids'][i]
    here = np.array(wanted.sequence_ids(i), object) == 1
    assert np.flatnonzero(here)[0] == window.offset
    theirs_here = np.array(wanted['offset_mapping'][i])[here]
    ours_here = encoded[window.number].offsets[window.start:window.end]
    # A piece of nothing but spaces has no characters there, and all here.
    blank = np.array([not questions[window.number].context[a:b].strip(' ')
                      for a, b in ours_here])
    assert ours_here[~blank].tolist() == theirs_here[~blank].tolist()


@pytest.mark.parametrize('version, bpe, wordpiece', [
    ('1.1', 20, 1), ('2.0', 12, 0)])
def test_answers_of_the_dev_sets_come_back(version, bpe, wordpiece):
  """All but so many, whose ends lie inside a piece such as '),'."""
  questions = squad_files.read_questions(DEV.format(version), version)
  for path, wanted in (('bpe', bpe),
                       ('bpe/bert-base-uncased-vocab.txt', wordpiece)):
    tokenizer = text.load(os.path.join(DATA, path))
    lost = list(squad.unrecovered_questions(
        squad.encode_questions(questions, tokenizer)))
    assert len(lost) == wanted
    for question, instead in lost:
      assert question.answers[0].text in instead
