"""What is committed of a run is its figures, and the report reads them."""

import argparse
import dataclasses
import json
import shutil

import pytest

from benchmarks import keep_run
from robertax import corpus
from robertax.config import parse
from robertax.errors import InputError
from robertax.inspection import report, run_log
from robertax.train import workdir


@pytest.fixture(name='options')
def _options(tmp_path):
  """A run of ten steps, as its workdir tells it, and what came of it."""
  (tmp_path / 'a.txt').write_text(''.join(
      f'The cat sat on mat number {i}.\n\n' for i in range(300)))
  config = parse({
      'data': {'corpora': f'{tmp_path}/*.txt', 'cache_dir': f'{tmp_path}/cache',
               'sequence_length': 32, 'first_sequence_length': 16,
               'first_sequence_steps': 5, 'backend': 'numpy', 'workers': 1},
      'tokenizer': {'vocab_size': 300}, 'model': {'max_positions': 32},
      'train': {'steps': 10}})
  prepared = [corpus.prepare(
      dataclasses.replace(config.data, sequence_length=length),
      config.tokenizer, progress=False) for length in (16, 32, 24)]
  workdir.write_workdir(f'{tmp_path}/run', config, prepared[0].tokenizer)
  (tmp_path / 'run' / 'metrics.jsonl').write_text(''.join(json.dumps({
      'step': step, 'eval/loss': 5.0 - step / 10, 'eval/unigram_loss': 5.5,
      'eval/a/perplexity': 9.5}) + '\n' for step in (0, 10)))
  (tmp_path / 'run' / 'clock.jsonl').write_text(''.join(json.dumps({
      'start': 1, 'step': step, 'time': 30.0 * step, 'step_seconds': 1.0
  }) + '\n' for step in (0, 10)))
  (tmp_path / 'run' / 'learning_curve.png').write_bytes(b'')
  swept = {'task': 'glue/sst2', 'metric': 'accuracy', 'split': 'dev', 'rows': 9,
           'train_rows': 8, 'settings': [{'values': [60.0]}],
           'init_from': f'{tmp_path}/run'}
  (tmp_path / 'downstream.json').write_text(json.dumps(
      {'SST-2': {'random': swept, 'pretrained': swept}}))
  return argparse.Namespace(
      workdir=f'{tmp_path}/run', records=f'{tmp_path}/cache/records',
      downstream=f'{tmp_path}/downstream.json', device='2 CPU cores',
      command='python -m robertax.main', out=f'{tmp_path}/kept')


def test_figures_alone(options, tmp_path):
  keep_run.keep(options)
  kept = {path.name: path.read_text()
          for path in (tmp_path / 'kept').iterdir()}
  assert str(tmp_path) not in ''.join(kept.values())
  facts = json.loads(kept['facts.json'])
  assert facts['held_out'] == {'loss': 4.0, 'unigram_loss': 5.5,
                               'a/perplexity': 9.5}
  # Of the run's clock, not of the day it is kept.
  assert (facts['minutes'], facts['date']) == (5.0, '1970-01-01')
  assert facts['seed'] == 0
  assert facts['downstream']['SST-2']['random']['settings'] == [
      {'values': [60.0]}]
  # The records of both lengths that it read, and of no other.
  assert set(facts['corpora']['a']) == {'16', '32'}
  folder = next(p for p in (tmp_path / 'cache' / 'records').iterdir()
                if '"sequence_length": 32' in (p / 'manifest.json').read_text())
  assert facts['corpora']['a']['32']['sha256'].keys() == {
      p.name for p in folder.iterdir() if 'array_record' in p.name}


def test_a_report_lays_it_over_the_run_itself(options):
  keep_run.keep(options)
  mine, kept = map(run_log.read_run, (options.workdir, options.out))
  # Its folders are cut, its words are the same.
  assert mine.config != kept.config
  assert run_log.incomparable(mine, kept) == ''
  assert 'kept' in report.report_html(mine, [kept])


def test_what_is_missing_is_said(options, tmp_path):
  records = tmp_path / 'cache' / 'records'
  shutil.copytree(next(p for p in records.iterdir()
                       if '"sequence_length": 32' in (p / 'manifest.json'
                                                      ).read_text()),
                  records / 'again')
  with pytest.raises(InputError, match='a is there twice in rows of 32'):
    keep_run.keep(options)
  assert not (tmp_path / 'kept').exists()
  options.records = str(tmp_path)
  with pytest.raises(InputError, match='no records of the tokenizer'):
    keep_run.keep(options)
  (tmp_path / 'run' / 'learning_curve.png').unlink()
  with pytest.raises(InputError, match='has no learning_curve.png'):
    keep_run.keep(options)
  with open(f'{options.workdir}/metrics.jsonl', 'w') as f:
    f.write('{"step": 3}\n')
  with pytest.raises(InputError, match='not at its end: step 3 of 10'):
    keep_run.keep(options)
