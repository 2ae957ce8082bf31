"""Where data lies, what stands in for what, and that it says so."""

import dataclasses
import json
import pathlib

import pytest

from robertax.errors import InputError
from robertax.paper import inputs
from robertax.paper.scales import SCALES
from robertax.paper.tables import FIVE, PAIR
from robertax.tasks import glue_files, race
from robertax.tasks.glue_files import GLUE

TINY = SCALES['tiny']


def write(path, text=''):
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(text)


def place(name, tmp_path, scale=TINY):
  return inputs.task_data(name, str(tmp_path), str(tmp_path / 'made'), scale)


def test_books_and_wikipedia_are_the_pair(tmp_path):
  for name in ('wiki.jsonl.zst', 'bookcorpus.txt', 'news.jsonl', 'notes.md'):
    write(tmp_path / 'pretrain' / name)
  found, said = inputs.paper_corpora(str(tmp_path))
  assert found[PAIR].split(',') == [
      f'{tmp_path}/pretrain/{n}' for n in ('bookcorpus.txt', 'wiki.jsonl.zst')]
  assert len(found[FIVE].split(',')) == 3 and not said


def test_text_that_is_neither_is_an_error(tmp_path):
  write(tmp_path / 'pretrain' / 'news.jsonl')
  with pytest.raises(InputError, match=r'wiki or book.*found: news.jsonl'):
    inputs.paper_corpora(str(tmp_path))
  with pytest.raises(InputError, match='found: none'):
    inputs.paper_corpora(str(tmp_path / 'nowhere'))


def test_without_a_folder_it_is_tfds(tmp_path):
  found, said = inputs.paper_corpora('')
  assert all(name.startswith('tfds:') for corpora in found.values()
             for name in corpora.split(',')) and 'stand in' in said
  assert inputs.task_data('rte', '', 'x', TINY).values == {'data.dir': 'tfds:'}
  assert 'no --data' in inputs.task_data('squad1', '', 'x', TINY).missing


def test_official_files_are_taken_as_they_are(tmp_path):
  for name in ('train.tsv', 'dev_matched.tsv'):
    write(tmp_path / 'glue' / 'MNLI' / name)
  for name in ('train', 'dev'):
    write(tmp_path / 'squad' / f'{name}-v2.0.json')
  assert place('mnli', tmp_path) == inputs.TaskData(
      {'data.dir': f'{tmp_path}/glue'})
  assert place('squad2', tmp_path) == inputs.TaskData(
      {'data.dir': f'{tmp_path}/squad'})


@pytest.mark.parametrize('ending', ['jsonl', 'tsv'])
def test_mnli_dev_is_cut_by_premise(tmp_path, ending):
  rows = [{'premise': f'p{n // 3}', 'hypothesis': f'h{n}', 'label': 'neutral'}
          for n in range(600)]
  write(tmp_path / 'glue' / 'MNLI' / f'dev_matched.{ending}', {
      'jsonl': ''.join(json.dumps(row) + '\n' for row in rows),
      'tsv': 'index\tsentence1\tsentence2\tgold_label\n' + ''.join(
          '\t'.join(['0', *row.values()]) + '\n' for row in rows)}[ending])
  for _ in range(2):  # The second time it is there.
    found = place('mnli', tmp_path)
  assert 'cut in two' in found.stand_in
  source = glue_files.GlueFiles(GLUE['mnli'], found.values['data.dir'])
  sides = {side: source.split(side, True).rows
           for side in ('train', 'dev_matched')}
  assert sorted(row.texts for rows in sides.values() for row in rows) == sorted(
      (row['premise'], row['hypothesis']) for row in rows)
  assert .1 < len(sides['dev_matched']) / 600 < .3
  premises = [{row.texts[0] for row in rows} for rows in sides.values()]
  assert not premises[0] & premises[1]


def test_damage_in_what_is_cut_is_for_its_reader(tmp_path):
  write(tmp_path / 'glue' / 'MNLI' / 'dev_matched.jsonl', '{"premise": 1\n' * 9)
  found = place('mnli', tmp_path)
  source = glue_files.GlueFiles(GLUE['mnli'], found.values['data.dir'])
  with pytest.raises(InputError, match='line 1: not JSON'):
    for side in ('train', 'dev_matched'):
      source.split(side, True)


def test_squad2_without_its_train(tmp_path):
  for name in ('train-v1.1', 'dev-v2.0'):
    write(tmp_path / 'squad' / f'{name}.json')
  found = place('squad2', tmp_path)
  assert 'no train-v2.0.json' in found.stand_in
  # Trained on even articles, scored on odd ones; at `tiny` on some of them.
  assert found.values['data.train_files'].endswith('dev-v2.0.json[::2]')
  assert found.values['data.eval_files'] == 'dev-v2.0.json[1::2]'
  scored = TINY.tasks['squad2']['data.eval_files']
  assert not set(range(99)[::2]) & set(range(99)[1::6]) and '[1::6]' in scored
  assert 'no dev-v1.1.json' in place('squad1', tmp_path).missing


def test_qnli_out_of_squad(tmp_path):
  context = 'Ann has a cat. Bob has a dog.'
  write(tmp_path / 'squad' / 'train-v1.1.json', json.dumps({
      'version': '1.1', 'data': [{'title': 't', 'paragraphs': [{
          'context': context, 'qas': [{
              'id': str(i), 'question': f'Who has a dog {i}?', 'answers': [
                  {'text': 'Bob', 'answer_start': context.index('Bob')}]}
                                      for i in range(10)]}]}]}))
  dev = 'index\tquestion\tsentence\tlabel\n0\ta\tb\tentailment\n'
  write(tmp_path / 'glue' / 'QNLI' / 'dev.tsv', dev)
  found = place('qnli', tmp_path)
  assert 'SQuAD' in found.stand_in
  made = pathlib.Path(found.values['data.dir'])
  assert (made / 'dev.tsv').read_text() == dev
  assert len((made / 'train.tsv').read_text().splitlines()) == 1 + 2 * 2


@pytest.mark.parametrize('name', ['cola', 'qnli', 'race', 'squad1'])
def test_what_is_not_there_is_said(tmp_path, name):
  (tmp_path / 'glue').mkdir()
  found = place(name, tmp_path)
  assert str(tmp_path) in found.missing and not found.values


def test_race_is_scored_in_part_at_tiny_and_whole_on_paper(tmp_path):
  for split in ('train', 'dev', 'test'):
    for part in ('middle', 'high'):
      write(tmp_path / 'race' / f'{split}-{part}.jsonl', ''.join(json.dumps({
          'article': 'x', 'questions': ['a'] * 3, 'answers': ['A'] * 3,
          'options': [list('abcd')] * 3, 'id': f'{part}{i}.txt'}) + '\n'
                                                     for i in range(20)))
  scale = dataclasses.replace(TINY, scored={'race': 10})
  found = place('race', tmp_path, scale)
  for split, count in (('train', 60), ('dev', 12), ('test', 12)):
    assert len(race.read_questions(
        found.values['data.dir'], split, ('middle',))) == count
  assert place('race', tmp_path, SCALES['paper']).values == {
      'data.dir': f'{tmp_path}/race'}


def test_pieces_of_the_paper_are_taken_at_its_scale(tmp_path):
  for name in ('encoder.json', 'vocab.bpe', 'dict.txt',
               'bert-base-uncased-vocab.txt'):
    write(tmp_path / 'bpe' / name)
  assert inputs.paper_tokenizers(str(tmp_path), SCALES['paper']) == {
      'byte_bpe': f'{tmp_path}/bpe',
      'wordpiece': f'{tmp_path}/bpe/bert-base-uncased-vocab.txt'}
  assert not inputs.paper_tokenizers(str(tmp_path), TINY)
