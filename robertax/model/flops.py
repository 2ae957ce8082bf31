"""What a model's arithmetic costs, as MFU counts it."""

from robertax.config import ModelConfig


def training_flops(config: ModelConfig, tokens: float, targets: float,
                   length: int) -> float:
  """Of forward and backward pass: products of matrices alone, 1 MAC = 2 FLOP.

  6 for each parameter of the blocks and token, 12 L H T a token for attention,
  6 (H V + H^2) for each position that goes through the head (PaLM, appendix B;
  backward is twice forward).

  Args:
    config: its vocab_size filled in.
    tokens: without padding.
    targets: masked positions that are predicted.
    length: of a row, T.
  """
  layers, hidden = config.num_layers, config.hidden_size
  blocks = layers * (4 * hidden**2 + 2 * hidden * config.mlp_size)
  return (tokens * (6 * blocks + 12 * layers * hidden * length)
          + 6 * targets * (hidden * config.vocab_size + hidden**2))
