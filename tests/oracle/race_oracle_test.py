"""RACE's sequences against transformers' own tokenizer, on real questions.

Needs transformers (requirements-oracle.txt) and ROBERTAX_TEST_DATA.
"""

import os
import re

import pytest

from robertax import text
from robertax.tasks import race

transformers = pytest.importorskip('transformers')
DATA = os.environ.get('ROBERTAX_TEST_DATA', '')
pytestmark = [
    pytest.mark.oracle,
    pytest.mark.skipif(not os.path.isdir(os.path.join(DATA, 'race')), reason=(
        'ROBERTAX_TEST_DATA names no folder with bpe/ and race/'))]


@pytest.mark.parametrize('max_length', [512, 256])
def test_sequences(tmp_path, max_length):
  ours = text.load(os.path.join(DATA, 'bpe'))
  ours.save(tmp_path / 'tokenizer.json')
  theirs = transformers.PreTrainedTokenizerFast(
      tokenizer_file=str(tmp_path / 'tokenizer.json'))
  questions = race.read_questions(os.path.join(DATA, 'race'), 'dev')[::16]
  questions += [q for q in race.read_questions(
      os.path.join(DATA, 'race'), 'dev') if q.question.count('_') > 1]
  found = iter(race.encode_questions(questions, ours, max_length).sequences)
  cut = 0
  for q in questions:
    context = re.sub(r'\s+', ' ', q.passage).strip()
    for option in q.options:
      asked = (q.question.replace('_', option) if '_' in q.question
               else ' '.join([q.question, option]))
      asked = re.sub(r'\s+', ' ', asked).strip()
      # <s> asked </s>, and </s> passage </s> of `<s> passage </s>`.
      first = theirs(asked)['input_ids'][:128]
      second = [theirs.convert_tokens_to_ids('</s>'),
                *theirs(context)['input_ids'][1:]]
      whole = first + second
      cut += len(whole) > max_length
      assert next(found).tolist() == whole[:max_length]
  assert cut and next(found, None) is None
