"""RACE: questions with four options, one of them right (Lai et al. 2017).

In the official folder, DIR/{train,dev,test}/{middle,high}/*.txt, a file is an
object; in JSON lines, DIR/{train,dev,test}-{middle,high}.jsonl, which may be
packed (.zst, .gz), a line is one: `article`, a text; `questions`, a list;
`options`, four for each question; `answers`, a letter A to D for each; `id`,
such as 'middle2.txt'.

Each option is a sequence of its own, as in fairseq (examples/roberta/
preprocess_RACE.py, tasks/sentence_ranking.py): whitespace is collapsed; the
option replaces a `_` of the question, or follows the question. Both are in the
tokenizer's layout. In RoBERTa's a sequence is `<s> question+option </s>`, cut
at 128 ids, then `</s> passage </s>`, and the whole is cut at 512: a long one
loses its final `</s>`, a long question+option its own. With one separator, as
in BERT, texts are cut and special tokens stay.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
import dataclasses
import json
import os
from typing import Any

import numpy as np

from robertax.config import Config
from robertax.corpus.readers import unpacked_lines
from robertax.data.finetuning import Examples
from robertax.errors import InputError, reading
from robertax.progress import say
from robertax.tasks import finetune
from robertax.tasks.finetune import Answers, Finetune, TaskRows
from robertax.tasks.objectives import Choice
from robertax.tasks.task import parse_json
from robertax.text import Tokenizer

ALL_PARTS = ('middle', 'high')
TASK_PARTS = {'race': ALL_PARTS, 'race/middle': ('middle',),
              'race/high': ('high',)}
SPLITS = ('train', 'dev', 'test')
LETTERS = 'ABCD'
NUM_OPTIONS = len(LETTERS)
MAX_OPTION_LENGTH = 128
TOKENIZING_BATCH = 4096  # Texts that are encoded at once.


@dataclasses.dataclass(frozen=True)
class RaceQuestion:
  """One question on a passage, with its options: four in RACE's files."""
  id: str  # '<id of the passage>/<number of the question, from 1>'.
  part: str
  passage: str
  question: str
  options: tuple[str, ...]
  answer: int | None  # 0 to 3; None: the file has no `answers`.


def read_questions(folder: str, split: str, parts: tuple[str, ...] = ALL_PARTS
                   ) -> list[RaceQuestion]:
  """Reads a split: its parts in order, and the files of a part by number.

  Raises InputError, naming file, line and question, for missing or wrong data.
  """
  found, ids = [], {}
  for part in parts:
    for where, document in _documents(folder, split, part):
      for question in _document_questions(document, where, part):
        if question.id in ids:
          raise InputError(f'{where}: the id {question.id!r} is that of '
                           f'{ids[question.id]} too: predictions could not '
                           'tell them apart.')
        ids[question.id] = where
        found.append(question)
  return found


def check_answers(questions: list[RaceQuestion], where: str):
  """Refuses questions without an answer, which cannot be learned or scored."""
  for question in questions:
    if question.answer is None:
      raise InputError(f'{where}: question {question.id} has no answer, and is '
                       'to be learned or scored: its file has no "answers".')


def _documents(folder: str, split: str, part: str
               ) -> Iterator[tuple[str, dict[str, Any]]]:
  """Yields (file or file:line, object)."""
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
    for number, line in unpacked_lines(packed[0], lambda _: None):
      if line.strip():
        where = f'{packed[0]}:{number}'
        yield where, _json_object(line, where)
    return
  names = [n for n in os.listdir(directory) if n.endswith('.txt')]
  if not names:
    raise InputError(f'{directory}: no .txt file there.')
  for name in sorted(names, key=lambda n: (len(n), n)):
    path = os.path.join(directory, name)
    with reading(path), open(path, 'rb') as f:
      content = f.read()
    yield path, {'id': name} | _json_object(content, path)


def _json_object(content: bytes, where: str) -> dict[str, Any]:
  value = parse_json(content, where)
  if not isinstance(value, dict):
    raise InputError(f'{where}: not a JSON object with article, questions, '
                     'options and answers.')
  return value


def _document_questions(document: dict[str, Any], where: str,
                        part: str) -> Iterator[RaceQuestion]:
  name, passage = document.get('id'), document.get('article')
  for key, value in (('id', name), ('article', passage)):
    if not isinstance(value, str) or not value.strip():
      raise InputError(f'{where}: "{key}" is {value!r}: a text is needed.')
  count = None
  for key in ('questions', 'options', *['answers'] * ('answers' in document)):
    value = document.get(key)
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
    yield RaceQuestion(f'{name}/{i + 1}', part, passage, question,
                       tuple(options), answer)


@dataclasses.dataclass(frozen=True)
class RaceFeatures:
  """A sequence for each option, and how many the limits made shorter."""
  sequences: list[np.ndarray]
  second_starts: list[int]  # Where type 1 begins.
  options_cut: int
  sequences_cut: int

  def examples(self, **groups: Any) -> Examples:
    return Examples.of(self.sequences, second_starts=np.array(
        self.second_starts, np.int32), **groups)


def question_option(question: str, option: str) -> str:
  """Fills in an option: 'He is _ .' and 'tall' give 'He is tall .'."""
  return collapse_spaces(question.replace('_', option) if '_' in question
                         else f'{question} {option}')


def collapse_spaces(text: str) -> str:
  """Collapses white space as fairseq does, and strips the text."""
  return ' '.join(text.split())


def encode_questions(questions: Sequence[RaceQuestion], tokenizer: Tokenizer,
                     max_length: int, max_option_length: int = MAX_OPTION_LENGTH
                     ) -> RaceFeatures:
  """Makes sequences of at most `max_length` ids, 512 in the paper."""
  passages = _encode_texts(tokenizer, dict.fromkeys(
      collapse_spaces(q.passage) for q in questions))
  options = _encode_texts(tokenizer, dict.fromkeys(
      question_option(q.question, o) for q in questions for o in q.options))
  layout = tokenizer.layout
  ahead = len(layout.before) + 1  # Of the option, with a separator behind it.
  around = layout.specials(2)
  sequences, seconds, long_options, long = [], [], 0, 0
  for q in questions:
    passage = passages[collapse_spaces(q.passage)]
    for text in q.options:
      option = options[question_option(q.question, text)]
      long_options += len(option) + ahead > max_option_length
      if len(layout.between) > 1:  # fairseq's.
        lost = max(0, len(option) + ahead - max_option_length)
        both = layout.ids(option, passage).astype(tokenizer.dtype)
        head = ahead + len(option)
        both = np.concatenate([both[:head - lost], both[head:]])
        second = layout.second_start(len(option), len(passage)) - lost
        long += len(both) > max_length
        sequences.append(both[:max_length])
      else:
        option = option[:max(0, max_option_length - ahead)]
        room = max(0, max_length - around - len(option))
        long += len(passage) > room
        second = layout.second_start(len(option), min(len(passage), room))
        sequences.append(layout.ids(option, passage[:room]).astype(
            tokenizer.dtype)[:max_length])
      size = len(sequences[-1])
      seconds.append(min(second, size) if layout.typed else size)
  return RaceFeatures(sequences, seconds, long_options, long)


def _encode_texts(tokenizer: Tokenizer, texts: Iterable[str]
                  ) -> dict[str, np.ndarray]:
  # A view would keep the ids of all its neighbours.
  texts = list(texts)
  return {text: ids.copy() for text, ids in zip(texts, finetune.in_parts(
      tokenizer.encode_batch, texts, TOKENIZING_BATCH))}


class Race(Finetune):
  """RACE, or one part of it; only the best weights on dev answer test."""
  objective_class = Choice
  heads = {'num_classes': 1}  # One score a sequence.

  def __init__(self, config: Config, shares: int):
    self.parts = TASK_PARTS[config.task]
    self.metrics = ('accuracy', *(self.parts if len(self.parts) > 1 else ()))
    super().__init__(config, shares)

  def read(self) -> Mapping[str, TaskRows]:
    """Reads test without labels, because it must not choose the weights."""
    folder, found = self.config.data.dir, {}
    for name in SPLITS[:2 + self.config.finetune.predict_test]:
      rows = read_questions(folder, name, self.parts)
      if name != 'test':
        check_answers(rows, f'{folder}, {name}')
      found[name] = TaskRows(
          rows, f'{folder}, {name} ({" and ".join(self.parts)})',
          labelled=name != 'test')
    return found

  def encode(self, rows: Sequence[RaceQuestion], split: str
             ) -> tuple[Examples, int]:
    found = encode_questions(rows, self.tokenizer, self.max_length,
                             self.config.finetune.max_option_length)
    if found.options_cut:
      say(f'{self.name} {split}: {found.options_cut} of '
          f'{NUM_OPTIONS * len(rows)} questions with an option cut to '
          f'{self.config.finetune.max_option_length} tokens')
    return found.examples(
        groups=np.repeat(np.arange(len(rows)), NUM_OPTIONS),
        group_values={'group_targets': np.array(
            [row.answer or 0 for row in rows], np.int32)}), found.sequences_cut

  def choices(self, answers: Answers) -> list[int]:
    """Returns the option with the highest score, 0 to 3, of each question."""
    return answers['scores'].reshape(-1, NUM_OPTIONS).argmax(-1).tolist()

  def score(self, split: str, answers: Answers) -> dict[str, float]:
    """Returns the accuracy, and that of each part where there are two."""
    right = {part: [] for part in self.parts}
    for row, choice in zip(self.splits[split].rows, self.choices(answers)):
      right[row.part].append(choice == row.answer)
    parts = {part: 100 * float(np.mean(one)) if one else float('nan')
             for part, one in right.items()}
    found = {'accuracy': 100 * float(np.mean(sum(right.values(), [])))}
    return found | (parts if len(parts) > 1 else {})

  def lines(self, split: str, answers: Answers) -> Iterator[dict[str, Any]]:
    scores = answers['scores'].reshape(-1, NUM_OPTIONS)
    for row, choice, four in zip(self.splits[split].rows,
                                 self.choices(answers), scores):
      answer = {} if row.answer is None else {'answer': LETTERS[row.answer]}
      yield {'id': row.id, 'prediction': LETTERS[choice], **answer,
             'scores': [round(float(x), 6) for x in four]}

  def files(self, answers: Mapping[str, Answers]) -> dict[str, bytes]:
    """Returns a letter for each id, which robertax.score reads."""
    letters = {name: {row.id: LETTERS[choice] for row, choice in zip(
        self.splits[name].rows, self.choices(found))}
               for name, found in answers.items()}
    return {f'predictions.{name}.json':
            (json.dumps(by_id, indent=0) + '\n').encode()
            for name, by_id in letters.items()}

  def degenerate(self, split: str, answers: Answers) -> str:
    return finetune.why_degenerate(
        self.choices(answers), [r.answer for r in self.splits[split].rows],
        LETTERS, split)

  def conclude(self, folder: str, answers: Mapping[str, Answers],
               facts: dict[str, Any]) -> dict[str, Any]:
    """Adds test_scores, where the test split has answers."""
    tested = {}
    for name in self.test_splits:
      rows = self.splits[name].rows
      if name in answers and all(row.answer is not None for row in rows):
        tested[name] = self.score(name, answers[name])
    return super().conclude(folder, answers, facts | (
        {'test_scores': tested} if tested else {}))
