"""Our heads against transformers' RoBERTa for classes and for questions."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robertax import model
from robertax.config import ModelConfig
from tests.oracle.hf_weights import dense, encoder_weights, load, random_params

torch = pytest.importorskip('torch')
transformers = pytest.importorskip('transformers')
pytestmark = pytest.mark.oracle

BODY = ModelConfig(vocab_size=96, hidden_size=64, num_layers=2,
                         num_heads=4, mlp_size=96, max_positions=24,
                         lm_head=False)


def hf_config(**more):
  return transformers.RobertaConfig(
      vocab_size=96, hidden_size=64, num_hidden_layers=2,
      num_attention_heads=4, intermediate_size=96, max_position_embeddings=26,
      type_vocab_size=1, layer_norm_eps=1e-5, pad_token_id=1, bos_token_id=0,
      eos_token_id=2, attn_implementation='eager', **more)


@pytest.fixture(scope='module')
def rows():
  random = np.random.RandomState(1)
  torch.set_num_threads(1)
  lengths = np.array([24, 5, 17, 9])
  real = np.arange(24) < lengths[:, None]
  ids = np.where(real, random.randint(4, 96, real.shape), 1)
  return ids, real.astype(np.int32)


def theirs(hf, rows):
  ids, real = rows
  with torch.no_grad():
    return hf(input_ids=torch.tensor(ids), attention_mask=torch.tensor(real))


@pytest.mark.parametrize('classes', [1, 3])
def test_classifier(rows, classes):
  config = dataclasses.replace(BODY, num_classes=classes)
  params = random_params(config, 3)
  named = encoder_weights(config, params)
  named |= dense('classifier.dense', params['classifier']['dense'])
  named |= dense('classifier.out_proj', params['classifier']['output'])
  hf = load(transformers.RobertaForSequenceClassification(
      hf_config(num_labels=classes)), named, torch)
  module = model.bind(config, params)
  x = module.encode(*map(jnp.asarray, rows))
  got = module.class_logits(x, jnp.zeros((4, 1), jnp.int32))
  np.testing.assert_allclose(got[:, 0], theirs(hf, rows).logits, atol=2e-5)


def test_spans(rows):
  config = dataclasses.replace(BODY, span_head=True)
  params = random_params(config, 4)
  named = encoder_weights(config, params)
  named |= dense('qa_outputs', params['span_head']['output'])
  hf = load(transformers.RobertaForQuestionAnswering(hf_config()), named,
            torch)
  random = np.random.RandomState(0)
  _, real = rows
  starts, ends = random.randint(0, real.sum(1), (2, 4))
  with torch.no_grad():
    hf_out = hf(input_ids=torch.tensor(rows[0]),
                attention_mask=torch.tensor(real),
                start_positions=torch.tensor(starts),
                end_positions=torch.tensor(ends))
  module = model.bind(config, params)
  start, end = module.span_logits(module.encode(*map(jnp.asarray, rows)))
  inside = real > 0
  np.testing.assert_allclose(np.asarray(start)[inside],
                             hf_out.start_logits.numpy()[inside], atol=2e-5)
  np.testing.assert_allclose(np.asarray(end)[inside],
                             hf_out.end_logits.numpy()[inside], atol=2e-5)
  # Theirs is a softmax over padding too; ours is not: ours over their logits,
  # all places real, is their loss.
  sums = model.span_loss(
      jnp.asarray(hf_out.start_logits.numpy()),
      jnp.asarray(hf_out.end_logits.numpy()), jnp.ones((4, 24), jnp.int32),
      starts[:, None], ends[:, None], jnp.ones((4, 1)))
  np.testing.assert_allclose(sums['loss_sum'] / 4, hf_out.loss.item(),
                             rtol=1e-5)
  assert jax.tree.leaves(params['span_head'])[0].shape == (2,)
