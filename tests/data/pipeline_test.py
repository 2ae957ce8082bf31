
import itertools
import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from robertax.corpus.records import import_tensorflow
from robertax.data.feed import host_rows
from robertax.data.masking import num_masked
from robertax.data.pipeline import (
    Pipeline,
    eval_batches,
    segment_ids,
    unigram_counts,
)
from robertax.data.source import open_source
from robertax.errors import InputError

FIELDS = {'input_ids', 'segment_ids', 'mlm_positions', 'mlm_targets',
          'mlm_weights', 'example_ids'}


def take(iterator, count):
  batches = list(itertools.islice(iterator, count))
  iterator.close()
  return batches


def assert_same(left, right):
  assert len(left) == len(right)
  for a, b in zip(left, right):
    assert a.keys() == b.keys()
    for name in a:
      assert a[name].dtype == b[name].dtype, name
      np.testing.assert_array_equal(a[name], b[name], name)


@pytest.fixture(name='source')
def source_fixture(two_corpora):
  return open_source(two_corpora, 'train', 'numpy')


def test_fields(source, config, law):
  batch = Pipeline(source, config(), law(), seed=0).make_batch(3)
  assert batch.keys() == FIELDS
  budget = num_masked(0.15, 32, 1)
  for name, dtype, shape in (
      ('input_ids', np.int32, (8, 32)), ('segment_ids', np.int32, (8, 32)),
      ('mlm_positions', np.int32, (8, budget)),
      ('mlm_targets', np.int32, (8, budget)),
      ('mlm_weights', np.float32, (8, budget)),
      ('example_ids', np.int64, (8, 1))):
    assert (batch[name].dtype, batch[name].shape) == (dtype, shape), name
  # Put back, the targets give the rows that were written.
  ids = batch['input_ids'].copy()
  rows, slots = np.nonzero(batch['mlm_weights'])
  ids[rows, batch['mlm_positions'][rows, slots]] = batch['mlm_targets'][
      rows, slots]
  numbers = batch['example_ids'][:, 0]
  want = source.gather((numbers >> 8 & 2**40 - 1) + 41 * (numbers >> 48))
  assert (ids == want.ids).all()
  assert ((want.ids != 1) == (batch['segment_ids'] > 0)).all()


@pytest.mark.parametrize('corpora', ['two_corpora', 'packed_corpus'])
@pytest.mark.parametrize('changes', [
    {}, {'law': 'bert'}, {'unit': 'span', 'span_length': 3},
    {'unit': 'whole_word', 'word_starts': np.arange(1000) % 3 > 0},
    {'mask_rate_end': 0.5, 'mask_rate_steps': 7}], ids=str)
def test_backends_give_the_same_bits(corpora, changes, config, law, request):
  pytest.importorskip('tensorflow')
  manifests = request.getfixturevalue(corpora)
  length = manifests[0].sequence_length
  got = [take(Pipeline(
      open_source(manifests, 'train', backend),
      config(backend=backend, sequence_length=length),
      law(**changes), seed=4).batches(2), 9) for backend in ('numpy', 'tf')]
  assert_same(*got)


@pytest.mark.parametrize('backend', ['tf', 'numpy'])
def test_starts_anywhere(two_corpora, config, law, backend):
  if backend == 'tf':
    pytest.importorskip('tensorflow')
  source = open_source(two_corpora, 'train', backend)
  pipeline = Pipeline(source, config(backend=backend), law(), seed=1)
  whole = take(pipeline.batches(), 12)
  assert_same(take(pipeline.batches(7), 5), whole[7:])
  assert_same([pipeline.make_batch(step) for step in range(12)], whole)
  begin = time.perf_counter()
  far = take(pipeline.batches(400_000), 1)
  assert time.perf_counter() - begin < 30  # Skipping there takes far longer.
  assert_same(far, [pipeline.make_batch(400_000)])


@pytest.mark.parametrize('hosts, micro_batches', [(1, 1), (2, 1), (4, 1),
                                                  (2, 2), (4, 2)])
def test_hosts_make_one_batch(source, config, law, hosts, micro_batches):
  whole = Pipeline(source, config(), law(), seed=0).make_batch(5)
  numbers, parts = [], []
  for host in range(hosts):
    rows = host_rows(8, micro_batches, host, hosts)
    numbers.append(rows)
    parts.append(Pipeline(source, config(), law(), seed=0, rows=rows
                          ).make_batch(5))
  numbers = np.concatenate(numbers)
  assert sorted(numbers) == list(range(8))
  assert_same(
      [{name: np.concatenate([p[name] for p in parts]) for name in whole}],
      [{name: value[numbers] for name, value in whole.items()}])


def test_batch_size_changes_no_mask(source, config, law):
  small, large = (
      take(Pipeline(source, config(batch_size=size), law(), seed=0).batches(),
           number) for size, number in ((4, 12), (16, 3)))
  assert_same(
      [{name: np.concatenate([b[name] for b in small]) for name in FIELDS}],
      [{name: np.concatenate([b[name] for b in large]) for name in FIELDS}])


def test_epochs(source, config, law):
  pipeline = Pipeline(source, config(batch_size=71), law(), seed=0)
  assert pipeline.epoch(3) == 3.0
  first, second = pipeline.make_batch(0), pipeline.make_batch(1)
  a, b = (np.argsort(x['example_ids'][:, 0]) for x in (first, second))
  assert (first['example_ids'][a] == second['example_ids'][b]).all()
  assert len(np.unique(first['example_ids'])) == 71
  # Each example is seen again with another mask, if it has more than a few.
  differs = (first['mlm_positions'][a] != second['mlm_positions'][b]).any(1)
  assert differs.mean() > 0.8
  other = Pipeline(source, config(batch_size=71), law(), seed=1).make_batch(0)
  assert (other['example_ids'] != first['example_ids']).any()


@pytest.mark.parametrize('backend', ['tf', 'numpy'])
def test_a_damaged_shard_stops_with_its_name(
    tmp_path, write, rows, config, law, backend):
  if backend == 'tf':
    pytest.importorskip('tensorflow')
  manifest = write(tmp_path / 'a', rows(40, 32), length=32, vocab_size=20)
  batches = Pipeline(open_source([manifest], 'train', backend),
                     config(backend=backend), law(), seed=0).batches()
  with pytest.raises(InputError, match='vocabulary size 20'):
    take(batches, 5)


def test_closing_ends_the_thread(source, config, law):
  batches = Pipeline(source, config(), law(), seed=0).batches()
  next(batches)
  # As the loop has it: closed by the last reference to it.
  wrapped = (batch for batch in batches)
  next(wrapped)
  del batches
  wrapped.close()
  deadline = time.monotonic() + 60
  while time.monotonic() < deadline and any(
      t.name == 'robertax-prefetch' for t in threading.enumerate()):
    time.sleep(0.01)
  assert not any(t.name == 'robertax-prefetch' for t in threading.enumerate())


def test_no_training_record(tmp_path, write, config, law):
  manifest = write(tmp_path / 'a', [], length=32, shards=1)
  source = open_source([manifest], 'train', 'tf')
  with pytest.raises(InputError, match='no training record'):
    Pipeline(source, config(), law(), seed=0)


def evaluate(source, config, law, **arguments):
  return list(eval_batches(source, config(), law(), **(
      dict(name='a', batch_size=16) | arguments)))


def test_eval_reads_each_record_once(source, config, law):
  batches = evaluate(source, config, law)
  assert len(batches) == 5 and all(b.keys() == FIELDS for b in batches)
  ids = np.concatenate([b['example_ids'] for b in batches])[:, 0]
  want = np.concatenate([np.arange(41) << 8, 1 << 48 | np.arange(30) << 8])
  assert ids.tolist() == want.tolist() + [-1] * 9
  padding = ids < 0
  assert not np.concatenate([b['segment_ids'] for b in batches])[padding].any()
  assert not np.concatenate([b['mlm_weights'] for b in batches])[padding].any()
  assert_same(evaluate(source, config, law), batches)


def test_eval_masks_know_set_and_example_only(source, config, law, two_corpora):
  def by_example(batches):
    return {(int(i), field): b[field][r].tolist() for b in batches
            for r, i in enumerate(b['example_ids'][:, 0]) if i >= 0
            for field in ('input_ids', 'mlm_positions')}
  want = by_example(evaluate(source, config, law))
  assert by_example(evaluate(source, config, law, batch_size=5)) == want
  alone = open_source(two_corpora[:1], 'train', 'numpy')
  assert by_example(evaluate(alone, config, law)).items() <= want.items()
  assert by_example(evaluate(source, config, law, name='b')) != want


def test_eval_of_some_examples(source, config, law):
  batches = evaluate(source, config, law, max_examples=20)
  ids = np.concatenate([b['example_ids'] for b in batches])[:, 0]
  assert (ids >= 0).sum() == 20 and len(np.unique(ids)) == 21
  assert (ids >> 48 == 1).sum() == 8  # Spread: 30 of 71 are of corpus b.
  assert len(evaluate(source, config, law, max_examples=1000)) == 5


def test_eval_by_hosts(source, config, law):
  whole = evaluate(source, config, law)
  parts = [evaluate(source, config, law, rows=host_rows(16, 1, host, 2))
           for host in range(2)]
  joined = [{name: np.concatenate([p[name] for p in pair])
             for name in FIELDS} for pair in zip(*parts)]
  assert_same(joined, whole)


def test_unigram_counts(source, rows):
  ids = np.concatenate([r[0] for r in rows(41, 32, seed=1)
                        + rows(30, 32, seed=2)])
  assert (unigram_counts(source, 1000) == np.bincount(
      ids, minlength=1000)).all()
  some = unigram_counts(source, 1000, 10)
  assert 0 < some.sum() <= 320 and (some <= unigram_counts(source, 1000)).all()


def test_segments():
  rng = np.random.default_rng(0)
  for slots in (1, 5):
    lengths = rng.integers(0, 4, (30, slots))
    lengths = -np.sort(-lengths)  # Examples that a row has not stand last.
    got = segment_ids(lengths, 20)
    for row, expected in zip(got, lengths):
      want = np.repeat(np.arange(1, slots + 1), expected)
      assert row.tolist() == want.tolist() + [0] * (20 - len(want))


BLOCKER = '''
import sys
class Blocker:
  def find_spec(self, name, path=None, target=None):
    if name.split('.')[0] in ('tensorflow', 'array_record',
                              'tensorflow_datasets'):
      raise ImportError(f'{name} is blocked')
if 'block' in sys.argv:
  sys.meta_path.insert(0, Blocker())
import itertools, zlib
import numpy as np
from robertax.config import DataConfig
from robertax.data.masking import Masking
from robertax.data.pipeline import Pipeline, eval_batches
from robertax.data.source import open_source
backend = sys.argv[2]
source = open_source([sys.argv[1]], 'train', backend)
config = DataConfig(sequence_length=64, batch_size=8, backend=backend)
law = Masking(
    mask_rate=.15, random_rate=.1, keep_rate=.1, specials='fairseq',
    vocab_size=1000, mask_id=999, special_ids=(0, 1, 2, 3, 999))
batches = Pipeline(source, config, law, seed=0).batches()
print(*(zlib.crc32(b'' .join(b[k].tobytes() for k in sorted(b)))
        for b in itertools.islice(batches, 5)))
list(eval_batches(source, config, law, name='x'))
loaded = [m for m in ('tensorflow', 'array_record') if m in sys.modules]
assert (backend == 'tf') == bool(loaded), loaded
# No close: leaving an open iterator must neither hang nor crash the exit.
'''


def run_apart(manifest, *arguments):
  # A place of its own, so that only the installed or this robertax is found.
  done = subprocess.run(
      [sys.executable, '-c', BLOCKER, manifest.folder, *arguments],
      capture_output=True, text=True, timeout=120, check=False,
      env={**os.environ, 'PYTHONPATH': os.pathsep.join(sys.path)})
  assert done.returncode == 0, done.stderr[-3000:]
  return done.stdout


def test_numpy_backend_without_tensorflow_and_array_record(packed_corpus):
  numbers = run_apart(packed_corpus[0], 'numpy', 'block')
  assert len(numbers.split()) == 5
  pytest.importorskip('tensorflow')
  assert run_apart(packed_corpus[0], 'tf') == numbers


SWITCH = BLOCKER.split('batches = Pipeline')[0] + '''
import time
from robertax.data import pipeline
used = []
def noted(*args, real=pipeline._tf_batches):
  used.append(args[1])
  yield from real(*args)
pipeline._tf_batches = noted
assert 'tensorflow' not in sys.modules
batches, found = Pipeline(source, config, law, seed=0).batches(), []
while not used or len(found) < used[0] + 3:
  found.append(next(batches))
  time.sleep(.02)  # As steps would: thousands of batches prove no more.
assert 'tensorflow' in sys.modules and used[0] > pipeline._BEFORE_TENSORFLOW
batches.close()
config = DataConfig(sequence_length=64, batch_size=8, backend='numpy')
others = Pipeline(source, config, law, seed=0).batches()
for a, b in zip(found, others):
  assert all(np.array_equal(a[k], b[k]) for k in a.keys() | b.keys())
print(len(found))
'''


def test_tensorflow_comes_behind_the_first_batches_and_changes_none(
    packed_corpus):
  pytest.importorskip('tensorflow')
  done = subprocess.run(
      [sys.executable, '-c', SWITCH, packed_corpus[0].folder, 'tf'],
      capture_output=True, text=True, timeout=120, check=False,
      env={**os.environ, 'PYTHONPATH': os.pathsep.join(sys.path)})
  assert done.returncode == 0, done.stderr[-3000:]
  assert int(done.stdout) > 8


def test_the_environment_is_the_callers(monkeypatch):
  """What tensorflow is told at its import is told to no one else."""
  name = 'TF_CPP_MIN_LOG_LEVEL'
  for value in (None, '0'):
    monkeypatch.delenv(name, raising=False)
    if value:
      monkeypatch.setenv(name, value)
    import_tensorflow()
    assert os.environ.get(name) == value
