"""RACE from files to predictions: a tiny model learns its questions by heart.
"""

import json
import shutil

import numpy as np
import pytest

import robertax
from robertax.errors import InputError
from robertax.tasks import scoring
from robertax.tasks.race import Race, read_questions
from tests.tasks import tuning_run

NAMES = ('Ann', 'Bob', 'Eve', 'Tom')
THINGS = ('cat', 'dog', 'hen', 'fox', 'car', 'pen')


def write(folder, split, part, count, seed, answers=True):
  """Questions that are answered by the passage: who has it?"""
  rng, path = np.random.default_rng(seed), folder / split / part
  path.mkdir(parents=True)
  for number in range(count):
    owners = rng.permutation(4)
    things = rng.permutation(len(THINGS))[:2]
    document = {
        'id': f'{part}{number}.txt',
        'article': ' '.join(f'{NAMES[owners[i]]} has a {THINGS[t]}.\n'
                            for i, t in enumerate(things)),
        'questions': [f'Who has a {THINGS[things[0]]}?',
                      f'_ has a {THINGS[things[1]]}.'],
        'options': [list(NAMES)] * 2,
        'answers': ['ABCD'[owners[0]], 'ABCD'[owners[1]]]}
    if not answers:
      del document['answers']
    (path / f'{number}.txt').write_text(json.dumps(document))


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  folder = tmp_path_factory.mktemp('race')
  for split in ('train', 'dev'):  # The same: what is learned by heart.
    write(folder, split, 'middle', 4, seed=1)
    write(folder, split, 'high', 3, seed=2)
  write(folder, 'test', 'middle', 2, seed=3)
  write(folder, 'test', 'high', 2, seed=4)
  return folder


@pytest.fixture(scope='module')
def tokenizer(tmp_path_factory):
  return tuning_run.tokenizer(tmp_path_factory.mktemp('tok'),
                              [*NAMES, *THINGS, 'has', 'a', 'Who'])


@pytest.fixture(scope='module')
def done(folder, tokenizer, tmp_path_factory):
  workdir = tmp_path_factory.mktemp('run')
  config = tuning_run.config('race', folder, tokenizer, steps=160,
                             checkpoint_every=80, learning_rate=3e-3,
                             finetune=dict(predict_test=True))
  return workdir, tuning_run.run(config, workdir), config


def test_learns_by_heart(done, folder):
  workdir, found, _ = done
  assert found['scores']['dev'] == {
      'accuracy': 100.0, 'middle': 100.0, 'high': 100.0}
  assert (found['rows'], found['train_rows']) == (14, 14)
  assert not found['degenerate']
  predicted = json.loads((workdir / 'predictions.dev.json').read_text())
  wanted = {}
  for part in ('middle', 'high'):
    for path in (folder / 'dev' / part).iterdir():
      document = json.loads(path.read_text())
      wanted |= {f'{document["id"]}/{i + 1}': letter
                 for i, letter in enumerate(document['answers'])}
  assert predicted == wanted
  assert scoring.score(scoring.Request(
      'race', f'{folder}/dev', f'{workdir}/predictions.dev.json'),
                       strict=True).items() >= found['scores']['dev'].items()
  metrics = tuning_run.lines(workdir / 'metrics.jsonl')
  assert metrics[-1]['train/loss'] < 0.3


def test_test_is_scored_once_and_chooses_nothing(done):
  workdir, found, _ = done
  rows = tuning_run.lines(workdir / 'predictions.test.jsonl')
  assert len(rows) == 8
  right = [r['prediction'] == r['answer'] for r in rows]
  assert found['test_scores']['test']['accuracy'] == pytest.approx(
      100 * np.mean(right))
  assert all(r['prediction'] == 'ABCD'[np.argmax(r['scores'])] for r in rows)
  assert not any('eval/test' in key for line in tuning_run.lines(
      workdir / 'metrics.jsonl') for key in line)


def test_a_loaded_model_chooses_as_the_run_did(done, folder):
  """Scores of four options; and any other number of them."""
  workdir, _, config = done
  model = robertax.load(workdir)
  rows = [row for part in ('middle', 'high') for row in read_questions(
      str(folder), 'dev', (part,))]
  asked = [(row.passage, row.question, row.options) for row in rows]
  lines = tuning_run.lines(workdir / 'predictions.dev.jsonl')
  for row, line, found in zip(rows, lines, model.choose(asked), strict=True):
    assert row.id == line['id']
    assert found.option == row.options['ABCD'.index(line['prediction'])]
    odds = np.exp(line['scores'])
    assert found.probabilities == pytest.approx(odds / odds.sum(), abs=1e-4)
    assert found.probability == max(found.probabilities)
  context, question, options = asked[0]
  three = model.choose(context, question, options[1:])
  assert three.option == options[1:][three.number]
  assert len(three.probabilities) == 3 and model.choose([]) == []
  assert sum(three.probabilities) == pytest.approx(1)
  for wrong in ((context,), (context, question, options[:1]),
                (context, question, 'Ann'), ([(context, question)],)):
    with pytest.raises(InputError, match='choose takes .context, question'):
      model.choose(*wrong)
  with pytest.raises(InputError, match='fine-tuned for race: use model.choose'):
    model.rate('A text.')


def test_resumed_is_undisturbed(done, tmp_path):
  """Without its second half, the run makes it again."""
  workdir, found, config = done
  again = tmp_path / 'again'
  shutil.copytree(workdir, again)
  shutil.rmtree(again / 'checkpoints' / '160')
  shutil.rmtree(again / 'best')
  (again / 'results.json').unlink()
  assert tuning_run.run(config, again) == found

  def plain(path):
    return [{k: v for k, v in line.items()
            if 'second' not in k and 'goodput' not in k}
            for line in tuning_run.lines(path / 'metrics.jsonl')]
  assert plain(again) == plain(workdir)
  for name in ('predictions.dev.jsonl', 'predictions.test.json'):
    assert (again / name).read_bytes() == (workdir / name).read_bytes()


def test_one_part(folder, tokenizer):
  task = Race(tuning_run.config('race/high', folder, tokenizer, steps=1), 1)
  assert task.metrics == ('accuracy',)
  assert {row.part for row in task.splits['dev'].rows} == {'high'}
  assert list(task.splits) == ['train', 'dev']
  scores = np.zeros(24)
  scores[2::4] = 1  # All C.
  assert task.degenerate('dev', {'scores': scores}) == (
      'all answers on dev are C.')
  right = np.array([row.answer for row in task.splits['dev'].rows])
  assert task.score('dev', {'scores': np.eye(4)[right].ravel()}) == {
      'accuracy': 100.0}
  assert 'accuracy 0.00 on dev is not above' in task.degenerate(
      'dev', {'scores': np.eye(4)[(right + 1) % 4].ravel()})


def test_what_is_to_be_learned_has_answers(tmp_path, tokenizer):
  write(tmp_path, 'train', 'high', 1, seed=0, answers=False)
  with pytest.raises(InputError, match='high0.txt/1 has no answer'):
    Race(tuning_run.config('race/high', tmp_path, tokenizer, steps=1), 1)
