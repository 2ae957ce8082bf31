"""fairseq's names of 2019 are today's. Whole files: tests/oracle, by torch."""

import argparse

import jax
import numpy as np
import pytest

from robertax.interop import fairseq, names
from robertax.interop.names import Naming
from robertax.interop.tensors import Tensor

LAYOUT = Naming('fairseq', 2)


def test_names_of_2019(make):
  """`decoder`, `emb_layer_norm`, and q, k, v in one matrix."""
  made = make()
  today = names.write_params(made.params, made.config, LAYOUT)
  old = {name.replace('encoder.', 'decoder.', 1).replace(
      '.layernorm_embedding.', '.emb_layer_norm.'): x
         for name, x in today.items()}
  for n in range(made.config.num_layers):
    layer = f'decoder.sentence_encoder.layers.{n}.self_attn.'
    for kind in ('weight', 'bias'):
      old[f'{layer}in_proj_{kind}'] = np.concatenate(
          [old.pop(f'{layer}{part}_proj.{kind}') for part in 'qkv'])
  found = fairseq._upgraded({
      name: Tensor(x.shape, lambda x=x: x) for name, x in old.items()})
  assert {name: t.shape for name, t in found.items()} == {
      name: x.shape for name, x in today.items()}
  params, lines = names.read_params(found, made.config, LAYOUT, 'old')
  assert not lines
  jax.tree.map(np.testing.assert_array_equal, params, made.params)


@pytest.mark.parametrize('state', [
    {'args': argparse.Namespace(encoder_attention_heads=3, dropout=None)},
    {'args': None, 'cfg': {'model': {'encoder_attention_heads': 3}}},
    {'cfg': {'model': argparse.Namespace(encoder_attention_heads=3)}}])
def test_flags_wherever_they_are(state):
  flags = fairseq._flags(state)
  assert flags['encoder_attention_heads'] == 3 and flags['dropout'] == 0.1
  assert flags['activation_fn'] == 'gelu'
