"""A model with all that belongs to it, wherever it came from."""

import dataclasses
import os
from typing import Any

import numpy as np

from robertax.config import ModelConfig, TokenizerConfig
from robertax.errors import InputError
from robertax.model.encoder import PAD_ID
from robertax.tables import Table
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


# Longer positions, more tokens: rows appended to a model's tables.


FIRST = PAD_ID + 1  # Row of a sequence's first token.


def longer_positions(params: Any, max_positions: int) -> Any:
  """Parameters with more positions.

  The rows behind the P that are there repeat them, from the first: position
  P + i begins as position i does (Beltagy et al. 2020, Longformer, section 5).
  Attention to near tokens is then right from the start, except where a copy
  ends.

  Args:
    params: nested dict of arrays; traceable.
    max_positions: no fewer than before.

  Returns:
    The same in new dicts; all other leaves are the same.

  Raises:
    InputError: fewer than before.
  """
  table = params['embeddings']['positions']
  before = len(table) - FIRST
  if max_positions < before:
    raise InputError(f'model.max_positions={max_positions}: the weights have '
                     f'{before}; a table can be made longer, not shorter.')
  rows = FIRST + np.arange(max_positions) % before
  longer = table[np.concatenate([np.arange(FIRST), rows])]
  return {**params, 'embeddings': {**params['embeddings'],
                                   'positions': longer}}


def with_positions(pretrained: Pretrained, max_positions: int) -> Pretrained:
  """`longer_positions` of a model, and its config."""
  return dataclasses.replace(
      pretrained, params=longer_positions(pretrained.params, max_positions),
      config=dataclasses.replace(pretrained.config,
                                 max_positions=max_positions))


def with_tokens(pretrained: Pretrained, tokens: list[str]) -> Pretrained:
  """A model whose tokenizer has more tokens.

  The row of a new token, in the table and in the decoder, and its bias, is the
  mean of those of the pieces that it has been cut into until now.

  Args:
    pretrained: the model.
    tokens: words, none of which has an id; see Tokenizer.with_added.

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


# `hf:DIR` and `fairseq:FILE`: how a person names other people's models.


# Each has .config, .read(), which gives a Pretrained, and .tokenizer_config().
SOURCES = Table(hf='robertax.interop.huggingface:Folder',
                fairseq='robertax.interop.fairseq:Checkpoint')


def is_foreign(spec: str) -> bool:
  """Whether it is not a workdir of ours."""
  kind, colon, _ = spec.partition(':')
  return bool(colon) and kind in SOURCES


def open_source(spec: str) -> Any:
  """Looks at a model; its `.read()` gives all of it.

  Args:
    spec: 'hf:DIR' or 'fairseq:FILE'.

  Raises:
    InputError: nothing of the kind is there.
  """
  kind, _, path = spec.partition(':')
  return SOURCES[kind](path)


def source_tokenizer(spec: str) -> TokenizerConfig:
  """The `tokenizer` section that reads its tokenizer."""
  kind, _, path = spec.partition(':')
  return SOURCES[kind].tokenizer_config(os.path.expanduser(path))
