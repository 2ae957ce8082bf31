"""Against a plain version of the official scripts, and cases worked by hand.

The plain version follows evaluate-v1.1.py and evaluate-v2.0.py step by step on
the raw JSON, in words of its own.
"""

import re
import string

from hypothesis import given, settings
from hypothesis import strategies as st
import pytest

from robertax.errors import InputError
from robertax.tasks import squad_files
from robertax.tasks.squad_files import GoldAnswer, Question


def plain_normalize(text):
  kept = ''.join(c for c in text.lower() if c not in string.punctuation)
  for article in ('a', 'an', 'the'):
    kept = re.sub(rf'(?<!\w){article}(?!\w)', ' ', kept)
  return ' '.join(kept.split())


def plain_f1(gold, prediction, version):
  gold = plain_normalize(gold).split()
  prediction = plain_normalize(prediction).split()
  if version == '2.0' and (gold == [] or prediction == []):
    return int(gold == prediction)
  left, same = list(gold), 0
  for word in prediction:
    if word in left:
      left.remove(word)
      same += 1
  if same == 0:
    return 0
  precision, recall = same / len(prediction), same / len(gold)
  return 2 * precision * recall / (precision + recall)


def plain_v1(data, predictions):
  total = exact = f1 = 0
  for id_, golds in data.items():
    total += 1
    if id_ in predictions:
      exact += max(plain_normalize(g) == plain_normalize(predictions[id_])
                   for g in golds)
      f1 += max(plain_f1(g, predictions[id_], '1.1') for g in golds)
  return 100 * exact / total, 100 * f1 / total


def plain_v2(data, predictions, na=None, threshold=1.0):
  """evaluate-v2.0.py for predictions of all ids: its dict of results."""
  exact, f1 = {}, {}
  for id_, golds in data.items():
    golds = [g for g in golds if plain_normalize(g) != '']
    if not golds:
      golds = ['']
    exact[id_] = max(int(plain_normalize(g) == plain_normalize(
        predictions[id_])) for g in golds)
    f1[id_] = max(plain_f1(g, predictions[id_], '2.0') for g in golds)
  probabilities = na or dict.fromkeys(predictions, 0.0)
  result, kinds = {}, {'': list(data), 'HasAns_': [i for i in data if data[i]],
                       'NoAns_': [i for i in data if not data[i]]}
  for name, raw in (('exact', exact), ('f1', f1)):
    final = {i: float(not data[i]) if probabilities[i] > threshold else raw[i]
             for i in data}
    for prefix, ids in kinds.items():
      if ids:
        result[f'{prefix}{name}'] = 100 * sum(final[i] for i in ids) / len(ids)
        result[f'{prefix}total'] = len(ids)
    if na:
      now = best = len(kinds['NoAns_'])
      at = 0.0
      for id_ in sorted(na, key=lambda i: na[i]):
        if id_ not in data:
          continue
        if data[id_]:
          now += raw[id_]
        elif predictions[id_]:
          now += -1
        if now > best:
          best, at = now, na[id_]
      result[f'best_{name}'] = 100 * best / len(data)
      result[f'best_{name}_thresh'] = at
  return result


def questions(data):
  return [Question(i, '', '', '', tuple(GoldAnswer(g) for g in golds))
          for i, golds in data.items()]


def assert_close(found, wanted):
  assert wanted.keys() <= found.keys()
  assert {k: found[k] for k in wanted} == pytest.approx(wanted, abs=1e-9)


@pytest.mark.parametrize('text, wanted', [
    ('The cat', 'cat'), ('THE  CAT.', 'cat'), ('a-b', 'ab'), ('a - b', 'b'),
    ('the-end', 'theend'), ('an apple a day', 'apple day'), ('"$12"', '12'),
    ('U.S.', 'us'), ('thé', 'thé'), ('Theatre', 'theatre'), ('', ''),
    ('the', ''), ('A.', ''), ('...', ''), ('«a»', '« »'), ('İ', 'i̇'),
    ('1\u00a0000\u2009km', '1 000 km'), ('naïve\tÎle\n', 'naïve île'),
    ('a_b', 'ab'), ('中国 the 文', '中国 文'), ('the’s', '’s'),
    ('an\u2014the', '\u2014')])
def test_normalize(text, wanted):
  assert squad_files.normalize(text) == wanted == plain_normalize(text)


@pytest.mark.parametrize('prediction, gold, exact, one, two', [
    ('the cat', 'The Cat!', 1, 1, 1),
    ('black cat', 'cat', 0, 2 / 3, 2 / 3),
    ('cat cat dog', 'cat dog dog', 0, 2 / 3, 2 / 3),
    ('', 'cat', 0, 0, 0),
    ('', '', 1, 0, 1),  # The scripts differ here.
    ('the', 'a', 1, 0, 1),
    ('the', 'cat', 0, 0, 0),
    ('2,000', '2000', 1, 1, 1),
    ('2 000', '2000', 0, 0, 0)])
def test_one_answer(prediction, gold, exact, one, two):
  assert squad_files.exact_match(prediction, gold) == exact
  assert squad_files.f1(prediction, gold, '1.1') == pytest.approx(one)
  assert squad_files.f1(prediction, gold, '2.0') == pytest.approx(two)


def test_version_1_by_hand():
  found = squad_files.score_predictions(questions({
      'several': ['New York', 'the city of New York'],
      'missing': ['x'], 'empty': ['x'], 'half': ['a b c']}),
      {'several': 'City of New York.', 'empty': '', 'half': 'B d',
       'stray': 'x'}, '1.1')
  # half: {b} of {b, c} and {b, d}, for the article goes.
  assert found == {'exact': 25.0, 'f1': 37.5, 'total': 4, 'missing': 1,
                   'unknown': 1}


def test_version_2_by_hand():
  data = {'right': ['Rome'], 'none': [], 'wrong': [], 'odd': ['the'],
          'gone': ['Oslo']}
  found = squad_files.score_predictions(questions(data), {
      'right': 'rome', 'none': '', 'wrong': 'Rome', 'odd': ''}, '2.0')
  assert found == {
      'exact': 60.0, 'f1': 60.0, 'total': 5, 'missing': 1, 'unknown': 0,
      'HasAns_exact': pytest.approx(200 / 3), 'HasAns_f1': pytest.approx(
          200 / 3), 'HasAns_total': 3,
      'NoAns_exact': 50.0, 'NoAns_f1': 50.0, 'NoAns_total': 2}


def test_missing_in_version_2_is_an_empty_answer():
  data = questions({'a': ['x'], 'b': [], 'c': ['y']})
  some = squad_files.score_predictions(data, {'c': 'y'}, '2.0', {'c': .1})
  all_ = squad_files.score_predictions(data, {
      'a': '',
      'b': '',
      'c': 'y'
  }, '2.0', {
      'a': .2,
      'b': .3,
      'c': .1
  })
  assert some.pop('missing') == 2 and all_.pop('missing') == 0
  assert some == all_


def test_threshold_by_hand():
  data = {'a': ['x'], 'b': ['y'], 'c': [], 'd': []}
  predictions = {'a': 'x', 'b': 'z y', 'c': 'w', 'd': ''}
  na = {'a': .1, 'b': .4, 'c': .3, 'd': .9}
  found = squad_files.score_predictions(questions(data), predictions, '2.0', na,
                                        .35)
  # c keeps its answer, b loses it. F1 with all four: 1 + 2/3 + 0 + 1.
  assert (found['exact'], found['f1']) == (50.0, 50.0)
  assert (found['best_exact'], found['best_exact_thresh']) == (75.0, .1)
  assert found['best_f1_thresh'] == .1 and found['best_f1'] == 75.0
  # Of equal scores, the file's order decides.
  tied = dict.fromkeys('cadb', .5)
  assert squad_files.score_predictions(questions(data), predictions, '2.0',
                                       tied)['best_exact_thresh'] == 0.0
  # Log-odds are scores too.
  odds = {'a': -3.0, 'b': -2.5, 'c': 2.0, 'd': 8.0}
  found = squad_files.score_predictions(questions(data), predictions, '2.0',
                                        odds)
  assert found['best_f1_thresh'] == -2.5
  assert found['best_f1'] == pytest.approx(100 * (2 + 1 + 2 / 3) / 4)
  assert found['exact'] == 75.0  # c's 2.0 and d's 8.0 are above 1.


# Words that collide, articles, punctuation, nothing, other scripts.
PIECES = st.sampled_from([
    'the', 'The', 'a', 'an', 'cat', 'Cat', 'dog', 'x', '.', ',', "'", ' ', '  ',
    '-', '—', 'é', 'É', '中', '\u00a0', '\n', '5', '٣', 'ß', '🙂', '“', '_'])
TEXT = st.lists(PIECES, max_size=5).map(''.join)
IDS = 'abcdefgh'


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.sampled_from(IDS), st.lists(TEXT, min_size=1,
                                                      max_size=3), min_size=1),
       st.dictionaries(st.sampled_from(IDS), TEXT))
def test_version_1_is_the_official(data, predictions):
  found = squad_files.score_predictions(questions(data), predictions, '1.1')
  assert (found['exact'], found['f1']) == pytest.approx(
      plain_v1(data, predictions))
  assert found['missing'] == len(data.keys() - predictions.keys())
  assert found['unknown'] == len(predictions.keys() - data.keys())


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.sampled_from(IDS), st.lists(TEXT, max_size=3),
                       min_size=1),
       st.dictionaries(st.sampled_from(IDS), st.tuples(
           TEXT, st.sampled_from([-2.5, -.25, 0.0, .1, .5, .5, .9, 1.0, 4.0])),
           min_size=8),
       st.sampled_from([1.0, .5, 0.0, -1.0]), st.booleans())
def test_version_2_is_the_official(data, given_for, threshold, with_scores):
  predictions = {i: text for i, (text, _) in given_for.items()}
  na = {i: p for i, (_, p) in given_for.items()} if with_scores else None
  threshold = threshold if with_scores else 1.0
  assert_close(
      squad_files.score_predictions(questions(data), predictions, '2.0', na,
                                    threshold),
      plain_v2(data, predictions, na, threshold))


def test_what_cannot_be_scored_is_said():
  one = questions({'a': ['x'], 'b': []})
  with pytest.raises(InputError, match='question b: no answer'):
    squad_files.score_predictions(one, {}, '1.1')
  with pytest.raises(InputError, match='no questions'):
    squad_files.score_predictions([], {}, '2.0')
  with pytest.raises(InputError, match='score for question a'):
    squad_files.score_predictions(one, {'a': 'x', 'b': ''}, '2.0', {'b': 0.0})
  with pytest.raises(InputError, match='2.0 only'):
    squad_files.score_predictions(one[:1], {'a': 'x'}, '1.1', {'a': 0.0})
