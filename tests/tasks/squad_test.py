"""SQuAD end to end: a tiny model learns a handful of questions by heart."""

import dataclasses
import json
from unittest import mock

import jax
import numpy as np
import pytest

import robertax
from robertax import text
from robertax.config import (
    Config,
    DataConfig,
    FinetuneConfig,
    MeshConfig,
    ModelConfig,
    OptimConfig,
    TokenizerConfig,
    TrainConfig,
)
from robertax.errors import InputError
from robertax.inspection import conversion
from robertax.tasks import scoring, squad
from robertax.tasks.squad import Squad
from robertax.train import loop, writer

PARAGRAPHS = [
    ('Rome', 'Ann built the red ship in Rome, and Bo sold it to Eve in May.', [
        ('Who built the ship?', 'Ann'), ('Where was it?', 'Rome'),
        ('Who sold it?', 'Bo'), ('Who sank it?', None)]),
    ('Rome', 'The old mill (near Oslo) fell in 1973; nobody was hurt there.', [
        ('When did it fall?', '1973'), ('What fell?', 'The old mill'),
        ('Who owned it?', None)]),
    ('Île', 'Naïve Zoé wrote "A day" and sold 2,000 copies of it in one week.',
     [('What was sold?', '2,000 copies'), ('Who wrote?', 'Naïve Zoé'),
      ('What was read?', None)])]
STEPS = {'squad': 160, 'squad2': 100}


def squad_file(version):
  articles = {}
  for n, (title, context, asked) in enumerate(PARAGRAPHS):
    qas = [{'id': f'{n}{i}', 'question': question, 'answers': (
        [{'text': answer, 'answer_start': context.index(answer)}]
        if answer else [])} for i, (question, answer) in enumerate(asked)
           if answer or version == '2.0']
    articles.setdefault(title, []).append({'context': context, 'qas': qas})
  return {'version': version, 'data': [
      {'title': title, 'paragraphs': paragraphs}
      for title, paragraphs in articles.items()]}


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  folder = tmp_path_factory.mktemp('squad')
  for version in ('1.1', '2.0'):
    for split in ('train', 'dev'):
      (folder / f'{split}-v{version}.json').write_text(
          json.dumps(squad_file(version)))
  lines = [line for _, context, asked in PARAGRAPHS
           for line in (context, *(q for q, _ in asked))]
  text.train_byte_bpe(lines * 3, 340).save(folder / 'tokenizer.json')
  return folder


def config(folder, task='squad2', finetune=None, **data):
  return Config(
      seed=1, task=task,
      # Windows of 30 tokens: most paragraphs are cut into several.
      data=DataConfig(**{
          'dir': str(folder), 'sequence_length': 30, 'batch_size': 32,
          'doc_stride': 8, 'question_length': 12, **data}),
      tokenizer=TokenizerConfig(path=f'{folder}/tokenizer.json'),
      model=ModelConfig(hidden_size=64, num_layers=2, num_heads=4, mlp_size=128,
                        max_positions=64, dropout_rate=0.,
                        attention_dropout_rate=0.),
      optim=OptimConfig(learning_rate=3e-3, warmup_steps=10, weight_decay=0.),
      mesh=MeshConfig(data=1),
      train=TrainConfig(steps=STEPS[task], log_every=20, eval_every=40,
                        checkpoint_every=40),
      finetune=FinetuneConfig(from_scratch=True, max_answer_length=20,
                              **finetune or {}))


def run(config, workdir):
  """On the first of the test's devices."""
  with mock.patch.object(jax, 'devices', return_value=jax.devices()[:1]):
    return loop.run(config, str(workdir))


@pytest.fixture(scope='module')
def runs(folder):
  """(workdir, results) of each task."""
  return {task: (folder / task, run(config(folder, task),
                                    folder / task).results)
          for task in ('squad', 'squad2')}


@pytest.mark.parametrize('task', ['squad', 'squad2'])
def test_learns_its_questions_by_heart(runs, task):
  """Spans, and of 2.0 which of them have none."""
  workdir, results = runs[task]
  assert results['scores']['dev'] == {'f1': 100.0, 'exact': 100.0}
  assert (results['task'], results['metric'], results['value']) == (
      task, 'f1', 100.0)
  assert not results['degenerate'] and results['rows'] in (7, 10)
  predictions = json.loads((workdir / 'predictions.json').read_text())
  assert predictions == {
      f'{n}{i}': answer or '' for n, (_, _, asked) in enumerate(PARAGRAPHS)
      for i, (_, answer) in enumerate(asked) if answer or task == 'squad2'}
  if task == 'squad2':
    assert results['official']['NoAns_exact'] == 100.0
    assert results['official']['NoAns_total'] == 3
    assert 0 < results['no_answer_threshold'] < 1
    assert results['labels'] == ['unanswerable', 'answerable']
    # The classifier itself is right, whatever the threshold.
    na = json.loads((workdir / 'na_prob.json').read_text())
    assert all((na[key] > .5) == (answer == '')
               for key, answer in predictions.items())


@pytest.mark.parametrize('task, version', [('squad', '1.1'),
                                           ('squad2', '2.0')])
def test_the_door_says_what_results_say(runs, folder, task, version):
  workdir, results = runs[task]
  asked = scoring.Request('squad', f'{folder}/dev-v{version}.json',
                          f'{workdir}/predictions.json', version)
  found = scoring.score(asked, strict=True)
  assert found == results['official']
  assert found['f1'] == results['value']
  if version == '2.0':
    best = scoring.score(scoring.Request(
        'squad', f'{folder}/dev-v2.0.json', f'{workdir}/predictions.json',
        version, f'{workdir}/na_prob.json'), strict=True)
    assert best['best_f1'] == best['f1'] == results['value']


@pytest.mark.parametrize('task', ['squad', 'squad2'])
def test_a_loaded_model_answers_as_the_run_did(runs, task):
  """Texts, thresholds, probabilities, alone and in a list."""
  workdir, results = runs[task]
  model = robertax.load(workdir)
  predictions, n_best = (json.loads((workdir / f'{name}.json').read_text())
                         for name in ('predictions', 'nbest_predictions'))
  rows = {f'{n}{i}': (question, context)
          for n, (_, context, asked) in enumerate(PARAGRAPHS)
          for i, (question, answer) in enumerate(asked)
          if answer or task == 'squad2'}
  found = dict(zip(rows, model.answer(list(rows.values()))))
  assert {key: one.text for key, one in found.items()} == predictions
  for key, one in found.items():
    assert rows[key][1][one.start:one.end] == one.text
    assert one.probability == pytest.approx(next(
        e['probability'] for e in n_best[key] if e['text'] == one.text),
                                            abs=1e-4)
  alone = model.answer(*rows['00'])
  assert alone[:3] == ('Ann', 0, 3) and model.answer([]) == []
  if task == 'squad':
    assert alone.no_answer is None
  else:
    odds = json.loads((workdir / 'na_prob.json').read_text())
    assert {k: one.no_answer for k, one in found.items()} == pytest.approx(
        odds, abs=1e-4)
    assert model.threshold == results['no_answer_threshold']
    # All questions, or none, have an answer.
    assert model.answer(*rows['03'], threshold=1.0).text
    assert model.answer(*rows['00'], threshold=0.0)[:3] == ('', 0, 0)
    moved = workdir.parent / 'moved'
    conversion.convert(str(workdir), str(moved))
    assert robertax.load(moved).threshold == model.threshold


def test_an_answer_is_where_it_is_read(runs):
  """In the second of two windows, of two equal texts the better one."""
  model = robertax.load(runs['squad'][0])
  context = f'{PARAGRAPHS[1][1]} {PARAGRAPHS[0][1]} Ann ate.'
  one = model.answer('Who built the ship?', context)
  assert one.text and context[one.start:one.end] == one.text
  with pytest.raises(InputError, match="its context '' has no tokens"):
    model.answer('Who?', '')
  for wrong in (('Who?',), (['Who?'],), ([('Who?', 'Ann', 'Bo')],)):
    with pytest.raises(InputError, match='answer takes .question, context'):
      model.answer(*wrong)


def test_what_a_model_was_not_made_for(runs):
  model = robertax.load(runs['squad2'][0])
  for name, asked in (('classify', 'A text.'), ('fill_mask', 'A <mask>.'),
                      ('score', 'A text.'), ('choose', 'A text.'),
                      ('rate', 'A text.'), ('resolve_pronoun', '[He] fell.')):
    with pytest.raises(InputError, match=f'model.{name} is for .*; this model '
                       'was fine-tuned for squad2: use model.answer.'):
      getattr(model, name)(asked)
  assert model.encode('A text.', pooling='mean').shape == (64,)


def test_killed_and_resumed_ends_the_same(runs, folder, tmp_path):
  workdir, _ = runs['squad2']
  add, before = writer.Writer.add, 60

  def killed(self, step, metrics):
    if step == before:
      raise KeyboardInterrupt
    add(self, step, metrics)

  with mock.patch.object(writer.Writer, 'add', killed):
    with pytest.raises(KeyboardInterrupt):
      run(config(folder), tmp_path)
  assert not (tmp_path / 'results.json').exists()
  again = run(config(folder), tmp_path)
  assert again.trained == STEPS['squad2'] - 40
  for name in ('predictions.json', 'na_prob.json', 'results.json',
               'nbest_predictions.json', 'null_odds.json'):
    assert (tmp_path / name).read_text() == (workdir / name).read_text(), name


def test_files_are_in_the_official_form(runs):
  workdir, results = runs['squad2']
  assert set(results['files']) == {
      'predictions.json', 'predictions.dev.jsonl', 'na_prob.json',
      'nbest_predictions.json', 'null_odds.json', 'unrecovered.jsonl'}
  predictions, n_best, odds = (
      json.loads((workdir / f'{name}.json').read_text())
      for name in ('predictions', 'nbest_predictions', 'null_odds'))
  assert predictions.keys() == n_best.keys() == odds.keys()
  contexts = {f'{n}{i}': context for n, (_, context, asked)
              in enumerate(PARAGRAPHS) for i in range(len(asked))}
  for key, entries in n_best.items():
    assert sum(e['probability'] for e in entries) == pytest.approx(1)
    assert all(e['text'] in contexts[key] for e in entries)
    first = next(e for e in entries if e['text'])
    null = next(e for e in entries if not e['text'])
    assert odds[key] == pytest.approx(
        null['start_logit'] + null['end_logit'] - first['start_logit']
        - first['end_logit'], abs=1e-4)
    assert predictions[key] in ('', first['text'])
  lines = [json.loads(line) for line in (
      workdir / 'predictions.dev.jsonl').read_text().splitlines()]
  assert {line['id']: line['prediction'] for line in lines} == predictions
  assert {line['id'] for line in lines if not line['answers']} == {
      key for key, answer in predictions.items() if not answer}


def test_two_comes_from_one_and_a_part_of_two(folder, tmp_path, capsys):
  """train-v1.1 and the first article, scored on the second."""
  one = squad_file('1.1')
  for article in one['data']:
    for paragraph in article['paragraphs']:
      for asked in paragraph['qas']:
        asked['id'] += 'x'
  (tmp_path / 'one.json').write_text(json.dumps(one))
  made = Squad(config(folder, dir='', train_files=(
      f'{tmp_path}/one.json,{folder}/dev-v2.0.json[:1]'),
                      eval_files=f'{folder}/dev-v2.0.json[1:]'), 1)
  assert len(made.splits['train'].rows) == 7 + 7
  assert [q.article for q in made.splits['dev'].rows] == ['Île'] * 3
  said = capsys.readouterr().err
  assert 'by heart' not in said
  assert '1 answers are in no window' not in said
  assert 'windows of 2 answerable questions and 1 others' in said
  # And in data.dir, if there is one.
  made = Squad(config(folder, eval_files='dev-v2.0.json[:1]'), 1)
  assert len(made.splits['dev'].rows) == 7
  assert '7 of 7 questions to evaluate are among' in capsys.readouterr().err


def test_what_windows_lose_is_told(folder, tmp_path, capsys):
  context = PARAGRAPHS[0][1]
  lost = {'text': 'nn built the red ship in Rome, and Bo sold it to E',
          'answer_start': 1}
  content = {'version': '1.1', 'data': [{'title': 'T', 'paragraphs': [{
      'context': context, 'qas': [
          {'id': 'a', 'question': 'What? ' * 20, 'answers': [lost]}]}]}]}
  (tmp_path / 'f.json').write_text(json.dumps(content))
  Squad(config(folder, 'squad', dir=str(tmp_path), train_files='f.json',
               eval_files='f.json'), 1)
  said = capsys.readouterr().err
  assert '1 answers are in no window, 1 are not made of whole tokens' in said
  assert 'nn built the red ship' in said and '1 questions cut to 12' in said


@pytest.mark.parametrize('change, says', [
    (dict(dir=''), 'needs data.dir, the folder of train-v2.0.json'),
    (dict(dir='/nowhere'), 'cannot read /nowhere/train-v2.0.json: No such'),
    (dict(eval_files='dev-v9.json'), 'cannot read .*dev-v9.json'),
    (dict(doc_stride=20), 'more than data.doc_stride=20'),
    (dict(finetune=dict(n_best=0)), 'n_best=0: at least 1')])
def test_wrong_input_is_named_and_leaves_no_workdir(
    folder, tmp_path, change, says):
  with pytest.raises(InputError, match=says):
    run(config(folder, **change), tmp_path / 'w')
  assert not (tmp_path / 'w').exists()


def test_random_logits_are_a_run_at_chance(folder):
  made = Squad(config(folder), 1)
  rng = np.random.default_rng(5)
  found = made.splits['dev'].examples
  answers = {
      'starts': rng.normal(size=len(found.ids)).astype(np.float32),
      'ends': rng.normal(size=len(found.ids)).astype(np.float32),
      'answerable': np.zeros(len(found), np.float32)}
  # Never an answer is right for 3 of 10; all have the same odds here.
  assert made.score('dev', answers)['f1'] == pytest.approx(30)
  assert 'is not above' in made.degenerate('dev', answers)
  for name in ('starts', 'ends'):
    marks = found.marks[f'span_{name}']
    answers[name][found.starts[:-1] + marks] += 30
  answers['answerable'] += np.where(found.values['class_targets'], 5, -5)
  assert made.score('dev', answers)['f1'] == 100.0
  assert not made.degenerate('dev', answers)


def test_no_text_is_tokenized_twice(folder):
  """Neither to decode, nor by the next run of a sweep."""
  with mock.patch.object(squad, 'encode_questions',
                         wraps=squad.encode_questions) as encode:
    for batch_size in (8, 4):
      made = Squad(config(folder, doc_stride=7, batch_size=batch_size), 1)
      found = made.splits['dev'].examples
      answers = {'dev': {
          name: np.zeros(len(found.ids), np.float32)
          for name in ('starts', 'ends')} | {
              'answerable': np.zeros(len(found), np.float32)}}
      assert made.score('dev', answers['dev'])['f1'] >= 0
      assert 'unrecovered.jsonl' in made.files(answers)
  assert encode.call_count == 2  # Train and dev.


@pytest.mark.parametrize('types, separators', [(0, 2), (1, 2), (2, 1)])
def test_one_type_is_a_roberta(folder, types, separators):
  settings = config(folder)
  made = Squad(dataclasses.replace(settings, model=dataclasses.replace(
      settings.model, num_types=types)), 1)
  assert made.windowing.specials == (1, separators, 1)
