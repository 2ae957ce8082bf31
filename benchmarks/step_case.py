"""The sizes, weights, batches and model FLOP of both sides of benchmarks.step.

This file needs NumPy only.
"""

import dataclasses
from typing import Any

import numpy as np

RATE = 0.15  # of tokens that are masked
FIRST_ID = 5  # behind the special tokens


@dataclasses.dataclass(frozen=True)
class Case:
  """A model, a batch and an optimizer.

  Attributes:
    vocab_size, hidden_size, num_layers, num_heads, mlp_size, max_positions: as
      in robertax.config.ModelConfig.
    rows, tokens: of a batch; every row is full.
    dtype: of activations; weights, moments and the update are float32.
    dropout: rate for hidden states and attention probabilities.
    learning_rate, b1, b2, eps, weight_decay: AdamW's, on all parameters.
  """
  vocab_size: int = 50265
  hidden_size: int = 768
  num_layers: int = 12
  num_heads: int = 12
  mlp_size: int = 3072
  max_positions: int = 512
  rows: int = 8
  tokens: int = 128
  dtype: str = 'float32'
  dropout: float = 0.1
  learning_rate: float = 1e-4
  b1: float = 0.9
  b2: float = 0.98
  eps: float = 1e-6
  weight_decay: float = 0.01

  @property
  def masked(self) -> int:
    """Masked tokens per row."""
    return max(1, int(RATE * self.tokens))

  @property
  def tokens_a_step(self) -> int:
    return self.rows * self.tokens

  def flops(self, masked_head: bool = True) -> float:
    """Counts the FLOP of a step as MFU does: products, forward and backward.

    Args:
      masked_head: whether the head runs on masked tokens only, or on all.
    """
    encoder = self.num_layers * (
        4 * self.hidden_size**2 + 2 * self.hidden_size * self.mlp_size)
    share = self.masked / self.tokens if masked_head else 1
    return self.tokens_a_step * (
        6 * encoder + 12 * self.num_layers * self.hidden_size * self.tokens
        + 6 * share * self.hidden_size * (self.vocab_size + self.hidden_size))


SIZES = {
    'base': {},
    'large': {'hidden_size': 1024, 'num_layers': 24, 'num_heads': 16,
              'mlp_size': 4096},
    'tiny': {'vocab_size': 200, 'hidden_size': 32, 'num_layers': 2,
             'num_heads': 2, 'mlp_size': 64, 'max_positions': 64},
}


def weights(case: Case) -> dict[str, Any]:
  """Random parameters in the layout of robertax.model.create, by seed.

  Biases are not 0 and scales not 1, so that every parameter matters.
  """
  random = np.random.default_rng(0)
  n, d, f = case.num_layers, case.hidden_size, case.mlp_size
  heads = (case.num_heads, d // case.num_heads)

  def gaussian(*shape):
    return random.standard_normal(shape, np.float32) * np.float32(.02)

  def dense(kernel, bias):
    return {'kernel': gaussian(*kernel), 'bias': gaussian(*bias)}

  def norm(*stack):
    return {'scale': 1 + gaussian(*stack, d), 'bias': gaussian(*stack, d)}

  tokens, positions = (gaussian(case.vocab_size, d),
                       gaussian(case.max_positions + 2, d))
  tokens[1] = positions[:2] = 0
  return {
      'embeddings': {'tokens': tokens, 'positions': positions, 'norm': norm()},
      'layers': {
          'attention': {name: dense((n, d, *heads), (n, *heads))
                        for name in ('query', 'key', 'value')} | {
                            'output': dense((n, *heads, d), (n, d))},
          'attention_norm': norm(n),
          'mlp_in': dense((n, d, f), (n, f)),
          'mlp_out': dense((n, f, d), (n, d)),
          'mlp_norm': norm(n)},
      'lm_head': {'dense': dense((d, d), (d,)), 'norm': norm(),
                  'bias': gaussian(case.vocab_size)}}


def batch(case: Case, number: int = 0) -> dict[str, np.ndarray]:
  """Random tokens: input_ids [B,T], and positions and targets [B,M].

  Smaller batches have the first rows of larger ones.
  """
  of_ids, of_masks = (np.random.default_rng((number, n)) for n in (1, 2))
  ids = of_ids.integers(FIRST_ID, case.vocab_size, (case.rows, case.tokens))
  positions = np.sort(np.stack([
      of_masks.permutation(case.tokens)[:case.masked]
      for _ in range(case.rows)]))
  targets = np.take_along_axis(ids, positions, 1)
  np.put_along_axis(ids, positions, case.vocab_size - 1, 1)
  return {'input_ids': ids.astype(np.int32),
          'mlm_positions': positions.astype(np.int32),
          'mlm_targets': targets.astype(np.int32)}
