"""Attention probabilities: what the encoder itself computes with."""

import jax
import numpy as np
import pytest

from launch import inspect_notebook
from robertax.errors import InputError
from robertax.inspection import conversion
from robertax.kernels import layer_norm

TEXT = 'two three <mask> five six.'


def test_the_encoder_goes_on_from_these_probabilities(loaded):
  """Each layer's output, made from them in NumPy, is that of the encoder."""
  text = TEXT.replace('<mask>', 'four')
  found = inspect_notebook.attention(loaded, text)
  states = loaded.encode(text, layers='all')
  layers = jax.tree.map(np.asarray, loaded.params['layers'])
  heads, size = found.probabilities.shape[1], states.shape[-1]
  for number, probs_HTS in enumerate(found.probabilities):
    layer = jax.tree.map(lambda x, n=number: x[n], layers)
    x_TD = states[number]
    value = layer['attention']['value']
    v_HSK = np.einsum('TD,DHK->HTK', x_TD, value['kernel']) + (
        value['bias'][:, None])
    output = layer['attention']['output']
    y_TD = np.einsum('HTK,HKD->TD', probs_HTS @ v_HSK, output['kernel']) + (
        output['bias'])
    norm = layer['attention_norm']
    x_TD = np.asarray(layer_norm(x_TD + y_TD, norm['scale'], norm['bias'],
                                 loaded.config.layer_norm_eps))
    h_TF = jax.nn.gelu(x_TD @ layer['mlp_in']['kernel']
                       + layer['mlp_in']['bias'], approximate=False)
    norm = layer['mlp_norm']
    x_TD = layer_norm(
        x_TD + h_TF @ layer['mlp_out']['kernel'] + layer['mlp_out']['bias'],
        norm['scale'], norm['bias'], loaded.config.layer_norm_eps)
    np.testing.assert_allclose(x_TD, states[number + 1], atol=1e-4)
  assert heads * layers['attention']['query']['kernel'].shape[-1] == size


def test_rows_are_probabilities_of_the_text_alone(loaded):
  found = inspect_notebook.attention(loaded, TEXT)
  shape = found.probabilities.shape
  assert shape == (2, 4, len(found.tokens), len(found.tokens))
  assert found.tokens[0] == '<s>' and '<mask>' in found.tokens
  np.testing.assert_allclose(found.probabilities.sum(-1), 1, atol=1e-5)
  assert (found.probabilities > 0).all()


def test_pictures(loaded):
  found = inspect_notebook.attention(loaded, 'two $x_2$ three.')
  for picture in (found, found.picture(-1, 3)):
    assert picture._repr_png_().startswith(b'\x89PNG')
  for layer, head in ((2, 0), (0, 4), (-3, 0)):
    with pytest.raises(InputError, match='from 0'):
      found.picture(layer, head)


@pytest.mark.oracle
def test_transformers_attends_so(run, loaded, tmp_path):
  torch = pytest.importorskip('torch')
  transformers = pytest.importorskip('transformers')
  conversion.convert(run.workdir, f'hf:{tmp_path}/hf')
  theirs = transformers.AutoModelForMaskedLM.from_pretrained(
      f'{tmp_path}/hf', attn_implementation='eager')
  ours = inspect_notebook.attention(loaded, 'two three four five.')
  ids = loaded.tokenizer.encode('two three four five.')
  tok = loaded.tokenizer
  with torch.no_grad():
    out = theirs(torch.tensor([[tok.bos_id, *ids.tolist(), tok.eos_id]]),
                 output_attentions=True)
  np.testing.assert_allclose(
      np.stack([x[0].numpy() for x in out.attentions]), ours.probabilities,
      atol=1e-5)
