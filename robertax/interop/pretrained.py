"""A model with its config and tokenizer, and the sources it may come from.

A model can be given more positions and more tokens. People name foreign models
`hf:DIR` and `fairseq:FILE`.
"""

import dataclasses
import os
from typing import Any, Protocol

import numpy as np

from robertax.config import ModelConfig, TokenizerConfig
from robertax.errors import InputError
from robertax.tables import LazyTable
from robertax.text import Tokenizer


@dataclasses.dataclass(frozen=True)
class Pretrained:
  """Weights with their config and tokenizer."""
  params: Any  # Nested dict of float32 arrays, with a row for each token id.
  config: ModelConfig  # Has vocab_size filled in.
  tokenizer: Tokenizer
  source: str  # Where the weights were read, such as 'hf:roberta-base'.
  labels: tuple[str, ...] = ()  # Names of the classes, in order.
  family: str = ''  # model_type, such as 'bert', if it came from Hugging Face.
  choice: bool = False  # Whether the classifier is for multiple choice.
  step: int = 0  # Updates in our own training; 0 for foreign weights.
  # How the weights were made, if known: 'config', a nested dict, and 'metrics',
  # the last value of each.
  history: dict[str, Any] = dataclasses.field(default_factory=dict)
  lines: tuple[str, ...] = ()  # Messages, such as on tensors left out.


def longer_positions(params: Any, max_positions: int) -> Any:
  """Returns parameters with more positions, in new dicts. Traceable.

  The new rows repeat the P existing ones: position P + i is initialized as
  position i (Beltagy et al. 2020, Longformer, section 5). Attention to near
  tokens is then right from the start, except where a copy ends. Fewer positions
  than P are an InputError.
  """
  from robertax.model.encoder import PAD_ID  # Imports flax.
  table = params['embeddings']['positions']
  first = PAD_ID + 1  # Row of a sequence's first token.
  before = len(table) - first
  if max_positions < before:
    raise InputError(f'model.max_positions={max_positions}: the weights have '
                     f'{before}; a table can be made longer, not shorter.')
  rows = first + np.arange(max_positions) % before
  longer = table[np.concatenate([np.arange(first), rows])]
  return {**params, 'embeddings': {**params['embeddings'], 'positions': longer}}


def with_positions(pretrained: Pretrained, max_positions: int) -> Pretrained:
  """Applies `longer_positions` to a model."""
  return dataclasses.replace(
      pretrained, params=longer_positions(pretrained.params, max_positions),
      config=dataclasses.replace(pretrained.config,
                                 max_positions=max_positions))


def with_tokens(pretrained: Pretrained, tokens: list[str]) -> Pretrained:
  """Adds tokens to a model's tokenizer (`Tokenizer.with_added`) and tables.

  A new token's rows of the embedding and the decoder, and its bias, are means
  over the pieces that it was cut into before. InputError if it is not allowed.
  """
  old, params = pretrained.tokenizer, dict(pretrained.params)
  tokenizer = old.with_added(tokens)
  pieces = [old.encode(token) for token in tokens]

  def longer(table):
    table = np.asarray(table)
    return np.concatenate([table, *(
        table[ids].mean(0, keepdims=True) for ids in pieces)])

  for part, name in (('embeddings', 'tokens'), ('lm_head', 'bias'),
                     ('lm_head', 'decoder')):
    if name in params.get(part, ()):
      params[part] = {**params[part], name: longer(params[part][name])}
  return dataclasses.replace(
      pretrained, params=params, tokenizer=tokenizer,
      config=dataclasses.replace(pretrained.config,
                                 vocab_size=tokenizer.vocab_size))


class ForeignModel(Protocol):
  """A model of another library, whose weights are not read yet."""
  config: ModelConfig

  def read(self) -> Pretrained:
    """Reads the model; InputError if its parts do not belong together."""

  @staticmethod
  def tokenizer_config(path: str) -> TokenizerConfig:
    """Returns the `tokenizer` section that reads the tokenizer of a model."""


# Each row is a ForeignModel, and is called with a path.
SOURCES = LazyTable(hf='robertax.interop.huggingface:Folder',
                    fairseq='robertax.interop.fairseq:Checkpoint')


def is_foreign(source: str) -> bool:
  """Whether this is 'hf:DIR' or 'fairseq:FILE', and not a workdir of ours."""
  kind, colon, _ = source.partition(':')
  return bool(colon) and kind in SOURCES


def open_source(source: str) -> ForeignModel:
  """Opens a source for which `is_foreign` is true; InputError if it fails."""
  kind, _, path = source.partition(':')
  return SOURCES[kind](path)


def source_tokenizer(source: str) -> TokenizerConfig:
  """Returns the `tokenizer` section that reads a foreign model's tokenizer."""
  kind, _, path = source.partition(':')
  return SOURCES[kind].tokenizer_config(os.path.expanduser(path))
