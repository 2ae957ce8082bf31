"""SQuAD 1.1 and 2.0: the answer to a question, found in a paragraph.

fairseq has no code for it; the paper says (section 5.2): one span for each
question, and for 2.0 a second classifier of whether there is one, trained on
the sum of both losses. What it leaves open is BERT's and Hugging Face's
(run_qa.py): question first, windows with a stride, targets of a window without
an answer at <s>, n-best spans over all windows of a question.
"""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import json
import os
import sys
from typing import Any

import numpy as np

from robertax.config import ModelConfig
from robertax.data.examples import Examples
from robertax.errors import InputError
from robertax.tasks import squad_decode, squad_files, squad_metrics
from robertax.tasks import squad_windows as windows
from robertax.tasks.finetune import Answers, FinetuneTask, Rows
from robertax.tasks.span_tuning import LABELS, SpanTuning, examples
from robertax.tasks.squad_decode import Decoded, DecodingLaw
from robertax.tasks.squad_files import Question
from robertax.tasks.task import json_lines, plain

# The rows of TASKS, and the version of the official files that each reads.
VERSION = {'squad': '1.1', 'squad2': '2.0'}
TRAIN, DEV = 'train', 'dev'
# A run at chance is one whose F1 is no more than this above random logits'.
ABOVE_CHANCE = 2.0


class Squad(FinetuneTask):
  """SQuAD; config.task is `squad` (1.1) or `squad2` (2.0).

  Attributes:
    version: '1.1' or '2.0'.
  """
  metrics = ('f1', 'exact')

  def __init__(self, config: Any, shares: int):
    """See FinetuneTask."""
    self.version = VERSION[config.task]
    self.labels = LABELS if self.version == '2.0' else ()
    self._law, self._asked, self._last = None, {}, (None, None)
    self._decoding = DecodingLaw(config.finetune.n_best,
                                 config.finetune.max_answer_length)
    super().__init__(config, shares)

  def heads(self, config: ModelConfig) -> ModelConfig:
    """Spans; of 2.0, whether there is an answer."""
    return dataclasses.replace(
        config, span_head=True, num_classes=len(self.labels))

  def make_objective(self) -> SpanTuning:
    """Spans, and of 2.0 answerability, added."""
    return SpanTuning(self.model, self.tokenizer.pad_id)

  def read(self) -> Mapping[str, Rows]:
    """The files that data.train_files and data.eval_files name, or the official
    ones of data.dir.
    """
    found = {}
    for split, files in ((TRAIN, self.config.data.train_files),
                         (DEV, self.config.data.eval_files)):
      paths = self._paths(split, files)
      found[split] = Rows(squad_files.read(paths, self.version), paths)
    ids = {q.id for q in found[TRAIN].rows}
    both = sum(q.id in ids for q in found[DEV].rows)
    if both:
      print(f'{self.name}: {both} of {len(found[DEV].rows)} questions to '
            'evaluate are among those to train on: their score says what was '
            'learned by heart.', file=sys.stderr)
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
    """Windows; tells what of questions and answers is lost by them."""
    encoded = windows.encode(rows, self.tokenizer)
    made = windows.windows(encoded, self.law)
    found = examples(encoded, made, self.law, self.tokenizer)
    has = {w.number for w, end in zip(made, found.marks['span_ends']) if end}
    answerable = sum(bool(q.answers) for q in rows)
    lost = list(windows.unrecovered(encoded))
    print(f'{self.name} {split}: {len(made)} windows of {answerable} '
          f'answerable questions and {len(rows) - answerable} others; '
          f'{answerable - len(has)} answers are in no window, {len(lost)} are '
          'not made of whole tokens' + ''.join(
              f'{":" if i == 0 else ","} {q.answers[0].text[:40]!r} in '
              f'{instead[-44:]!r}' for i, (q, instead) in enumerate(lost[:3]))
          + (', ...' if len(lost) > 3 else '.'), file=sys.stderr)
    longest = self.law.question_length
    cut = sum(len(one.question_ids) > longest for one in encoded)
    if cut:
      print(f'{self.name} {split}: {cut} questions cut to {longest} tokens.',
            file=sys.stderr)
    return found, 0

  @property
  def law(self) -> windows.WindowLaw:
    """How questions become windows."""
    if self._law is None:
      data = self.config.data
      self._law = windows.WindowLaw(
          self.max_length, data.doc_stride, data.question_length,
          separators=1 if self.model.num_types else 2)
    return self._law

  def decoded(self, split: str, answers: Answers) -> dict[str, Decoded]:
    """The spans of each question, from the logits of its windows."""
    if self._last[0] is answers['starts']:
      return self._last[1]
    if split not in self._asked:
      encoded = windows.encode(self.splits[split].rows, self.tokenizer)
      self._asked[split] = encoded, windows.windows(encoded, self.law)
    ends = self.splits[split].examples.starts[1:-1]
    found = squad_decode.decode(
        *self._asked[split], np.split(answers['starts'], ends),
        np.split(answers['ends'], ends), self._decoding,
        answers.get('answerable'))
    self._last = answers['starts'], found
    return found

  def predicted(self, split: str, answers: Answers
                ) -> tuple[dict[str, str], float | None]:
    """(answers by id, the no-answer threshold of best F1 on this split)."""
    decoded, threshold = self.decoded(split, answers), None
    if self.version == '2.0':
      threshold = squad_decode.choose_threshold(
          self.splits[split].rows, decoded)
    return squad_decode.answers(decoded, threshold), threshold

  def score(self, split: str, answers: Answers) -> dict[str, float]:
    """F1 and exact match; of 2.0, at the threshold best for this split."""
    found = squad_metrics.score(
        self.splits[split].rows, self.predicted(split, answers)[0],
        self.version)
    return {name: found[name] for name in self.metrics}

  def lines(self, split: str, answers: Answers) -> Iterator[dict[str, Any]]:
    """id, question, prediction, answers; of 2.0 no_answer, a probability."""
    predicted, _ = self.predicted(split, answers)
    decoded = self.decoded(split, answers)
    for row in self.splits[split].rows:
      odds = decoded[row.id].no_answer
      yield {'id': row.id, 'question': row.question,
             'prediction': predicted[row.id],
             'answers': [answer.text for answer in row.answers],
             **({} if odds is None else {'no_answer': odds})}

  def files(self, answers: Mapping[str, Answers]) -> dict[str, bytes]:
    """predictions.json in the official form, nbest_predictions.json,
    unrecovered.jsonl (answers that no whole tokens make); of 2.0 na_prob.json
    and null_odds.json.
    """
    of = answers[DEV]
    decoded = self.decoded(DEV, of)
    tables = {
        'predictions.json': self.predicted(DEV, of)[0],
        'nbest_predictions.json': squad_decode.n_best(decoded, self.version)}
    if self.version == '2.0':
      tables['na_prob.json'] = {k: d.no_answer for k, d in decoded.items()}
      tables['null_odds.json'] = {k: d.null_odds for k, d in decoded.items()}
    lost = [{'id': question.id, 'answers': [a.text for a in question.answers],
             'whole_tokens': instead} for question, instead in
            windows.unrecovered(self._asked[DEV][0])]
    return {name: (json.dumps(plain(table), ensure_ascii=False, indent=1)
                   + '\n').encode() for name, table in tables.items()} | {
                       'unrecovered.jsonl': json_lines(lost)}

  def degenerate(self, split: str, answers: Answers) -> str:
    """No better than random logits, with the threshold that is best for them.
    """
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
    """As FinetuneTask; results.json has besides `official`, all that the
    official script says of predictions.json, and of 2.0 the threshold.
    """
    rows = self.splits[DEV].rows
    predicted, threshold = self.predicted(DEV, answers[DEV])
    more = {'version': self.version, 'official': squad_metrics.score(
        rows, predicted, self.version)}
    if threshold is not None:
      half = squad_metrics.score(rows, squad_decode.answers(
          self.decoded(DEV, answers[DEV]), 0.5), self.version)
      more |= {'no_answer_threshold': threshold,
               'threshold_chosen_on': self.splits[DEV].source,
               'at_threshold_0.5': {k: half[k] for k in self.metrics}}
    return super().conclude(folder, answers, facts | more)
