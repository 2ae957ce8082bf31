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
from robertax.train.config import parse
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


@pytest.mark.slow
@pytest.mark.parametrize('family', [glue])
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
