"""What a workdir says of its run."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from robertax.errors import InputError
from robertax.inspection import run_log


def test_numbers_by_step(run):
  log = run_log.read_run(run.workdir)
  assert log.step == 250 and log.name == 'w'
  steps, losses = log.series('train/loss')
  assert steps.tolist() == [50, 100, 150, 200, 250] and (losses > 0).all()
  assert log.last('train/loss') == losses[-1]
  assert np.isnan(log.series('train/mfu')[1]).all()  # A CPU: no peak is known.
  assert log.last('train/mfu') is None and log.last('none') is None
  assert log.eval_sets == ('counting',)
  assert log.total('train/step_seconds') == pytest.approx(
      log.series('train/step_seconds')[1].sum())
  assert log.changed['train.steps'] == (250, log.config.__class__().train.steps)
  assert 'train.seed' not in log.changed and log.keys['train.log_every'] == 50
  first, last, starts = log.times()
  assert first < last and starts == 1


def test_damage_is_named(run, tmp_path):
  with pytest.raises(InputError, match='no such folder'):
    run_log.read_run(f'{tmp_path}/none')
  with pytest.raises(InputError, match='no config.json'):
    run_log.read_run(str(tmp_path))
  shutil.copy(f'{run.workdir}/config.json', tmp_path)
  with pytest.raises(InputError, match='metrics.jsonl does not exist'):
    run_log.read_run(str(tmp_path))
  file = tmp_path / 'metrics.jsonl'
  file.write_text('{"step": 1, "tra')  # Killed at its first line.
  with pytest.raises(InputError, match='no line yet'):
    run_log.read_run(str(tmp_path))
  file.write_text('{"step": 1, "train/loss": "<b>"}\n{"step": 2}\n{"st')
  log = run_log.read_run(str(tmp_path))
  assert log.step == 2 and log.last('train/loss') is None
  assert log.tokenizer == '' and log.times() is None
  (tmp_path / 'results.json').write_text('[1')
  with pytest.raises(InputError, match='results.json'):
    run_log.read_run(str(tmp_path))


def test_losses_of_other_things_are_told_apart(run):
  log = run_log.read_run(run.workdir)
  assert run_log.incomparable(log, log) == ''
  steps = json.loads(json.dumps(dataclasses.asdict(log.config)))
  assert steps['train']['steps'] == 250

  def other(section, **values):
    return dataclasses.replace(log, config=dataclasses.replace(
        log.config, **{section: dataclasses.replace(
            getattr(log.config, section), **values)}))

  assert run_log.incomparable(log, other('train', steps=9)) == ''
  assert run_log.incomparable(log, other('model', num_layers=9)) == ''
  assert 'data.mask_rate' in run_log.incomparable(
      log, other('data', mask_rate=.4))
  # The same text in another folder has the same counts of words.
  moved = other('data', corpora='/elsewhere/*.txt')
  assert run_log.incomparable(log, moved) == ''
  assert 'data.corpora' in run_log.incomparable(log, dataclasses.replace(
      moved, lines=[{'step': 0, 'eval/unigram_loss': 5.0}]))
  assert 'data.corpora' in run_log.incomparable(*(dataclasses.replace(
      log, lines=[{'step': 0}], config=x.config) for x in (log, moved)))
  assert 'not comparable in nats per token' in run_log.incomparable(
      log, dataclasses.replace(log, tokenizer='x'))
  assert 'missing' in run_log.incomparable(
      log, dataclasses.replace(log, tokenizer=''))
  assert 'task' in run_log.incomparable(log, dataclasses.replace(
      log, config=dataclasses.replace(log.config, task='glue/rte')))
