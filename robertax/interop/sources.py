"""`hf:DIR` and `fairseq:FILE`: how a person names other people's models."""

import os
from typing import Any

from robertax.config import TokenizerConfig
from robertax.tables import Table

# Each has .config, and .read(), which gives a Pretrained.
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
  path = os.path.expanduser(path)
  if kind == 'fairseq':
    return TokenizerConfig(path=os.path.dirname(os.path.abspath(path)))
  from robertax.interop import huggingface
  return TokenizerConfig(path=path, lowercase=huggingface.reads_lowercase(path))
