"""RACE's questions, from the official folder or from JSON lines.

Both hold the same object (Lai et al. 2017): `article`, a text; `questions`, a
list; `options`, four for each question; `answers`, a letter A to D for each;
`id`, such as 'middle2.txt'. In the official folder each lies in a file of its
own, DIR/{train,dev,test}/{middle,high}/*.txt; in JSON lines each is a line of
DIR/{train,dev,test}-{middle,high}.jsonl, which may be packed (.zst, .gz).
"""

from collections.abc import Iterator
import dataclasses
import json
import os

from robertax.corpus.compression import lines
from robertax.errors import InputError

PARTS = ('middle', 'high')
SPLITS = ('train', 'dev', 'test')
LETTERS = 'ABCD'


@dataclasses.dataclass(frozen=True)
class Question:
  """One question, its four options, and the passage it is about.

  Attributes:
    id: '<id of the passage>/<number of the question, from 1>'.
    part: a row of PARTS.
    passage, question: texts as they were read.
    options: four texts.
    answer: 0 to 3; None where the file has no `answers`.
  """
  id: str
  part: str
  passage: str
  question: str
  options: tuple[str, str, str, str]
  answer: int | None


def read(folder: str, split: str, parts: tuple[str, ...] = PARTS
         ) -> list[Question]:
  """Reads a split: its parts in order, and in a part, files by number.

  Args:
    folder: DIR of this module's docstring.
    split: 'train', 'dev' or 'test'.
    parts: of PARTS.

  Raises:
    InputError: a part is missing or there in both forms; a file or line that is
      no such object, named with the number of the question.
  """
  found, ids = [], {}
  for part in parts:
    for where, document in _documents(folder, split, part):
      for question in _questions(document, where, part):
        if question.id in ids:
          raise InputError(f'{where}: the id {question.id!r} is that of '
                           f'{ids[question.id]} too: predictions could not '
                           'tell them apart.')
        ids[question.id] = where
        found.append(question)
  return found


def check_answers(questions: list[Question], where: str):
  """Refuses questions without an answer, which cannot be learned or scored.

  Raises:
    InputError: names the first.
  """
  for question in questions:
    if question.answer is None:
      raise InputError(f'{where}: question {question.id} has no answer, and is '
                       'to be learned or scored: its file has no "answers".')


def _documents(folder, split, part) -> Iterator[tuple[str, dict]]:
  """(file, or file:line, what is there)."""
  directory = os.path.join(folder, split, part)
  stem = os.path.join(folder, f'{split}-{part}.jsonl')
  packed = [stem + ending for ending in ('', '.zst', '.gz')
            if os.path.isfile(stem + ending)]
  forms = packed + [directory] * os.path.isdir(directory)
  if not forms:
    raise InputError(
        f'{folder}: no {part} part of {split} there: neither the folder '
        f'{split}/{part} with .txt files nor {split}-{part}.jsonl (or '
        '.jsonl.zst, .jsonl.gz). data.dir is the folder that holds them.')
  if len(forms) > 1:
    raise InputError(f'{folder}: {" and ".join(forms)} are there, and could '
                     'differ: keep one.')
  if packed:
    for number, line in lines(packed[0], lambda _: None):
      if line.strip():
        where = f'{packed[0]}:{number}'
        yield where, _object(line, where)
    return
  names = [n for n in os.listdir(directory) if n.endswith('.txt')]
  if not names:
    raise InputError(f'{directory}: no .txt file there.')
  for name in sorted(names, key=lambda n: (len(n), n)):
    path = os.path.join(directory, name)
    try:
      with open(path, 'rb') as f:
        content = f.read()
    except OSError as e:
      raise InputError(f'cannot read {path}: {e.strerror}') from e
    yield path, {'id': name} | _object(content, path)


def _object(content: bytes, where: str) -> dict:
  try:
    value = json.loads(content.decode('utf-8'))
  except (ValueError, RecursionError) as e:  # UnicodeDecodeError is one.
    raise InputError(f'{where}: not JSON: {e}') from e
  if not isinstance(value, dict):
    raise InputError(f'{where}: not a JSON object with article, questions, '
                     'options and answers.')
  return value


def _questions(document: dict, where: str, part: str) -> Iterator[Question]:
  name, passage = document.get('id'), document.get('article')
  for key, value in (('id', name), ('article', passage)):
    if not isinstance(value, str) or not value.strip():
      raise InputError(f'{where}: "{key}" is {value!r}: a text is needed.')
  count = None
  for key in ('questions', 'options', 'answers'):
    value = document.get(key)
    if key == 'answers' and key not in document:
      continue
    if not isinstance(value, list) or count not in (None, len(value)):
      raise InputError(f'{where}: "{key}" is not a list'
                       + (f' of {count}, as "questions".' if count else '.'))
    count = len(value)
  for i, (question, options) in enumerate(
      zip(document['questions'], document['options'])):
    here = f'{where}: question {i + 1}'
    if not isinstance(question, str):
      raise InputError(f'{here} is {question!r}: a text is needed.')
    if (not isinstance(options, list) or len(options) != 4
        or not all(isinstance(option, str) for option in options)):
      had = len(options) if isinstance(options, list) else repr(options)
      raise InputError(f'{here} has options {had}: four texts are needed.')
    answer = None
    if 'answers' in document:
      letter = document['answers'][i]
      if letter not in tuple(LETTERS):
        raise InputError(f'{here}: the answer is {letter!r}: one of '
                         f'{", ".join(LETTERS)} is needed.')
      answer = LETTERS.index(letter)
    yield Question(f'{name}/{i + 1}', part, passage, question, tuple(options),
                   answer)
