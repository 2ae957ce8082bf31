from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

from robertax import text
from robertax.config import ModelConfig
from robertax.errors import InputError
from robertax.tasks import squad
from robertax.tasks.squad import Windowing
from robertax.tasks.squad_files import GoldAnswer, Question

CONTEXT = ('In 1973 the Île de France (the "island") had €12, naïve people '
           'and  two 🙂 signs; the-end. ') * 3
LAW = Windowing(length=24, doc_stride=5, question_length=4)


@pytest.fixture(scope='module')
def tokenizer():
  return text.train_byte_bpe([CONTEXT] * 20, 320)


def question(context=CONTEXT, asked='Which island?', key='q', **answer):
  answers = (GoldAnswer(**answer),) if answer else ()
  return Question(key, 'T', asked, context, answers)


def test_a_window_is_question_and_stretch(tokenizer):
  one = squad.encode_questions(
      [question('the Île de France', '  island? ')], tokenizer)
  law = Windowing(length=60, doc_stride=2, question_length=20)
  window, = squad.make_windows(one, law)
  found = squad.window_ids(window, one, law, tokenizer)
  assert found.tolist() == [
      0, *tokenizer.encode('island?'), 2, 2,
      *tokenizer.encode('the Île de France'), 2]
  typed = tokenizer.laid_out(ModelConfig(num_types=2))
  single = Windowing(60, 2, 20, (1, 1, 1))
  window, = squad.make_windows(one, single)
  assert squad.window_ids(window, one, single, typed).tolist() == [
      *found[:np.argmax(found == 2)], 2, *tokenizer.encode('the Île de France'),
      2]


@settings(max_examples=60, deadline=None)
@given(length=st.integers(9, 60), stride=st.integers(0, 20),
       asked=st.integers(1, 12), cut=st.integers(1, 8),
       total=st.integers(1, 130), separators=st.sampled_from([1, 2]))
def test_windows_cover_the_context(length, stride, asked, cut, total,
                                   separators):
  try:
    law = Windowing(length, stride, cut, (1, separators, 1))
  except InputError:
    assert length - 2 - separators - cut <= stride
    return
  one = squad.EncodedQuestion(
      question(), np.arange(asked), np.arange(total),
      np.stack([np.arange(total), np.arange(total) + 1], -1))
  found = squad.make_windows([one], law)
  assert found[0].start == 0 and found[-1].end == total
  room = length - 2 - separators - min(asked, cut)
  for now, following in zip(found, found[1:]):
    assert now.end - following.start == stride and now.end < following.end
    assert now.end - now.start == room
  for window in found:
    assert window.end - window.start <= room
    assert window.offset == 1 + min(asked, cut) + separators


def every_answer(context):
  """All answers that begin and end with a word."""
  words = [i for i in range(len(context)) if context[i] != ' ' and (
      i == 0 or context[i - 1] == ' ')]
  ends = [i for i in range(1, len(context) + 1) if context[i - 1] != ' ' and (
      i == len(context) or context[i] == ' ')]
  return [(a, b) for a in words for b in ends if a < b < a + 60]


def test_answers_come_back_character_for_character(tokenizer):
  context = CONTEXT[:90].strip()
  spans = every_answer(context)
  assert len(spans) > 50
  questions = [question(context, key=str(i), text=context[a:b], start=a)
               for i, (a, b) in enumerate(spans)]
  encoded = squad.encode_questions(questions, tokenizer)
  assert not list(squad.unrecovered_questions(encoded))
  # And out of any window that holds them, by way of its places.
  held = 0
  for window in squad.make_windows(encoded, LAW):
    one = encoded[window.number]
    start, end = squad.window_targets(window, encoded)
    ids = squad.window_ids(window, encoded, LAW, tokenizer)
    if (start, end) == (0, 0):
      first, last = one.span(one.question.answers[0].start,
                             one.question.answers[0].end)
      assert first < window.start or last >= window.end
      continue
    held += 1
    answer = one.question.answers[0].text
    assert tokenizer.decode(ids[start:end + 1]).strip() == answer
    back = window.start - window.offset
    assert one.text(start + back, end + back) == answer
  assert held >= len(spans) // 2


def test_an_answer_inside_a_piece_is_reported(tokenizer):
  inside = CONTEXT.index('island') + 1
  whole = CONTEXT.index('1973')
  questions = [question(key='in', text='sl', start=inside),
               question(key='on', text='1973', start=whole), question(key='no')]
  encoded = squad.encode_questions(questions, tokenizer)
  (found, instead), = squad.unrecovered_questions(encoded)
  assert found.id == 'in' and 'sl' in instead and instead != 'sl'
  assert instead in CONTEXT


def test_no_answer_points_at_bos(tokenizer):
  encoded = squad.encode_questions([question()], tokenizer)
  assert {squad.window_targets(w, encoded)
          for w in squad.make_windows(encoded, LAW)} == {(0, 0)}


def test_questions_on_a_paragraph_share_its_tokens(tokenizer):
  a, b = squad.encode_questions(
      [question(key='a'), question(key='b')], tokenizer)
  assert a.offsets is b.offsets


@pytest.mark.parametrize('values, says', [
    (dict(length=30, doc_stride=20), 'more than data.doc_stride=20'),
    (dict(length=20, question_length=40), 'leave 0'),
    (dict(doc_stride=-1), 'at least 0'),
    (dict(question_length=0), 'at least 1')])
def test_windows_without_room_are_refused(values, says):
  with pytest.raises(InputError, match=says):
    Windowing(**{'question_length': 8, **values})


def test_a_context_without_tokens_is_named(tokenizer):
  with pytest.raises(InputError, match='question q: its context'):
    squad.encode_questions([question('')], tokenizer)
