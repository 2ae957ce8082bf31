"""A run whose text and records lie in a storage is the local run, bit for bit.
"""

import pytest

from benchmarks import fake_remote
from robertax import files
from robertax.config import parse
from robertax.corpus.records import Manifest
from robertax.data.remote import ChunkCache
from robertax.inspection import report
from robertax.tasks.pretrain import Pretrain
from robertax.train import checkpoint
from robertax.train.checkpoint import Checkpoints
from tests.train.loop_test import changed, lines, one_device, text


@pytest.fixture(name='tiny')
def tiny_fixture(tmp_path):
  (tmp_path / 'here').mkdir()
  (tmp_path / 'here' / 'counting.txt').write_text(text(600))
  return {
      'seed': 1,
      'data': {'corpora': str(tmp_path / 'here' / 'counting.txt'),
               'batch_size': 8, 'sequence_length': 32, 'backend': 'numpy',
               'workers': 1, 'cache_dir': str(tmp_path / 'here' / 'cache'),
               'remote_cache_dir': str(tmp_path / 'chunks'),
               'remote_cache_gib': .01, 'shuffle_block': 16,
               'shuffle_window': 4, 'shuffle_lanes': 2},
      'tokenizer': {'vocab_size': 300},
      'model': {'hidden_size': 16, 'num_layers': 1, 'num_heads': 2,
                'mlp_size': 32, 'max_positions': 32},
      'optim': {'learning_rate': 3e-3, 'warmup_steps': 10},
      'mesh': {'data': 1},
      'train': {'steps': 20, 'log_every': 1, 'eval_every': 10,
                'checkpoint_every': 10}}


# What is learned; the rest of a line is seconds.
def learned(folder):
  return [{key: value for key, value in line.items()
           if 'second' not in key and 'goodput' not in key and 'mfu' not in key}
          for line in lines(folder)]


def test_training_from_a_storage_is_the_local_run(tiny, tmp_path):
  pytest.importorskip('array_record')
  one_device(tiny, tmp_path / 'local')
  storage = fake_remote.mount(tmp_path / 'far')
  files.makedirs('fake://bucket/text')
  files.copy(tiny['data']['corpora'], 'fake://bucket/text/counting.txt')
  far = changed(tiny, data={'corpora': 'fake://bucket/text/*.txt',
                            'cache_dir': 'fake://bucket/cache'})
  one_device(far, tmp_path / 'remote')
  assert learned(tmp_path / 'remote') == learned(tmp_path / 'local')
  # Another start finds its records, and their chunks, where they were.
  read = storage.bytes_read
  task = Pretrain.of(parse(far), 1)
  task.pipeline(0).make_batch(0)
  assert storage.bytes_read - read < 40_000
  folder, = files.listdir('fake://bucket/cache/records')
  manifest = Manifest.read(f'fake://bucket/cache/records/{folder}')
  assert manifest.forms == ('array_record', 'memmap')
  ChunkCache.of(parse(tiny).data).close()


def test_what_lies_beside_checkpoints_in_a_storage_is_the_local_workdir(
    tiny, tmp_path, monkeypatch):
  """All but the arrays of checkpoints, for those orbax and tensorstore write
  themselves and know no fake://: they go to the folder that lies behind it.
  What orbax is given is tests/train/step_folders_test.py's, and that a real run
  in a bucket trains and resumes is tests/oracle/bucket_oracle_test.py's.
  """
  real = Checkpoints._epath
  monkeypatch.setattr(checkpoint, 'SCHEMES', ('gs', 'fake'))

  def behind(checkpoints):
    given = real(checkpoints)
    if not files.is_remote(checkpoints.folder):
      return given
    assert str(given) == checkpoints.folder
    return files.to_epath(str(given).replace('fake://', f'{tmp_path}/far/'))

  monkeypatch.setattr(Checkpoints, '_epath', behind)
  fake_remote.mount(tmp_path / 'far')
  one_device(tiny, tmp_path / 'local')
  saved, written = {}, []
  save, write = Checkpoints.save, files.write_text

  def saving(checkpoints, step, *args, **named):
    saved[step] = [line['step'] for line in lines('fake://bucket/W')]
    save(checkpoints, step, *args, **named)

  def writes(path, text):
    written.append(path.rpartition('/')[2])
    write(path, text)

  with monkeypatch.context() as watched:
    watched.setattr(Checkpoints, 'save', saving)
    watched.setattr(files, 'write_text', writes)
    one_device(tiny, 'fake://bucket/W')
  # A line of each step is there before the step is saved, and few writes were
  # needed for it: at the start and before each checkpoint.
  assert saved == {10: list(range(11)), 20: list(range(21))}
  assert [written.count(name) for name in ('metrics.jsonl', 'clock.jsonl')
          ] == [3, 4]
  assert learned('fake://bucket/W') == learned(tmp_path / 'local')
  here, there = (
      {name for name in files.listdir(str(folder))
       if not name.startswith(('.', 'events'))}
      for folder in (tmp_path / 'local', 'fake://bucket/W'))
  assert here == there
  assert any(name.startswith('events') and files.stat(
      f'fake://bucket/W/{name}').size > 1000
             for name in files.listdir('fake://bucket/W'))
  assert not [path for path in (tmp_path / 'far').glob('**/*')
              if path.name.endswith(('.partial', '.unseen'))]
  # The trace of some steps is made here, and brought there.
  one_device(changed(tiny, train={'steps': 3, 'profile_steps': '2-3'}),
             'fake://bucket/traced')
  trace, = files.glob('fake://bucket/traced/plugins/profile/*/*.xplane.pb')
  assert files.stat(trace).size > 1000
  again = one_device(tiny, 'fake://bucket/W')
  assert (again.step, again.trained) == (20, 0)
  # The report of a run, too, is made and read there.
  assert report.write_report('fake://bucket/W') == 'fake://bucket/W/report.html'
  assert files.stat('fake://bucket/W/report.html').size > 10_000
  # And another run begins with its weights.
  one_device(changed(tiny, train={'steps': 2})
             | {'init_from': 'fake://bucket/W'}, tmp_path / 'more')
  assert lines(tmp_path / 'more')[0]['eval/loss'] == pytest.approx(
      lines('fake://bucket/W')[-1]['eval/loss'], rel=1e-6)
