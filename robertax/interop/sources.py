"""`hf:DIR` and `fairseq:FILE`: how a person names other people's models."""

import os
from typing import Any

from robertax.config import TokenizerConfig
from robertax.tables import Table

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
