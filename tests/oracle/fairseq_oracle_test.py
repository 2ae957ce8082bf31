"""fairseq's model.pt -> ours, against a plain NumPy RoBERTa.

The checkpoint is laid out as fairseq's models/roberta/model.py writes it, today
and in 2019; its dict.txt permutes GPT-2's ids.
"""

import argparse
import collections
import json
import math
import os

import numpy as np
import pytest

from robertax.errors import InputError
from robertax.inspection import verification
from robertax.interop import open_source, tensors

torch = pytest.importorskip('torch')
pytestmark = pytest.mark.oracle

D, F, N, H, P = 48, 80, 3, 4, 70
PIECES = ['the', 'Ġthe', 'Ġof', 'Ġcat', 'he']
MERGES = [('h', 'e'), ('t', 'he'), ('Ġ', 't'), ('Ġt', 'he'), ('Ġ', 'o'),
          ('Ġo', 'f'), ('Ġ', 'c'), ('Ġc', 'a'), ('Ġca', 't')]


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """GPT-2's two files for a small BPE, and a dict.txt in another order."""
  from robertax.text.pieces import BYTE_OF
  folder = tmp_path_factory.mktemp('fairseq')
  torch.set_num_threads(1)
  pieces = [*BYTE_OF, *(a + b for a, b in MERGES), '<|endoftext|>']
  (folder / 'encoder.json').write_text(
      json.dumps({piece: i for i, piece in enumerate(pieces)}))
  (folder / 'vocab.bpe').write_text('\n'.join(
      ['#version: 0.2', *(f'{a} {b}' for a, b in MERGES), '']), 'utf-8')
  order = np.random.RandomState(0).permutation(len(pieces))
  lines = [f'{i} {9999 - n}' for n, i in enumerate(order)]
  lines += [f'madeupword000{n} 0' for n in range(3)]
  (folder / 'dict.txt').write_text('\n'.join(lines) + '\n')
  (folder / 'order.json').write_text(json.dumps(order.tolist()))
  return folder


def weights(vocab, untied=False, head=''):
  """A state dict as fairseq names it today."""
  random = np.random.RandomState(3)

  def draw(*shape):
    return random.randn(*shape).astype(np.float32) * .1

  def linear(name, outputs, inputs):
    return {f'{name}.weight': draw(outputs, inputs),
            f'{name}.bias': draw(outputs)}

  def norm(name):
    return {f'{name}.weight': 1 + draw(D), f'{name}.bias': draw(D)}

  e = 'encoder.sentence_encoder.'
  state = {f'{e}version': np.array([3.], np.float32),
           f'{e}embed_tokens.weight': draw(vocab, D),
           f'{e}embed_positions.weight': draw(P + 2, D),
           **norm(f'{e}layernorm_embedding')}
  for n in range(N):
    layer = f'{e}layers.{n}.'
    for part in ('k_proj', 'v_proj', 'q_proj', 'out_proj'):
      state |= linear(f'{layer}self_attn.{part}', D, D)
    state |= norm(f'{layer}self_attn_layer_norm')
    state |= linear(f'{layer}fc1', F, D) | linear(f'{layer}fc2', D, F)
    state |= norm(f'{layer}final_layer_norm')
  state |= {'encoder.lm_head.weight': draw(vocab, D) if untied else
            state[f'{e}embed_tokens.weight'],
            'encoder.lm_head.bias': draw(vocab)}
  state |= linear('encoder.lm_head.dense', D, D)
  state |= norm('encoder.lm_head.layer_norm')
  if head:
    state |= linear(f'classification_heads.{head}.dense', D, D)
    state |= linear(f'classification_heads.{head}.out_proj', 3, D)
  return state


def numpy_outputs(state, ids, head=''):
  """Logits of one text without padding; float64, no library of models."""
  state = {k: v.astype(np.float64) for k, v in state.items()}
  e = 'encoder.sentence_encoder.'

  def linear(x, name):
    return x @ state[f'{name}.weight'].T + state[f'{name}.bias']

  def norm(x, name):
    x = x - x.mean(-1, keepdims=True)
    x = x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-5)
    return x * state[f'{name}.weight'] + state[f'{name}.bias']

  def gelu(x):
    return x * .5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))

  positions = np.arange(len(ids)) + 2
  x = norm(state[f'{e}embed_tokens.weight'][ids]
           + state[f'{e}embed_positions.weight'][positions],
           f'{e}layernorm_embedding')
  for n in range(N):
    layer = f'{e}layers.{n}.'
    q, k, v = (linear(x, f'{layer}self_attn.{part}_proj').reshape(
        len(ids), H, D // H) for part in 'qkv')
    scores = np.einsum('thk,shk->hts', q, k) / math.sqrt(D // H)
    scores = np.exp(scores - scores.max(-1, keepdims=True))
    scores /= scores.sum(-1, keepdims=True)
    y = np.einsum('hts,shk->thk', scores, v).reshape(len(ids), D)
    x = norm(x + linear(y, f'{layer}self_attn.out_proj'),
             f'{layer}self_attn_layer_norm')
    y = linear(gelu(linear(x, f'{layer}fc1')), f'{layer}fc2')
    x = norm(x + y, f'{layer}final_layer_norm')
  y = norm(gelu(linear(x, 'encoder.lm_head.dense')),
           'encoder.lm_head.layer_norm')
  logits = y @ state['encoder.lm_head.weight'].T + state[
      'encoder.lm_head.bias']
  if not head:
    return logits, None
  name = f'classification_heads.{head}'
  return logits, linear(np.tanh(linear(x[0], f'{name}.dense')),
                        f'{name}.out_proj')


def as_of_2019(state):
  """The names of the released roberta.base."""
  old = {}
  for name, x in state.items():
    name = name.replace('encoder.', 'decoder.', 1).replace(
        '.layernorm_embedding.', '.emb_layer_norm.') if (
            name.startswith('encoder.')) else name
    old[name] = x
  for n in range(N):
    layer = f'decoder.sentence_encoder.layers.{n}.self_attn.'
    for kind in ('weight', 'bias'):
      old[f'{layer}in_proj_{kind}'] = np.concatenate(
          [old.pop(f'{layer}{part}_proj.{kind}') for part in 'qkv'])
  return old


ARGS = dict(arch='roberta', encoder_attention_heads=H, activation_fn='gelu',
            dropout=.1, attention_dropout=.05, max_positions=P)


def save(path, state, untied=False, newer=False):
  args = dict(ARGS, untie_weights_roberta=untied)
  saved = {'model': {k: torch.tensor(v) for k, v in state.items()},
           'extra_state': {'epoch': 3, 'metrics': collections.OrderedDict()},
           'last_optimizer_state': {'state': {0: {'step': 9}}}}
  if newer:
    saved |= {'args': None, 'cfg': {
        'model': argparse.Namespace(**args), 'task': {'_name': 'masked_lm'}}}
  else:
    saved['args'] = argparse.Namespace(**args)
  torch.save(saved, path)


@pytest.mark.parametrize('age', ['today', '2019', 'untied', 'head'])
def test_logits_are_those_of_plain_numpy(folder, age):
  vocab = 256 + len(MERGES) + 1 + 3 + 5
  head = 'mnli' if age == 'head' else ''
  state = weights(vocab, age == 'untied', head)
  path = folder / f'{age}.pt'
  save(path, as_of_2019(state) if age == '2019' else state, age == 'untied',
       newer=age == 'today')
  pretrained = open_source(f'fairseq:{path}').read()
  config = pretrained.config
  assert (config.vocab_size, config.num_layers, config.num_heads,
          config.mlp_size, config.max_positions) == (vocab, N, H, F, P)
  assert config.attention_dropout_rate == .05
  assert config.layer_norm_eps == 1e-5
  tok = pretrained.tokenizer
  # The permutation: GPT-2's id of a piece is a word of dict.txt, whose line
  # number + 4 is the row.
  order = json.loads((folder / 'order.json').read_text())
  gpt2 = json.loads((folder / 'encoder.json').read_text())
  assert tok.encode('the').tolist() == [4 + order.index(gpt2['the'])]
  assert tok.encode('a cat').tolist() == [
      4 + order.index(gpt2[piece]) for piece in ('a', 'Ġcat')]
  assert tok.mask_id == vocab - 1
  verdict = verification.Verdict()
  verification._note_gpt2_ids(verdict, str(folder), tok,
                              list(verification.SENTENCES))
  assert verdict.ids_equal and verdict.compared
  batch = verification.sentence_batch(tok, config)
  ours = verification.our_outputs(pretrained, batch)
  for row in range(len(batch['input_ids'])):
    length = batch['segment_ids'][row].sum()
    logits, classes = numpy_outputs(
        state, batch['input_ids'][row][:length], head)
    assert logits.std() > .3
    np.testing.assert_allclose(ours['lm_head'][row][:length], logits,
                               atol=1e-4)
    if head:
      np.testing.assert_allclose(ours['classifier'][row], classes, atol=1e-4)


def labelled(folder, *labels):
  (folder / 'label').mkdir(exist_ok=True)
  (folder / 'label' / 'dict.txt').write_text(''.join(
      f'{label} {9 - i}\n' for i, label in enumerate(labels))
      + 'madeupword0000 0\n')


def test_the_names_of_a_head_and_of_wrappers(folder, tmp_path):
  for name in ('encoder.json', 'vocab.bpe', 'dict.txt'):
    (tmp_path / name).write_bytes((folder / name).read_bytes())
  path = tmp_path / 'model.pt'
  state = weights(256 + len(MERGES) + 1 + 3 + 5, head='mnli')
  save(path, {f'module.{k}': v for k, v in state.items()})
  found = open_source(f'fairseq:{path}').read()
  assert found.labels == () and 'module.' in found.lines[0]
  labelled(tmp_path, 'contradiction', 'not sure', 'entailment')
  found = open_source(f'fairseq:{path}').read()
  assert found.labels == ('contradiction', 'not sure', 'entailment')
  labelled(tmp_path, 'yes', 'no')
  with pytest.raises(InputError, match='names 2 classes, .* 3 outputs'):
    open_source(f'fairseq:{path}').read()
  assert open_source(f'fairseq:{path}').read(('classifier',)).labels == ()
  # A table with rows behind the dictionary's last word.
  state = weights(256 + len(MERGES) + 1 + 3 + 5 + 7)
  save(path, state | {'adapter.weight': np.ones(3, np.float32)})
  with pytest.raises(InputError, match='unused adapter.weight'):
    open_source(f'fairseq:{path}').read()
  found = open_source(f'fairseq:{path}').read(('adapter',))
  assert '7 rows of the embeddings' in found.lines[0]
  np.testing.assert_array_equal(
      found.params['embeddings']['tokens'],
      state['encoder.sentence_encoder.embed_tokens.weight'][:-7])


class Runs:
  """A pickle that runs code when it is read."""

  def __init__(self, command):
    self.command = command

  def __reduce__(self):
    return os.system, (self.command,)


def test_a_pickle_that_would_run_code_is_refused(folder):
  path, trace = folder / 'evil.pt', folder / 'it_ran'
  torch.save({'model': {}, 'args': Runs(f'touch {trace}')}, path)
  with pytest.raises(InputError, match='would run code') as caught:
    open_source(f'fairseq:{path}')
  assert str(path) in str(caught.value) and 'system' in str(caught.value)
  assert '\n' not in str(caught.value)
  with pytest.raises(InputError, match='would run code'):
    tensors.read_torch(str(path))
  assert not trace.exists()


def test_wrong_files_are_one_line(folder):
  vocab = 256 + len(MERGES) + 1 + 3 + 5
  state = weights(vocab)
  e = 'encoder.sentence_encoder.'

  def said(name, change):
    changed = dict(state)
    change(changed)
    save(folder / name, changed)
    with pytest.raises(InputError) as caught:
      open_source(f'fairseq:{folder / name}').read()
    assert '\n' not in str(caught.value)
    return str(caught.value)

  assert f'missing {e}layers.1.fc2.bias' in said(
      'a.pt', lambda s: s.pop(f'{e}layers.1.fc2.bias'))
  assert 'unused encoder.adapter.weight' in said(
      'b.pt', lambda s: s.update({'encoder.adapter.weight': np.ones(2)}))
  assert f'{e}layers.0.fc1.bias: [3], not [80]' in said(
      'c.pt', lambda s: s.update({f'{e}layers.0.fc1.bias': np.ones(3)}))
  assert 'pre-LN' in said(
      'd.pt', lambda s: s.update({f'{e}layer_norm.weight': np.ones(D)}))
  assert 'tied' in said('e.pt', lambda s: s.update(
      {'encoder.lm_head.weight': s['encoder.lm_head.weight'] + 1}))
  assert f'have {vocab - 8} rows, so 8 ids have no vector' in said(
      'f.pt', lambda s: s.update({
          f'{e}embed_tokens.weight': np.ones((vocab - 8, D)),
          'encoder.lm_head.weight': np.ones((vocab - 8, D)),
          'encoder.lm_head.bias': np.ones(vocab - 8)}))
  torch.save({'weights': 3}, folder / 'g.pt')
  with pytest.raises(InputError, match='not a checkpoint of fairseq'):
    open_source(f'fairseq:{folder}/g.pt')
  whole = (folder / 'a.pt').read_bytes()
  (folder / 'h.pt').write_bytes(whole[:len(whole) // 2])
  with pytest.raises(InputError, match='damaged, or not a file of torch'):
    open_source(f'fairseq:{folder}/h.pt')
  with pytest.raises(InputError, match='no such file'):
    open_source(f'fairseq:{folder}/none.pt')
