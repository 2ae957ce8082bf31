"""SQuAD 1.1 and 2.0: the answer to a question, found in a paragraph.

fairseq has no code for it; the paper says (section 5.2): one span for each
question, and for 2.0 a second classifier of whether there is one, trained on
the sum of both losses. The rest is as in BERT and Hugging Face's run_qa.py:
question and part of the context are a pair of texts; a long context is cut into
windows with a stride; the targets of a window without an answer are at <s>;
n-best spans come from all windows of a question.
"""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import functools
import json
import os
from typing import Any, ClassVar

import numpy as np

from robertax import model
from robertax.config import Config, DataConfig
from robertax.data.finetuning import Examples
from robertax.errors import InputError
from robertax.progress import advance, say
from robertax.tasks import squad_files
from robertax.tasks.finetune import Answers, Finetune, TaskRows, in_parts
from robertax.tasks.objectives import Tuning
from robertax.tasks.squad_files import Question, f1
from robertax.tasks.task import json_lines, plain_values, softmax
from robertax.text import Tokenizer
from robertax.text.layout import Layout

VERSION = {'squad': '1.1', 'squad2': '2.0'}  # Of official files, by task.
TRAIN, DEV = 'train', 'dev'
UNANSWERABLE, ANSWERABLE = range(2)
ANSWER_LABELS = ('unanswerable', 'answerable')
ABOVE_CHANCE = 2.0  # A run is at chance up to so much F1 above random logits.
TOKENIZING_BATCH = 1024  # Texts that are encoded at a time.


@dataclasses.dataclass(frozen=True)
class Windowing:
  """How questions become windows of at most `length` tokens."""
  length: int = 512
  doc_stride: int = 128  # Tokens that two windows share, as in run_qa.py.
  question_length: int = 64  # Most tokens of it (`max_query_length`).
  specials: tuple[int, int, int] = (1, 2, 1)  # Before, between, after texts.

  def __post_init__(self):
    # Beside the longest question, each window must have room for tokens of the
    # context that the one before it does not have.
    for key, least in (('doc_stride', 0), ('question_length', 1)):
      if getattr(self, key) < least:
        raise InputError(f'data.{key}={getattr(self, key)}: at least {least}.')
    if self.room(self.question_length) <= self.doc_stride:
      raise InputError(
          f'windows of {self.length} tokens leave '
          f'{max(self.room(self.question_length), 0)} to the context beside a '
          f'question of data.question_length={self.question_length}: that '
          f'must be more than data.doc_stride={self.doc_stride}, the tokens '
          'that two windows share. Longer windows (data.sequence_length), or '
          f'--config.data.question_length={max(1, self.length // 4)} '
          f'--config.data.doc_stride={max(0, self.length // 4 - 1)}.')

  def room(self, question_tokens: int) -> int:
    return (self.length - sum(self.specials)
            - min(question_tokens, self.question_length))

  @classmethod
  def of(cls, length: int, data: DataConfig, layout: Layout) -> 'Windowing':
    return cls(length, data.doc_stride, data.question_length, tuple(
        map(len, (layout.before, layout.between, layout.after))))


@dataclasses.dataclass(frozen=True)
class EncodedQuestion:
  """A question and its context, neither cut; offsets are int32[T,2]."""
  question: Question
  question_ids: np.ndarray
  context_ids: np.ndarray
  offsets: np.ndarray

  def text(self, first: int, last: int) -> str:
    return self.question.context[self.offsets[first, 0]:self.offsets[last, 1]]

  def span(self, start: int, end: int) -> tuple[int, int]:
    """Returns (first, last) token of [start, end); (0, -1): none."""
    first = int(np.searchsorted(self.offsets[:, 1], start, side='right'))
    last = int(np.searchsorted(self.offsets[:, 0], end, side='left')) - 1
    return (first, last) if first <= last else (0, -1)


@dataclasses.dataclass(frozen=True)
class Window:
  """Tokens [start, end) of the context of question `number`."""
  number: int
  start: int
  end: int
  offset: int  # The position of the first in the window.


def encode_questions(questions: Sequence[Question], tokenizer: Tokenizer
                     ) -> list[EncodedQuestion]:
  """Encodes questions without space around them, and contexts as they are."""
  contexts = list(dict.fromkeys(q.context for q in questions))
  tokens = dict(zip(contexts, in_parts(
      tokenizer.encode_with_offsets, contexts, TOKENIZING_BATCH)))
  ids = list(in_parts(tokenizer.encode_batch, (
      q.question.strip() for q in questions), TOKENIZING_BATCH))
  for question in questions:
    if not len(tokens[question.context][0]):
      raise InputError(f'question {question.id}: its context '
                       f'{question.context!r} has no tokens.')
  return [EncodedQuestion(q, question_ids, *tokens[q.context])
          for q, question_ids in zip(questions, ids)]


def make_windows(encoded: Sequence[EncodedQuestion],
                 windowing: Windowing) -> list[Window]:
  """Makes the windows of each question, in order.

  The first begins with the context; each next one shares `doc_stride` tokens
  with the one before it; the last ends with the context (Hugging Face's fast
  tokenizers, truncation='only_second', return_overflowing_tokens=True).
  """
  result = []
  for number, one in enumerate(encoded):
    asked = len(one.question_ids)
    room, total = windowing.room(asked), len(one.context_ids)
    offset = (min(asked, windowing.question_length)
              + sum(windowing.specials[:2]))
    for start in range(0, max(total - windowing.doc_stride, 1),
                       room - windowing.doc_stride):
      result.append(Window(number, start, min(start + room, total), offset))
  return result


def window_ids(window: Window, encoded: Sequence[EncodedQuestion],
               windowing: Windowing, tokenizer: Tokenizer) -> np.ndarray:
  """Returns a window's tokens, int32[T]."""
  one = encoded[window.number]
  return tokenizer.layout.ids(one.question_ids[:windowing.question_length],
                              one.context_ids[window.start:window.end])


def window_targets(window: Window, encoded: Sequence[EncodedQuestion]
                   ) -> tuple[int, int]:
  """Returns first and last position of the first gold answer, or 0, 0 (<s>)."""
  one = encoded[window.number]
  if not one.question.answers:
    return 0, 0
  answer = one.question.answers[0]
  first, last = one.span(answer.start, answer.end)
  if not window.start <= first <= last < window.end:
    return 0, 0
  shift = window.offset - window.start
  return first + shift, last + shift


def unrecovered_questions(encoded: Sequence[EncodedQuestion]
                          ) -> Iterator[tuple[Question, str]]:
  """Yields questions without a gold answer of whole tokens, each with what the
  tokens that cover its first answer give instead.
  """
  for one in encoded:
    found = [one.text(*span) if span[1] >= 0 else '' for span in
             (one.span(a.start, a.end) for a in one.question.answers)]
    if found and all(text != answer.text for text, answer in
                     zip(found, one.question.answers)):
      yield one.question, found[0]


@dataclasses.dataclass(frozen=True)
class Decoding:
  """Which spans of a question are kept; the defaults are run_qa.py's."""
  n_best: int = 20
  max_answer_length: int = 30


@dataclasses.dataclass(frozen=True)
class Span:
  """A candidate answer: characters of the context, and its two logits."""
  text: str
  start_logit: float
  end_logit: float
  start: int = 0  # Its first character.

  @property
  def score(self) -> float:
    return self.start_logit + self.end_logit


@dataclasses.dataclass(frozen=True)
class Decoded:
  """The answers to one question: `spans`, the best first, no text twice.

  `null` has the logits at <s> of the window where their sum is the least
  (run_qa.py's `min_null_prediction`). In 2.0 `no_answer` is the least
  probability over the windows, by the classifier on <s>, of no answer.
  """
  spans: tuple[Span, ...]
  null: Span
  no_answer: float | None

  @property
  def answer(self) -> str:
    """Returns the best span's text; '' for a context of white space."""
    return self.spans[0].text if self.spans else ''

  @property
  def null_odds(self) -> float:
    """Returns how far the logits at <s> are above the best span's."""
    best = self.spans[0].score if self.spans else np.finfo(np.float32).min
    return float(self.null.score - best)


def best_pairs(starts: np.ndarray, ends: np.ndarray, decoding: Decoding
               ) -> list[tuple[int, int]]:
  """Finds the n_best pairs (first, last) of largest starts[first] + ends[last].

  first <= last < first + max_answer_length. All such pairs count, not only
  those of the 20 best starts and ends as in run_qa.py, which may have no pair
  in order. Among equal ones the shorter comes first, then the earlier.
  """
  size, longest = len(starts), min(decoding.max_answer_length, len(starts))
  sums = np.full((longest, size), -np.inf)
  for more in range(longest):
    sums[more, :size - more] = starts[:size - more] + ends[more:]
  flat = sums.ravel()
  few = min(decoding.n_best, flat.size)
  found = np.arange(flat.size)
  if few < flat.size:
    # All ties with the last of them, or the cut would be arbitrary.
    found = np.flatnonzero(
        flat >= np.partition(flat, flat.size - few)[flat.size - few])
  found = found[np.argsort(-flat[found], kind='stable')][:few]
  return [(int(first), int(first + more))
          for more, first in zip(*np.unravel_index(found, sums.shape))
          if flat[more * size + first] > -np.inf]


def decode_windows(
    encoded: Sequence[EncodedQuestion], windows: Sequence[Window],
    start_logits: Sequence[np.ndarray], end_logits: Sequence[np.ndarray],
    decoding: Decoding,
    answerable: Sequence[float] | None = None) -> dict[str, Decoded]:
  """Decodes answers over all windows of each question, by its id.

  Logits are float[T] or longer; `answerable` has for each window the log-odds
  that it has the answer.
  """
  candidates = [{} for _ in encoded]
  nulls = [None] * len(encoded)
  odds = np.full(len(encoded), -np.inf)
  for i, (window, starts, ends) in enumerate(zip(
      windows, start_logits, end_logits, strict=True)):
    number = window.number
    one, known = encoded[number], candidates[number]
    null = Span('', float(starts[0]), float(ends[0]))
    if nulls[number] is None or null.score < nulls[number].score:
      nulls[number] = null
    if answerable is not None:
      odds[number] = max(odds[number], answerable[i])
    here = slice(window.offset, window.offset + window.end - window.start)
    for first, last in best_pairs(starts[here], ends[here], decoding):
      text = one.text(window.start + first, window.start + last)
      start = (int(one.offsets[window.start + first, 0])
               + len(text) - len(text.lstrip()))
      text = text.strip()
      span = Span(text, float(starts[window.offset + first]),
                  float(ends[window.offset + last]), start)
      if text and (text not in known or known[text].score < span.score):
        known[text] = span
    advance()
  found = {}
  for one, known, null, odd in zip(encoded, candidates, nulls, odds):
    spans = sorted(known.values(), key=lambda s: -s.score)[:decoding.n_best]
    no_answer = float(1 / (1 + np.exp(odd))) if answerable is not None else None
    found[one.question.id] = Decoded(tuple(spans), null, no_answer)
  return found


def decode_examples(
    examples: Examples, encoded: Sequence[EncodedQuestion],
    windows: Sequence[Window], answers: Answers, decoding: Decoding,
    answerable: bool) -> dict[str, Decoded]:
  """Decodes what SpanTuning gives for `window_examples`, by question's id."""
  ends = examples.starts[1:-1]
  return decode_windows(
      encoded, windows, np.split(answers['starts'], ends),
      np.split(answers['ends'], ends), decoding,
      answers['answerable'] if answerable else None)


def final_answers(decoded: Mapping[str, Decoded], threshold: float | None = None
                  ) -> dict[str, str]:
  """Makes the prediction file: '' where `no_answer` is above a threshold."""
  return {key: '' if threshold is not None and one.no_answer > threshold
          else one.answer for key, one in decoded.items()}


def choose_threshold(questions: Sequence[Question],
                     decoded: Mapping[str, Decoded]) -> float:
  """Returns the no-answer threshold of best F1; 0.0: no question is answered.

  Unlike in the official script, questions of equal `no_answer` get an answer
  together or not at all, as in `final_answers`.
  """
  has = np.array([bool(question.answers) for question in questions])
  given = final_answers(decoded)
  gains = np.array([
      max(f1(given[q.id], answer.text, '2.0') for answer in q.answers)
      if q.answers else -bool(given[q.id]) for q in questions])
  scores = np.array([decoded[q.id].no_answer for q in questions])
  order = np.argsort(scores, kind='stable')
  values, sums = scores[order], has.size - has.sum() + gains[order].cumsum()
  last = np.append(values[1:] != values[:-1], True)
  best = np.argmax(np.where(last, sums, -np.inf))
  return float(values[best]) if sums[best] > has.size - has.sum() else 0.0


def n_best_predictions(decoded: Mapping[str, Decoded], version: str
                       ) -> dict[str, list[dict[str, str | float]]]:
  """Makes run_qa.py's nbest_predictions by id; in 2.0 one span is ''."""
  result = {}
  for key, one in decoded.items():
    spans = list(one.spans)
    if version == '2.0' or not spans:
      spans = sorted([*spans, one.null], key=lambda s: -s.score)
    shares = softmax(np.array([span.score for span in spans]))
    result[key] = [
        {'text': span.text, 'start_logit': span.start_logit,
         'end_logit': span.end_logit, 'probability': float(share)}
        for span, share in zip(spans, shares)]
  return result


@dataclasses.dataclass(frozen=True)
class SpanTuning(Tuning):
  """Spans and, with num_classes=2, whether there is an answer at all.

  Fields: span_starts, span_ends int32[B,Q], positions in the row, <s> if the
  window has no answer; class_targets int32[B,Q], ANSWERABLE if it has one.
  """
  token_outputs: ClassVar[frozenset[str]] = frozenset({'starts', 'ends'})

  def loss(self, params, batch, dropout_keys, totals):
    """Returns half the cross-entropies of start and end; in 2.0 plus that of
    the classifier on <s>, summed as in the paper (section 5.2).
    """
    encoder, x_BTD = self.encode(params, batch, dropout_keys)
    weights = batch['class_weights']
    sums = model.span_loss(*encoder.span_logits(x_BTD), batch['segment_ids'],
                           batch['span_starts'], batch['span_ends'], weights)
    if self.model.num_classes:
      answerable = model.class_loss(
          encoder.class_logits(x_BTD, batch['class_positions'],
                               dropout_key=dropout_keys),
          batch['class_targets'], weights)
      sums |= {'loss_sum': sums['loss_sum'] + answerable['loss_sum'],
               'answerable_correct_sum': answerable['correct_sum']}
    return self.mean_loss(sums, totals, batch)

  def outputs(self, params, batch):
    encoder, x_BTD = self.encode(params, batch, None)
    starts, ends = encoder.span_logits(x_BTD)
    found = {'starts': starts, 'ends': ends}
    if self.model.num_classes:
      logits = encoder.class_logits(x_BTD, batch['class_positions'])
      found['answerable'] = logits[..., ANSWERABLE] - logits[..., UNANSWERABLE]
    return found


def window_examples(encoded: Sequence[EncodedQuestion],
                    windows: Sequence[Window], windowing: Windowing,
                    tokenizer: Tokenizer) -> Examples:
  spans = np.array([window_targets(window, encoded)
                    for window in windows], np.int32).reshape(-1, 2)
  return Examples.of(
      [window_ids(window, encoded, windowing, tokenizer) for window in windows],
      # An answer cannot end at <s>.
      values={'class_targets': np.where(
          spans[:, 1] > 0, ANSWERABLE, UNANSWERABLE).astype(np.int32)},
      marks={'span_starts': spans[:, 0], 'span_ends': spans[:, 1]},
      second_starts=np.array([tokenizer.layout.second_start(
          w.offset - sum(windowing.specials[:2]), w.end - w.start)
                              for w in windows], np.int32))


class Squad(Finetune):
  """SQuAD; config.task is `squad` (1.1) or `squad2` (2.0)."""
  objective_class = SpanTuning
  metrics = ('f1', 'exact')

  def __init__(self, config: Config, shares: int):
    self.version = VERSION[config.task]
    self.labels = ANSWER_LABELS if self.version == '2.0' else ()
    self.heads = {'span_head': True, 'num_classes': len(self.labels)}
    self._decoded = None, None
    self._decoding = Decoding(config.finetune.n_best,
                              config.finetune.max_answer_length)
    super().__init__(config, shares)

  def read(self) -> Mapping[str, TaskRows]:
    """Reads data.train_files and data.eval_files, or those of data.dir."""
    found = {}
    for split, files in ((TRAIN, self.config.data.train_files),
                         (DEV, self.config.data.eval_files)):
      paths = self._paths(split, files)
      found[split] = TaskRows(squad_files.read_questions(paths, self.version),
                              paths)
    ids = {q.id for q in found[TRAIN].rows}
    if both := sum(q.id in ids for q in found[DEV].rows):
      say(f'{self.name}: {both} of {len(found[DEV].rows)} questions to '
          'evaluate are among those to train on: their score says what was '
          'learned by heart.')
    return found

  def _paths(self, split: str, files: str) -> str:
    folder = self.config.data.dir
    files = files or f'{split}-v{self.version}.json' * bool(folder)
    if not files:
      raise InputError(
          f'task={self.name!r} needs data.dir, the folder of '
          f'{TRAIN}-v{self.version}.json and {DEV}-v{self.version}.json, or '
          'data.train_files and data.eval_files.')
    return ','.join(os.path.join(folder, one.strip())
                    for one in files.split(','))

  def encode(self, rows: Sequence[Question], split: str
             ) -> tuple[Examples, int]:
    """Makes windows; prints what they lose of questions and answers."""
    encoded = encode_questions(rows, self.tokenizer)
    made = make_windows(encoded, self.windowing)
    found = window_examples(encoded, made, self.windowing, self.tokenizer)
    if split != TRAIN:  # Train is never decoded.
      self.beside[split] = encoded, made
    has = {w.number for w, end in zip(made, found.marks['span_ends']) if end}
    answerable = sum(bool(q.answers) for q in rows)
    lost = list(unrecovered_questions(encoded))
    say(f'{self.name} {split}: {len(made)} windows of {answerable} '
        f'answerable questions and {len(rows) - answerable} others; '
        f'{answerable - len(has)} answers are in no window, {len(lost)} are '
        'not made of whole tokens' + ''.join(
            f'{":" if i == 0 else ","} {q.answers[0].text[:40]!r} in '
            f'{instead[-44:]!r}' for i, (q, instead) in enumerate(lost[:3]))
        + (', ...' if len(lost) > 3 else '.'))
    longest = self.windowing.question_length
    if cut := sum(len(one.question_ids) > longest for one in encoded):
      say(f'{self.name} {split}: {cut} questions cut to {longest} tokens.')
    return found, 0

  @functools.cached_property
  def windowing(self) -> Windowing:
    return Windowing.of(self.max_length, self.config.data,
                        self.tokenizer.layout)

  def decoded(self, split: str, answers: Answers) -> dict[str, Decoded]:
    """Decodes the spans of each question from the logits of its windows."""
    if self._decoded[0] is answers['starts']:
      return self._decoded[1]
    found = decode_examples(
        self.splits[split].examples, *self.beside[split], answers,
        self._decoding, self.version == '2.0')
    self._decoded = answers['starts'], found
    return found

  def predicted(self, split: str, answers: Answers
                ) -> tuple[dict[str, str], float | None]:
    """Returns answers by id, and the no-answer threshold of best F1."""
    decoded, threshold = self.decoded(split, answers), None
    if self.version == '2.0':
      threshold = choose_threshold(self.splits[split].rows, decoded)
    return final_answers(decoded, threshold), threshold

  def score(self, split: str, answers: Answers) -> dict[str, float]:
    """Returns F1 and exact match; in 2.0 at this split's best threshold."""
    found = squad_files.score_predictions(
        self.splits[split].rows, self.predicted(split, answers)[0],
        self.version)
    return {name: found[name] for name in self.metrics}

  def lines(self, split: str, answers: Answers) -> Iterator[dict[str, Any]]:
    predicted, _ = self.predicted(split, answers)
    decoded = self.decoded(split, answers)
    for row in self.splits[split].rows:
      odds = decoded[row.id].no_answer
      yield {'id': row.id, 'question': row.question,
             'prediction': predicted[row.id],
             'answers': [answer.text for answer in row.answers],
             **({} if odds is None else {'no_answer': odds})}

  def files(self, answers: Mapping[str, Answers]) -> dict[str, bytes]:
    """Returns the official files, and in unrecovered.jsonl the answers that are
    not made of whole tokens.
    """
    of = answers[DEV]
    decoded = self.decoded(DEV, of)
    tables = {
        'predictions.json': self.predicted(DEV, of)[0],
        'nbest_predictions.json': n_best_predictions(decoded, self.version)}
    if self.version == '2.0':
      tables['na_prob.json'] = {k: d.no_answer for k, d in decoded.items()}
      tables['null_odds.json'] = {k: d.null_odds for k, d in decoded.items()}
    lost = [{'id': question.id, 'answers': [a.text for a in question.answers],
             'whole_tokens': instead} for question, instead in
            unrecovered_questions(self.beside[DEV][0])]
    return {name: (json.dumps(plain_values(table), ensure_ascii=False, indent=1)
                   + '\n').encode() for name, table in tables.items()} | {
                       'unrecovered.jsonl': json_lines(lost)}

  def degenerate(self, split: str, answers: Answers) -> str:
    """Finds answers no better than random logits at their best threshold."""
    rng = np.random.default_rng(0)
    random = {key: rng.normal(size=value.shape).astype(np.float32)
              for key, value in answers.items()}
    value = self.score(split, answers)[self.metric]
    chance = self.score(split, random)[self.metric] + ABOVE_CHANCE
    if value <= chance:
      return (f'{self.metric} {value:.2f} on {split} is not above {chance:.2f},'
              f' {ABOVE_CHANCE:g} more than random logits have.')
    return ''

  def conclude(self, folder: str, answers: Mapping[str, Answers],
               facts: dict[str, Any]) -> dict[str, Any]:
    """Adds the official script's scores, and in 2.0 the threshold."""
    rows = self.splits[DEV].rows
    predicted, threshold = self.predicted(DEV, answers[DEV])
    more = {'version': self.version, 'official': squad_files.score_predictions(
        rows, predicted, self.version)}
    if threshold is not None:
      half = squad_files.score_predictions(rows, final_answers(
          self.decoded(DEV, answers[DEV]), 0.5), self.version)
      more |= {'no_answer_threshold': threshold,
               'threshold_chosen_on': self.splits[DEV].source,
               'at_threshold_0.5': {k: half[k] for k in self.metrics}}
    return super().conclude(folder, answers, facts | more)
