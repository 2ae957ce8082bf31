"""What every fine-tuning task is: splits in, batches and scores out.

A task is a subclass (one file, one row of tasks.TASKS) that says how its splits
are read, how a row of one becomes an example, which heads the model has, and
what the official score is of all answers. The rest, from the subset of the
training split to results.json, is here, and the loop of pretraining does the
training.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
import dataclasses
import sys
from typing import Any, ClassVar, NamedTuple

import numpy as np

from robertax import text
from robertax.config import ModelConfig
from robertax.data.finetuning import Batch, Examples, TuningBatches
from robertax.data.order import Order
from robertax.errors import InputError
from robertax.tasks.objectives import Tuning
from robertax.tasks.task import examples_content, json_lines, write_results
from robertax.text import Tokenizer

# One or two texts as an example's ids, with what is cut where it is long.


class Encoded(NamedTuple):
  """Examples of texts.

  Attributes:
    sequences: uint[n] each.
    second_starts: int32[E], where B begins; the length where there is none.
    truncated: how many were cut.
  """
  sequences: list[np.ndarray]
  second_starts: np.ndarray
  truncated: int


def encode_texts(tokenizer: Tokenizer, texts: Sequence[Sequence[str]],
                 max_length: int, separators: int = 2) -> Encoded:
  """`<s> A </s>`, or of two texts `<s> A </s></s> B </s>`.

  fairseq tasks/sentence_prediction.py:167-176. Texts are stripped, as each line
  is that fairseq encodes (multiprocessing_bpe_encoder.py:114). What is too long
  loses tokens at the end of the longer text, then of both (Hugging Face's
  `longest_first`); the special tokens stay.

  Args:
    tokenizer: of the model.
    texts: E times one text, or E times two.
    max_length: most tokens of an example, special ones included.
    separators: `</s>` between A and B: 2 for RoBERTa, 1 for BERT.
  """
  tok = tokenizer
  width = len(texts[0]) if texts else 1
  ids = tok.encode_batch([t.strip() for row in texts for t in row])
  bos, eos = (np.array([i], tok.dtype) for i in (tok.bos_id, tok.eos_id))
  between = np.concatenate([eos] * separators)
  sequences, seconds, truncated = [], [], 0
  for at in range(0, len(ids), width):
    parts = ids[at:at + width]
    room = max_length - (2 if width == 1 else 2 + separators)
    kept = longest_first([len(p) for p in parts], room)
    truncated += kept != [len(p) for p in parts]
    parts = [p[:n] for p, n in zip(parts, kept)]
    if width == 1:
      sequences.append(np.concatenate([bos, *parts, eos]))
      seconds.append(len(sequences[-1]))
    else:
      sequences.append(np.concatenate([bos, parts[0], between, parts[1], eos]))
      seconds.append(1 + len(parts[0]) + separators)
  return Encoded(sequences, np.array(seconds, np.int32), truncated)


def longest_first(lengths: Sequence[int], room: int) -> list[int]:
  """What stays of one or two lengths (tokenizers utils/truncation.rs).

  >>> longest_first([5, 9], 10), longest_first([2, 9], 10)
  ([5, 5], [2, 8])
  """
  room = max(room, 0)
  if sum(lengths) <= room:
    return list(lengths)
  if len(lengths) == 1:
    return [room]
  short, long = sorted(lengths)
  long = max(short, room - short)
  if short + long > room:
    short, long = room // 2, room - room // 2
  return [short, long] if lengths[0] <= lengths[1] else [long, short]


Answers = dict[str, np.ndarray]
SURVEYED = 100  # Steps whose shapes are told beforehand.
_ENCODED: dict[Any, Any] = {}  # The splits of the last task, for a sweep.


@dataclasses.dataclass(frozen=True)
class Rows:
  """A split as it was read.

  Attributes:
    rows: in the order of the file.
    source: where they are from, for people.
    labelled: whether they can be scored.
  """
  rows: Sequence[Any]
  source: str
  labelled: bool = True


@dataclasses.dataclass(frozen=True)
class Split:
  """A split, encoded; the rows are those that `examples` has."""
  rows: Sequence[Any]
  source: str
  labelled: bool
  examples: Examples


class FinetuneTask:
  """A task of the loop (train.loop), for a model that has a body already.

  A subclass has, besides `metrics`, the methods that raise NotImplementedError
  here, and may have `lines`, `files` and `degenerate`.

  Attributes:
    metrics: names of the scores, in percent; the first decides which epoch is
      the best.
    labels: names of the classes, in their order, for config.json.
    name: the row of TASKS.
    tokenizer: text.Tokenizer.
    model: the ModelConfig, with the heads that the task needs.
    objective: the loss and the outputs, a Tuning.
    max_length: most tokens of an example.
    splits: name -> Split; 'train' is one.
    epoch_steps: updates an epoch.
  """
  fine_tunes: ClassVar[bool] = True
  metrics: tuple[str, ...] = ()
  labels: tuple[str, ...] = ()

  # What a subclass says.

  def heads(self, config: ModelConfig) -> ModelConfig:
    """The model with the task's heads; given one without any."""
    raise NotImplementedError

  def make_objective(self) -> Tuning:
    """The loss, of `self.model` and `self.tokenizer.pad_id`."""
    raise NotImplementedError

  def read(self) -> Mapping[str, Rows]:
    """The splits: 'train', then the main one to evaluate, then others.

    Raises:
      InputError: a missing or damaged file.
    """
    raise NotImplementedError

  def encode(self, rows: Sequence[Any], split: str) -> tuple[Examples, int]:
    """(examples of the rows, how many had to be cut)."""
    raise NotImplementedError

  def score(self, split: str, answers: Answers) -> dict[str, float]:
    """`metrics` of a labelled split, in percent.

    Args:
      split: its name.
      answers: the objective's outputs, as data.tuning.collect gives them.
    """
    raise NotImplementedError

  def lines(self, split: str, answers: Answers) -> Iterator[dict[str, Any]]:
    """What predictions.<split>.jsonl says of each row."""
    raise NotImplementedError

  def files(self, answers: Mapping[str, Answers]) -> dict[str, bytes]:
    """Other files by name, such as the official form of predictions."""
    del answers
    return {}

  def degenerate(self, split: str, answers: Answers) -> str:
    """Why this is a run at chance; '' if it is none."""
    del split, answers
    return ''

  def facts(self) -> dict[str, Any]:
    """More that results.json is to hold."""
    return {}

  # What all have.

  @classmethod
  def of(cls, config: Any, shares: int) -> 'FinetuneTask':
    """The task of a whole config; `shares` devices share a micro-batch."""
    return cls(config, shares)

  def __init__(self, config: Any, shares: int):
    """Reads and encodes the splits.

    Args:
      config: config.Config, of which seed, task, data, tokenizer, model,
        finetune and train.micro_batches count.
      shares: devices that share a micro-batch.

    Raises:
      InputError: wrong input of any kind.
    """
    self.name, self.config = config.task, config
    self._seed = config.seed
    if not config.tokenizer.path:
      raise InputError(
          f'task={config.task!r} with neither init_from nor tokenizer.path: '
          'fine-tuning needs the tokenizer of the model.')
    self.tokenizer = text.load(config.tokenizer.path,
                               config.tokenizer.lowercase)
    vocab_size = config.model.vocab_size
    if vocab_size not in (0, self.tokenizer.vocab_size):
      raise InputError(f'model.vocab_size={vocab_size}, and the tokenizer has '
                       f'{self.tokenizer.vocab_size} ids.')
    bare = dataclasses.replace(
        config.model, vocab_size=self.tokenizer.vocab_size, lm_head=False,
        nsp_head=False, num_classes=0, span_head=False)
    self.model = self.heads(bare)
    self.max_length = min(config.data.sequence_length,
                          self.model.max_positions)
    self.objective = self.make_objective()
    self.splits = self._splits()
    self._shares, self._batches = shares, {}
    self._train = self._make_batches(
        'train', shares * config.train.micro_batches)
    self.epoch_steps = self._train.epoch_steps
    survey = self._train.survey(min(SURVEYED, self.epoch_steps))
    print(f'{self.name}: {survey}', file=sys.stderr)

  @property
  def metric(self) -> str:
    """The score that decides."""
    return self.metrics[0]

  @property
  def dev_splits(self) -> list[str]:
    """Those that are scored, the main one first."""
    return [name for name, split in self.splits.items()
            if split.labelled and name != 'train']

  @property
  def test_splits(self) -> list[str]:
    """Those without labels."""
    return [name for name, split in self.splits.items() if not split.labelled]

  def train_batches(self, start_step: int, rows: Callable[[int], np.ndarray]
                    ) -> Iterator[Batch]:
    """Batches from `start_step` on, only a host's rows of each."""
    return self._train.train(start_step, rows)

  def batches(self, split: str) -> TuningBatches:
    """What makes the evaluation batches of a split."""
    if split not in self._batches:
      self._batches[split] = self._make_batches(split, self._shares)
    return self._batches[split]

  def eval_batches(self, split: str) -> Iterator[Batch]:
    """Batches of a split, all rows of each."""
    return self.batches(split).evaluation(self.config.finetune.eval_tokens)

  def train_metrics(self, step: int, sums: dict[str, float]
                    ) -> dict[str, float]:
    """That batch's loss, accuracy (a fraction, of classes), padding; epoch."""
    weight = max(sums['weight_sum'], 1.0)
    metrics = {'loss': sums['loss_sum'] / weight}
    if 'correct_sum' in sums:
      metrics['accuracy'] = sums['correct_sum'] / weight
    return metrics | {
        'examples': int(sums['weight_sum']),
        'padding_fraction': 1 - sums['token_sum'] / sums['place_sum'],
        'epoch': step / self.epoch_steps}

  def describe(self, steps: int) -> str:
    """What so many steps read."""
    return (f'{self.name}: {self.config.data.batch_size} of '
            f'{self.splits["train"].examples.num_groups} examples a step, '
            f'{steps / self.epoch_steps:.2f} epochs in {steps} steps')

  def identity(self) -> dict[str, str]:
    """What the labelled splits hold, for a checkpoint to say what it is of."""
    return examples_content({
        name: split.examples for name, split in self.splits.items()
        if split.labelled})

  def conclude(self, folder: str, answers: Mapping[str, Answers],
               facts: dict[str, Any]) -> dict[str, Any]:
    """Scores the best weights' answers; writes predictions, then results.json.

    Args:
      folder: W; '': nothing is written.
      answers: of every split that was asked.
      facts: of the run.

    Returns:
      What results.json holds.
    """
    main, scores = self.dev_splits[0], {}
    for name in self.dev_splits:
      scores[name] = self.score(name, answers[name])
    why = self.degenerate(main, answers[main])
    found = {
        'task': self.name, 'metric': self.metric,
        'value': scores[main][self.metric], 'split': main,
        'rows': len(self.splits[main].rows), **facts,
        'data': self.splits[main].source,
        'train_rows': len(self.splits['train'].rows),
        'train_data': self.splits['train'].source,
        'scores': scores, 'degenerate': bool(why), 'degenerate_because': why,
        'labels': list(self.labels), **self.facts()}
    files = {f'predictions.{name}.jsonl': json_lines(
        self.lines(name, answers[name])) for name in answers}
    return write_results(folder, found, files | self.files(answers))

  def _make_batches(self, split: str, unit: int) -> TuningBatches:
    return TuningBatches(
        self.splits[split].examples, batch_size=self.config.data.batch_size,
        seed=self._seed, max_length=self.max_length, unit=unit,
        pad_id=self.tokenizer.pad_id, types=self.model.num_types > 1)

  def _splits(self) -> dict[str, Split]:
    """Read and encoded; a sweep's runs, which differ in neither, share it."""
    key = (type(self), self.name, self.config.data, self.max_length,
           self.tokenizer.fingerprint, self.model.num_types,
           self.config.finetune)
    key = tuple(dataclasses.replace(k, batch_size=1)
                if k is self.config.data else k for k in key)
    if key not in _ENCODED:
      found = {}
      for name, split in self.read().items():
        if not split.rows:
          raise InputError(f'{split.source}: no example in it.')
        found[name] = self._encoded(name, split)
      _ENCODED.clear()
      _ENCODED[key] = found
    return _ENCODED[key]

  def _encoded(self, name: str, split: Rows) -> Split:
    rows, source, most = split.rows, split.source, (
        self.config.finetune.max_train_examples)
    if name == 'train' and 0 < most < len(rows):
      seed = self.config.finetune.subset_seed
      order = Order(len(rows), seed, block=1, window=len(rows))
      kept = np.sort(order.locate(0, most)[1])
      source = f'{source} ({most} of its {len(rows)} rows, subset {seed})'
      rows = [rows[n] for n in kept]
    examples, cut = self.encode(rows, name)
    print(f'{self.name} {name}: {len(rows)} rows of {source}'
          + (f'; {cut} cut to {self.max_length} tokens' if cut else ''),
          file=sys.stderr)
    return Split(rows, source, split.labelled, examples)
