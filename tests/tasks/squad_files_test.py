import json

import pytest

from robertax.errors import InputError
from robertax.tasks import squad_files


def qa(key='q1', text='cat', start=4, **more):
  return {'id': key, 'question': 'Who?',
          'answers': [{'text': text, 'answer_start': start}], **more}


def file_of(*paragraphs, version='1.1'):
  """One article a list of paragraphs' questions."""
  return {'version': version, 'data': [
      {'title': f'T{i}', 'paragraphs': [
          {'context': 'the cat and the dog', 'qas': qas}]}
      for i, qas in enumerate(paragraphs)]}


@pytest.fixture
def write(tmp_path):
  def write(content, name='f.json'):
    path = tmp_path / name
    path.write_text(content if isinstance(content, str)
                    else json.dumps(content))
    return str(path)
  return write


def test_reads_what_is_there(write):
  path = write(file_of([qa(), qa('q2', 'dog', 16)], [qa('q3')]))
  one, two, three = squad_files.read_questions(path, '1.1')
  assert (one.id, one.article, one.question, one.context) == (
      'q1', 'T0', 'Who?', 'the cat and the dog')
  assert one.answers == (squad_files.GoldAnswer('cat', 4),)
  assert one.answers[0].end == 7
  assert (two.answers[0].start, three.article) == (16, 'T1')


def test_version_2_has_questions_without_answers(write):
  none = {'id': 'q2', 'question': 'x', 'answers': [], 'is_impossible': True,
          'plausible_answers': [{'text': 'dog', 'answer_start': 16}]}
  path = write(file_of([qa(is_impossible=False), none], version='v2.0'))
  assert [len(q.answers) for q in squad_files.read_questions(path, '2.0')
         ] == [1, 0]
  # 1.1 beside it, as for training: all of its questions have answers.
  old = write(file_of([qa('q9')]), 'old.json')
  assert len(squad_files.read_questions(f'{old}, {path}', '2.0')) == 3


def test_slices_of_articles_share_none(write):
  path = write(file_of(*[[qa(f'q{i}')] for i in range(5)]))

  def ids(part):
    return ''.join(
        q.id[1] for q in squad_files.read_questions(path + part, '1.1'))

  assert [ids(part) for part in (
      '', '[::2]', '[1::2]', '[:2]', '[2:]', '[-1:]', '[1:4]', '[:4:3]')] == [
          '01234', '024', '13', '01', '234', '4', '123', '03']
  with pytest.raises(InputError, match='none of the 5 articles'):
    ids('[7:]')
  # A file of that very name is that file.
  odd = write(file_of([qa('q8')]), 'f.json[1:]')
  assert [q.id for q in squad_files.read_questions(odd, '1.1')] == ['q8']


@pytest.mark.parametrize('content, version, says', [
    ('{', '1.1', 'not JSON'),
    ('[]', '1.1', 'expected a JSON object, found a list'),
    ({'version': '1.1'}, '1.1', '"data" is missing'),
    ({'data': {}}, '1.1', '"data" is .*type list'),
    ({'data': []}, '1.1', 'no questions'),
    (file_of([qa()], version='v2.0'), '1.1', '"version" is \'v2.0\''),
    ({'data': [{'title': 'T0'}]}, '1.1',
     r'article 0 \(T0\): "paragraphs" is missing'),
    ({'data': [3]}, '1.1', 'article 0: "paragraphs" is missing'),
    ({'data': [{'paragraphs': [{'qas': []}]}]}, '1.1',
     'article 0, paragraph 0: "context" is missing'),
    ({'data': [{'paragraphs': [{'context': 'c'}]}]}, '1.1',
     'paragraph 0: "qas" is missing'),
    (file_of([{'question': 'x', 'answers': []}]), '1.1',
     'question 0: "id" is missing'),
    (file_of([{'id': 'q7', 'answers': []}]), '1.1',
     'question q7: "question" is missing'),
    (file_of([{'id': 'q7', 'question': 'x'}]), '1.1',
     'question q7: "answers" is missing'),
    (file_of([qa(answers=[])]), '1.1', 'question q1: no answer'),
    (file_of([qa(answers=['cat'])]), '1.1', 'q1, an answer: "text" is missing'),
    (file_of([qa(answers=[{'text': 'cat'}])]), '1.1',
     'answer_start" is missing'),
    (file_of([qa(start='4')]), '1.1', 'type int'),
    (file_of([qa(start=5)]), '1.1',
     r"q1: the answer 'cat' is not at its answer_start 5: there is "
     r"'at '. It is at 4\."),
    (file_of([qa(start=-15)]), '1.1', 'is not at its'),
    (file_of([qa('q1', 'cow')]), '1.1', 'does not have it at all'),
    (file_of([qa(text=' ', start=3)]), '1.1', 'an answer without text'),
    (file_of([qa()], [qa()]), '1.1', r'article 1 \(T1\), paragraph 0, question '
     r'q1: this id is there twice; first at .*article 0'),
    (file_of([qa(is_impossible=True)]), '2.0', 'is_impossible" is true'),
    (file_of([qa(question='\ud800')]), '1.1', 'lone surrogate'),
])
def test_wrong_files_are_named(write, content, version, says):
  path = write(content)
  with pytest.raises(InputError, match=says) as e:
    squad_files.read_questions(path, version)
  assert path in str(e.value)


def test_an_id_of_two_files_is_found(write):
  one, two = write(file_of([qa()]), 'a.json'), write(file_of([qa()]), 'b.json')
  with pytest.raises(InputError, match='b.json: .*first at .*a.json'):
    squad_files.read_questions(f'{one},{two}', '1.1')


def test_a_missing_file_is_named(tmp_path):
  with pytest.raises(InputError, match='cannot read .*none.json: No such file'):
    squad_files.read_questions(f'{tmp_path}/none.json', '1.1')
  with pytest.raises(InputError, match='version=.3'):
    squad_files.read_questions('x', '3')


def test_references_need_no_places(write):
  path = write({'data': [{'paragraphs': [{'qas': [
      {'id': 5, 'answers': [{'text': 'no such'}]}]}]}]})
  question, = squad_files.read_questions(path, '1.1', spans=False)
  assert (question.id, question.answers) == (
      '5', (squad_files.GoldAnswer('no such'),))


def test_predictions_and_scores_keep_their_order(write):
  for content, reader in (
      ({'q1': 'Île', 'q2': ''}, squad_files.read_predictions),
      ({'b': .25, 'a': -3.0, 'c': 0.25}, squad_files.read_no_answer_scores)):
    found = reader(write(content))
    assert list(found.items()) == list(content.items())


@pytest.mark.parametrize('content, reader, says', [
    ('[]', 'read_predictions', 'expected a JSON object'),
    ('{"q": null}', 'read_predictions', 'q: expected a text'),
    ('{"q": "a", "q": "b"}', 'read_predictions', "'q' is twice"),
    ('{"q": "0.5"}', 'read_no_answer_scores', 'q: expected a number'),
    ('{"q": true}', 'read_no_answer_scores', 'q: expected a number'),
    ('{"q": NaN}', 'read_no_answer_scores', 'q: expected a number'),
])
def test_wrong_predictions_are_named(write, content, reader, says):
  with pytest.raises(InputError, match=says):
    getattr(squad_files, reader)(write(content))
