"""Our model against transformers' RobertaForMaskedLM and torch's AdamW.

Needs torch and transformers (requirements-oracle.txt). `make_golden.py` writes
what `tests/model/golden_test.py` compares with where they are not installed.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from robertax import model
from robertax.config import ModelConfig
from tests.oracle.hf_weights import dense, encoder_weights, norm, random_params

torch = pytest.importorskip('torch')
transformers = pytest.importorskip('transformers')
pytestmark = pytest.mark.oracle

ADAMW = {'b1': .9, 'b2': .98, 'eps': 1e-6, 'weight_decay': .01}
LEARNING_RATE, STEPS, BATCHES = 2e-3, 20, 4
SHAPES = {
    'head_64': ModelConfig(vocab_size=96, hidden_size=128, num_layers=1,
                                 num_heads=2, mlp_size=64, max_positions=24),
    'head_80': ModelConfig(vocab_size=96, hidden_size=160, num_layers=3,
                                 num_heads=2, mlp_size=320, max_positions=40),
    'three_layers': ModelConfig(
        vocab_size=1000, hidden_size=48, num_layers=3, num_heads=6,
        mlp_size=112, max_positions=64),
    'untied': ModelConfig(
        vocab_size=96, hidden_size=64, num_layers=2, num_heads=1, mlp_size=64,
        max_positions=24, tie_embeddings=False),
}


def random_batches(config, seed, rows=4):
  """BATCHES batches; rows of unequal length, the first one full."""
  random = np.random.RandomState(seed)
  batches = []
  for _ in range(BATCHES):
    lengths = random.randint(4, config.max_positions + 1, rows)
    lengths[0] = config.max_positions
    segment_ids = np.arange(config.max_positions) < lengths[:, None]
    shape = segment_ids.shape
    ids = np.where(segment_ids,
                   random.randint(4, config.vocab_size, shape), 1)
    positions = np.zeros((rows, 5), int)
    weights = np.zeros((rows, 5), np.float32)
    for row, length in enumerate(lengths):
      count = random.randint(1, min(5, length) + 1)
      positions[row, :count] = np.sort(
          random.choice(length, count, replace=False))
      weights[row, :count] = 1
    batches.append({
        'input_ids': ids, 'segment_ids': segment_ids.astype(int),
        'mlm_positions': positions, 'mlm_weights': weights,
        'mlm_targets': random.randint(4, config.vocab_size, (rows, 5))})
  return batches


def hf_model(config, params, attention='eager'):
  """RobertaForMaskedLM with our weights; token types are zero and stay so."""
  hf = transformers.RobertaForMaskedLM(transformers.RobertaConfig(
      vocab_size=config.vocab_size, hidden_size=config.hidden_size,
      num_hidden_layers=config.num_layers,
      num_attention_heads=config.num_heads,
      intermediate_size=config.mlp_size,
      max_position_embeddings=config.max_positions + 2, type_vocab_size=1,
      layer_norm_eps=config.layer_norm_eps, pad_token_id=1, bos_token_id=0,
      eos_token_id=2, hidden_dropout_prob=0.,
      attention_probs_dropout_prob=0., attn_implementation=attention,
      tie_word_embeddings=config.tie_embeddings))
  named = encoder_weights(config, params)
  head = params['lm_head']
  named |= dense('lm_head.dense', head['dense'])
  named |= norm('lm_head.layer_norm', head['norm'])
  named['lm_head.bias'] = named['lm_head.decoder.bias'] = head['bias']
  named['lm_head.decoder.weight'] = head.get(
      'decoder', params['embeddings']['tokens'])
  own = dict(hf.named_parameters())
  with torch.no_grad():
    for name, parameter in own.items():
      value = torch.tensor(np.ascontiguousarray(named[name]))
      assert value.shape == parameter.shape, name
      parameter.copy_(value)
  # Nothing of ours may be left over: tied names alone are not parameters.
  assert set(named) - set(own) <= {'lm_head.decoder.weight',
                                   'lm_head.decoder.bias', 'lm_head.bias'}
  hf.roberta.embeddings.token_type_embeddings.weight.requires_grad_(False)
  return hf.train()  # dropout is 0; train mode is what the steps use


def hf_logits(hf, batch):
  return hf(input_ids=torch.tensor(batch['input_ids']),
            attention_mask=torch.tensor(batch['segment_ids'])).logits


def hf_losses(hf, batches, learning_rate=LEARNING_RATE):
  """STEPS of torch.optim.AdamW, decay on all parameters: each step's loss."""
  optimizer = torch.optim.AdamW(
      [p for p in hf.parameters() if p.requires_grad], lr=learning_rate,
      betas=(ADAMW['b1'], ADAMW['b2']), eps=ADAMW['eps'],
      weight_decay=ADAMW['weight_decay'])
  losses = []
  for step in range(STEPS):
    batch = batches[step % len(batches)]
    rows, slots = np.nonzero(batch['mlm_weights'])
    logits = hf_logits(hf, batch)[rows, batch['mlm_positions'][rows, slots]]
    loss = torch.nn.functional.cross_entropy(
        logits, torch.tensor(batch['mlm_targets'][rows, slots]),
        reduction='sum') / len(rows)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
  return losses


@functools.partial(jax.jit, static_argnums=0)
def our_logits(config, params, batch):
  module = model.bind(config, params)
  x = module(batch['input_ids'], batch['segment_ids'])
  everywhere = jnp.broadcast_to(jnp.arange(x.shape[1]), x.shape[:2])
  return module.mlm_logits(x, everywhere)


def our_losses(config, params, batches):
  tx = optax.adamw(LEARNING_RATE, **ADAMW)

  def loss(params, batch):
    module = model.bind(config, params)
    x = module(batch['input_ids'], batch['segment_ids'])
    sums = model.mlm_loss(module.mlm_logits(x, batch['mlm_positions']),
                          batch['mlm_targets'], batch['mlm_weights'])
    return sums['loss_sum'] / sums['weight_sum']

  @jax.jit
  def step(params, state, batch):
    value, gradient = jax.value_and_grad(loss)(params, batch)
    updates, state = tx.update(gradient, state, params)
    return optax.apply_updates(params, updates), state, value

  state, losses = tx.init(params), []
  for number in range(STEPS):
    params, state, value = step(params, state, batches[number % len(batches)])
    losses.append(float(value))
  return losses


@pytest.fixture(scope='module', autouse=True)
def one_thread():
  torch.set_num_threads(1)


@pytest.mark.parametrize('attention', ['eager', 'sdpa'])
@pytest.mark.parametrize('name', SHAPES)
def test_logits_agree_at_every_token(name, attention):
  config = SHAPES[name]
  params = random_params(config, seed=1)
  hf = hf_model(config, params, attention)
  for batch in random_batches(config, seed=2):
    with torch.no_grad():
      theirs = hf_logits(hf, batch).numpy()
    real = batch['segment_ids'] > 0
    ours = np.asarray(our_logits(config, params, batch))
    assert theirs[real].std() > .3  # not agreeing about nothing
    np.testing.assert_allclose(ours[real], theirs[real], atol=1e-4)
    # Other content at padding changes no logit of ours.
    filler = np.random.RandomState(3).randint(0, config.vocab_size, real.shape)
    loud = {**batch, 'input_ids': np.where(real, batch['input_ids'], filler)}
    np.testing.assert_array_equal(
        np.asarray(our_logits(config, params, loud))[real], ours[real])


@pytest.mark.parametrize('name', SHAPES)
def test_twenty_adamw_steps_agree(name):
  config = SHAPES[name]
  params, batches = random_params(config, 1), random_batches(config, 2)
  theirs = hf_losses(hf_model(config, params), batches)
  ours = our_losses(config, params, batches)
  assert theirs[-1] < theirs[0] - .5  # it learned something
  np.testing.assert_allclose(ours, theirs, atol=1e-4, rtol=0)


@pytest.mark.parametrize('large', [False, True])
def test_as_many_parameters_as_theirs_but_for_token_types(large):
  sizes = {'hidden_size': 1024, 'num_layers': 24, 'num_heads': 16,
           'mlp_size': 4096} if large else {}
  config = dataclasses.replace(SHAPES['head_64'], vocab_size=50265,
                               max_positions=512, **(sizes or {
                                   'hidden_size': 768, 'num_layers': 12,
                                   'num_heads': 12, 'mlp_size': 3072}))
  with torch.device('meta'):
    hf = transformers.RobertaForMaskedLM(transformers.RobertaConfig(
        vocab_size=50265, hidden_size=config.hidden_size,
        num_hidden_layers=config.num_layers,
        num_attention_heads=config.num_heads,
        intermediate_size=config.mlp_size, max_position_embeddings=514,
        type_vocab_size=1))
  shapes = jax.eval_shape(lambda: model.create(config, jax.random.key(0)))
  ours = sum(leaf.size for leaf in jax.tree.leaves(shapes))
  assert ours == hf.num_parameters() - config.hidden_size
