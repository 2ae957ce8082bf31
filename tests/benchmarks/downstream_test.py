"""The study's table and its parts of data; its configs are the loop's."""

import argparse
import json
import os
import pathlib
import subprocess
import sys

import pytest

from benchmarks import downstream
from robertax.tasks import TASKS, race


def test_table():
  def one(values, stuck=()):
    return {'metric': 'f1', 'train_rows': 9, 'rows': 5,
            'settings': [{'values': values, 'degenerate': list(stuck)}]}

  found = downstream.table({'SQuAD': {
      'random': one([10.0, 14.0], [1]), 'pretrained': one([30.0, 13.0])}})
  assert found.splitlines()[2] == (
      '| SQuAD | f1 | 9 | 5 | 12.0 (10.0 to 14.0), 1 at chance | 21.5 (13.0 to '
      '30.0) | +20.0, -1.0 |')


@pytest.fixture(name='options')
def _options(tmp_path):
  data = tmp_path / 'data'
  for folder in ('squad', 'glue/QNLI', 'race'):
    (data / folder).mkdir(parents=True)
  context = 'Ann has a cat. Bob has a dog.'
  (data / 'squad' / 'train-v1.1.json').write_text(json.dumps({
      'version': '1.1', 'data': [{'title': 't', 'paragraphs': [{
          'context': context, 'qas': [{
              'id': str(i), 'question': f'Who has a dog {i}?', 'answers': [
                  {'text': 'Bob', 'answer_start': context.index('Bob')}]}
                                      for i in range(10)]}]}]}))
  (data / 'glue' / 'QNLI' / 'dev.tsv').write_text(
      'index\tquestion\tsentence\tlabel\n' + '0\ta\tb\tentailment\n' * 1_500)
  document = {'article': 'x', 'questions': ['a'] * 3, 'answers': ['A'] * 3,
              'options': [list('abcd')] * 3}
  for split in ('train', 'dev'):
    (data / 'race' / f'{split}-middle.jsonl').write_text(''.join(
        json.dumps(document | {'id': f'middle{i}.txt'}) + '\n'
        for i in range(200)))
  return argparse.Namespace(
      data=str(data), out=str(tmp_path / 'out'), share=0.5, learning_rate=1e-4,
      batch_size=8, seeds=1, workers=2, tasks='', cores='')


def test_data(options):
  downstream.write_data(options)
  with open(f'{options.out}/QNLI/dev.tsv') as f:
    assert len(f.readlines()) == 1 + downstream.QNLI_DEV
  with open(f'{options.out}/QNLI/train.tsv') as f:
    assert [line.rstrip('\n').split('\t')[2:] for line in f][1:3] == [
        ['Bob has a dog.', 'entailment'], ['Ann has a cat.', 'not_entailment']]
  for split, count in (('train', 600), ('dev', 402)):
    found = race.read_questions(f'{options.out}/race', split, ('middle',))
    assert len(found) == count
  # Two workers ask for what is there: neither writes.
  before = {p: p.stat().st_mtime_ns
            for p in pathlib.Path(options.out).rglob('*.*')}
  downstream.write_data(options)
  assert before == {p: p.stat().st_mtime_ns for p in before}


@pytest.mark.parametrize('task', downstream.TASKS, ids=lambda t: t.name)
def test_both_beginnings_differ_in_nothing_else(options, task):
  random, pretrained = (downstream.tuning(task, options, scratch)
                        for scratch in (True, False))
  assert task.name in TASKS
  assert random.finetune.from_scratch and not pretrained.finetune.from_scratch
  assert random.data == pretrained.data and random.optim == pretrained.optim
  assert random.train == pretrained.train


@pytest.mark.parametrize('failing', [(), ('wsc',)])
def test_workers_share_the_tasks(options, monkeypatch, tmp_path, failing):
  """Each task once, with the same flags, on one worker's cores."""
  real = subprocess.Popen

  def popen(command, **more):
    # What it is asked, and where, instead of the hour that it takes.
    task = command[-1].removeprefix('--tasks=')
    return real([sys.executable, '-c', f"""
import json, sys
with open({str(tmp_path / task.replace('/', '-'))!r}, 'x') as f:
  json.dump({command[3:]!r}, f)
sys.exit({int(task in failing)})"""], **more)

  monkeypatch.setattr(subprocess, 'Popen', popen)
  names = [task.name for task in downstream.TASKS]
  assert downstream.in_parallel(options, names) == (not failing)
  if failing:
    return  # The others were stopped, or not begun.
  cores = set()
  for name in names:
    asked = json.loads((tmp_path / name.replace('/', '-')).read_text())
    assert {f'--data={options.data}', '--share=0.5', '--seeds=1'} < set(asked)
    assert not any(flag.startswith('--workers') for flag in asked)
    (on,) = [flag for flag in asked if flag.startswith('--cores=')]
    cores.add(tuple(on.removeprefix('--cores=').split(',')))
  if len(os.sched_getaffinity(0)) > 1:
    assert len(cores) == 2 and not set.intersection(*map(set, cores))
