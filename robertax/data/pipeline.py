"""Batches for pretraining: batch k is a pure function of the seed and k.

Therefore a run resumes at any step without saved state, several hosts make
their rows of one global batch without communication, and any past batch can be
made again. Evaluation batches depend on the evaluation set alone. data.backend
chooses whether tf.data or NumPy makes the batches ahead; they are the same.
`Phases` is a run whose rows change their length once.
"""

from collections.abc import Iterator, Sequence
import contextlib
import importlib.util
import itertools
import os
import sys
import threading
from typing import NamedTuple

import numpy as np

from robertax.config import DataConfig
from robertax.corpus.records import import_tensorflow
from robertax.data.feed import Prefetch
from robertax.data.hashing import eval_keys, train_keys
from robertax.data.masking import Batch, Masking
from robertax.data.order import open_order
from robertax.data.remote import GRID, Lookahead
from robertax.data.rows import Rows
from robertax.data.source import Source, grid
from robertax.errors import InputError

_COUNTED = 512  # Rows that `unigram_counts` reads at once.
# Batches before a thread imports tensorflow: more than are made ahead of the
# first step, because the import would slow its compilation down.
_BEFORE_TENSORFLOW = 8


def segment_ids(lengths: np.ndarray, length: int) -> np.ndarray:
  """int32[B,T]: the example that each token belongs to, 1 .. P; 0 is padding.

  >>> segment_ids(np.array([[2, 1], [3, 0]]), 4)
  array([[1, 1, 2, 0],
         [1, 1, 1, 0]], dtype=int32)
  """
  columns = np.arange(length, dtype=np.int32)
  ends = np.cumsum(lengths, -1, dtype=np.int32)
  result = (columns < ends[:, -1:]).astype(np.int32)
  if lengths.shape[1] == 1:
    return result
  return result * (1 + _passed(ends, length))


def type_ids(lengths: np.ndarray, first_lengths: np.ndarray, length: int
             ) -> np.ndarray:
  """int32[B,T]: 1 for `B </s>`, 0 for `<s> A </s>` and for padding.

  >>> type_ids(np.array([[3, 4]]), np.array([[2, 3]]), 8)
  array([[0, 0, 1, 0, 0, 0, 1, 0]], dtype=int32)
  """
  ends = np.cumsum(lengths, -1, dtype=np.int32)
  # Inside a B, one more B has begun than examples have ended.
  begins = np.where(lengths > 0, ends - lengths + first_lengths, length)
  return _passed(begins, length) - _passed(
      np.where(lengths > 0, ends, length), length)


def pair_fields(rows: Rows) -> dict[str, np.ndarray]:
  """The fields of a batch that only pair formats have.

  They are type_ids int32[B,T]; nsp_positions int32[B,P], where examples start;
  nsp_targets int32[B,P], as in BERT: 0 if B follows A, 1 if it is random; and
  nsp_weights float32[B,P]. The last three are 0 for empty slots.
  """
  lengths, has = rows.lengths, rows.lengths > 0
  starts = np.cumsum(lengths, -1, dtype=np.int32) - lengths
  return {
      'type_ids': type_ids(lengths, rows.first_lengths, rows.ids.shape[1]),
      'nsp_positions': np.where(has, starts, 0),
      'nsp_targets': (has & (rows.second_documents != rows.documents)).astype(
          np.int32), 'nsp_weights': has.astype(np.float32)}


def _passed(marks: np.ndarray, length: int) -> np.ndarray:
  """int32[B,T]: how many of a row's marks are at or before each column."""
  counts = np.zeros((len(marks), length + 1), np.int32)
  np.add.at(counts, (np.arange(len(marks))[:, None], marks), 1)
  return np.cumsum(counts[:, :length], -1, dtype=np.int32)


class Pipeline:
  """Makes the rows `rows` int64[b] of each training batch of a run."""

  def __init__(self, source: Source, config: DataConfig, masking: Masking, *,
               seed: int, rows: np.ndarray | None = None, first_step: int = 0):
    """Reads no record yet; InputError if there are none.

    Args:
      source, config, masking: for the training records; batch_size is global.
      seed: of the order and the masks.
      rows: numbers of the rows that this host makes, in its order; None: all.
      first_step: the step that has the first batch of the order.
    """
    if not source.records_DK.sum(1).min():
      raise InputError(
          f'no training record in {", ".join(source.corpora)}: the text is too '
          'short for even one. Give more, or a lower data.sequence_length.')
    self.rows = np.asarray(
        np.arange(config.batch_size) if rows is None else rows, np.int64)
    self.sequence_length = source.sequence_length
    self._source, self._config, self._masking = source, config, masking
    self._seed, self._first_step = seed, first_step
    self._order = open_order(source, config, seed)

  def epoch(self, step: int) -> float:
    """The passes over the records that are made before batch `step`."""
    return (self._place(step) * len(self._source.records_DK)
            / self._source.num_records)

  def epochs(self, step: int) -> dict[str, float]:
    """The passes over each corpus that are made before batch `step`."""
    return self._order.epochs(self._place(step))

  def make_batch(self, step: int) -> Batch:
    """Batch `step`, counted from 0; InputError if a file is damaged or missing.

    It has input_ids int32[b,T], segment_ids int32[b,T] (1 .. P, 0 for padding),
    mlm_positions int32[b,M], mlm_targets int32[b,M], mlm_weights float32[b,M],
    example_ids int64[b,P] (for the host only; -1 for none), and for pair
    formats the fields of `pair_fields`.
    """
    return _masked(*self.read(step), self._masking, step)

  def batches(self, start_step: int = 0) -> Iterator[Batch]:
    """Yields batches from `start_step` on, without end; close it after use."""
    make = _late_tf_batches if self._config.backend == 'tf' else _numpy_batches
    with self._source.lookahead(
        lambda step: self.locate(step)[1], self._order.chunks, start_step
    ) as ahead, Prefetch(make(self, start_step, ahead),
                         self._config.prefetch) as batches:
      yield from batches

  def read(self, step: int) -> tuple[Rows, np.ndarray]:
    """The unmasked rows of batch `step`, and the keys of their masks."""
    epochs, records = self.locate(step)
    rows = self._source.gather(records, self._order.chunks)
    if self._config.masks == 'static':
      epochs = epochs % self._config.num_static_masks
    return rows, train_keys(self._seed, epochs, rows.example_ids)

  def locate(self, step: int) -> tuple[np.ndarray, np.ndarray]:
    """The epoch (of its corpus) and the record of each row, int64[b] each."""
    return self._order.at(self._place(step) + self.rows)

  def _place(self, step: int) -> int:
    """The number of rows in the order before batch `step`."""
    return max(0, int(step) - self._first_step) * self._config.batch_size


def eval_batches(source: Source, config: DataConfig, masking: Masking, *,
                 name: str, batch_size: int | None = None,
                 max_examples: int = 0, rows: np.ndarray | None = None
                 ) -> Iterator[Batch]:
  """Yields the batches of an evaluation set, in the order of its records.

  They are as those of `Pipeline.make_batch`; the last one is filled up with
  rows whose segment_ids and weights are 0. Masks depend on `name` and the
  example alone, so that no seed, step, batch size or other corpus changes what
  is predicted.

  Args:
    source: the evaluation records of one corpus.
    config: gives batch_size if none is given.
    masking: keeps its rate of step 0.
    name: of the set.
    batch_size: global.
    max_examples: about how many examples are read, in whole rows spread evenly
      over the set; 0: all.
    rows: numbers of the rows that this host makes; None: all.
  """
  batch_size = batch_size or config.batch_size
  rows = np.arange(batch_size) if rows is None else np.asarray(rows)
  total = count = source.num_records
  if max_examples and max_examples < source.num_examples:
    count = max(1, max_examples * total // source.num_examples)
  # Where they are remote, rows that are far apart are each a chunk.
  chunks = grid if total < GRID // 8 * count else lambda row: (row, row + 1)
  for start in range(0, count, batch_size):
    places = start + rows
    real = places < count
    found = source.gather(np.where(real, places, 0) * total // count, chunks)
    found.lengths[~real] = 0
    found.example_ids[~real] = -1
    found.documents[~real] = -1
    yield _masked(found, eval_keys(name, found.example_ids), masking)


def unigram_counts(source: Source, vocab_size: int, max_records: int = 0
                   ) -> np.ndarray:
  """int64[vocab_size]: how often tokens occur in about `max_records` rows."""
  total = source.num_records
  count = min(max_records or total, total)
  counts = np.zeros(vocab_size, np.int64)
  # Runs instead of single rows, because remote rows are read in chunks.
  run = min(GRID, count)
  runs = count // run
  for start in range(0, count, _COUNTED):
    places = np.arange(start, min(start + _COUNTED, count))
    if count < total:
      number, offset = np.divmod(places[places < runs * run], run)
      places = number * (total - run + 1) // runs // run * run + offset
    rows = source.gather(places)
    real = segment_ids(rows.lengths, source.sequence_length) > 0
    counts += np.bincount(rows.ids[real], minlength=vocab_size)
  return counts


def _masked(rows: Rows, keys: np.ndarray, masking: Masking, step: int = 0
            ) -> Batch:
  segments = segment_ids(rows.lengths, rows.ids.shape[1])
  return masking.numpy(rows.ids, segments, keys, step) | {
      'segment_ids': segments, 'example_ids': rows.example_ids} | (
          {} if rows.first_lengths is None else pair_fields(rows))


def _numpy_batches(pipeline: Pipeline, start_step: int, ahead: Lookahead
                   ) -> Iterator[Batch]:
  for step in itertools.count(start_step):
    batch = pipeline.make_batch(step)
    ahead.passed(step)
    yield batch


def _late_tf_batches(pipeline: Pipeline, start_step: int, ahead: Lookahead
                     ) -> Iterator[Batch]:
  # tensorflow takes seconds to import. NumPy makes the same batches meanwhile.
  step, importing = start_step, None
  if 'tensorflow' not in sys.modules and importlib.util.find_spec('tensorflow'):
    for batch in _numpy_batches(pipeline, start_step, ahead):
      yield batch
      step += 1
      if step == start_step + _BEFORE_TENSORFLOW:
        importing = threading.Thread(
            target=_try_tensorflow, name='robertax-tensorflow')
        importing.start()
      elif importing and not importing.is_alive():
        break
  yield from _tf_batches(pipeline, step, ahead)


def _tf_batches(pipeline: Pipeline, start_step: int, ahead: Lookahead
                ) -> Iterator[Batch]:
  tf = import_tensorflow()
  size, length = len(pipeline.rows), pipeline._source.sequence_length
  slots = pipeline._source.max_examples_per_row
  budget, failures = pipeline._masking.budget(length, slots), []
  signature = {'input_ids': (tf.int32, (size, length)),
               'mlm_positions': (tf.int32, (size, budget)),
               'mlm_targets': (tf.int32, (size, budget)),
               'mlm_weights': (tf.float32, (size, budget)),
               'segment_ids': (tf.int32, (size, length)),
               'example_ids': (tf.int64, (size, slots))}
  if pipeline._source.pairs:
    signature |= {'type_ids': (tf.int32, (size, length)),
                  'nsp_positions': (tf.int32, (size, slots)),
                  'nsp_targets': (tf.int32, (size, slots)),
                  'nsp_weights': (tf.float32, (size, slots))}

  # TensorFlow passes only the text of Python's errors, so they are kept.
  def kept(step):
    try:
      values = pipeline.make_batch(int(step))
      ahead.passed(int(step))
      return [values[name] for name in signature]
    except Exception as e:
      failures.append(e)
      raise

  # Reading and masking are Python in one thread at a time.
  @tf.autograph.experimental.do_not_convert
  def mapped(step):
    values = tf.numpy_function(
        kept, [step], [dtype for dtype, _ in signature.values()])
    return {name: tf.ensure_shape(value, shape) for (name, (_, shape)), value
            in zip(signature.items(), values)}

  options = tf.data.Options()
  # By default TensorFlow would take every core from JAX.
  threads = min(2, os.cpu_count() or 1)
  options.threading.private_threadpool_size = threads
  options.threading.max_intra_op_parallelism = threads
  options.autotune.enabled = False
  options.deterministic = True
  dataset = tf.data.Dataset.range(start_step, np.iinfo(np.int64).max).map(
      mapped).prefetch(1).with_options(options)
  try:
    # Dropping the iterator on close ends its threads.
    yield from dataset.as_numpy_iterator()
  except tf.errors.OpError:
    if failures:
      raise failures[0] from None
    raise


def _try_tensorflow() -> None:
  with contextlib.suppress(Exception):  # The next import raises it again.
    import_tensorflow()


class Phase(NamedTuple):
  """A part of a run's steps."""
  pipeline: Pipeline  # Counts its batches from the run's first step.
  stop: int | None = None  # The step after the last one; None: no end.


class Phases:
  """The training batches of a run, phase after phase.

  BERT trains on 128 tokens for the first 90 % of its updates and on 512 for the
  rest (Devlin et al. 2018, appendix A.2); RoBERTa does not (Liu et al. 2019,
  section 3.1). Each phase has its own records and order.
  """

  def __init__(self, phases: Sequence[Phase]):
    """Takes phases in their order, the last one without a stop."""
    self._phases = tuple(phases)

  def pipeline(self, step: int) -> Pipeline:
    """The pipeline that makes batch `step`."""
    return next(pipeline for pipeline, stop in self._phases
                if stop is None or step < stop)

  def batches(self, start_step: int = 0) -> Iterator[Batch]:
    """Yields batches from `start_step` on, without end; close it after use."""
    step = start_step
    for pipeline, stop in self._phases:
      if stop is not None and step >= stop:
        continue
      with contextlib.closing(pipeline.batches(step)) as batches:
        yield from itertools.islice(batches, stop and stop - step)
      step = stop

  def epoch(self, step: int) -> float:
    """The passes over the records that are made before batch `step`."""
    return sum(pipeline.epoch(step if stop is None else min(step, stop))
               for pipeline, stop in self._phases)

  def epochs(self, step: int) -> dict[str, float]:
    """The passes over each corpus that are made before batch `step`."""
    each = [pipeline.epochs(step if stop is None else min(step, stop))
            for pipeline, stop in self._phases]
    return {name: sum(passes[name] for passes in each) for name in each[0]}
