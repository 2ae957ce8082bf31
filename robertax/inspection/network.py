"""A network with its tokenizer: arrays in, arrays out, few shapes compiled.

`Model` extends it to answer questions about texts.
"""

from collections.abc import Callable, Iterator, Sequence
import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from robertax import model as modelling
from robertax.config import Config, DataConfig, ModelConfig
from robertax.data.feed import fetch_behind
from robertax.errors import InputError
from robertax.text import Tokenizer

SHORTEST = 8  # The smallest length; lengths and row counts are powers of two.


def with_ends(tokenizer: Tokenizer, ids: np.ndarray, max_positions: int,
              text: str) -> np.ndarray:
  """int32 ids with <s> and </s>; InputError, with the text, if too many."""
  row = tokenizer.layout.ids(ids)
  if len(row) > max_positions:
    raise InputError(
        f'the text is {len(row)} tokens long, the model has {max_positions} '
        f'positions: give a shorter one than {text[:60]!r}...')
  return row


def row_batches(rows: Sequence[np.ndarray], pad_id: int, max_positions: int,
                max_tokens: int) -> Iterator[tuple[np.ndarray, np.ndarray,
                                                   np.ndarray]]:
  """Yields batches of rows of similar length, the shortest first.

  Each is (row numbers [n], input_ids int32[B, T], segment_ids int32[B, T]), in
  which rows from n on are padding. B is a power of two, and so is T unless it
  is `max_positions`. A batch has at most `max_tokens` tokens, padding included;
  a longer row is a batch alone.
  """
  lengths = np.array([min(max_positions, max(SHORTEST, _next_power(len(row))))
                      for row in rows])
  for length in sorted(set(lengths.tolist())):
    numbers = np.flatnonzero(lengths == length)
    most = max(1, max_tokens // length)
    most = 1 << (most.bit_length() - 1)
    for start in range(0, len(numbers), most):
      part = numbers[start:start + most]
      shape = (_next_power(len(part)), length)
      input_ids = np.full(shape, pad_id, np.int32)
      segment_ids = np.zeros(shape, np.int32)
      for place, number in enumerate(part):
        row = rows[number]
        input_ids[place, :len(row)], segment_ids[place, :len(row)] = row, 1
      yield part, input_ids, segment_ids


def _next_power(count: int) -> int:
  return max(1, 1 << (count - 1).bit_length())


class Network:
  """Weights, shape and tokenizer of a model.

  `step` is how many updates the weights have had, `labels` are the names of
  classes, if any, `recipe` is the config of its training, and `longest` the
  most tokens of a text to classify. `problem_type` is that of Pretrained. A
  model of SQuAD 2.0 answers nothing if its probability of no answer is above
  `threshold`.
  """

  def __init__(self, params: Any, config: ModelConfig,
               tokenizer: Tokenizer, step: int,
               labels: Sequence[str] = (), recipe: Config | None = None,
               threshold: float | None = None, problem_type: str = ''):
    self.params, self.config = params, config
    self.tokenizer, self.step = tokenizer, step
    self.labels, self.threshold = tuple(labels), threshold
    self.problem_type = problem_type
    fourth = config.max_positions // 4  # Other people's may be short.
    self.recipe = recipe or Config(data=DataConfig(
        sequence_length=config.max_positions,
        doc_stride=min(DataConfig.doc_stride, fourth),
        question_length=min(DataConfig.question_length, fourth)))
    self.longest = min(self.recipe.data.sequence_length, config.max_positions)

  def states(self, input_ids: np.ndarray, segment_ids: np.ndarray,
             all_layers: bool = False) -> np.ndarray:
    """float32[B, T, D], or [N + 1, B, T, D] with all layers."""
    return np.asarray(_compiled(_states, 2)(
        self.config, all_layers, self.params, input_ids, segment_ids))

  def log_probs(self, input_ids: np.ndarray, segment_ids: np.ndarray,
                positions: np.ndarray) -> np.ndarray:
    """float32[B, M, V]: log p of every token at `positions` int32[B, M]."""
    return np.asarray(_compiled(_log_probs, 1)(
        self.config, self.params, input_ids, segment_ids, positions))

  def outputs(self, objective_class: type, examples: Any,
              max_tokens: int = 8192) -> dict[str, np.ndarray]:
    """The answers of a fine-tuning objective to data.finetuning's Examples.

    They are those of `collect_answers`, from batches as in evaluation, but
    without groups, because their sizes would be shapes.
    """
    # Imported here, since filling masks needs no task.
    from robertax.data.finetuning import TuningBatches, collect_answers
    objective = objective_class(self.config, self.tokenizer.pad_id)
    alone = dataclasses.replace(examples, firsts=np.arange(len(examples) + 1))
    batches = TuningBatches(
        alone, batch_size=1, seed=0, max_length=self.config.max_positions,
        pad_id=self.tokenizer.pad_id, few_shapes=True,
        types=self.config.pair_types and self.tokenizer.layout.typed)
    found = fetch_behind(
        batches.evaluation(max_tokens), lambda batch: _compiled(_outputs, 1)(
            objective, self.params,
            {k: v for k, v in batch.items() if k != 'example_ids'}), 1)
    return collect_answers(examples, found, objective.token_outputs)


@functools.cache
def _compiled(function: Callable, num_static: int) -> Callable:
  return jax.jit(function, static_argnums=range(num_static),
                 compiler_options=_compiler_options())


@functools.cache
def _compiler_options() -> dict[str, bool]:
  """XLA's options that compile in less memory, where this XLA knows them."""
  if jax.default_backend() != 'cpu':
    return {}
  # The same bits at the same speed, for 60 MB less while a program is compiled.
  options = {'xla_cpu_use_fusion_emitters': False}
  try:
    jax.jit(lambda x: x, compiler_options=options).lower(0.).compile()
  except jax.errors.JaxRuntimeError:
    return {}
  return options


def _outputs(objective, params, batch):
  return objective.outputs(params, batch)


def _encoded(config, params, input_ids, segment_ids, all_layers=False):
  module = modelling.bind(config, params)
  return module, module.encode(
      input_ids, segment_ids, jnp.zeros_like(input_ids)
      if config.num_types else None, all_layers=all_layers)


def _states(config, all_layers, params, input_ids, segment_ids):
  _, x_BTD = _encoded(config, params, input_ids, segment_ids, all_layers)
  return x_BTD.astype(jnp.float32)


def _log_probs(config, params, input_ids, segment_ids, positions):
  module, x_BTD = _encoded(config, params, input_ids, segment_ids)
  return jax.nn.log_softmax(module.mlm_logits(x_BTD, positions))
