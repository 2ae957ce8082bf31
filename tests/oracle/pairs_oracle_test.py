"""Our model with types and NSP head against transformers' BertForPreTraining.

One pair a row there; here too, or several packed into a row. Needs torch and
transformers (requirements-oracle.txt).
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from robertax import model
from robertax.config import ModelConfig

torch = pytest.importorskip('torch')
transformers = pytest.importorskip('transformers')
pytestmark = pytest.mark.oracle

ADAMW = {'b1': .9, 'b2': .98, 'eps': 1e-6, 'weight_decay': .01}
LEARNING_RATE, STEPS, PAIRS, MASKED = 2e-3, 5, 6, 4
CONFIG = ModelConfig(
    vocab_size=120, hidden_size=64, num_layers=3, num_heads=4, mlp_size=96,
    max_positions=40, num_types=2, nsp_head=True)


@pytest.fixture(scope='module', autouse=True)
def one_thread():
  torch.set_num_threads(1)


@pytest.fixture(scope='module')
def params():
  """Weights in which every parameter matters: biases and scales too."""
  random = np.random.RandomState(0)

  def fill(path, leaf):
    x = random.randn(*leaf.shape).astype(np.float32)
    name = path[-1].key
    if name == 'scale':
      return 1 + .2 * x
    x *= .1 if name in ('bias', 'types') else .06
    if name in ('tokens', 'positions'):
      x[1] = 0
    return x
  return jax.tree_util.tree_map_with_path(fill, jax.eval_shape(
      lambda: model.create(CONFIG, jax.random.key(0))))


def pairs_alone(seed):
  """PAIRS pairs, one a row, the first one full; uneven counts of masks."""
  random = np.random.RandomState(seed)
  length = CONFIG.max_positions
  sizes = random.randint(6, length // 2, PAIRS)
  sizes[0] = length
  ends_of_a = np.array([random.randint(2, size - 2) for size in sizes])
  real = np.arange(length) < sizes[:, None]
  counts = random.randint(1, MASKED + 1, PAIRS)
  positions = np.stack([np.sort(np.concatenate([
      random.choice(size, count, replace=False),
      np.zeros(MASKED - count, int)])) for size, count in zip(sizes, counts)])
  # The filler, zeros, comes first; so its weights do.
  weights = np.arange(MASKED) >= (MASKED - counts)[:, None]
  return {
      'input_ids': np.where(real, random.randint(4, 120, real.shape), 1),
      'segment_ids': real.astype(int),
      'type_ids': ((np.arange(length) >= ends_of_a[:, None]) & real) * 1,
      'mlm_positions': positions, 'mlm_weights': weights.astype(np.float32),
      'mlm_targets': random.randint(4, 120, (PAIRS, MASKED)),
      'nsp_positions': np.zeros((PAIRS, 1), int),
      'nsp_targets': random.randint(0, 2, (PAIRS, 1)),
      'nsp_weights': np.ones((PAIRS, 1), np.float32)}


def packed(batch):
  """The same pairs, as many a row as fit."""
  sizes = batch['segment_ids'].sum(1)
  rows, left = [], 0
  for number, size in enumerate(sizes):
    if size > left:
      rows.append([])
      left = CONFIG.max_positions
    rows[-1].append(number)
    left -= size
  most = max(map(len, rows))
  assert most > 1
  shapes = {name: (len(rows), CONFIG.max_positions)
            for name in ('input_ids', 'segment_ids', 'type_ids')}
  result = {name: np.zeros(shapes.get(name, (
      len(rows), most * x.shape[1])), x.dtype) for name, x in batch.items()}
  for row, numbers in enumerate(rows):
    start = 0
    for slot, number in enumerate(numbers):
      here = slice(start, start + sizes[number])
      for name, x in batch.items():
        if name in shapes:
          result[name][row, here] = x[number, :sizes[number]] * (
              slot + 1 if name == 'segment_ids' else 1)
        else:
          width = x.shape[1]
          result[name][row, slot * width:(slot + 1) * width] = x[number] + (
              start if name.endswith('positions') else 0)
      start += sizes[number]
  return result


def hf_model(params):
  """BertForPreTraining with our weights, all of them used."""
  hf = transformers.BertForPreTraining(transformers.BertConfig(
      vocab_size=CONFIG.vocab_size, hidden_size=CONFIG.hidden_size,
      num_hidden_layers=CONFIG.num_layers,
      num_attention_heads=CONFIG.num_heads,
      intermediate_size=CONFIG.mlp_size,
      max_position_embeddings=CONFIG.max_positions, type_vocab_size=2,
      layer_norm_eps=CONFIG.layer_norm_eps, hidden_act='gelu', pad_token_id=1,
      hidden_dropout_prob=0., attention_probs_dropout_prob=0.,
      attn_implementation='eager'))
  embeddings = params['embeddings']
  named = {
      'bert.embeddings.word_embeddings.weight': embeddings['tokens'],
      # Theirs start at 0, ours at 2.
      'bert.embeddings.position_embeddings.weight': embeddings['positions'][2:],
      'bert.embeddings.token_type_embeddings.weight': embeddings['types'],
      'cls.predictions.bias': params['lm_head']['bias']}

  def dense(name, ours):
    outputs = ours['bias'].size
    named[f'{name}.weight'] = np.reshape(ours['kernel'], (-1, outputs)).T
    named[f'{name}.bias'] = np.reshape(ours['bias'], -1)

  def norm(name, ours):
    named[f'{name}.weight'], named[f'{name}.bias'] = (
        ours['scale'], ours['bias'])

  norm('bert.embeddings.LayerNorm', embeddings['norm'])
  for n in range(CONFIG.num_layers):
    block = jax.tree.map(lambda leaf: leaf[n], params['layers'])  # noqa: B023
    name = f'bert.encoder.layer.{n}'
    for part in ('query', 'key', 'value'):
      dense(f'{name}.attention.self.{part}', block['attention'][part])
    dense(f'{name}.attention.output.dense', block['attention']['output'])
    norm(f'{name}.attention.output.LayerNorm', block['attention_norm'])
    dense(f'{name}.intermediate.dense', block['mlp_in'])
    dense(f'{name}.output.dense', block['mlp_out'])
    norm(f'{name}.output.LayerNorm', block['mlp_norm'])
  dense('cls.predictions.transform.dense', params['lm_head']['dense'])
  norm('cls.predictions.transform.LayerNorm', params['lm_head']['norm'])
  dense('bert.pooler.dense', params['nsp_head']['pooler'])
  dense('cls.seq_relationship', params['nsp_head']['output'])
  own = dict(hf.named_parameters())
  assert set(named) == set(own)
  with torch.no_grad():
    for name, parameter in own.items():
      value = torch.tensor(np.ascontiguousarray(named[name]))
      assert value.shape == parameter.shape, name
      parameter.copy_(value)
  return hf.train()  # Dropout is 0; train mode is what the steps use.


def hf_outputs(hf, batch):
  """Logits at all tokens, NSP logits, and their own total loss."""
  labels = np.full(batch['input_ids'].shape, -100)
  rows, slots = np.nonzero(batch['mlm_weights'])
  labels[rows, batch['mlm_positions'][rows, slots]] = batch['mlm_targets'][
      rows, slots]
  found = hf(input_ids=torch.tensor(batch['input_ids']),
             attention_mask=torch.tensor(batch['segment_ids']),
             token_type_ids=torch.tensor(batch['type_ids']),
             labels=torch.tensor(labels),
             next_sentence_label=torch.tensor(batch['nsp_targets'][:, 0]))
  return found.prediction_logits, found.seq_relationship_logits, found.loss


def our_loss(params, batch):
  module = model.bind(CONFIG, params)
  x = module.encode(batch['input_ids'], batch['segment_ids'],
                    batch['type_ids'])
  everywhere = jnp.broadcast_to(jnp.arange(x.shape[1]), x.shape[:2])
  nsp = module.nsp_logits(x, batch['nsp_positions'])
  sums = model.mlm_loss(module.mlm_logits(x, batch['mlm_positions']),
                        batch['mlm_targets'], batch['mlm_weights'])
  sums |= model.nsp_loss(nsp, batch['nsp_targets'], batch['nsp_weights'])
  total = (sums['loss_sum'] / sums['weight_sum']
           + sums['nsp_loss_sum'] / sums['nsp_weight_sum'])
  return total, (module.mlm_logits(x, everywhere), nsp)


def test_logits_and_the_total_loss_agree(params):
  hf = hf_model(params)
  for seed in (1, 2, 3):
    batch = pairs_alone(seed)
    with torch.no_grad():
      mlm, nsp, loss = (x.numpy() for x in hf_outputs(hf, batch))
    real = batch['segment_ids'] > 0
    assert mlm[real].std() > .3 and nsp.std(0).min() > .05
    for ours in (batch, packed(batch)):
      found, (our_mlm, our_nsp) = jax.jit(our_loss)(params, ours)
      np.testing.assert_allclose(
          np.asarray(our_mlm)[ours['segment_ids'] > 0], mlm[real], atol=1e-4)
      np.testing.assert_allclose(
          np.asarray(our_nsp)[ours['nsp_weights'] > 0], nsp, atol=1e-4)
      np.testing.assert_allclose(found, loss, atol=1e-4)


@pytest.mark.parametrize('lay', [lambda batch: batch, packed],
                         ids=['alone', 'packed'])
def test_five_adamw_steps_agree(params, lay):
  batch = pairs_alone(4)
  hf = hf_model(params)
  optimizer = torch.optim.AdamW(
      hf.parameters(), lr=LEARNING_RATE, betas=(ADAMW['b1'], ADAMW['b2']),
      eps=ADAMW['eps'], weight_decay=ADAMW['weight_decay'])
  theirs = []
  for _ in range(STEPS):
    *_, loss = hf_outputs(hf, batch)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    theirs.append(loss.item())

  tx = optax.adamw(LEARNING_RATE, **ADAMW)

  @jax.jit
  def step(params, state):
    (value, _), gradient = jax.value_and_grad(our_loss, has_aux=True)(
        params, lay(batch))
    updates, state = tx.update(gradient, state, params)
    return optax.apply_updates(params, updates), state, value

  state, ours = tx.init(params), []
  for _ in range(STEPS):
    params, state, value = step(params, state)
    ours.append(float(value))
  assert theirs[-1] < theirs[0] - .3  # It learned something.
  np.testing.assert_allclose(ours, theirs, atol=1e-4, rtol=0)
