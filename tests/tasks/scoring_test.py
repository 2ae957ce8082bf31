import dataclasses
import json

import pytest

from robertax.errors import InputError
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
