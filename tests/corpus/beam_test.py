"""The Beam pipeline against the local preparation, on Beam's local runner."""

import builtins
import json
import os
import subprocess
import sys

import pytest

from robertax import corpus
from robertax.config import DataConfig, TokenizerConfig
from robertax.corpus import preparation
from robertax.errors import InputError

# Workers are processes of their own: each gets the small blocks, too.
SCRIPT = '''
import sys
sys.path[:] = {path!r}
from robertax.corpus import blocks, preparation
from robertax.config import DataConfig, TokenizerConfig

def small():
  blocks.MIN_CHARS, blocks.MIN_DOCUMENTS, blocks.BLOCKS_PER_SHARD = 1500, 2, 2

class Planned(preparation.Planned):
  def jobs(self):
    small()
    return super().jobs()

small()
preparation.Planned = Planned
arguments = (DataConfig(**{data!r}), TokenizerConfig(path={tokenizer!r}))
preparation.fill_with_beam(*arguments, {options!r}, progress=False)
'''
MODES = {
    1: [], 3: ['--direct_num_workers=3',
               '--direct_running_mode=multi_processing']}


def files(folder):
  return {name: open(os.path.join(folder, name), 'rb').read()
          for name in sorted(os.listdir(folder))
          if name not in ('manifest.json', '.lock')}


def nothing(job, shards, *rest):
  assert not shards


@pytest.mark.oracle
@pytest.mark.parametrize('workers', MODES)
@pytest.mark.parametrize('format', ['full_sentences', 'sentence_pair'])
def test_the_bytes_are_the_local_ones(
    tmp_path, txt, tokenizer_path, prepare, small_blocks, monkeypatch, workers,
    format):
  pytest.importorskip('apache_beam', reason=preparation.INSTALL)
  values = dict(format=format, pair_duplicates=2)
  (local,) = prepare(txt, 'local', **values).manifests
  data = dict(corpora=str(txt), cache_dir=str(tmp_path / 'beam'),
              sequence_length=32, **values)
  done = subprocess.run(
      [sys.executable, '-c', SCRIPT.format(
          path=sys.path, data=data, tokenizer=tokenizer_path,
          options=['--runner=DirectRunner', *MODES[workers]])],
      capture_output=True, text=True, timeout=200)
  assert done.returncode == 0, done.stderr
  # All shards are there: nothing is tokenized or packed here.
  for name in ('fill_tokens', 'fill_records'):
    monkeypatch.setattr(preparation, name, nothing)
  (manifest,) = corpus.prepare(
      DataConfig(**data), TokenizerConfig(path=tokenizer_path),
      progress=False).manifests
  assert files(manifest.folder) == files(local.folder)
  first, second = (json.load(open(f'{m.folder}/manifest.json'))
                   for m in (local, manifest))
  for values in (first, second):
    for key in ('seconds', 'stages', 'sha256'):
      del values[key]
  assert first == second


def test_without_beam_the_package_is_named(monkeypatch):
  real = builtins.__import__

  def fake(name, *rest):
    if name.startswith('apache_beam'):
      raise ModuleNotFoundError(name)
    return real(name, *rest)

  monkeypatch.setattr(builtins, '__import__', fake)
  with pytest.raises(InputError, match='pip install'):
    preparation.fill_with_beam(None, None, [])
