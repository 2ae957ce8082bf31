"""Converts any model to a Hugging Face folder or a workdir, and verifies it.

The check compares, on real sentences, the logits of the model that was read,
of the model that was written and, if transformers is installed, of PyTorch.
"""

from collections.abc import Iterator
import contextlib
import dataclasses
import functools
import importlib.util
import os
import shutil
import tempfile
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from robertax import files, model
from robertax.config import ModelConfig
from robertax.errors import InputError, reading, writing
from robertax.inspection import opening
from robertax.interop import huggingface
from robertax.interop.pretrained import Pretrained, with_positions, with_tokens
from robertax.text import Tokenizer


def convert(source: str, target: str, verify: bool = False,
            max_positions: int = 0, add_tokens: str = '') -> list[str]:
  """Converts a model; `target` appears whole or not at all.

  Args:
    source: W, `hf:DIR` or `fairseq:FILE`.
    target: `hf:DIR` or W, a folder that does not exist yet.
    verify: compare logits before the target appears, by reading it back and, if
      it is installed, with transformers.
    max_positions: the new length of the position table; 0 keeps it.
    add_tokens: a file with a new token per line; empty: none.

  Returns:
    Lines for a person that say what was left unused and what was compared.
    InputError if some input is wrong, or if logits differ.
  """
  if target.startswith('fairseq:'):
    raise InputError(f'--target={target}: hf:DIR or a workdir; fairseq is only '
                     'read.')
  to_hf, folder = target.startswith('hf:'), target.removeprefix('hf:')
  if files.is_remote(folder):
    raise InputError(f'--target={target}: a local folder, which can be copied '
                     'once it is whole.')
  folder = os.path.expanduser(folder).rstrip('/') or folder
  if os.path.exists(folder) and (not os.path.isdir(folder)
                                 or os.listdir(folder)):
    raise InputError(f'--target={target}: there is something already: choose '
                     'another folder, or move it away.')
  original = changed = opening.read_model(source)
  lines = list(original.lines)
  if add_tokens:
    with reading(f'--add_tokens={add_tokens}'), open(
        add_tokens, encoding='utf-8') as f:
      tokens = [line.rstrip('\n') for line in f]
    changed = with_tokens(changed, [t for t in tokens if t])
  if max_positions:
    changed = with_positions(changed, max_positions)
  with appearing(folder) as partial:
    if to_hf:
      huggingface.write_folder(changed, partial)
    else:
      opening.write_workdir(partial, changed)
    if verify:
      lines += _verify(original, changed, source, to_hf, partial)
  return lines + [f'{target}: written from {source}']


@contextlib.contextmanager
def appearing(folder: str) -> Iterator[str]:
  """Yields a folder to write into, which is renamed to `folder` at the end.

  `folder` must not exist yet or be empty. If the body raises, nothing is left.
  """
  parent, name = os.path.split(os.path.abspath(folder))
  with writing(folder):
    os.makedirs(parent, exist_ok=True)
    partial = tempfile.mkdtemp(prefix=f'{name}.', suffix=files.PARTIAL,
                               dir=parent)
  try:
    yield partial
    with writing(folder):
      mask = os.umask(0)  # mkdtemp's folders are only for their owner.
      os.umask(mask)
      os.chmod(partial, 0o777 & ~mask)
      files.publish(partial, os.path.abspath(folder))
  finally:
    shutil.rmtree(partial, ignore_errors=True)


# The check that both sides give the same logits.

# Long and short, so that there is padding; some are not plain English.
SENTENCES = (
    'The committee adjourned at noon, having approved the budget of 1,250,000 '
    'dollars for the new library and its reading rooms.',
    'She sells sea shells by the sea shore.',
    'def area(radius): return 3.14159 * radius ** 2  # of a circle',
    'Zürich, naïve café, 東京, Привет, \U0001f642.',
    'No.',
    'What the tortoise said to Achilles was never written down in full; what '
    'is left of it fills a page, and most of that page is a proof.')
# Float32 sums differ by their order; a logit of 30 has an ulp of 2e-6.
ATOL, RTOL = 1e-4, 1e-5
MOST_TOKENS = 64


def _verify(original: Pretrained, changed: Pretrained, source: str,
            to_hf: bool, partial: str) -> Iterator[str]:
  """Compares the model read with the model written, and both with PyTorch."""
  there = has_transformers()
  if original.source.startswith('hf:') and there:
    batch = sentence_batch(original.tokenizer, original.config)
    yield compare_outputs(
        our_outputs(original, batch),
        their_outputs(original.source.removeprefix('hf:'), batch), batch,
        f'transformers and robertax on {source}')
  batch = sentence_batch(changed.tokenizer, changed.config)
  ours = our_outputs(changed, batch)
  again = opening.read_model(f'hf:{partial}' if to_hf else partial)
  yield compare_outputs(ours, our_outputs(again, batch), batch,
                        'what was read and what was written')
  if to_hf and there:
    yield compare_tokenizers(changed.tokenizer, partial)
    yield compare_outputs(ours, their_outputs(partial, batch), batch,
                          'robertax and transformers on what was written')
  if not there:
    yield ('torch and transformers are not installed: compared by robertax '
           'alone')


def sentence_batch(tokenizer: Tokenizer,
                   config: ModelConfig) -> dict[str, np.ndarray]:
  """The sentences as int32[B, T], with a masked token and two types per row."""
  most = min(MOST_TOKENS, config.max_positions)
  rows = [np.concatenate([[tokenizer.bos_id],
                          tokenizer.encode(text)[:max(0, most - 2)],
                          [tokenizer.eos_id]])[:most] for text in SENTENCES]
  length = max(map(len, rows))
  ids = np.full((len(rows), length), tokenizer.pad_id, np.int32)
  for row, tokens in enumerate(rows):
    ids[row, :len(tokens)] = tokens
    ids[row, min(2, len(tokens) - 1)] = tokenizer.mask_id
  lengths = np.array([[len(row)] for row in rows])
  at = np.arange(length)
  return {'input_ids': ids, 'segment_ids': (at < lengths).astype(np.int32),
          'type_ids': ((at >= lengths // 2) & (at < lengths)
                       & config.pair_types).astype(np.int32)}


def our_outputs(pretrained: Pretrained, batch: dict[str, np.ndarray]
                ) -> dict[str, np.ndarray]:
  """The states and each head's outputs by name, in float32."""
  config = dataclasses.replace(pretrained.config, dtype='float32')
  with jax.default_matmul_precision('highest'):
    return jax.device_get(_run_model(config, pretrained.params, batch))


@functools.partial(jax.jit, static_argnums=0)
def _run_model(config: ModelConfig, params: Any, batch: dict[str, jax.Array]
               ) -> dict[str, jax.Array]:
  module = model.bind(config, params)
  types = batch['type_ids'] if config.num_types else None
  x_BTD = module.encode(batch['input_ids'], batch['segment_ids'], types)
  first_B1 = jnp.zeros((len(x_BTD), 1), jnp.int32)
  outputs = {'states': x_BTD}
  if config.lm_head:
    everywhere_BT = jnp.broadcast_to(jnp.arange(x_BTD.shape[1]),
                                     x_BTD.shape[:2])
    outputs['lm_head'] = module.mlm_logits(x_BTD, everywhere_BT)
  if config.nsp_head:
    outputs['nsp_head'] = module.nsp_logits(x_BTD, first_B1)[:, 0]
  if config.num_classes:
    outputs['classifier'] = module.class_logits(x_BTD, first_B1)[:, 0]
  if config.span_head:
    outputs['start'], outputs['end'] = module.span_logits(x_BTD)
  return outputs


def has_transformers() -> bool:
  """Whether PyTorch and transformers are installed."""
  return all(map(importlib.util.find_spec, ('torch', 'transformers')))


def their_outputs(folder: str, batch: dict[str, np.ndarray]
                  ) -> dict[str, np.ndarray]:
  """`our_outputs` by transformers, as far as its class gives them."""
  import torch
  import transformers
  name = files.read_json(f'{folder}/config.json')['architectures'][0]
  with _quiet_transformers():
    module = getattr(transformers, name).from_pretrained(
        folder, dtype=torch.float32).eval()
  inputs = {key: torch.tensor(batch[ours], dtype=torch.long) for key, ours in (
      ('input_ids', 'input_ids'), ('attention_mask', 'segment_ids'),
      ('token_type_ids', 'type_ids'))}
  if name.endswith('ForMultipleChoice'):
    inputs = {key: value[:, None] for key, value in inputs.items()}
  with torch.no_grad():
    found = module(**inputs, output_hidden_states=True)
  outputs = {'states': found.hidden_states[-1]}
  for key, ours in (('prediction_logits', 'lm_head'),
                    ('seq_relationship_logits', 'nsp_head'),
                    ('start_logits', 'start'), ('end_logits', 'end')):
    if key in found:
      outputs[ours] = found[key]
  if 'logits' in found:
    outputs['lm_head' if name.endswith('ForMaskedLM') else
            'classifier'] = found.logits
  return {key: value.numpy() for key, value in outputs.items()}


@contextlib.contextmanager
def _quiet_transformers():
  """Silences transformers' progress bars and expected warnings."""
  from transformers import logging
  verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
  logging.set_verbosity_error()
  logging.disable_progress_bar()
  try:
    yield
  finally:
    logging.set_verbosity(verbosity)
    if bars:
      logging.enable_progress_bar()


def compare_outputs(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray],
                    batch: dict[str, np.ndarray], what: str) -> str:
  """Compares the outputs that both have, at every token that is not padding.

  Returns a line with the largest differences; `what` names the two sides.
  InputError if a difference is above both ATOL and RTOL times the largest
  output, or is not finite.
  """
  real = batch['segment_ids'] > 0
  found = []
  for key in sorted(ours.keys() & theirs.keys()):
    a, b = ours[key], theirs[key]
    if a.shape != b.shape:
      raise InputError(f'{what}: {key} has shape {a.shape} and {b.shape}.')
    if a.shape[:2] == real.shape and key not in ('classifier', 'nsp_head'):
      a, b = a[real], b[real]
    difference = float(np.abs(a - b).max())
    allowed = max(ATOL, RTOL * float(np.abs(b).max()))
    if not difference <= allowed:  # This includes NaN.
      raise InputError(
          f'{what}: {key} differs by up to {difference:.3g} on '
          f'{len(SENTENCES)} sentences; {allowed:.1g} is rounding. Nothing '
          'was written.')
    found.append(f'{key} {difference:.1e}')
  return (f'{what}: the same on {len(SENTENCES)} sentences (largest '
          f'differences: {", ".join(found)})')


def compare_tokenizers(tokenizer: Tokenizer, folder: str) -> str:
  """Compares our ids with AutoTokenizer's; InputError if they differ."""
  import transformers
  with _quiet_transformers():
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    ids = theirs(list(SENTENCES))['input_ids']
  for text, found in zip(SENTENCES, ids):
    ours = [tokenizer.bos_id, *tokenizer.encode(text).tolist(),
            tokenizer.eos_id]
    if found != ours:
      raise InputError(f'{folder}: AutoTokenizer gives {found[:8]}... for '
                       f'{text[:40]!r}, robertax {ours[:8]}.... Nothing was '
                       'written.')
  if theirs.mask_token_id != tokenizer.mask_id:
    raise InputError(f'{folder}: AutoTokenizer has {theirs.mask_token_id} for '
                     f'a mask, robertax {tokenizer.mask_id}. Nothing was '
                     'written.')
  return f'AutoTokenizer and robertax: the same ids on {len(SENTENCES)} texts'
