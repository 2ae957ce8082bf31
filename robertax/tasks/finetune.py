"""What fine-tuning tasks share: splits in, batches and scores out.

A task is a subclass of `Finetune` that says how its splits are read, how their
rows become examples, which heads the model has, and what the official score
is. The rest, from the subset of the training split to results.json, is here,
and the loop of pretraining does the training.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
import dataclasses
import hashlib
from typing import Any, ClassVar, NamedTuple

import numpy as np

from robertax import text
from robertax.config import Config, ModelConfig
from robertax.corpus.unknown import count_unknown, refuse_unknown
from robertax.data.finetuning import Examples, HostRows, TuningBatches
from robertax.data.masking import Batch
from robertax.data.order import Order
from robertax.errors import InputError
from robertax.progress import say
from robertax.tasks.objectives import Tuning
from robertax.tasks.task import Answers, json_lines, write_results
from robertax.text import Tokenizer

SURVEYED = 100  # Training steps whose shapes are printed before the first.


class Encoded(NamedTuple):
  """Examples; B begins at second_starts, which is the end if there is no B."""
  sequences: list[np.ndarray]
  second_starts: np.ndarray
  truncated: int


def encode_texts(tokenizer: Tokenizer, texts: Sequence[Sequence[str]],
                 max_length: int) -> Encoded:
  """Encodes a text, or two, in the tokenizer's layout.

  In RoBERTa that is `<s> A </s>` and `<s> A </s></s> B </s>` (fairseq
  tasks/sentence_prediction.py:167-176). Texts are stripped, as fairseq strips
  each line that it encodes (multiprocessing_bpe_encoder.py:114). A long example
  loses tokens at the end of the longer text, then of both.

  Args:
    tokenizer: the model's.
    texts: E times one text, or E times two.
    max_length: most tokens of an example, special ones included.
  """
  width = len(texts[0]) if texts else 1
  ids = tokenizer.encode_batch([t.strip() for row in texts for t in row])
  layout = tokenizer.layout
  sequences, seconds, truncated = [], [], 0
  room = max_length - layout.specials(width)
  for at in range(0, len(ids), width):
    parts = ids[at:at + width]
    kept = longest_first([len(p) for p in parts], room)
    truncated += kept != [len(p) for p in parts]
    parts = [p[:n] for p, n in zip(parts, kept)]
    sequences.append(layout.ids(*parts).astype(tokenizer.dtype))
    seconds.append(layout.second_start(*map(len, parts)))
  return Encoded(sequences, np.array(seconds, np.int32), truncated)


def in_parts(encode: Callable[[list[str]], Sequence[Any]],
             texts: Iterable[str], size: int) -> Iterator[Any]:
  """Yields what `encode` returns for each text, `size` texts at a time."""
  texts = list(texts)
  for start in range(0, len(texts), size):
    yield from encode(texts[start:start + size])


def longest_first(lengths: Sequence[int], room: int) -> list[int]:
  """Divides the room as Hugging Face's tokenizers do (utils/truncation.rs)."""
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


@dataclasses.dataclass(frozen=True)
class TaskRows:
  """A split as it was read; `source` is for messages."""
  rows: Sequence[Any]
  source: str
  labelled: bool = True


@dataclasses.dataclass(frozen=True)
class Split:
  """An encoded split."""
  rows: Sequence[Any]
  source: str
  labelled: bool
  examples: Examples


def why_degenerate(found: Sequence[int], labels: Sequence[int],
                   names: Sequence[str], split: str) -> str:
  """Says why classes are no better than a constant answer; '': they are better.

  Runs at chance are common (fairseq #1114, #1946, #5361).
  """
  found, labels = np.asarray(found, int), np.asarray(labels, int)
  if len(np.unique(found)) == 1:
    return f'all answers on {split} are {names[found[0]]}.'
  value = 100 * np.mean(found == labels)
  chance = 100 * np.bincount(labels).max() / len(labels)
  if value <= chance:
    return (f'accuracy {value:.2f} on {split} is not above {chance:.2f}, what '
            'a constant answer has.')
  return ''


_ENCODED: dict[Any, Any] = {}  # The splits of a sweep's last run, for its next.


class Finetune:
  """What fine-tuning tasks share; a subclass is a FinetuningTask.

  Its `splits` are by name, 'train' is one; `beside` has what `encode` keeps of
  a split for its score; `max_length` tokens are the most of an example.
  """
  fine_tunes: ClassVar[bool] = True
  objective_class: ClassVar[type[Tuning]]
  heads: Mapping[str, Any]  # Keys of the `model` section; all others are off.
  metrics: tuple[str, ...] = ()
  labels: tuple[str, ...] = ()
  tokenizer: Tokenizer
  model: ModelConfig
  objective: Tuning
  epoch_steps: int

  def make_objective(self) -> Tuning:
    return self.objective_class(self.model, self.tokenizer.pad_id)

  def read(self) -> Mapping[str, TaskRows]:
    """Reads 'train', the main split to score, and others; or InputError."""
    raise NotImplementedError

  def encode(self, rows: Sequence[Any], split: str) -> tuple[Examples, int]:
    """Returns the rows' examples, and how many had to be cut."""
    raise NotImplementedError

  def score(self, split: str, answers: Answers) -> dict[str, float]:
    raise NotImplementedError

  def lines(self, split: str, answers: Answers) -> Iterator[dict[str, Any]]:
    """Returns the rows of predictions.<split>.jsonl."""
    raise NotImplementedError

  def files(self, answers: Mapping[str, Answers]) -> dict[str, bytes]:
    """Returns other files by name, such as official forms of predictions."""
    return {}

  def degenerate(self, split: str, answers: Answers) -> str:
    """Says why these answers are at chance; '': they are not."""
    return ''

  def facts(self) -> dict[str, Any]:
    """Returns what else results.json is to hold."""
    return {}

  @classmethod
  def of(cls, config: Config, shares: int) -> 'Finetune':
    return cls(config, shares)

  def __init__(self, config: Config, shares: int):
    self.name, self.config = config.task, config
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
    self.model = dataclasses.replace(
        config.model, vocab_size=self.tokenizer.vocab_size, **{
            'lm_head': False, 'nsp_head': False, 'num_classes': 0,
            'span_head': False, **self.heads})
    self.max_length = min(config.data.sequence_length, self.model.max_positions)
    self.tokenizer = self.tokenizer.laid_out(self.model)
    self.objective = self.make_objective()
    self.beside = {}
    self.splits, self.beside = self._splits()
    self._shares, self._batches = shares, {}
    self._train = self._make_batches(
        'train', shares * config.train.micro_batches)
    self.epoch_steps = self._train.epoch_steps
    say(f'{self.name}: {self._train.survey(min(SURVEYED, self.epoch_steps))}')

  @property
  def metric(self) -> str:
    return self.metrics[0]

  @property
  def masked_per_sequence(self) -> float:
    """Predicted tokens of a training sequence, on average."""
    examples = self.splits['train'].examples
    return float(np.sum(examples.values.get('span_weights', 0.0))
                 / max(1, len(examples)))

  @property
  def dev_splits(self) -> list[str]:
    return [name for name, split in self.splits.items()
            if split.labelled and name != 'train']

  @property
  def test_splits(self) -> list[str]:
    return [name for name, split in self.splits.items() if not split.labelled]

  def judge(self) -> None:
    """Refuses unknown tokens, and a training split of one class."""
    for name, split in self.splits.items():
      unknown, total = count_unknown(self.tokenizer, split.examples.ids)
      if unknown:
        say(f'{self.name} {name}: {unknown:,} of {total:,} tokens are unknown '
            'to the tokenizer.')
      refuse_unknown(
          f'{self.name} {name}: {split.source}', unknown, total,
          self.config.tokenizer.max_unknown_share, self.tokenizer,
          _strings(split.rows),
          'A model whose tokenizer was made for this language')
      targets = split.examples.values.get('class_targets')
      if (targets is None or len(targets) < 2 or split.examples.marks
          or not split.labelled or (targets != targets[0]).any()):
        continue
      same = (f'{split.source}: all {len(targets):,} examples have one label, '
              'so ')
      if name == 'train':
        raise InputError(f'{same}there is nothing to learn: examples of two or '
                         'more classes would do.')
      say(f'{same}a score on {name} says nothing.')

  def train_batches(self, start_step: int, rows: HostRows) -> Iterator[Batch]:
    return self._train.train(start_step, rows)

  def batches(self, split: str) -> TuningBatches:
    if split not in self._batches:
      self._batches[split] = self._make_batches(split, self._shares)
    return self._batches[split]

  def eval_batches(self, split: str) -> Iterator[Batch]:
    return self.batches(split).evaluation(self.config.finetune.eval_tokens)

  def train_metrics(self, step: int, sums: dict[str, float]
                    ) -> dict[str, float]:
    """Returns the batch's loss, accuracy (0 to 1), examples, padding; epoch."""
    weight = max(sums['weight_sum'], 1.0)
    metrics = {'loss': sums['loss_sum'] / weight}
    if 'correct_sum' in sums:
      metrics['accuracy'] = sums['correct_sum'] / weight
    return metrics | {
        'examples': int(sums['weight_sum']),
        'padding_fraction': 1 - sums['token_sum'] / sums['place_sum'],
        'epoch': step / self.epoch_steps}

  def describe(self, steps: int) -> str:
    return (f'{self.name}: {self.config.data.batch_size} of '
            f'{self.splits["train"].examples.num_groups} examples a step, '
            f'{steps / self.epoch_steps:.2f} epochs in {steps} steps')

  def identity(self) -> dict[str, str]:
    """Hashes the labelled splits: their ids, labels, groups and order."""
    return {name: _content_hash(split.examples)
            for name, split in self.splits.items() if split.labelled}

  def conclude(self, folder: str, answers: Mapping[str, Answers],
               facts: dict[str, Any]) -> dict[str, Any]:
    main = self.dev_splits[0]
    scores = {name: self.score(name, answers[name]) for name in self.dev_splits}
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
        seed=self.config.seed, max_length=self.max_length, unit=unit,
        pad_id=self.tokenizer.pad_id,
        types=self.model.pair_types and self.tokenizer.layout.typed)

  def _splits(self) -> tuple[dict[str, Split], dict[str, Any]]:
    """Returns the splits and `beside`; the runs of a sweep encode them once."""
    key = (type(self), self.name,
           dataclasses.replace(self.config.data, batch_size=1),
           self.max_length, self.tokenizer.fingerprint, self.tokenizer.layout,
           self.config.finetune)
    if key not in _ENCODED:
      found = {}
      for name, split in self.read().items():
        if not split.rows:
          raise InputError(f'{split.source}: no example in it.')
        found[name] = self._encoded(name, split)
      _ENCODED.clear()
      _ENCODED[key] = found, self.beside
    return _ENCODED[key]

  def _encoded(self, name: str, split: TaskRows) -> Split:
    rows, source = split.rows, split.source
    most = self.config.finetune.max_train_examples
    if name == 'train' and 0 < most < len(rows):
      seed = self.config.finetune.subset_seed
      order = Order(len(rows), seed, block=1, window=len(rows))
      kept = np.sort(order.locate(0, most)[1])
      source = f'{source} ({most} of its {len(rows)} rows, subset {seed})'
      rows = [rows[n] for n in kept]
    examples, cut = self.encode(rows, name)
    say(f'{self.name} {name}: {len(rows)} rows of {source}'
        + (f'; {cut} cut to {self.max_length} tokens' if cut else ''))
    return Split(rows, source, split.labelled, examples)


def _strings(value: Any) -> Iterator[str]:
  """Yields the strings in rows of any task."""
  if isinstance(value, str):
    yield value
  elif dataclasses.is_dataclass(value):
    yield from _strings(vars(value))
  elif isinstance(value, Mapping):
    yield from _strings(list(value.values()))
  elif isinstance(value, Sequence):
    for part in value:
      yield from _strings(part)


def _content_hash(examples: Examples) -> str:
  total = hashlib.sha256()
  for field in dataclasses.fields(examples):
    value = getattr(examples, field.name)
    arrays = value if isinstance(value, dict) else {'': value}
    for key in sorted(arrays):
      array = np.ascontiguousarray(arrays[key])
      total.update(f'{field.name} {key} {array.dtype} {array.shape} '.encode())
      total.update(array.tobytes())
  return total.hexdigest()[:16]
