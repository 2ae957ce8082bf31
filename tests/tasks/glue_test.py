"""GLUE's predictions: official files, ensembles, runs at chance."""

import io
import json
import zipfile

import numpy as np
import pytest

from robertax.data.finetuning import Examples
from robertax.errors import InputError
from robertax.studies import sweep
from robertax.tasks import TASKS, glue
from robertax.tasks.finetune import Split
from robertax.tasks.glue_files import GLUE, GlueRow

NONE = Examples.of([])
OFFICIAL = {  # gluebenchmark.com/faq
    'cola': ['CoLA.tsv'], 'sst2': ['SST-2.tsv'], 'mrpc': ['MRPC.tsv'],
    'stsb': ['STS-B.tsv'], 'qqp': ['QQP.tsv'], 'qnli': ['QNLI.tsv'],
    'mnli': ['MNLI-m.tsv', 'MNLI-mm.tsv', 'AX.tsv'], 'rte': ['RTE.tsv'],
    'wnli': ['WNLI.tsv']}


def task_of(name, **splits):
  """A task with these labels of its splits, and no model."""
  task = object.__new__(glue.Glue)
  task.row, task.name = GLUE[name], f'glue/{name}'
  task.metrics = task.row.metrics
  task.splits = {split: Split(
      [GlueRow(str(n), ('x',), label) for n, label in enumerate(labels)],
      'a file', any(labels), NONE) for split, labels in splits.items()}
  return task


def logits(*classes, width=2):
  return {'logits': np.eye(width, dtype=np.float32)[list(classes)]}


def test_nine_tasks_with_official_submissions():
  assert {n: [file for _, file in t.tests] for n, t in GLUE.items()
          } == OFFICIAL
  assert {f'glue/{name}' for name in GLUE} == set(TASKS) - {'pretrain'} & {
      name for name in TASKS if name.startswith('glue/')}
  for task in GLUE.values():
    assert sorted(task.labels) == sorted(task.tfds_labels)
  # fairseq examples/roberta/README.md:139.
  assert GLUE['mnli'].labels == ('contradiction', 'neutral', 'entailment')


def test_submissions_are_zipped_in_the_official_form():
  task = task_of('mnli', dev_matched=['neutral'], test_matched=['', ''],
                 test_mismatched=[''], diagnostic=[''])
  files = task.files({
      'dev_matched': logits(1, width=3), 'test_matched': logits(
          0, 2, width=3), 'test_mismatched': logits(1, width=3),
      'diagnostic': logits(2, width=3)})
  with zipfile.ZipFile(io.BytesIO(files['predictions.zip'])) as zipped:
    found = {n: zipped.read(n).decode() for n in zipped.namelist()}
  assert found == {
      'MNLI-m.tsv': 'index\tprediction\n0\tcontradiction\n1\tentailment\n',
      'MNLI-mm.tsv': 'index\tprediction\n0\tneutral\n',
      'AX.tsv': 'index\tprediction\n0\tentailment\n'}
  assert task.files({'dev_matched': logits(1, width=3)}) == {}


def test_scores_are_of_five_and_stay_within():
  task = task_of('stsb', dev=['0.0', '2.5', '5.0', '4.0'])
  answers = {'logits': np.array([[-.1], [.5], [1.2], [.8]], np.float32)}
  assert task.predictions(answers) == pytest.approx([-.5, 2.5, 6, 4])
  assert task.targets(task.splits['dev'].rows).tolist() == pytest.approx(
      [0, .5, 1, .8])
  assert task.score('dev', answers)['spearman'] == pytest.approx(100)
  assert glue.submission_table(task.splits['dev'].rows, task.predictions(
      answers)).splitlines()[1:] == ['0\t0.000', '1\t2.500', '2\t5.000',
                                     '3\t4.000']


def test_f1_is_of_the_class_that_the_file_calls_1():
  task = task_of('mrpc', dev=['1', '1', '0', '0'])
  assert task.row.labels == ('1', '0')
  found = task.score('dev', logits(0, 1, 0, 1))
  assert found == {'accuracy': 50.0, 'f1': pytest.approx(50.0)}
  assert task.score('dev', logits(1, 1, 1, 1))['f1'] == 0


@pytest.mark.parametrize('name, labels, classes, why', [
    ('rte', ['entailment'] * 3 + ['not_entailment'], [0] * 4, 'all predict'),
    ('rte', ['entailment'] * 3 + ['not_entailment'], [0, 0, 1, 0],
     'not above 75'),
    ('rte', ['entailment'] * 2 + ['not_entailment'] * 2, [0, 0, 1, 0], ''),
    ('cola', ['1', '1', '0', '0'], [0, 1, 0, 1], 'not above 0'),
    ('cola', ['1', '1', '0', '0'], [0, 0, 0, 1], '')])
def test_a_run_at_chance_is_degenerate(name, labels, classes, why):
  found = task_of(name, dev=labels).degenerate('dev', logits(*classes))
  assert (why in found) if why else not found


def run_folder(folder, lines, task='glue/rte'):
  folder.mkdir()
  (folder / 'results.json').write_text(json.dumps(
      {'task': task, 'files': ['predictions.dev.jsonl']}))
  (folder / 'predictions.dev.jsonl').write_text(
      ''.join(json.dumps(line) + '\n' for line in lines))
  return str(folder)


def test_an_ensemble_averages_probabilities(tmp_path):
  """Two runs a little for one class, one strongly for the other."""
  def lines(*scores):
    return [{'index': '0', 'label': 'not_entailment', 'prediction': '?',
             'logits': [s, 0.0]} for s in scores]
  folders = [run_folder(tmp_path / str(n), lines(s))
             for n, s in enumerate([.2, .3, -4])]
  found, files = sweep.ensemble_answers(folders)
  assert found['scores'] == {'dev': {'accuracy': 100.0}}
  (line,) = files['predictions.dev.jsonl'].decode().splitlines()
  said = json.loads(line)
  wanted = np.mean([1 / (1 + np.exp(-s)) for s in (.2, .3, -4)])
  assert said['prediction'] == 'not_entailment'
  assert said['probabilities'][0] == pytest.approx(wanted)
  other = run_folder(tmp_path / 'other', lines(1), 'glue/qnli')
  with pytest.raises(InputError, match='their tasks differ'):
    sweep.ensemble_answers([folders[0], other])
  with pytest.raises(InputError, match="task='squad'"):
    sweep.check_task('squad')
  np.testing.assert_allclose(
      sweep.combine_logits(np.array([[[1.]], [[2.]]])), [[1.5]])
