"""A model with its config and tokenizer, and the sources it may come from.

A model can be given more positions, more tokens or another vocabulary. People
name foreign models `hf:DIR` and `fairseq:FILE`.
"""

from collections.abc import Collection
import dataclasses
import os
from typing import Any, NamedTuple, Protocol
import zlib

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
  problem_type: str = ''  # One of config.PROBLEM_TYPES; '': not known.
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
  from robertax.model.encoder import map_tables  # Imports flax.
  old = pretrained.tokenizer
  tokenizer = old.with_added(tokens)
  pieces = [old.encode(token) for token in tokens]

  def longer(table):
    table = np.asarray(table)
    return np.concatenate([table, *(
        table[ids].mean(0, keepdims=True) for ids in pieces)])

  return dataclasses.replace(
      pretrained, params=map_tables(pretrained.params, longer),
      tokenizer=tokenizer,
      config=dataclasses.replace(pretrained.config,
                                 vocab_size=tokenizer.vocab_size))


class TokenRows(NamedTuple):
  """The rows of an old table that each new token's row is the mean of."""
  old_ids: list[list[int]]  # For each new id; empty: it is drawn.
  seeds: list[int]  # For each new id, a hash of its text.
  pieces: np.ndarray  # int[...], the old ids that are not special.

  def of(self, table: np.ndarray) -> np.ndarray:
    """Makes a table [V, ...] for the new ids; a bias is not drawn."""
    mean, std = table[self.pieces].mean(0), table[self.pieces].std(0)
    return np.stack([
        table[ids].mean(0) if ids else mean if table.ndim == 1 else
        mean + std * np.random.default_rng(seed).standard_normal(
            mean.shape, np.float32)
        for ids, seed in zip(self.old_ids, self.seeds)]).astype(table.dtype)

  def describe(self) -> str:
    """Says how many of the new ids begin in which way."""
    sizes = np.array(list(map(len, self.old_ids)))
    drawn = np.sum(sizes == 0)
    return (f'{len(sizes):,} ids, {np.sum(sizes == 1):,} of them with the '
            f'vectors of one old id, {np.sum(sizes > 1):,} with the mean of '
            f'several' + (f', {drawn:,} drawn, because the old tokenizer does '
                          'not know their text' if drawn else ''))


def token_rows(old: Tokenizer, new: Tokenizer) -> TokenRows:
  """Finds for each id of a tokenizer the ids of another that mean the same.

  A special token has the old one of its role, and a piece the old piece of the
  same bytes, whatever marks the beginning of a word (' the' is `the` in
  WordPiece, `the` with a sign of a space in others). Any other piece has those
  that the old tokenizer cuts its text into.
  """
  plain = [i for i in range(old.vocab_size) if i not in old.special_ids]
  known: dict[bytes, int] = {}
  for i in plain:
    known.setdefault(old.token_bytes(i), i)
  pieces = [new.token_bytes(i) for i in range(new.vocab_size)]
  found = [[known[piece]] if piece in known else [] for piece in pieces]
  unknown = [i for i, ids in enumerate(found) if not ids]
  texts = [pieces[i].decode(errors='ignore') for i in unknown]
  for i, text, ids in zip(unknown, texts, old.encode_batch(texts)):
    if text.encode() == pieces[i]:
      found[i] = [int(n) for n in ids if n != old.unk_id]
    else:  # Some bytes of a letter, which only a byte-level vocabulary has.
      found[i] = [known[b] for b in map(bytes, zip(pieces[i])) if b in known]
  for role in ('bos_id', 'pad_id', 'eos_id', 'unk_id', 'mask_id'):
    if min(getattr(new, role), getattr(old, role)) >= 0:  # Some have no <unk>.
      found[getattr(new, role)] = [getattr(old, role)]
  return TokenRows(found, list(map(zlib.crc32, pieces)), np.array(plain))


def unnamed(outputs: int) -> tuple[str, ...]:
  """Returns what transformers calls outputs of which it knows no names."""
  return tuple(f'LABEL_{i}' for i in range(outputs))


class ForeignModel(Protocol):
  """A model of another library, whose weights are not read yet."""
  config: ModelConfig

  def read(self, dropped: Collection[str] | None = None) -> Pretrained:
    """Reads the model; InputError if its parts do not belong together.

    `dropped` are parts that are not needed. Tensors of parts that we lack are
    an error unless it names them, as are names that do not fit the classifier;
    None: all of the model is needed, and an architecture that we lack is one.
    """

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
