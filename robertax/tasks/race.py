"""RACE: four options a question, one of them right (Lai et al. 2017)."""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import json
import os
import sys
from typing import Any

import numpy as np

from robertax.config import ModelConfig
from robertax.corpus.readers import unpacked_lines
from robertax.data.finetuning import Examples
from robertax.errors import InputError
from robertax.tasks.finetune import Answers, FinetuneTask, Rows
from robertax.tasks.objectives import Choice
from robertax.tasks.task import why_degenerate
from robertax.text import Tokenizer

# RACE's questions, from the official folder or from JSON lines.
#
# Both hold the same object (Lai et al. 2017): `article`, a text; `questions`, a
# list; `options`, four for each question; `answers`, a letter A to D for each;
# `id`, such as 'middle2.txt'. In the official folder each lies in a file of its
# own, DIR/{train,dev,test}/{middle,high}/*.txt; in JSON lines each is a line of
# DIR/{train,dev,test}-{middle,high}.jsonl, which may be packed (.zst, .gz).


ALL_PARTS = ('middle', 'high')
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


def read_questions(folder: str, split: str, parts: tuple[str, ...] = ALL_PARTS
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
      for question in _document_questions(document, where, part):
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
    try:
      with open(path, 'rb') as f:
        content = f.read()
    except OSError as e:
      raise InputError(f'cannot read {path}: {e.strerror}') from e
    yield path, {'id': name} | _json_object(content, path)


def _json_object(content: bytes, where: str) -> dict:
  try:
    value = json.loads(content.decode('utf-8'))
  except (ValueError, RecursionError) as e:  # UnicodeDecodeError is one.
    raise InputError(f'{where}: not JSON: {e}') from e
  if not isinstance(value, dict):
    raise InputError(f'{where}: not a JSON object with article, questions, '
                     'options and answers.')
  return value


def _document_questions(document: dict, where: str,
                        part: str) -> Iterator[Question]:
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


# RACE's questions as ids: four sequences each.
#
# fairseq's laws (examples/roberta/preprocess_RACE.py, tasks/
# sentence_ranking.py): whitespace is collapsed; a `_` of the question is
# replaced by the option, and where there is none the option follows the
# question. A sequence is `<s> question+option </s>`, cut at 128 ids, then `</s>
# passage </s>`, and the whole is cut at 512: of a long one the final `</s>`
# vanishes, of a long question+option its `</s>`.


MAX_OPTION_LENGTH = 128
TOKENIZING_BATCH = 4096  # Texts that are encoded at once.


@dataclasses.dataclass(frozen=True)
class RaceFeatures:
  """Sequences, four a question in the order of A to D.

  Attributes:
    sequences: an array of the tokenizer's dtype each.
    options_cut, sequences_cut: how many of each the limits made shorter.
  """
  sequences: list[np.ndarray]
  options_cut: int
  sequences_cut: int


def question_option(question: str, option: str) -> str:
  """What is asked with one option filled in.

  >>> question_option('The  boy is _ .', 'tall'), question_option('Why?', 'So.')
  ('The boy is tall .', 'Why? So.')
  """
  filled = (question.replace('_', option) if '_' in question
            else f'{question} {option}')
  return collapse_spaces(filled)


def collapse_spaces(text: str) -> str:
  """Single spaces between words, none around (fairseq: re.sub(r'\\s+', ' '),
  and examples/roberta/multiprocessing_bpe_encoder.py strips each line)."""
  return ' '.join(text.split())


def option_sequence(tokenizer: Tokenizer, option: np.ndarray,
                    passage: np.ndarray, max_length: int,
                    max_option_length: int = MAX_OPTION_LENGTH) -> np.ndarray:
  """`<s> option </s>`, cut, and `</s> passage </s>` behind it, cut.

  Args:
    tokenizer: gives the special ids.
    option, passage: ids without special tokens.
    max_length, max_option_length: of the whole, and of its first part.
  """
  bos, eos = (np.array([i], tokenizer.dtype)
              for i in (tokenizer.bos_id, tokenizer.eos_id))
  first = np.concatenate([bos, option, eos])[:max_option_length]
  return np.concatenate([first, eos, passage, eos])[:max_length]


def encode_questions(questions: Sequence[Question], tokenizer: Tokenizer,
                     max_length: int, max_option_length: int = MAX_OPTION_LENGTH
                     ) -> RaceFeatures:
  """Sequences of all questions.

  Args:
    questions: of race_questions.read.
    tokenizer: any.
    max_length: of a sequence, in ids; the paper's is 512.
    max_option_length: of `<s> question+option </s>`.
  """
  passages = _encode_texts(tokenizer, dict.fromkeys(
      collapse_spaces(q.passage) for q in questions))
  options = _encode_texts(tokenizer, dict.fromkeys(
      question_option(q.question, o) for q in questions for o in q.options))
  sequences, long_options, long = [], 0, 0
  for q in questions:
    passage = passages[collapse_spaces(q.passage)]
    for text in q.options:
      option = options[question_option(q.question, text)]
      head = min(len(option) + 2, max_option_length)
      long_options += len(option) + 2 > max_option_length
      long += head + len(passage) + 2 > max_length
      sequences.append(option_sequence(tokenizer, option, passage, max_length,
                                       max_option_length))
  return RaceFeatures(sequences, long_options, long)


def _encode_texts(tokenizer, texts) -> dict[str, np.ndarray]:
  texts, found = list(texts), {}
  for start in range(0, len(texts), TOKENIZING_BATCH):
    part = texts[start:start + TOKENIZING_BATCH]
    # A view would keep all its neighbours' ids.
    found |= {t: ids.copy() for t, ids in zip(
        part, tokenizer.encode_batch(part))}
  return found


NUM_OPTIONS = len(LETTERS)
# By the name of the task.
TASK_PARTS = {'race': ALL_PARTS, 'race/middle': ('middle',),
              'race/high': ('high',)}


class Race(FinetuneTask):
  """RACE, or its middle or high part alone; config.task is a row of PARTS.

  The test split is answered and scored once, by the best weights on dev.
  """

  def __init__(self, config: Any, shares: int):
    """See FinetuneTask."""
    self.parts = TASK_PARTS[config.task]
    self.metrics = ('accuracy',) + (
        self.parts if len(self.parts) > 1 else ())
    super().__init__(config, shares)

  def heads(self, config: ModelConfig) -> ModelConfig:
    """One score a sequence."""
    return dataclasses.replace(config, num_classes=1)

  def make_objective(self) -> Choice:
    """Cross-entropy of the softmax over four scores."""
    return Choice(self.model, self.tokenizer.pad_id)

  def read(self) -> Mapping[str, Rows]:
    """train and dev, and test if it is to be answered: without labels, as far
    as the choice of the best weights goes.
    """
    folder, found = self.config.data.dir, {}
    names = ('train', 'dev') + (
        ('test',) if self.config.finetune.predict_test else ())
    for name in names:
      rows = read_questions(folder, name, self.parts)
      if name != 'test':
        check_answers(rows, f'{folder}, {name}')
      found[name] = Rows(
          rows, f'{folder}, {name} ({" and ".join(self.parts)})',
          labelled=name != 'test')
    return found

  def encode(self, rows: Sequence[Question], split: str
             ) -> tuple[Examples, int]:
    """Groups of four sequences."""
    found = encode_questions(rows, self.tokenizer, self.max_length,
                             self.config.finetune.max_option_length)
    if found.options_cut:
      print(f'{self.name} {split}: {found.options_cut} of '
            f'{NUM_OPTIONS * len(rows)} questions with an option cut to '
            f'{self.config.finetune.max_option_length} tokens',
            file=sys.stderr)
    return Examples.of(
        found.sequences, groups=np.repeat(np.arange(len(rows)), NUM_OPTIONS),
        group_values={'group_targets': np.array(
            [row.answer or 0 for row in rows], np.int32)}), found.sequences_cut

  def choices(self, answers: Answers) -> list[int]:
    """0 to 3 for each question: the option with the highest score."""
    return answers['scores'].reshape(-1, NUM_OPTIONS).argmax(-1).tolist()

  def score(self, split: str, answers: Answers) -> dict[str, float]:
    """accuracy, and that of each part where there are two."""
    right = {part: [] for part in self.parts}
    for row, choice in zip(self.splits[split].rows, self.choices(answers)):
      right[row.part].append(choice == row.answer)
    parts = {part: 100 * float(np.mean(one)) if one else float('nan')
             for part, one in right.items()}
    found = {'accuracy': 100 * float(np.mean(sum(right.values(), [])))}
    return found | (parts if len(parts) > 1 else {})

  def lines(self, split: str, answers: Answers) -> Iterator[dict[str, Any]]:
    """id, prediction (a letter), answer and scores."""
    scores = answers['scores'].reshape(-1, NUM_OPTIONS)
    for row, choice, four in zip(self.splits[split].rows,
                                 self.choices(answers), scores):
      answer = {} if row.answer is None else {'answer': LETTERS[row.answer]}
      yield {'id': row.id, 'prediction': LETTERS[choice], **answer,
             'scores': [round(float(x), 6) for x in four]}

  def files(self, answers: Mapping[str, Answers]) -> dict[str, bytes]:
    """predictions.<split>.json, a letter for each id: robertax.score reads it.
    """
    return {
        f'predictions.{name}.json': (json.dumps({
            row.id: LETTERS[choice] for row, choice in zip(
                self.splits[name].rows, self.choices(found))}, indent=0)
                                     + '\n').encode()
        for name, found in answers.items()}

  def degenerate(self, split: str, answers: Answers) -> str:
    """All answers one letter, or no more right than the commonest letter has.
    """
    return why_degenerate(
        self.choices(answers), [r.answer for r in self.splits[split].rows],
        LETTERS, split)

  def conclude(self, folder: str, answers: Mapping[str, Answers],
               facts: dict[str, Any]) -> dict[str, Any]:
    """As FinetuneTask; test_scores too, where the test split has answers."""
    tested = {}
    for name in self.test_splits:
      rows = self.splits[name].rows
      if name in answers and all(row.answer is not None for row in rows):
        tested[name] = self.score(name, answers[name])
    if tested:
      facts = facts | {'test_scores': tested}
    return super().conclude(folder, answers, facts)
