import dataclasses
import json

import pytest

from robertax.errors import InputError
from robertax.tasks import scoring
from robertax.tasks.scoring import Request, score


@pytest.fixture
def request_(tmp_path):
  def make(references, predictions, **more):
    for name, content in (('r', references), ('p', predictions)):
      (tmp_path / f'{name}.json').write_text(json.dumps(content))
    return Request('squad', f'{tmp_path}/r.json', f'{tmp_path}/p.json', **more)
  return make


def references(**golds):
  return {'version': '1.1', 'data': [{'paragraphs': [{'qas': [
      {'id': key, 'answers': [{'text': gold} for gold in texts]}
      for key, texts in golds.items()]}]}]}


def test_squad_one(request_):
  asked = request_(references(a=['the cat'], b=['x', 'y z'], c=['w']),
                   {'a': 'Cat', 'b': 'y', 'd': 'w'}, version='1.1')
  assert score(asked) == {
      'exact': pytest.approx(100 / 3), 'f1': pytest.approx(100 * (5 / 3) / 3),
      'total': 3, 'missing': 1, 'unknown': 1}
  with pytest.raises(InputError, match='missing, such as c and 1 are for .* d'):
    score(asked, strict=True)


def test_strict_is_content_with_all_and_no_more(request_):
  asked = request_(references(a=['x']), {'a': 'x'}, version='v1.1')
  assert score(asked, strict=True)['exact'] == 100.0
  asked = request_(references(a=['x']), {'a': 'x', 'b': ''}, version='1.1')
  with pytest.raises(InputError, match='p.json: 1 are for unknown ids, such'):
    score(asked, strict=True)


@pytest.mark.parametrize('change, says', [
    (dict(task='squat'), "Did you mean 'squad'"),
    (dict(version=''), 'needs 1.1 or 2.0'), (dict(version='2'), 'needs 1.1 or'),
    (dict(no_answer_threshold=.5), 'goes with no_answer_scores'),
    (dict(no_answer_scores='n.json'), 'go with version 2.0 only'),
    (dict(version='2.0', no_answer_scores='p.json'), 'a: expected a number'),
    (dict(references='none.json'), 'cannot read none.json'),
    (dict(references='p.json'), '"data" is missing')])
def test_wrong_requests(request_, tmp_path, monkeypatch, change, says):
  asked = request_(references(a=['x']), {'a': 'x'}, version='1.1')
  (tmp_path / 'n.json').write_text('{"a": 0.5}')
  monkeypatch.chdir(tmp_path)
  with pytest.raises(InputError, match=says):
    score(dataclasses.replace(asked, **change))


@pytest.fixture
def race(tmp_path):
  """A test split as JSON lines: answers A, B of middle, C of high."""
  for part, answers in (('middle', 'AB'), ('high', 'C')):
    (tmp_path / f'test-{part}.jsonl').write_text(json.dumps({
        'id': f'{part}1.txt', 'article': 'x', 'answers': list(answers),
        'questions': ['q'] * len(answers),
        'options': [list('wxyz')] * len(answers)}))

  def asked(references, **predictions):
    (tmp_path / 'p.json').write_text(json.dumps(
        {f'{key[:-1]}1.txt/{key[-1]}': letter
         for key, letter in predictions.items()}))
    return Request('race', f'{tmp_path}/{references}', f'{tmp_path}/p.json')
  return asked


def test_race(race):
  found = score(race('test', middle1='A', high1='C', high2='D'))
  assert found == {
      'accuracy': pytest.approx(200 / 3), 'middle': 50.0, 'high': 100.0,
      'total': 3, 'missing': 1, 'unknown': 1}
  one = race('test-middle.jsonl', middle1='A', middle2='A')
  assert score(one, strict=True) == {
      'accuracy': 50.0, 'total': 2, 'missing': 0, 'unknown': 0}


@pytest.mark.parametrize('references, predictions, says', [
    ('test', dict(middle1='E'), "middle1.txt/1: 'E' is none of A, B, C, D"),
    ('test', dict(middle1='AB'), "'AB' is none of"),
    ('test.jsonl.zst/x', {}, 'of RACE a split'),
    ('dev', {}, 'no middle part of dev')])
def test_wrong_race(race, references, predictions, says):
  with pytest.raises(InputError, match=says):
    score(race(references, **predictions))


def test_race_has_no_version(race):
  with pytest.raises(InputError, match='version goes with task=squad only'):
    score(dataclasses.replace(race('test'), version='1.1'))


@pytest.mark.parametrize('path, wanted', [
    ('RACE/test', ('RACE', 'test', ('middle', 'high'))),
    ('RACE/test/middle/', ('RACE', 'test', ('middle',))),
    ('a/dev-high.jsonl.zst', ('a', 'dev', ('high',))),
    ('train', ('.', 'train', ('middle', 'high')))])
def test_paths_of_race(path, wanted):
  assert scoring._race_split(path) == wanted
