"""--verify notices what a wrong reading of a folder does to ids and logits.

Each folder is right, as transformers reads it. Verification passes for the
right reading and fails for readings that are wrong on purpose.
"""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from robertax import model, text
from robertax.config import ModelConfig
from robertax.inspection import oracle, verification
from robertax.inspection.verification import Verdict
from robertax.interop import Pretrained, huggingface

pytest.importorskip('torch')
transformers = pytest.importorskip('transformers')
pytestmark = pytest.mark.oracle

ROOT = pathlib.Path(__file__).parents[2]
TEXTS = ['möchte a man sleeps on the street', 'he is awake and the man is not',
         'go to the city now'] * 5


def made(folder, tokenizer, **keys):
  """A folder of this tokenizer, and the model that is in it."""
  config = ModelConfig(
      vocab_size=tokenizer.vocab_size, hidden_size=16, num_layers=1,
      num_heads=2, mlp_size=32, max_positions=60, **keys)
  random = np.random.default_rng(0)
  params = jax.tree.map(
      lambda x: random.normal(0, .3, x.shape).astype(np.float32),
      jax.eval_shape(lambda: model.create(config, jax.random.key(0))))
  found = Pretrained(params, config, tokenizer, f'hf:{folder}')
  huggingface.write_folder(found, str(folder))
  return found


def edited(folder, name, **values):
  path = folder / name
  path.write_text(json.dumps(json.loads(path.read_text()) | values))


def assert_noticed(folder, right, wrong):
  """`right` agrees with transformers, each of `wrong` does not; their verdicts.
  """
  texts = [*verification.SENTENCES, *verification.HARD]
  # Ids that all of them have.
  least = min(right, *wrong.values(), key=lambda x: x.vocab_size)
  rows = verification._random_rows(least, starts_word=True)
  theirs = oracle.ask(str(folder), texts, list(verification.PAIRS),
                      rows.tolist(), [], {})
  found = {}
  for name, tokenizer in {'right': right, **wrong}.items():
    found[name] = Verdict()
    verification._note_tokenizer(found[name], tokenizer, theirs, rows, '')
  assert found['right'].ids_equal, found['right'].differences
  for name in wrong:
    assert found[name].ids_equal is False, name
  return found


def test_special_tokens_of_ones_own(tmp_path):
  """`<e1>` is one id there, and cut into pieces where it is not known."""
  plain = text.train_byte_bpe(TEXTS, 300)
  more = plain.with_added(['<e1>', '</e1>'])
  made(tmp_path, more)
  found = assert_noticed(tmp_path, more, {
      'cut': plain, 'other': plain.with_added(['</e1>', '<e1>'])})
  assert any("'<e1>" in line for line in found['cut'].differences)
  assert any('number of ids' in line for line in found['cut'].differences)


def test_a_space_in_front(tmp_path):
  """add_prefix_space of tokenizer.json."""
  plain = text.train_byte_bpe(TEXTS, 300)
  made(tmp_path, plain)
  state = json.loads(plain.to_json())
  state['pre_tokenizer']['add_prefix_space'] = True
  (tmp_path / 'tokenizer.json').write_text(json.dumps(state))
  edited(tmp_path, 'tokenizer_config.json', add_prefix_space=True)
  assert_noticed(tmp_path, text.Tokenizer(state, 'spaced'), {'plain': plain})


def test_accents_case_and_chinese(tmp_path):
  """What BERT's normalizer does beside lower case."""
  letters = 'abcdefghijklmnopqrstuvwxyzäöüABC天气'
  vocab = {piece: i for i, piece in enumerate([
      '[PAD]', '[UNK]', '[CLS]', '[SEP]', 'mochte', 'möchte', *letters,
      *(f'##{c}' for c in letters), '[MASK]'])}
  right = text.Tokenizer.from_wordpiece(vocab, True, 'vocab')
  state = json.loads(right.to_json())

  def other(**normalizer):
    return text.Tokenizer({**state, 'normalizer': {
        **state['normalizer'], **normalizer}}, 'other')
  kept = other(strip_accents=False)
  made(tmp_path, kept)
  assert_noticed(tmp_path, kept, {
      'strip_accents': right, 'cased': other(lowercase=False),
      'chinese': other(strip_accents=False, handle_chinese_chars=False)})


@pytest.fixture
def folder(tmp_path):
  found = made(tmp_path / 'hf', text.train_byte_bpe(TEXTS, 300), num_classes=2)
  return tmp_path / 'hf', dataclasses.replace(found, labels=('no', 'yes'))


@pytest.mark.parametrize('kind', huggingface.FAMILIES)
def test_every_family_has_its_classes(folder, kind):
  """The states and logits of none are left out for want of a class."""
  path, ours = folder
  edited(path, 'config.json', model_type=kind)
  names = verification._classes(str(path), ours)
  assert len(names) == 2 and all(hasattr(transformers, x) for x in names)
  prefix = type(transformers.AutoConfig.for_model(kind)).__name__
  assert names[0].startswith(prefix.removesuffix('Config'))


def test_heads_and_their_names(folder, monkeypatch):
  path, ours = folder
  # All heads: the class of the config, and that of the other head.
  assert verification._classes(str(path), ours) == [
      'RobertaForSequenceClassification', 'RobertaForMaskedLM']
  edited(path, 'config.json', id2label={'0': 'no', '1': 'yes'})
  right = Verdict()
  verification._ask_transformers(right, str(path), ours, 'it', ['a man'])
  assert not right.differences and right.ids_equal
  assert any('classifier' in line for line in right.compared)
  assert any('lm_head' in line for line in right.compared)
  assert 'it: answers (4)' in right.compared
  other = Verdict()  # As of a sigmoid where there is a softmax.
  verification._note_answers(other, str(path), 'it', [{'no': .6, 'yes': .7}])
  assert 'the answer to' in other.differences[0]
  edited(path, 'config.json', problem_type='regression')
  scores = Verdict()  # Two scores have names, and one has none.
  verification._ask_transformers(scores, str(path), ours, 'it', ['a man'])
  assert 'it: answers (4)' in scores.compared
  edited(path, 'config.json', problem_type=None)
  params = {**ours.params, 'classifier': {
      **ours.params['classifier'], 'output': jax.tree.map(
          lambda x: x[..., ::-1], ours.params['classifier']['output'])}}
  swapped = dataclasses.replace(ours, params=params, labels=('yes', 'no'))
  wrong = Verdict()
  verification._ask_transformers(wrong, str(path), swapped, 'it', ['a man'])
  assert any('classifier differs' in line for line in wrong.differences)
  assert any("['no', 'yes'] there" in line for line in wrong.differences)


def test_a_decoder_as_older_versions_save_it(tmp_path):
  """transformers 4.57 saves no decoder.bias, and 5.23 begins it at zero."""
  ours = made(tmp_path, text.train_byte_bpe(TEXTS, 300), tie_embeddings=False)
  path = tmp_path / 'model.safetensors'
  tensors = load_file(path)
  assert tensors.pop('lm_head.decoder.bias').any()
  save_file(tensors, path, {'format': 'pt'})
  batches = verification.batches_of(ours, ['a man'])
  found = {'missing': {}}
  outputs = oracle.class_outputs('RobertaForMaskedLM', str(tmp_path), batches,
                                 found)
  assert not found['missing']['RobertaForMaskedLM']
  for name, batch in batches.items():
    compared = verification.compare_outputs(
        verification.our_outputs(ours, batch),
        {'lm_head': outputs[f'{name}/lm_head']}, batch, name)
    assert compared['lm_head'] < 1e-4


def convert(tmp_path, *flags):
  done = subprocess.run(
      [sys.executable, '-m', 'robertax.convert', *flags], cwd=tmp_path,
      env=os.environ | {'PYTHONPATH': str(ROOT), 'XLA_FLAGS': ''},
      capture_output=True, text=True, timeout=300)
  return done.returncode, done.stdout.splitlines(), done.stderr


def test_the_door(folder, tmp_path):
  path, _ = folder
  code, out, err = convert(tmp_path, f'--source=hf:{path}', '--target=hf:b',
                           '--verify')
  assert code == 0, err
  assert 'written from' in out[-2] and json.loads(out[-1])['ids_equal']
