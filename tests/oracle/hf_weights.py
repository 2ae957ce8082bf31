"""Our parameters by the names that Hugging Face's RoBERTa has for them."""

import jax
import numpy as np

from robertax import model


def random_params(config, seed):
  """Weights in which every parameter matters: biases and scales too."""
  random = np.random.RandomState(seed)
  shapes = jax.eval_shape(lambda: model.create(config, jax.random.key(0)))

  def fill(path, leaf):
    x = random.randn(*leaf.shape).astype(np.float32)
    name = path[-1].key
    if name == 'scale':
      return 1 + .2 * x
    x *= .1 if name == 'bias' else .06
    if name in ('tokens', 'positions'):
      x[1] = 0
    return x
  return jax.tree_util.tree_map_with_path(fill, shapes)


def dense(name, ours):
  """A linear layer's two parameters."""
  outputs = ours['bias'].size
  return {f'{name}.weight': np.reshape(ours['kernel'], (-1, outputs)).T,
          f'{name}.bias': np.reshape(ours['bias'], -1)}


def norm(name, ours):
  """A LayerNorm's two parameters."""
  return {f'{name}.weight': ours['scale'], f'{name}.bias': ours['bias']}


def encoder_weights(config, params):
  """Of RobertaModel; its token types are zeros."""
  size = config.hidden_size
  named = {'roberta.embeddings.word_embeddings.weight':
               params['embeddings']['tokens'],
           'roberta.embeddings.position_embeddings.weight':
               params['embeddings']['positions'],
           'roberta.embeddings.token_type_embeddings.weight':
               np.zeros((1, size), np.float32)}

  named |= norm('roberta.embeddings.LayerNorm', params['embeddings']['norm'])
  for n in range(config.num_layers):
    block = jax.tree.map(lambda leaf: leaf[n], params['layers'])  # noqa: B023
    name = f'roberta.encoder.layer.{n}'
    for part in ('query', 'key', 'value'):
      named |= dense(f'{name}.attention.self.{part}',
                     block['attention'][part])
    named |= dense(f'{name}.attention.output.dense',
                   block['attention']['output'])
    named |= norm(f'{name}.attention.output.LayerNorm', block['attention_norm'])
    named |= dense(f'{name}.intermediate.dense', block['mlp_in'])
    named |= dense(f'{name}.output.dense', block['mlp_out'])
    named |= norm(f'{name}.output.LayerNorm', block['mlp_norm'])
  return named


def load(hf, named, torch):
  """Copies all of them, and nothing else is left as it was."""
  own = dict(hf.named_parameters())
  assert set(own) == set(named)
  with torch.no_grad():
    for name, parameter in own.items():
      value = torch.tensor(np.ascontiguousarray(named[name]))
      assert value.shape == parameter.shape, name
      parameter.copy_(value)
  return hf.eval()
