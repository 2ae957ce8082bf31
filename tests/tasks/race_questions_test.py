"""RACE's two forms, and what is said of wrong ones."""

import collections
import gzip
import json
import os
import pathlib

import pytest

from robertax.errors import InputError
from robertax.tasks import race

DOCUMENT = {
    'id': 'middle7.txt', 'article': 'Tom has a cat.\nIt is black.',
    'questions': ['The cat is _ .', 'Who has it?'],
    'options': [['black', 'white', 'red', 'old'], ['Tom', 'Ann', 'I', 'We']],
    'answers': ['A', 'A']}


def changed(**changes):
  return {k: v for k, v in (DOCUMENT | changes).items() if v is not None}


def as_folder(folder, documents, split='train', part='middle'):
  path = folder / split / part
  path.mkdir(parents=True)
  for number, document in enumerate(documents):
    name = document.get('id', f'{number}.txt')
    (path / name).write_text(json.dumps(document))
  return path


def as_lines(folder, documents, split='train', part='middle', ending=''):
  folder.mkdir(exist_ok=True)
  path = folder / f'{split}-{part}.jsonl{ending}'
  text = ''.join(json.dumps(d) + '\n' for d in documents).encode()
  path.write_bytes(gzip.compress(text) if ending == '.gz' else text)
  return path


def test_both_forms_hold_the_same_questions(tmp_path):
  documents = [changed(id=f'middle{n}.txt', answers=['B', 'D'])
               for n in (2, 10, 9)]
  as_folder(tmp_path / 'a', documents)
  as_lines(tmp_path / 'b', sorted(documents, key=lambda d: int(d['id'][6:-4])))
  as_lines(tmp_path / 'c', documents, ending='.gz')
  found = race.read_questions(str(tmp_path / 'a'), 'train', ('middle',))
  assert [q.id for q in found] == [
      f'middle{n}.txt/{i}' for n in (2, 9, 10) for i in (1, 2)]
  assert found == race.read_questions(str(tmp_path / 'b'), 'train',
                                      ('middle',))
  assert collections.Counter(found) == collections.Counter(
      race.read_questions(str(tmp_path / 'c'), 'train', ('middle',)))
  assert found[0] == race.RaceQuestion(
      'middle2.txt/1', 'middle', DOCUMENT['article'], 'The cat is _ .',
      ('black', 'white', 'red', 'old'), 1)
  assert found[1].answer == 3


def test_parts(tmp_path):
  as_folder(tmp_path, [DOCUMENT])
  as_lines(tmp_path, [changed(id='high1.txt')], part='high')
  both = race.read_questions(str(tmp_path), 'train')
  assert [q.part for q in both] == ['middle', 'middle', 'high', 'high']
  assert race.read_questions(str(tmp_path), 'train', ('high',)) == both[2:]


def test_a_file_without_an_id_has_its_name(tmp_path):
  path = as_folder(tmp_path, [changed(id=None)])
  assert [p.name for p in path.iterdir()] == ['0.txt']
  found = race.read_questions(str(tmp_path), 'train', ('middle',))
  assert [q.id for q in found] == ['0.txt/1', '0.txt/2']


def test_without_answers(tmp_path):
  as_lines(tmp_path, [changed(answers=None)], split='test')
  found = race.read_questions(str(tmp_path), 'test', ('middle',))
  assert [q.answer for q in found] == [None, None]


@pytest.mark.parametrize('document, message', [
    (changed(article=None), '"article" is None'),
    (changed(article=' '), '"article" is \' \''),
    (changed(id=7), '"id" is 7'),
    (changed(questions=['One?']), '"options" is not a list of 1'),
    (changed(answers=['A']), '"answers" is not a list of 2'),
    (changed(answers='AB'), '"answers" is not a list of 2'),
    (changed(questions=['One?', 3]), 'question 2 is 3'),
    (changed(options=[list('abcd'), list('abc')]),
     'question 2 has options 3: four'),
    (changed(options=[list('abcd'), 'abcd']), "question 2 has options 'abcd'"),
    (changed(answers=['A', 'E']), "question 2: the answer is 'E': one of A, B"),
    (changed(answers=['A', 0]), 'question 2: the answer is 0'),
    (changed(answers=['AB', 'A']), "question 1: the answer is 'AB'"),
    ([DOCUMENT], 'not a JSON object'),
])
def test_what_is_wrong_is_named_with_its_place(tmp_path, document, message):
  path = as_lines(tmp_path, [changed(id='middle1.txt'), document])
  with pytest.raises(InputError) as error:
    race.read_questions(str(tmp_path), 'train', ('middle',))
  assert str(error.value).startswith(f'{path}:2: ')
  assert message in str(error.value)


def test_a_file_that_is_no_json(tmp_path):
  path = as_folder(tmp_path, [DOCUMENT]) / 'middle8.txt'
  path.write_bytes(b'{"id": ')
  with pytest.raises(InputError, match=f'{path}: not JSON'):
    race.read_questions(str(tmp_path), 'train', ('middle',))
  path.write_bytes(b'"\xff"')
  with pytest.raises(InputError, match=f'{path}: not JSON.*utf-8'):
    race.read_questions(str(tmp_path), 'train', ('middle',))


def test_the_same_id_twice(tmp_path):
  path = as_lines(tmp_path, [DOCUMENT, DOCUMENT])
  with pytest.raises(InputError, match=rf'{path}:2: the id .*{path}:1'):
    race.read_questions(str(tmp_path), 'train', ('middle',))


def test_what_is_missing_or_ambiguous(tmp_path):
  with pytest.raises(InputError, match='no high part of dev there.*data.dir'):
    race.read_questions(str(tmp_path), 'dev', ('high',))
  (tmp_path / 'dev' / 'high').mkdir(parents=True)
  with pytest.raises(InputError, match='no .txt file'):
    race.read_questions(str(tmp_path), 'dev', ('high',))
  as_lines(tmp_path, [DOCUMENT], split='dev', part='high')
  with pytest.raises(InputError, match='keep one'):
    race.read_questions(str(tmp_path), 'dev', ('high',))


@pytest.mark.parametrize('split, part, passages, questions', [
    ('train', 'middle', 6409, 25421), ('dev', 'middle', 368, 1436),
    ('dev', 'high', 1021, 3451), ('test', 'middle', 362, 1436),
    ('test', 'high', 1045, 3498)])
def test_the_official_numbers(split, part, passages, questions):
  """Lai et al. 2017, Table 2."""
  data = os.environ.get('ROBERTAX_TEST_DATA')
  if not data or not (pathlib.Path(data) / 'race').is_dir():
    pytest.skip('ROBERTAX_TEST_DATA names no folder with race/ in it')
  found = race.read_questions(f'{data}/race', split, (part,))
  assert len(found) == questions
  assert len({q.id.rpartition('/')[0] for q in found}) == passages
