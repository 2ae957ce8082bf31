"""A question and a stretch of its paragraph, and answers as tokens and back.

`<s> question </s></s> stretch of the context </s>`, question first, as Hugging
Face's run_qa.py has it for RoBERTa; a long context is cut into several windows
that overlap.
"""

from collections.abc import Iterator, Sequence
import dataclasses

import numpy as np

from robertax.errors import InputError
from robertax.tasks.squad_files import Question
from robertax.text import Tokenizer

BATCH = 1024  # Texts that are encoded at a time.


@dataclasses.dataclass(frozen=True)
class WindowLaw:
  """How questions become windows.

  Attributes:
    length: most tokens of a window.
    doc_stride: tokens of the context that a window shares with the one before
      it (run_qa.py's `doc_stride`; BERT's run_squad.py calls so what a window
      is moved by).
    question_length: tokens of a question that are read; the rest is cut off
      (run_squad.py's `max_query_length`).
    separators: </s> between question and context: RoBERTa's 2, BERT's 1.
  """
  length: int = 512
  doc_stride: int = 128
  question_length: int = 64
  separators: int = 2

  def __post_init__(self):
    # A question may be longer than it is read; one of full length must leave
    # room for new tokens in each window.
    for key, least in (('doc_stride', 0), ('question_length', 1)):
      if getattr(self, key) < least:
        raise InputError(f'data.{key}={getattr(self, key)}: at least {least}.')
    if self.room(self.question_length) <= self.doc_stride:
      raise InputError(
          f'windows of {self.length} tokens leave '
          f'{max(self.room(self.question_length), 0)} to the context beside a '
          f'question of data.question_length={self.question_length}: that '
          f'must be more than data.doc_stride={self.doc_stride}, the tokens '
          'that two windows share. Longer windows, or less of the other two.')

  def room(self, question_tokens: int) -> int:
    """Tokens of the context that fit beside a question of so many."""
    return (self.length - 2 - self.separators
            - min(question_tokens, self.question_length))


@dataclasses.dataclass(frozen=True)
class EncodedQuestion:
  """A question with its paragraph, in tokens.

  Attributes:
    question: as read.
    question_ids: ids of all of it, before any cut.
    context_ids: of the whole context.
    offsets: int32[T,2], characters of the context that each of them stands
      for; one array for all questions on a paragraph.
  """
  question: Question
  question_ids: np.ndarray
  context_ids: np.ndarray
  offsets: np.ndarray

  def text(self, first: int, last: int) -> str:
    """The context's own characters from token `first` to `last`, inclusive."""
    return self.question.context[self.offsets[first, 0]:self.offsets[last, 1]]

  def span(self, start: int, end: int) -> tuple[int, int]:
    """The fewest tokens that cover characters start .. end - 1.

    Returns:
      (first, last) in the context, inclusive. (0, -1) if there are none.
    """
    first = int(np.searchsorted(self.offsets[:, 1], start, side='right'))
    last = int(np.searchsorted(self.offsets[:, 0], end, side='left')) - 1
    return (first, last) if first <= last else (0, -1)


@dataclasses.dataclass(frozen=True)
class Window:
  """A stretch of the context beside its question.

  Attributes:
    number: of the question in its list.
    start, end: tokens of the context, start .. end - 1.
    offset: where in the window the token `start` stands.
  """
  number: int
  start: int
  end: int
  offset: int

  def place(self, first: int, last: int) -> tuple[int, int] | None:
    """Tokens first .. last of the context as places in the window.

    Returns:
      (start, end), inclusive; None where not all of them are in it.
    """
    if not self.start <= first <= last < self.end:
      return None
    shift = self.offset - self.start
    return first + shift, last + shift


def encode(questions: Sequence[Question], tokenizer: Tokenizer
           ) -> list[EncodedQuestion]:
  """Questions, without space around them, and contexts as they are.

  Args:
    questions: questions on one paragraph share its tokens.
    tokenizer: of the model.

  Raises:
    InputError: a context without tokens.
  """
  contexts = list(dict.fromkeys(q.context for q in questions))
  tokens = {}
  for at in range(0, len(contexts), BATCH):
    some = contexts[at:at + BATCH]
    tokens.update(zip(some, tokenizer.encode_with_offsets(some)))
  ids = []
  for at in range(0, len(questions), BATCH):
    ids += tokenizer.encode_batch(
        [q.question.strip() for q in questions[at:at + BATCH]])
  for question in questions:
    if not len(tokens[question.context][0]):
      raise InputError(f'question {question.id}: its context '
                       f'{question.context!r} has no tokens.')
  return [EncodedQuestion(q, question_ids, *tokens[q.context])
          for q, question_ids in zip(questions, ids)]


def windows(encoded: Sequence[EncodedQuestion], law: WindowLaw) -> list[Window]:
  """The windows of each question, in order.

  The first begins with the context; each next one shares `doc_stride` tokens
  with the one before it; the last ends with the context (Hugging Face's fast
  tokenizers, truncation='only_second', return_overflowing_tokens=True).
  """
  result = []
  for number, one in enumerate(encoded):
    asked = len(one.question_ids)
    room, total = law.room(asked), len(one.context_ids)
    offset = 1 + min(asked, law.question_length) + law.separators
    for start in range(0, max(total - law.doc_stride, 1),
                       room - law.doc_stride):
      result.append(Window(number, start, min(start + room, total), offset))
  return result


def input_ids(window: Window, encoded: Sequence[EncodedQuestion],
              law: WindowLaw, tokenizer: Tokenizer) -> np.ndarray:
  """A window's tokens: int32[T], at most `law.length`."""
  one = encoded[window.number]
  return np.concatenate([
      [tokenizer.bos_id], one.question_ids[:law.question_length],
      [tokenizer.eos_id] * law.separators,
      one.context_ids[window.start:window.end],
      [tokenizer.eos_id]]).astype(np.int32)


def targets(window: Window, encoded: Sequence[EncodedQuestion]
            ) -> tuple[int, int]:
  """Where the first gold answer begins and ends in the window, inclusive.

  (0, 0), the place of <s>, where it has none, or not all of it is here.
  """
  one = encoded[window.number]
  if not one.question.answers:
    return 0, 0
  answer = one.question.answers[0]
  return window.place(*one.span(answer.start, answer.end)) or (0, 0)


def unrecovered(encoded: Sequence[EncodedQuestion]
                ) -> Iterator[tuple[Question, str]]:
  """Questions of which no gold answer is made of whole tokens.

  Yields:
    (question, what the tokens that cover its first answer give instead).
  """
  for one in encoded:
    found = [one.text(*span) if span[1] >= 0 else '' for span in
             (one.span(a.start, a.end) for a in one.question.answers)]
    if found and all(text != answer.text for text, answer in
                     zip(found, one.question.answers)):
      yield one.question, found[0]
