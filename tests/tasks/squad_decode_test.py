"""Decoding against every span counted out one by one."""

import os

import numpy as np
import pytest

from robertax import text
from robertax.tasks import squad, squad_files
from robertax.tasks.squad import Decoding, Windowing
from robertax.tasks.squad_files import GoldAnswer, Question

DATA = os.environ.get('ROBERTAX_TEST_DATA', '')
CONTEXT = 'one two three four five six seven eight nine ten eleven twelve'
WINDOWS = Windowing(length=13, doc_stride=2, question_length=4)
LAW = Decoding(n_best=5, max_answer_length=4)


@pytest.fixture(scope='module')
def encoded():
  tokenizer = text.train_byte_bpe([CONTEXT + ' how many? who?'] * 20, 330)
  questions = [Question('a', '', 'how many?', CONTEXT, (GoldAnswer('two', 4),)),
               Question('b', '', 'who?', CONTEXT[:20], ())]
  return squad.encode_questions(questions, tokenizer)


@pytest.fixture(scope='module')
def logits(encoded):
  """(windows, starts, ends): several windows of a; padding behind them."""
  rng = np.random.default_rng(3)
  windows = squad.make_windows(encoded, WINDOWS)
  assert [w.number for w in windows].count(0) > 2
  return windows, *(
      [rng.normal(size=20).astype(np.float32) * 5 for _ in windows]
      for _ in range(2))


def plain(encoded, windows, starts, ends, law):
  """Every pair of places of every window, in a dict by text."""
  best = {one.question.id: {} for one in encoded}
  for window, s, e in zip(windows, starts, ends):
    one = encoded[window.number]
    size = window.end - window.start
    for i in range(size):
      for j in range(i, min(i + law.max_answer_length, size)):
        span = one.question.context[one.offsets[window.start + i][0]:
                                    one.offsets[window.start + j][1]]
        value = float(s[window.offset + i]) + float(e[window.offset + j])
        known = best[one.question.id]
        known[span] = max(known.get(span, -np.inf), value)
  return {key: sorted(known.items(), key=lambda item: -item[1])
          for key, known in best.items()}


def test_best_spans_of_all_windows(encoded, logits):
  found = squad.decode_windows(encoded, *logits, LAW)
  wanted = plain(encoded, *logits, LAW)
  assert list(found) == ['a', 'b']
  for key, one in found.items():
    assert [s.text for s in one.spans] == [t for t, _ in wanted[key][:5]]
    assert [s.score for s in one.spans] == pytest.approx(
        [v for _, v in wanted[key][:5]])
    assert one.answer == wanted[key][0][0] and one.no_answer is None
  assert squad.final_answers(found) == {
      key: one[0][0] for key, one in wanted.items()}


def test_no_answer_is_of_the_window_least_for_it(encoded, logits):
  windows, starts, ends = logits
  odds = np.linspace(-2, 3, len(windows)).astype(np.float32)
  found = squad.decode_windows(encoded, *logits, LAW, odds)
  of_a = [i for i, w in enumerate(windows) if w.number == 0]
  assert found['a'].no_answer == pytest.approx(
      min(1 / (1 + np.exp(odds[i])) for i in of_a))
  null = min(float(starts[i][0]) + float(ends[i][0]) for i in of_a)
  assert found['a'].null.score == pytest.approx(null)
  assert found['a'].null_odds == pytest.approx(
      null - found['a'].spans[0].score)
  low, high = sorted(one.no_answer for one in found.values())
  between = squad.final_answers(found, (low + high) / 2)
  assert sorted(map(bool, between.values())) == [False, True]
  assert not any(squad.final_answers(found, low / 2).values())
  assert all(squad.final_answers(found, high).values())


@pytest.mark.parametrize('size, law', [
    (1, LAW), (3, LAW), (40, LAW), (40, Decoding(1, 1)),
    (40, Decoding(1000, 100)), (7, Decoding(3, 30))])
def test_best_pairs(size, law):
  rng = np.random.default_rng(size)
  # Few values, so that many tie.
  starts, ends = rng.integers(0, 4, (2, size)).astype(np.float32)
  pairs = [(i, j) for i in range(size)
           for j in range(i, min(i + law.max_answer_length, size))]
  wanted = sorted(pairs, key=lambda p: (
      -(starts[p[0]] + ends[p[1]]), p[1] - p[0], p[0]))[:law.n_best]
  assert squad.best_pairs(starts, ends, law) == wanted


def test_n_best_file(encoded, logits):
  found = squad.decode_windows(encoded, *logits, LAW)
  one = squad.n_best_predictions(found, '1.1')['a']
  two = squad.n_best_predictions(found, '2.0')['a']
  assert [e['text'] for e in one] == [s.text for s in found['a'].spans]
  assert sorted(e['text'] for e in two) == sorted(
      ['', *(e['text'] for e in one)])
  for entries in (one, two):
    assert sum(e['probability'] for e in entries) == pytest.approx(1)
    scores = [e['start_logit'] + e['end_logit'] for e in entries]
    assert scores == sorted(scores, reverse=True)
    ratio = entries[0]['probability'] / entries[-1]['probability']
    assert np.log(ratio) == pytest.approx(scores[0] - scores[-1])


@pytest.mark.parametrize('digits', [1, 6])  # With one, many are equal.
def test_the_threshold_is_the_best_of_all(digits):
  """No other threshold gives a better F1 on these questions."""
  rng = np.random.default_rng(0)
  questions, decoded = [], {}
  for i in range(40):
    key, has = f'q{i}', i % 3 > 0
    questions.append(Question(key, '', '', '', (GoldAnswer('x y'),) * has))
    odds = np.clip(rng.normal(.4 if has else .6, .2), .01, .99)
    decoded[key] = squad.Decoded(
        (squad.Span(rng.choice(['x y', 'x', 'z']), 1., 1.),),
        squad.Span('', 0., 0.), round(float(odds), digits))

  def score(threshold):
    return squad_files.score_predictions(
        questions, squad.final_answers(decoded, threshold), '2.0')['f1']

  chosen = squad.choose_threshold(questions, decoded)
  tried = [score(t) for t in [0, 2, *(d.no_answer for d in decoded.values())]]
  assert score(chosen) == pytest.approx(max(tried))
  assert max(tried) > score(2)
  if digits == 6:
    assert max(tried) > score(0)
    official = squad_files.score_predictions(
        questions, squad.final_answers(decoded), '2.0',
        {key: one.no_answer for key, one in decoded.items()})
    assert chosen == official['best_f1_thresh']
    assert score(chosen) == pytest.approx(official['best_f1'])


def test_the_threshold_of_answers_that_are_all_wrong():
  questions = [Question('a', '', '', '', (GoldAnswer('x'),)),
               Question('b', '', '', '', ())]
  decoded = {key: squad.Decoded(
      (squad.Span('z', 1., 1.),), squad.Span('', 0., 0.), .5)
      for key in 'ab'}
  assert squad.choose_threshold(questions, decoded) == 0.0


@pytest.mark.skipif(not os.path.isdir(f'{DATA}/squad'), reason=(
    'ROBERTAX_TEST_DATA names no folder with bpe/ and squad/'))
@pytest.mark.parametrize('version', ['1.1', '2.0'])
def test_the_right_logits_give_the_right_answers(version):
  """Of a real dev set: what windows, tokens and decoding lose together."""
  tokenizer = text.load(f'{DATA}/bpe')
  questions = squad_files.read_questions(
      f'{DATA}/squad/dev-v{version}.json[::8]', version)
  encoded = squad.encode_questions(questions, tokenizer)
  windows = squad.make_windows(encoded, Windowing())
  rng, logits, odds = np.random.default_rng(0), ([], []), []
  for window in windows:
    size = window.offset + window.end - window.start + 1
    places = squad.window_targets(window, encoded)
    for one, place in zip(logits, places):
      one.append(rng.normal(size=size))
      one[-1][place] += 20
    odds.append(5 if places[1] else -5)
  decoded = squad.decode_windows(encoded, windows, *logits, Decoding(), odds)
  threshold = .5 if version == '2.0' else None
  found = squad_files.score_predictions(
      questions, squad.final_answers(decoded, threshold), version)
  assert found['total'] > 1000
  assert found['exact'] > 99 and found['f1'] > 99
