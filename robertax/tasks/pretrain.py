"""Masked language modelling, the task that a RoBERTa is pretrained with.

In a format of pairs an example has two segments A and B, and the model also
learns whether B follows A in the text or is random: BERT's next-sentence
prediction (Devlin et al. 2019, section 3.1; upper half of RoBERTa's Table 2).
"""

from collections import Counter
from collections.abc import Callable, Iterator
import dataclasses
import functools
from itertools import islice
import math
from typing import Any

import numpy as np

from robertax import config as configs
from robertax import corpus, files, text
from robertax.config import Config, DataConfig, ModelConfig, TokenizerConfig
from robertax.corpus.documents import corpora_of
from robertax.corpus.formats import FORMATS
from robertax.data import order
from robertax.data import pipeline as pipelines
from robertax.data.finetuning import HostRows
from robertax.data.masking import Batch, Masking
from robertax.data.source import open_source
from robertax.errors import InputError, unknown
from robertax.progress import say
from robertax.tasks.objectives import MaskedLM
from robertax.text import Tokenizer

# The unigram baseline counts at most so many rows: 33M tokens in rows of 512,
# enough for the third digit of its loss, are read in less than a second.
UNIGRAM_RECORDS = 65_536
# `Pretrain.judge` masks at most so many rows, in parts; a share of fewer
# predicted tokens than JUDGED_LEAST may be chance.
JUDGED_ROWS, JUDGED_PARTS, JUDGED_LEAST = 64, 4, 200


def model_for_format(config: ModelConfig, name: str) -> ModelConfig:
  """Fills in what a format of pairs needs: two types and the NSP head.

  Another format leaves a model that has them as it is: all its tokens have type
  0, and its head is not trained. Raises InputError for an unknown format, and
  for pairs with another number of types.
  """
  if name not in FORMATS:
    raise unknown('data.format', name, FORMATS)
  if not FORMATS[name].pairs:
    if config.nsp_head:
      say(f'model.nsp_head=True, and data.format={name!r} has no pairs: the '
          'head is kept and not trained.')
    return config
  if config.num_types not in (0, 2):
    raise InputError(f'model.num_types={config.num_types}: data.format='
                     f'{name!r} has 2, of A and B; 0 takes that.')
  return dataclasses.replace(config, num_types=2, nsp_head=True,
                             pair_layout='auto')


def pair_metrics(sums: dict[str, float]) -> dict[str, float]:
  """Returns nsp_loss in nats and nsp_accuracy; {} for single segments."""
  if 'nsp_weight_sum' not in sums:
    return {}
  weight = max(sums['nsp_weight_sum'], 1.0)
  return {'nsp_loss': sums['nsp_loss_sum'] / weight,
          'nsp_accuracy': sums['nsp_correct_sum'] / weight}


def _content_hash(value: Any) -> str:
  return files.json_hash(value, sort_keys=True)[:16]


class Pretrain:
  """From text to records, to masked batches, to a loss: a PretrainingTask."""

  fine_tunes = False
  tokenizer: Tokenizer
  model: ModelConfig
  objective: MaskedLM
  corpora: tuple[str, ...]

  @classmethod
  def of(cls, config: Config, shares: int) -> 'Pretrain':
    return cls(config.seed, config.data, config.tokenizer, config.model)

  def __init__(self, seed: int, data_config: DataConfig,
               tokenizer_config: TokenizerConfig, model_config: ModelConfig):
    """Prepares missing records; raises InputError for wrong input."""
    for key in ('sequence_length', 'first_sequence_length'):
      if getattr(data_config, key) > model_config.max_positions:
        raise InputError(
            f'data.{key}={getattr(data_config, key)} is more than '
            f'model.max_positions={model_config.max_positions}: the position '
            'table has no rows for the rest. Lower the one or raise the other.')
    configs.check_data(data_config)
    text.check(tokenizer_config)
    model_config = model_for_format(model_config, data_config.format)
    if data_config.mixture:
      # Preparing may take hours, so a wrong mixture is refused before it.
      named = [c.name for c in corpora_of(data_config)]
      order.mixture_weights(data_config.mixture, named)
    prepared = corpus.prepare(data_config, tokenizer_config,
                              vocab_size=model_config.vocab_size)
    self.tokenizer = prepared.tokenizer
    self.corpora = tuple(m.corpus for m in prepared.manifests)
    self.model = dataclasses.replace(
        model_config, vocab_size=self.tokenizer.vocab_size)
    self.objective = MaskedLM(self.model, self.tokenizer.pad_id)
    if data_config.mixture:  # A corpus without text may have been left out.
      data_config = dataclasses.replace(data_config, mixture=order.mixture_of(
          data_config.mixture, named, self.corpora))
    self._data, self._seed = data_config, seed
    self._masking = Masking.of(data_config, self.tokenizer)
    def opened(manifests, split):
      return open_source(manifests, split, data_config.backend,
                         self.tokenizer.pad_id, data_config)

    # (rows, step after the last) of each phase.
    manifests = {m.folder: m for m in prepared.manifests}
    self._train = [(opened(prepared.manifests, 'train'), None)]
    if data_config.first_sequence_steps:
      first = corpus.prepare(dataclasses.replace(
          data_config, sequence_length=data_config.first_sequence_length),
                             tokenizer_config)
      manifests |= {m.folder: m for m in first.manifests}
      self._train.insert(0, (opened(first.manifests, 'train'),
                             data_config.first_sequence_steps))
    self._eval = {m.corpus: opened([m], 'eval')
                  for m in prepared.eval_manifests or prepared.manifests}
    self._manifests = list(manifests.values()) + [
        m for m in prepared.eval_manifests if m.folder not in manifests]

  def judge(self) -> None:
    """Refuses text and masks that teach nothing, or another share than asked.
    """
    counts = sum((Counter(m.counts) for m in self._manifests), Counter())
    pairs, negative = counts['pairs'], counts['negative_pairs']
    if pairs and negative in (0, pairs):
      raise InputError(
          f'data.format={self._data.format!r}: all {pairs:,} pairs are of one '
          f'class ({"B is random" if negative else "B follows A"}), so the '
          'next-sentence head would learn a constant: a corpus of several '
          'documents, with several sentences each, has both.')
    size = min(JUDGED_ROWS, self._data.batch_size)
    sets = {'': self._judged_train}
    if len(self.corpora) > 1:  # One of them may hide behind the others.
      sets |= {name: functools.partial(
          pipelines.eval_batches, source, self._data, name=name,
          batch_size=size) for name, source in self._eval.items()}
    tokens = Masking.of(dataclasses.replace(
        self._data, masking_unit='token'), self.tokenizer)
    for name, batches in sets.items():
      parts = JUDGED_PARTS * JUDGED_ROWS // size
      self._judge_masks(name, *(
          list(islice(batches(masking=masking), parts))
          for masking in (self._masking, tokens)))

  def _judged_train(self, masking: Masking) -> Iterator[Batch]:
    source, _ = self._train[0]
    first = pipelines.Pipeline(
        source, self._data, masking, seed=self._seed,
        rows=np.arange(min(JUDGED_ROWS, self._data.batch_size)))
    return map(first.make_batch, range(JUDGED_PARTS * JUDGED_ROWS))

  def _judge_masks(self, name: str, batches: list[Batch],
                   of_tokens: list[Batch]) -> None:
    """Judges batches by those whose units are single tokens."""
    where = f'{name}: ' if name else ''
    found, asked = (sum(float(b['mlm_weights'].sum()) for b in some)
                    for some in (batches, of_tokens))
    total = sum(np.count_nonzero(b['segment_ids']) for b in batches)
    if asked >= JUDGED_LEAST and not asked / 2 <= found <= 1.5 * asked:
      unit = self._data.masking_unit
      why = ('a word of this text has more tokens than may be predicted at '
             'once, as where there are no spaces between words. '
             "data.masking_unit='token' or 'span' would do"
             if unit == 'whole_word' else
             f'spans of {self._data.span_length} tokens do not suit examples '
             "this short. data.masking_unit='token', or a shorter "
             'data.span_length, would do')
      raise InputError(
          f'{where}data.masking_unit={unit!r} predicts {found / total:.2%} of '
          f'the tokens, and {asked / total:.2%} were asked for: {why}.')
    targets = np.unique(np.concatenate(
        [b['mlm_targets'][b['mlm_weights'] > 0] for b in batches]))
    if found >= JUDGED_LEAST / 10 and (
        len(targets) == 1 or set(targets.tolist()) <= {
            self.tokenizer.bos_id, self.tokenizer.eos_id}):
      only = ' and '.join(self.tokenizer.token_text(i) for i in targets)
      raise InputError(
          f'{where}all {found:,.0f} predicted tokens of {total:,} are {only}: '
          'a model learns nothing from them. Look at the text, and at '
          'data.masking_unit and data.specials.')

  def identity(self) -> dict[str, str]:
    """Returns hashes of the records, by corpus and sequence length.

    They depend on no path or date, nor on records.VERSION, so that a run goes
    on with records of another version if they are the same. `counts` is the
    hash of the format and the numbers of documents, sentences, examples and
    tokens; `array_record` and `memmap` are those of the checksums of files,
    where the manifest has any.
    """
    found = {}
    for manifest in self._manifests:
      values = dataclasses.asdict(manifest)
      name = f'{manifest.corpus}/{manifest.sequence_length}'
      if 'train' not in values['splits']:  # Of data.eval_corpora.
        name = f'eval/{name}'
      # Checkpoints of version 2 have this 2 in their hash.
      found[f'{name}/counts'] = _content_hash([2, *(values[key] for key in (
          'corpus', 'format', 'sentences', 'pair_law', 'duplicates',
          'splits'))])
      sums = {'array_record': {}, 'memmap': {}}
      for file, checksum in getattr(manifest, 'checksums', {}).items():
        if not file.endswith('.json'):
          form = 'array_record' if '.array_record' in file else 'memmap'
          sums[form][file] = checksum.sha256
      found |= {f'{name}/{form}': _content_hash(of_form)
                for form, of_form in sums.items() if of_form}
    return found

  def summarize(self, sums: dict[str, float]) -> dict[str, float]:
    """Turns sums over an eval set into metrics.

    They count masked tokens alone, so that formats can be compared, except
    nsp_loss and nsp_accuracy. `bits` is the loss as fairseq reports it.
    """
    weight = sums['weight_sum']
    if not weight:
      raise InputError('no token of the evaluation set is masked: the text '
                       'held out (the last 1 % of the documents, or '
                       'data.eval_corpora) is too short, or data.mask_rate too '
                       'low.')
    loss = sums['loss_sum'] / weight
    metrics = {'loss': loss, 'bits': loss / math.log(2),
               'perplexity': math.exp(min(loss, 700.0)),
               'accuracy': sums['correct_sum'] / weight}
    if 'unigram_sum' in sums:
      metrics['unigram_loss'] = sums['unigram_sum'] / weight
    return metrics | pair_metrics(sums)

  def train_metrics(self, step: int, sums: dict[str, float]
                    ) -> dict[str, float]:
    """Returns the metrics of a training step.

    padding_fraction is the share of the batch's B x T positions; epoch counts
    the passes over all records so far, bad_records those left out everywhere.
    """
    weight = max(sums['weight_sum'], 1.0)
    length = self._phases.pipeline(step - 1).sequence_length
    positions = self._data.batch_size * length
    metrics = {'loss': sums['loss_sum'] / weight,
               'accuracy': sums['correct_sum'] / weight,
               'masked_tokens': int(sums['weight_sum']),
               'padding_fraction': 1 - sums['token_sum'] / positions,
               'epoch': self.epoch(step)}
    if len(self.corpora) > 1:
      metrics |= {f'epoch/{name}': passes
                  for name, passes in self.epochs(step).items()}
    if self._data.bad_records == 'skip':
      metrics['bad_records'] = sum(
          source.bad.count() for source, _ in self._train)
    return metrics | pair_metrics(sums)

  def train_batches(self, start_step: int, rows: HostRows) -> Iterator[Batch]:
    return self._make_phases(rows(self._data.batch_size)).batches(start_step)

  def pipeline(self, step: int) -> pipelines.Pipeline:
    return self._phases.pipeline(step)

  def epoch(self, step: int) -> float:
    return self._phases.epoch(step)

  def epochs(self, step: int) -> dict[str, float]:
    return self._phases.epochs(step)

  @functools.cached_property
  def _phases(self) -> pipelines.Phases:
    return self._make_phases(None)

  def _make_phases(self, rows: np.ndarray | None) -> pipelines.Phases:
    phases, first = [], 0
    for source, stop in self._train:
      phases.append(pipelines.Phase(pipelines.Pipeline(
          source, self._data, self._masking, seed=self._seed, rows=rows,
          first_step=first), stop))
      first = stop
    return pipelines.Phases(phases)

  def describe(self, steps: int) -> str:
    epochs = f'{self.epoch(steps):.2f} epochs'
    if self._data.mixture:
      each = ', '.join(f'{name} {passes:.2f}'
                       for name, passes in self.epochs(steps).items())
      epochs = f'{epochs} ({each})'
    return (f'{self._data.batch_size} x {self._data.sequence_length} tokens a '
            f'step, {epochs} in {steps} steps')

  def eval_sets(self, batch_size: int, max_examples: int, rows: np.ndarray
                ) -> dict[str, Callable[[], Iterator[Batch]]]:
    """A set a corpus; its masks depend on the set and the example alone."""
    return {name: functools.partial(
        pipelines.eval_batches, source, self._data, self._masking, name=name,
        batch_size=batch_size, max_examples=max_examples, rows=rows)
            for name, source in self._eval.items()}

  def eval_bad_records(self) -> dict[str, int]:
    """Counts the damaged records left out of each set; {}: none may be."""
    return {} if self._data.bad_records != 'skip' else {
        name: source.bad.count() for name, source in self._eval.items()}

  def eval_constants(self, batch_size: int, max_examples: int
                     ) -> dict[str, dict[str, float]]:
    """Sums the loss, on each set, of a unigram model with add-one smoothing."""
    counts = pipelines.unigram_counts(self._train[-1][0], self.model.vocab_size,
                            UNIGRAM_RECORDS).astype(np.float64)
    log_probs = np.log((counts + 1) / (counts.sum() + len(counts)))
    sets = self.eval_sets(batch_size, max_examples, np.arange(batch_size))
    return {name: {'unigram_sum': -sum(
        float((log_probs[b['mlm_targets']] * b['mlm_weights']).sum())
        for b in batches())} for name, batches in sets.items()}

  def heldout_ids(self, count: int) -> list[np.ndarray]:
    """Spreads the examples evenly over all corpora."""
    rows = []
    for number in range(count):
      source = list(self._eval.values())[number % len(self._eval)]
      record = (2 * number + 1) * source.num_records // (2 * count)
      found = source.gather(np.array([record]))
      rows.append(found.ids[0][:found.lengths[0, 0]])
    return rows
