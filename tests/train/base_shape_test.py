"""RoBERTa base fine-tunes where memory is small: one row at a time."""

import json
import os
import pathlib
import re
import subprocess
import sys

import pytest

from robertax import text
from tests.tasks.tiny_glue import write_sst2

REAL = os.environ.get('ROBERTAX_TEST_DATA')
LIMIT_GIB = 12

RUN = '''
import json, resource, sys
from robertax.train import loop
from robertax.config import parse
loop.run(parse(json.loads(sys.argv[1])), sys.argv[2])
print('GIB', resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
'''


def glue(folder):
  """Texts that fill rows of 512 tokens."""
  place = write_sst2(folder, train=12, dev=4)
  for file in ('train', 'dev'):
    path = place / 'SST-2' / f'{file}.tsv'
    head, *lines = path.read_text().splitlines()
    rows = [line.split('\t') for line in lines]
    path.write_text('\n'.join(
        [head] + [' '.join([words] * 120) + f'\t{label}'
                  for words, label in rows]) + '\n')
  return 'glue/sst2', str(place)


def squad2(folder):
  """Contexts longer than a window."""
  for split in ('train', 'dev'):
    articles = [{'title': f't{n}', 'paragraphs': [{
        'context': f'Ann has cat {n}. ' + 'One two three four. ' * 150,
        'qas': [
            {'id': f'{split}{n}', 'question': 'Who has a cat?',
             'is_impossible': False,
             'answers': [{'text': 'Ann', 'answer_start': 0}]},
            {'id': f'{split}{n}no', 'question': 'Who has a dog?',
             'is_impossible': True, 'answers': []}]}]} for n in range(4)]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f'{split}-v2.0.json').write_text(
        json.dumps({'version': 'v2.0', 'data': articles}))
  return 'squad2', str(folder)


def race(folder):
  """Four passages of 512 tokens a question."""
  for split, passages in (('train', 4), ('dev', 1)):
    for n in range(passages):
      path = folder / split / 'middle' / f'{n}.txt'
      path.parent.mkdir(parents=True, exist_ok=True)
      path.write_text(json.dumps({
          'id': f'middle{n}.txt', 'article': 'One two three four. ' * 200,
          'questions': ['Who?'] * 3, 'answers': ['A', 'B', 'C'],
          'options': [['one', 'two', 'three', 'four']] * 3}))
  return 'race/middle', str(folder)


def wsc(folder):
  """Long sentences with several candidates."""
  folder.mkdir(parents=True)
  names = ('Ann', 'Bob', 'Eve', 'Tom')
  rows = []
  for n in range(12):
    a, b = names[n % 4], names[(n + 1) % 4]
    words = f'{a} saw {b} and he ran' + ' and then two and three' * 40 + ' .'
    rows.append({'text': words, 'idx': n, 'label': True, 'target': {
        'span1_text': a, 'span1_index': 0, 'span2_text': 'he',
        'span2_index': 4}})
  for split in ('train', 'val'):
    (folder / f'{split}.jsonl').write_text(
        ''.join(json.dumps(row) + '\n' for row in rows))
  return 'wsc', str(folder)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize('family', [glue, squad2, race, wsc])
def test_three_steps_of_base_fit(family, tmp_path):
  task, folder = family(tmp_path / 'data')
  tokenizer = pathlib.Path(REAL or '') / 'bpe'
  if not REAL:  # A small vocabulary: 40M parameters fewer.
    text.train_byte_bpe(['one two three four five'] * 50, vocab_size=300).save(
        str(tmp_path / 'tokenizer.json'))
    tokenizer = tmp_path / 'tokenizer.json'
  values = {
      'task': task, 'data': {'dir': folder, 'batch_size': 4},
      'tokenizer': {'path': str(tokenizer)}, 'optim': {'warmup_steps': 0},
      'train': {'steps': 3, 'micro_batches': 4, 'log_every': 1},
      'finetune': {'from_scratch': True, 'eval_tokens': 512}}
  ended = subprocess.run(
      [sys.executable, '-c', RUN, json.dumps(values), str(tmp_path / 'w')],
      env=os.environ | {'XLA_FLAGS': '', 'PYTHONPATH': os.getcwd()},
      capture_output=True, text=True, timeout=1500)
  assert ended.returncode == 0, ended.stderr[-3000:]
  gib = float(re.search('GIB (.*)', ended.stdout)[1])
  print(f'{task}: {gib:.2f} GiB; {ended.stderr[-600:]}')
  assert gib < LIMIT_GIB
  found = json.loads((tmp_path / 'w' / 'results.json').read_text())
  assert found['steps'] == 3
