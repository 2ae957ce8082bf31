"""A model with all that belongs to it, and the sources it may come from.

It can be given more positions and more tokens. `hf:DIR` and `fairseq:FILE` are
how a person names other people's models.
"""

import dataclasses
import os
from typing import Any, Protocol

import numpy as np

from robertax.config import ModelConfig, TokenizerConfig
from robertax.errors import InputError
from robertax.tables import Table
from robertax.text import Tokenizer


@dataclasses.dataclass(frozen=True)
class Pretrained:
  """Weights, shape and tokenizer together.

  Attributes:
    params: nested dict of float32 arrays, with the tokenizer's rows.
    config: of the params, vocab_size filled in.
    tokenizer: the one that gives their ids.
    source: where they were read, such as 'hf:roberta-base'.
    labels: names of the classes, in order; empty where there are none.
    family: what it was in Hugging Face, 'roberta' or 'bert'; empty: nothing.
    choice: the classifier scores the answers of a multiple choice.
    step: updates that the weights have seen here; 0 of other people's.
    history: how the weights were made, if known: 'config', a nested dict, and
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


def longer_positions(params: Any, max_positions: int) -> Any:
  """Parameters with more positions, in new dicts. Traceable.

  The rows behind the P that are there repeat them: position P + i begins as
  position i does (Beltagy et al. 2020, Longformer, section 5). Attention to
  near tokens is then right from the start, except where a copy ends.

  Raises:
    InputError: fewer positions than before.
  """
  from robertax.model.encoder import PAD_ID  # Not before: it imports flax.
  table = params['embeddings']['positions']
  first = PAD_ID + 1  # Row of a sequence's first token.
  before = len(table) - first
  if max_positions < before:
    raise InputError(f'model.max_positions={max_positions}: the weights have '
                     f'{before}; a table can be made longer, not shorter.')
  rows = first + np.arange(max_positions) % before
  longer = table[np.concatenate([np.arange(first), rows])]
  return {**params, 'embeddings': {**params['embeddings'],
                                   'positions': longer}}


def with_positions(pretrained: Pretrained, max_positions: int) -> Pretrained:
  """A model with `longer_positions`."""
  return dataclasses.replace(
      pretrained, params=longer_positions(pretrained.params, max_positions),
      config=dataclasses.replace(pretrained.config,
                                 max_positions=max_positions))


def with_tokens(pretrained: Pretrained, tokens: list[str]) -> Pretrained:
  """A model whose tokenizer has more tokens (Tokenizer.with_added).

  The row of a new token, in the table and in the decoder, and its bias, is the
  mean over the pieces that it was cut into before.

  Raises:
    InputError: a token that cannot be added.
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
  """Somebody else's model, whose weights are not read yet."""
  config: ModelConfig

  def read(self) -> Pretrained:
    """Reads all of it; InputError if its parts do not belong together."""

  @staticmethod
  def tokenizer_config(path: str) -> TokenizerConfig:
    """The `tokenizer` section that reads the tokenizer of the model there."""


# Classes of sources, made from a path.
SOURCES = Table(hf='robertax.interop.huggingface:Folder',
                fairseq='robertax.interop.fairseq:Checkpoint')


def is_foreign(source: str) -> bool:
  """Whether it is 'hf:DIR' or 'fairseq:FILE', and not a workdir of ours."""
  kind, colon, _ = source.partition(':')
  return bool(colon) and kind in SOURCES


def open_source(source: str) -> ForeignModel:
  """Looks at a model of which `is_foreign` is true.

  Raises:
    InputError: there is no model of that kind.
  """
  kind, _, path = source.partition(':')
  return SOURCES[kind](path)


def source_tokenizer(source: str) -> TokenizerConfig:
  """The `tokenizer` section that reads the tokenizer of a foreign model."""
  kind, _, path = source.partition(':')
  return SOURCES[kind].tokenizer_config(os.path.expanduser(path))
