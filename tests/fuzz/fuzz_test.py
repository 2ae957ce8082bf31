"""Damaged files are read or refused; what fuzzing has found stays mended.

A few files a reader here; `python -m tests.fuzz.run` tries them for minutes.
"""

import json
import random

import pytest

from robertax.errors import InputError
from robertax.inspection import run_log
from tests.fuzz.mutation import mutate
from tests.fuzz.readers import READERS, missing

DEEP = b'[' * 100_000


def sound(name, folder):
  if package := missing(name):
    pytest.skip(f'{package} is not installed')
  files = READERS[name].make()
  for file, content in files.items():
    (folder / file).write_bytes(content)
  return files


@pytest.mark.parametrize('name', READERS)
def test_a_few_damaged_files(name, tmp_path):
  files = sound(name, tmp_path)
  READERS[name].read(tmp_path)
  refused = 0
  for case in range(8 if name in ('hugging_face', 'fairseq') else 40):
    chance = random.Random(f'few/{case}')
    file = chance.choice(sorted(files))
    (tmp_path / file).write_bytes(mutate(files[file], chance))
    try:
      READERS[name].read(tmp_path)
    except InputError as e:
      refused += 1
      assert str(tmp_path) in str(e) or 'data.' in str(e), e
    (tmp_path / file).write_bytes(files[file])
  assert refused


def changed(file, *keys, value):
  """A change of one value of a JSON file."""
  def change(files):
    whole = json.loads(files[file])
    inside = whole
    for key in keys[:-1]:
      inside = inside[key]
    inside[keys[-1]] = value
    return {file: json.dumps(whole).encode()}
  return change


@pytest.mark.parametrize('name, change', [
    ('dict.txt', lambda files: {'encoder.json': DEEP}),
    ('tsv', lambda files: {'dev.jsonl': DEEP}),
    ('workdir', lambda files: {'config.json': DEEP}),
    ('workdir', lambda files: {'metrics.jsonl': DEEP + b'\n\n'}),
    ('hugging_face', lambda files: {'config.json': DEEP}),
    ('tokenizer.json', changed('tokenizer.json', 'model', 'type', value=[])),
    ('tokenizer.json', changed('tokenizer.json', 'normalizer', value=2**31)),
    ('hugging_face', changed('config.json', 'model_type', value=-1)),
    ('hugging_face', changed('config.json', 'vocab_size', value=1e999)),
    ('hugging_face', changed('config.json', 'model_type', value=[])),
    # Names would be made for all of them before one is missed.
    ('hugging_face', changed('config.json', 'num_hidden_layers', value=2**31)),
    ('hugging_face', changed('config.json', 'num_hidden_layers', value=10**9)),
    ('hugging_face', changed('config.json', 'max_position_embeddings',
                             value=2**30)),
    ('hugging_face', changed('config.json', 'architectures', value=[[[]]])),
])
def test_past_findings_are_refused(name, change, tmp_path):
  for file, content in change(sound(name, tmp_path)).items():
    (tmp_path / file).write_bytes(content)
  with pytest.raises(InputError):
    READERS[name].read(tmp_path)


def test_a_clock_that_says_infinity_is_no_clock(tmp_path):
  sound('workdir', tmp_path)
  line = {'start': float('inf'), 'step': 1, 'time': 1.0, 'step_seconds': 1.0}
  (tmp_path / 'clock.jsonl').write_text(json.dumps(line) + '\n')
  READERS['workdir'].read(tmp_path)
  assert run_log.read_run(str(tmp_path)).times() is None


def test_a_mask_that_is_not_called_special_is_so_all_the_same(tmp_path):
  whole = json.loads(sound('wordpiece.json', tmp_path)['tokenizer.json'])
  last = max(whole['model']['vocab'].values())
  assert whole['model']['vocab'].pop('[MASK]') <= last
  ids = {piece: i for i, piece in enumerate(whole['model']['vocab'])}
  whole['model']['vocab'] = ids
  whole['added_tokens'] = [
      {'id': len(ids), 'content': '[MASK]', 'special': False,
       'single_word': False, 'lstrip': False, 'rstrip': False,
       'normalized': False}]
  (tmp_path / 'tokenizer.json').write_text(json.dumps(whole))
  from robertax import text
  tokenizer = text.load(str(tmp_path / 'tokenizer.json'))
  assert tokenizer.mask_id == len(ids)
  # No text may spell it.
  assert tokenizer.mask_id not in tokenizer.encode('a [MASK] b')
