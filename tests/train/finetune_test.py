"""Whole fine-tuning runs: learned, killed and resumed, on any mesh, swept."""

import contextlib
import dataclasses
import json
import os
import shutil
from unittest import mock

import jax
import numpy as np
import pytest

import robertax
from robertax.config import parse
from robertax.errors import InputError
from robertax.studies import sweep
from robertax.tasks import scoring
from robertax.train import loop, step
from robertax.train.evaluate import Scoring
from robertax.train.writer import read_metrics
from tests.tasks.tiny_glue import config, write_sst2
from tests.train.loop_test import killed_at, text


@pytest.fixture(scope='module')
def data(tmp_path_factory):
  return write_sst2(tmp_path_factory.mktemp('glue'), test=10)


@pytest.fixture(scope='module')
def pretrained(tmp_path_factory):
  """A workdir of masked language modelling; two updates are enough."""
  folder = tmp_path_factory.mktemp('pretrained')
  (folder / 'counting.txt').write_text(text(300))
  run(parse({
      'data': {'corpora': str(folder / 'counting.txt'), 'batch_size': 8,
               'sequence_length': 32, 'backend': 'numpy', 'workers': 1,
               'cache_dir': str(folder / 'cache')},
      'tokenizer': {'vocab_size': 300},
      'model': {'hidden_size': 32, 'num_layers': 1, 'num_heads': 2,
                'mlp_size': 32, 'max_positions': 32},
      'mesh': {'data': 1}, 'train': {'steps': 2}}), folder / 'w')
  return folder / 'w'


def run(settings, folder):
  """On the first of the test's devices."""
  with mock.patch.object(jax, 'devices', return_value=jax.devices()[:1]):
    return loop.run(settings, str(folder))


def read(folder):
  return json.loads((folder / 'results.json').read_text())


def lines(folder):
  return [m for _, m in read_metrics(f'{folder}/metrics.jsonl')]


def losses(folder):
  return {m['step']: m['train/loss'] for m in lines(folder)
          if 'train/loss' in m}


@pytest.fixture(scope='module')
def undisturbed(data, pretrained, tmp_path_factory):
  folder = tmp_path_factory.mktemp('undisturbed')
  settings = parse(config(data, pretrained, finetune={
      'epochs': 5, 'predict_test': True}))
  run(settings, folder)
  return settings, folder


def test_a_task_is_learned_and_the_best_epoch_reported(undisturbed, data):
  _, folder = undisturbed
  found, said = read(folder), lines(folder)
  assert found['value'] > 85 and not found['degenerate']
  assert (found['task'], found['metric'], found['split'], found['rows'],
          found['seed'], found['train_rows']) == (
              'glue/sst2', 'accuracy', 'dev', 40, 0, 96)
  assert found['data'] == str(data / 'SST-2' / 'dev.tsv')
  evaluated = {m['step']: m['eval/accuracy'] for m in said
               if 'eval/accuracy' in m}
  assert list(evaluated) == [6, 12, 18, 24, 30]  # Epochs of 96 / 16 steps.
  best = max(evaluated, key=evaluated.get)
  assert (found['best_step'], found['value']) == (best, evaluated[best])
  predictions = [json.loads(line) for line in
                 (folder / 'predictions.dev.jsonl').read_text().splitlines()]
  right = [p['prediction'] == p['label'] for p in predictions]
  assert 100 * np.mean(right) == pytest.approx(found['value'])
  assert scoring.score(scoring.Request(
      'glue/sst2', found['data'], f'{folder}/predictions.dev.jsonl'),
                       strict=True)['accuracy'] == found['value']
  assert len((folder / 'predictions.test.jsonl').read_text().splitlines()
             ) == 10
  assert (folder / 'predictions.zip').exists()
  assert [p.name for p in (folder / 'best').iterdir()
          if p.name.isdigit()] == [str(best)]
  assert 0 < said[-1]['train/padding_fraction'] < .6
  assert said[-1]['train/epoch'] == 5


def test_each_split_is_asked_once_where_the_last_weights_are_the_best(
    data, pretrained, tmp_path):
  asked, outputs = [], Scoring._outputs

  def counted(self, params, split):
    asked.append(split)
    return outputs(self, params, split)

  with mock.patch.object(Scoring, '_outputs', counted):
    run(parse(config(data, pretrained, finetune={
        'epochs': 1, 'predict_test': True})), tmp_path)
  assert asked == ['dev', 'test']
  assert read(tmp_path)['best_step'] == 6
  assert (tmp_path / 'predictions.dev.jsonl').exists()


@pytest.mark.parametrize('kill_at', [9, 24])
def test_killed_and_resumed_is_bitwise(undisturbed, tmp_path, kill_at):
  settings, folder = undisturbed
  with killed_at(kill_at):
    run(settings, tmp_path)
  ended = run(settings, tmp_path)
  assert 0 < ended.trained < 30
  assert losses(tmp_path) == losses(folder)
  assert read(tmp_path) == read(folder)
  for name in read(folder)['files']:
    assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


def test_killed_after_the_last_step_it_still_concludes(undisturbed, tmp_path):
  settings, folder = undisturbed
  with mock.patch.object(loop, 'conclude', side_effect=KeyboardInterrupt):
    with pytest.raises(KeyboardInterrupt):
      run(settings, tmp_path)
  assert not (tmp_path / 'results.json').exists()
  assert run(settings, tmp_path).trained == 0
  assert read(tmp_path) == read(folder)
  assert run(settings, tmp_path).task is None  # Done.


def test_a_run_that_a_flag_ended_early_is_not_done(data, pretrained, tmp_path):
  def settings(steps):
    return parse(config(data, pretrained, train={'steps': steps},
                        finetune={'epochs': 5}))

  run(settings(3), tmp_path)
  assert run(settings(3), tmp_path).task is None
  with pytest.raises(InputError, match='of a run of 3 steps.*30 steps here'):
    run(settings(0), tmp_path)
  assert run(settings(3), tmp_path).task is None
  shutil.rmtree(tmp_path / 'checkpoints')  # As if killed before the first.
  (tmp_path / 'results.json').unlink()
  with pytest.raises(InputError, match='of a run of 3 steps.*30 steps here'):
    run(settings(0), tmp_path)


def test_a_run_that_is_done_needs_no_data(undisturbed, tmp_path, capsys):
  settings, folder = undisturbed
  gone = dataclasses.replace(settings, data=dataclasses.replace(
      settings.data, dir=str(tmp_path / 'gone')))
  shutil.copytree(folder, tmp_path / 'w')
  config = json.loads((tmp_path / 'w/config.json').read_text())
  config['data']['dir'] = gone.data.dir
  (tmp_path / 'w/config.json').write_text(json.dumps(config))
  assert run(gone, tmp_path / 'w').task is None
  assert 'cannot be compared' in capsys.readouterr().err


@contextlib.contextmanager
def said_to_score(*values):
  """Evaluations find these, one after another."""
  score, left = Scoring.__call__, iter(values)

  def scored(self, params):
    return score(self, params) | {'eval/accuracy': next(left)}

  with mock.patch.object(Scoring, '__call__', scored):
    yield


def test_back_at_an_earlier_checkpoint_the_best_is_not_lost(
    undisturbed, tmp_path, capsys):
  """Evaluated at other steps meanwhile, which came to be better."""
  settings, _ = undisturbed

  def evaluated(every):
    return dataclasses.replace(settings, train=dataclasses.replace(
        settings.train, eval_every=every))

  with said_to_score(99.0), killed_at(7):
    run(evaluated(6), tmp_path)
  with said_to_score(99.1, 99.2, 99.3), killed_at(4):
    run(evaluated(1), tmp_path)
  with said_to_score(50.0, 50.0, 50.0, 50.0):
    assert run(evaluated(6), tmp_path).trained == 24
  assert read(tmp_path)['best_step'] == 6
  assert os.listdir(tmp_path / 'best') == ['6']
  assert 'not kept' not in capsys.readouterr().err
  # As an earlier version left it, which then ended with 2 for ever.
  shutil.rmtree(tmp_path / 'best' / '6')
  (tmp_path / 'results.json').unlink()
  assert run(evaluated(6), tmp_path).trained == 0
  assert 'the weights of step 6, the best' in capsys.readouterr().err
  assert read(tmp_path)['best_step'] == 30
  assert os.listdir(tmp_path / 'best') == ['30']
  assert run(evaluated(6), tmp_path).task is None


def test_eight_devices_and_micro_batches_give_the_same(undisturbed, tmp_path,
                                                       data, pretrained):
  _, folder = undisturbed
  expected = losses(folder)
  for name, mesh, micro in (('split', 1, 2), ('eight', -1, 1)):
    settings = parse(config(data, pretrained, mesh={'data': mesh},
                            train={'micro_batches': micro}, finetune={
                                'epochs': 5}))
    ended = (run if mesh == 1 else lambda s, f: loop.run(s, str(f)))(
        settings, tmp_path / name)
    found = losses(tmp_path / name)
    assert found.keys() == expected.keys()
    np.testing.assert_allclose(list(found.values()), list(expected.values()),
                               rtol=2e-4)
    assert ended.results['value'] == read(folder)['value']


def test_the_weights_begin_where_the_pretrained_ended(pretrained, data,
                                                      tmp_path, capsys):
  """And the best ones are the start of another task, their head dropped."""
  settings = parse(config(data, pretrained, optim={'learning_rate': 0.0},
                          finetune={'epochs': 1}))
  run(settings, tmp_path / 'a')
  said = capsys.readouterr().err
  assert 'dropped: lm_head' in said and 'new: classifier' in said
  settings = parse(config(data, tmp_path / 'a', optim={'learning_rate': 0.0},
                          finetune={'epochs': 1, 'new_parameters': ''}))
  run(settings, tmp_path / 'b')
  assert 'weights of the best step 6' in capsys.readouterr().err
  first, second = read(tmp_path / 'a'), read(tmp_path / 'b')
  assert first['scores'] == second['scores']
  assert second['init_step'] == 6


@pytest.mark.parametrize('change, message', [
    ({'init_from': ''}, "init_from=''.*from_scratch"),
    ({'init_from': '/none'}, "init_from: '/none' is not a workdir"),
    ({'finetune': {'new_parameters': ''}}, 'classifier/dense/bias is missing'),
    ({'finetune': {'unused_parameters': ''}}, 'lm_head/bias is not of this'),
    ({'finetune': {'predict_test': True}, 'data': {'dir': '{bare}'}},
     'test.tsv: missing'),
    ({'data': {'dir': '/none'}}, "data.dir='/none'"),
    ({'task': 'glue/rte'}, 'RTE')])
def test_wrong_input_is_named_and_leaves_no_workdir(
    pretrained, data, tmp_path, change, message):
  bare = write_sst2(tmp_path / 'bare')
  change = json.loads(json.dumps(change).replace('{bare}', str(bare)))
  values = config(data, pretrained)
  for name, more in change.items():
    values[name] = {**values[name], **more} if isinstance(
        more, dict) else more
  with pytest.raises(InputError, match=message):
    run(parse(values), tmp_path / 'w')
  assert not (tmp_path / 'w').exists()


def test_from_scratch_takes_the_shape_and_says_so(pretrained, data, tmp_path,
                                                  capsys):
  settings = parse(config(data, pretrained, finetune={
      'from_scratch': True, 'epochs': 1, 'max_train_examples': 32}))
  ended = run(settings, tmp_path)
  assert 'RANDOM weights' in capsys.readouterr().err
  assert ended.task.model.hidden_size == 32 and ended.step == 2
  assert ended.results['train_rows'] == 32
  assert ended.results['from_scratch']


def swept(settings, folder):
  with mock.patch.object(jax, 'devices', return_value=jax.devices()[:1]):
    return sweep.sweep(settings, str(folder), (1e-3, 3e-3), (8, 16), 2, best=2)


def test_a_sweep_compiles_once_for_each_shape_and_resumes(
    pretrained, data, tmp_path):
  settings = parse(config(data, pretrained, finetune={
      'epochs': 1, 'max_train_examples': 32}))
  shapes, made = set(), []
  real = step.Compiled.__init__

  def counted(self, *args):
    real(self, *args)
    made.append(self)
    train = self.train

    def noted(state, batch, *rest):
      shapes.add(batch['input_ids'].shape)
      return train(state, batch, *rest)
    noted._cache_size = train._cache_size
    self.train = noted

  step._compiled_programs.cache_clear()
  with mock.patch.object(step.Compiled, '__init__', counted):
    whole = swept(settings, tmp_path / 'whole')
    (programs,) = made  # 2 rates x 2 batches x 2 seeds have one program.
    assert programs.shapes == len(shapes)
    assert len(whole.results['settings']) == 4
    assert [s['seeds'] for s in whole.results['settings']] == [[0, 1]] * 4

    with killed_at(15):
      swept(settings, tmp_path / 'killed')
    again = swept(settings, tmp_path / 'killed')
    assert made == [programs]
    assert programs.shapes == len(shapes)
  step._compiled_programs.cache_clear()
  assert sweep.sweep_table(again.results).splitlines()[1:] == sweep.sweep_table(
      whole.results).splitlines()[1:]
  assert again.results['settings'] == whole.results['settings']
  for folder in (tmp_path / 'whole', tmp_path / 'killed'):
    assert len(list((folder / 'runs').glob('*/results.json'))) == 8
    assert not list((folder / 'runs').glob('*/checkpoints'))
    assert len(list((folder / 'runs').glob('*/best'))) == 2
  text = (tmp_path / 'whole' / 'sweep.txt').read_text()
  assert text == sweep.sweep_table(whole.results) and 'together' in text


def test_a_sweep_repeats_runs_that_a_flag_ended_early(pretrained, data,
                                                      tmp_path, capsys):
  def once(steps):
    settings = parse(config(data, pretrained, train={'steps': steps},
                            finetune={'epochs': 2, 'max_train_examples': 32}))
    with mock.patch.object(jax, 'devices', return_value=jax.devices()[:1]):
      sweep.sweep(settings, str(tmp_path), (1e-3,), (16,), 1)
    (path,) = tmp_path.glob('runs/*/results.json')
    return json.loads(path.read_text())['steps']

  assert once(1) == 1
  assert once(0) == 4
  assert 'a flag had ended it after 1 steps' in capsys.readouterr().err
  (run,) = tmp_path.glob('runs/*')
  left = run.with_name(f'{run.name}.before')
  left.mkdir()  # As a kill does while a run is repeated.
  assert once(0) == 4
  assert not left.exists() and run.exists()
  (best,) = tmp_path.glob('runs/*/best')
  shutil.rmtree(best)  # As earlier versions did.
  table = json.loads((tmp_path / 'results.json').read_text())
  del table['best_run']
  (tmp_path / 'results.json').write_text(json.dumps(table))
  assert once(0) == 4
  assert json.loads((tmp_path / 'results.json').read_text()) == table
  assert 'is run again' not in capsys.readouterr().err


def test_what_an_earlier_sweep_did_not_keep_is_made_again(
    pretrained, tmp_path, capsys):
  """Weights, where the best are asked for later; answers to the test split."""
  data_dir = write_sst2(tmp_path / 'glue', test=9)
  settings = parse(config(data_dir, pretrained, finetune={
      'epochs': 1, 'max_train_examples': 32}))
  asked = dataclasses.replace(settings, finetune=dataclasses.replace(
      settings.finetune, predict_test=True))
  found = []
  with mock.patch.object(jax, 'devices', return_value=jax.devices()[:1]):
    for one, best in ((settings, 0), (settings, 2), (asked, 2)):
      found.append(sweep.sweep(one, str(tmp_path / 'w'), (1e-3,), (16,), 2,
                               best=best).results)
      assert len(list((tmp_path / 'w').glob('runs/*/best'))) == max(1, best)
      best_run = tmp_path / 'w' / found[-1]['best_run']
      model = robertax.load(str(tmp_path / 'w'))
      assert model.step == json.loads(
          (best_run / 'results.json').read_text())['best_step']
      assert (model.classify('a film').probabilities
              == robertax.load(str(best_run)).classify('a film').probabilities)
  said = capsys.readouterr().err
  assert said.count('its weights were not kept') == 1
  assert said.count('it did not answer the test split') == 2
  assert found[0]['settings'] == found[1]['settings'] == found[2]['settings']
  assert 'predictions.zip' in found[2]['files']
  assert 'predictions.zip' not in found[1]['files']
  shutil.rmtree(best_run / 'best')
  kept = sorted(best_run.iterdir())
  with pytest.raises(InputError, match='the 8 devices here'):  # Not one.
    sweep.sweep(asked, str(tmp_path / 'w'), (1e-3,), (16,), 2, best=2)
  assert sorted(best_run.iterdir()) == kept
  with pytest.raises(InputError, match='a sweep is kept in a local folder'):
    sweep.sweep(settings, 'gs://bucket/w')
