"""A model with all that belongs to it, wherever it came from."""

import dataclasses
from typing import Any

from robertax.config import ModelConfig
from robertax.text import Tokenizer


@dataclasses.dataclass(frozen=True)
class Pretrained:
  """Weights, shape and tokenizer together.

  Attributes:
    params: nested dict of float32 arrays, with the tokenizer's rows.
    config: of them, vocab_size filled in.
    tokenizer: text.Tokenizer.
    source: where it was read, such as 'hf:roberta-base'.
    labels: names of the classes, in order; empty where there are none.
    family: what it was in Hugging Face, 'roberta' or 'bert'; empty: nothing.
    choice: the classifier scores the answers of a multiple choice.
    step: updates that the weights have seen here; 0 of other people's.
    history: what is known of how they were made: 'config', a nested dict, and
      'metrics', the last of each.
    lines: what a person should know of the reading, such as tensors left out.
  """
  params: Any
  config: ModelConfig
  tokenizer: Tokenizer
  source: str
  labels: tuple[str, ...] = ()
  family: str = ''
  choice: bool = False
  step: int = 0
  history: dict[str, Any] = dataclasses.field(default_factory=dict)
  lines: tuple[str, ...] = ()
