"""What is not the same is found, and what could not be compared is said."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from benchmarks import same, same_cases, same_data, same_diff
from benchmarks.same_cases import Case

ROOT = pathlib.Path(__file__).parents[2]
METRICS = [{'step': n, 'train/loss': 1 / (n + 3), 'train/step_seconds': n / 7,
            'train/mfu': None, 'train/goodput': .5} for n in range(3)]


class Stub:
  """A side whose jobs are done: what they said and left is made up."""

  def __init__(self, folder, code=0, said='', errors='', **files):
    self.folder, self.tree = folder, folder / 'tree'
    self.results = {'x': {'name': 'x', 'code': code, 'seconds': 1.,
                          'late': False, 'cpu': 1.}}
    self._said = {'out': said, 'err': errors}
    for name, text in files.items():
      path = folder / 'w' / name.replace('__', '/').replace('_json', '.json')
      path.parent.mkdir(parents=True, exist_ok=True)
      path.write_text(text)

  def said(self, name, stream):
    assert name == 'x'
    return self._said[stream]


def found(tmp_path, before, now, **case):
  """What `compare` says of two sides; (differences, why it was not done)."""
  shutil.rmtree(tmp_path / 'sides', ignore_errors=True)
  sides = [Stub(tmp_path / 'sides' / name, **given)
           for name, given in (('before', before), ('now', now))]
  wrong, broken, _ = same.compare(
      Case('x', 'losses', argv=('robertax.main',), **case), sides)
  return wrong, broken


def lines(rows):
  return ''.join(json.dumps(row) + '\n' for row in rows)


def test_a_changed_number_is_found_and_times_are_not(tmp_path):
  of = lambda rows: dict(metrics_jsonl=lines(rows))
  assert found(tmp_path, of(METRICS), of(METRICS), files=('w',)) == ([], '')
  later = [row | {'train/step_seconds': 9., 'train/mfu': .4,
                  'train/goodput': .1} for row in METRICS]
  assert found(tmp_path, of(METRICS), of(later), files=('w',)) == ([], '')
  other = [*METRICS[:2], METRICS[2] | {'train/loss': 1 / 5 + 1e-16}]
  (said,), broken = found(tmp_path, of(METRICS), of(other), files=('w',))
  assert not broken
  assert said == ('w metrics.jsonl: line 3, step 2, train/loss: 0.2, now '
                  '0.20000000000000012')
  named = [*METRICS[:2], {key.replace('loss', 'nats'): value
                          for key, value in METRICS[2].items()}]
  wrong, _ = found(tmp_path, of(METRICS), of(named), files=('w',))
  assert len(wrong) == 2 and 'train/nats: nothing, now' in wrong[1]
  # A name that is new is told before numbers that are.
  moved = [{key.replace('loss', 'nats'): value
            for key, value in (row | {'train/accuracy': 2.}).items()}
           for row in METRICS]
  wrong, _ = found(tmp_path, of([row | {'train/accuracy': 1.}
                                 for row in METRICS]), of(moved), files=('w',))
  assert 'train/loss: 0.3333333333333333, now nothing' in wrong[0]
  # A time that is gone is no time that differs.
  without = [{k: v for k, v in row.items() if k != 'train/mfu'}
             for row in METRICS]
  wrong, _ = found(tmp_path, of(METRICS), of(without), files=('w',))
  assert 'train/mfu: <time>, now nothing' in wrong[0]
  wrong, _ = found(tmp_path, of(METRICS), of(METRICS[:2]), files=('w',))
  assert 'now nothing' in wrong[0]


def test_a_missing_file_is_found(tmp_path):
  both = dict(a_json='{}', b_json='{}')
  wrong, broken = found(tmp_path, both, dict(a_json='{}'), files=('w',))
  assert (wrong, broken) == (['w b.json is gone'], '')
  wrong, _ = found(tmp_path, dict(a_json='{}'), both, files=('w',))
  assert wrong == ['w b.json is new']
  wrong, _ = found(tmp_path, both, {}, files=('w',))
  assert 'not there' in wrong[0]


def test_one_that_fails_differs_and_two_are_an_error(tmp_path):
  fine, bad = dict(said='1\n'), dict(code=1, errors='Traceback\nKeyError: 3\n')
  for pair in ((fine, bad), (bad, fine)):
    wrong, broken = found(tmp_path, *pair)
    assert not broken and 'exit code' in wrong[0] and 'KeyError: 3' in wrong[0]
  wrong, broken = found(tmp_path, bad, bad)
  assert not wrong and 'should be 0' in broken and 'KeyError: 3' in broken
  # What left nothing behind was not compared.
  wrong, broken = found(tmp_path, fine, fine, files=('w',))
  assert 'not there' in wrong[0] or broken
  # A right code may be another.
  assert found(tmp_path, bad, bad, code=1) == ([], '')


def test_an_error_is_never_the_same(capsys):
  seen = same.Found()
  seen.add(Case('x', 'doors'), [], 'ended with 1 and 1', '')
  seen.add(Case('y', 'doors'), [], '', '1 s')
  seen.add(Case('z', 'doors'), ['stdout, line 1'], '', '1 s')
  assert seen.errors == ['doors x: ended with 1 and 1']
  assert (seen.compared, seen.differences) == (2, ['doors z: stdout, line 1'])
  said = capsys.readouterr().out
  assert 'BROKEN   doors x' in said and 'OK       doors y' in said
  assert 'DIFFERS  doors z' in said


def test_words_without_times_and_folders(tmp_path):
  one = ('plain: 0.2 seconds; reading 0.1, packing 0.0; 12 rows\n'
         'step 1/10, loss 5.9, 91 tokens/s, 00:01 gone, 00:03 left\n'
         'step 10/10, loss 5.1, 91 tokens/s, 00:01 gone, 00:00 left\n'
         'goodput 0.6%: 0.3 s of 61.8 s\nplain: reading:  48%|####\n'
         '2026-01-01 10:00:00.1 log\nout of /a/w\n')
  other = ('plain: 3 seconds; reading 1.1, packing 2.0; 12 rows\n'
           'step 10/10, loss 5.1, 2,000 tokens/s, 00:09 gone, 00:00 left\n'
           'goodput 9.6%: 0.9 s of 1.8 s\nout of /b/w\n')
  assert same_diff.masked_words(one, ['/a']) == same_diff.masked_words(
      other, ['/b'])
  for old, new in (('12 rows', '13 rows'), ('loss 5.1', 'loss 5.2'),
                   ('reading', 'Reading'), ('/b/w', '/b/v')):
    assert same_diff.masked_words(one, ['/a']) != same_diff.masked_words(
        other.replace(old, new), ['/b'])
  wrong, _ = found(tmp_path, dict(said='a\nb\n'), dict(said='a\nc\n'))
  assert wrong == ["stdout, line 2: 'b', now 'c'"]
  wrong, _ = found(tmp_path, dict(errors='a'), dict(errors='a\nb'))
  assert wrong == ["stderr, line 2 is new: 'b'"]


def test_arrays_say_where_they_differ(tmp_path):
  a = {'x': np.arange(6, dtype=np.int32).reshape(2, 3),
       'nan': np.array([np.nan, 0.])}
  b = {key: x.copy() for key, x in a.items()}
  assert same_diff.unlike_arrays(a, b) == []
  b['x'][1, 0] = 7
  (said,) = same_diff.unlike_arrays(a, b)
  assert said.startswith('x: 1 of 6 values, first at [1, 0]: ')
  assert '3' in said and 'now' in said and '7' in said
  b['nan'][1] = -0.  # Equal, and not the same bits.
  assert 'nan: 1 of 2' in same_diff.unlike_arrays(a, b)[1]
  b['x'] = a['x'].astype(np.int64)
  assert 'x: int32[2, 3], now int64[2, 3]' in same_diff.unlike_arrays(a, b)
  del b['x']
  assert 'x is gone' in same_diff.unlike_arrays(a, b)
  for name, arrays in (('a', a), ('b', a | {'x': a['x'] + 1})):
    np.savez(tmp_path / f'{name}.npz', **arrays)
  (said,) = same_diff.unlike_files('p.npz', tmp_path / 'a.npz',
                                   tmp_path / 'b.npz')
  assert 'p.npz: x: 6 of 6 values' in said


def test_files_by_their_kind(tmp_path):
  a, b = tmp_path / 'a', tmp_path / 'b'

  def said(name, one, other):
    a.write_bytes(one)
    b.write_bytes(other)
    return same_diff.unlike_files(name, a, b)

  made = lambda seconds, sha: json.dumps({
      'seconds': seconds, 'stages': {'reading': seconds},
      'sha256': str(seconds), 'checksums': {'x': {'sha256': sha}}}).encode()
  assert not said('records/x/manifest.json', made(1, 'a'), made(2, 'a'))
  assert 'checksums x sha256' in said(
      'records/x/manifest.json', made(1, 'a'), made(2, 'b'))[0]
  assert 'byte 1 is the first' in said('x.tokens', b'abc', b'adc')[0]
  assert 'the order of its keys' in said(
      'c.json', b'{"a": 1, "b": 2}', b'{"b": 2, "a": 1}')[0]
  assert "a: 1, now 1.0" in said('c.json', b'{"a": 1}', b'{"a": 1.0}')[0]
  # Not what its name says, on one side: as bytes.
  assert 'byte 7' in said('c.json', b'{"a": 1}', b'{"a": 1')[0]
  assert said('checkpoints/5/facts/metadata', b'{"sums": 1}', b'{"sums": 2}')
  assert not said('checkpoints/5/params/d/0f3', b'1', b'2')
  for path, text in ((a, 'x'), (b, 'y')):
    with zipfile.ZipFile(path, 'w') as f:
      f.writestr('RTE.tsv', text)
  assert 'RTE.tsv: 1 bytes' in same_diff.unlike_files('p.zip', a, b)[0]


def test_names_that_are_drawn_are_cut(tmp_path):
  for name in ('checkpoints/5/params/d/0f3a', 'checkpoints/5/facts/metadata',
               'events.out.tfevents.17.vm', 'metrics.jsonl'):
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('')
  assert set(same_diff.listing(tmp_path)) == {
      'checkpoints/5/params/*', 'checkpoints/5/facts/metadata',
      'events.out.tfevents.*', 'metrics.jsonl'}


def test_what_was_resumed_is_held_against_what_was_not(tmp_path):
  whole = dict(whole__metrics_jsonl=lines(METRICS))
  for n, (rows, wanted) in enumerate((
      (METRICS, 0), (METRICS[:2], 2), ([*METRICS[:2], METRICS[2] | {
          'train/loss': 5.}], 2))):
    side = whole | dict(again__metrics_jsonl=lines(rows))
    wrong, broken = found(tmp_path / str(n), side, side,
                          like=('w/again', 'w/whole'))
    assert not broken
    assert bool(wrong) == bool(wanted) and all(
        'resumed is not undisturbed' in said for said in wrong)


@pytest.fixture(name='cases', scope='module')
def _cases(tmp_path_factory):
  return same_cases.Table(tmp_path_factory.mktemp('made')).cases(
      same.configs_of(ROOT))


def test_the_table_holds_together(cases):
  names = {case.name for case in cases}
  assert len(names) == len(cases)
  assert {case.part for case in cases} == set(same_cases.PARTS)
  for door in same_cases.DOORS:  # Each, as a person starts it.
    assert [case for case in cases if case.fresh
            and case.argv[0] == f'robertax.{door}']
  for part in same_cases.PARTS:
    some = same_cases.chosen(cases, [part])
    kept = {case.name for case in some}
    assert all(kept.issuperset(case.needs) for case in some)
    groups = same_cases.rounds(some)
    for order in (lambda group: group, same.turned):
      done = set()
      for group in groups:
        for case in order(group):
          assert done.issuperset(case.needs)
          done.add(case.name)
      assert done == kept
  # Each config file is read, and each family trains.
  assert {case.given['path'] for case in cases if case.call == 'config_file'
          } == set(same.configs_of(ROOT))


def test_made_up_data_are_the_same_each_time(tmp_path):
  for name in ('a', 'b'):
    (tmp_path / name).mkdir()
    same_data.write(tmp_path / name)
  wrong, files = same_diff.unlike_folders(tmp_path / 'a', tmp_path / 'b')
  assert not wrong and files > 30


@pytest.mark.parametrize('args, message', [
    ([], '--against=COMMIT is needed'),
    (['--against=x', '--only=nothing'], 'known are config, records'),
    (['--tree=nowhere'], 'no robertax in it'),
    (['--against=no-such-commit'], 'no-such-commit')])
def test_wrong_input(args, message, capsys):
  assert same.main(args) == 2
  said = capsys.readouterr().err
  assert 'benchmarks.same: error: ' in said and message in said


def copied(tmp_path, *changes):
  """A copy of this tree, with words of its files changed."""
  tree = tmp_path / 'tree'
  for name in same.LINKED:
    shutil.copytree(ROOT / name, tree / name,
                    ignore=shutil.ignore_patterns('__pycache__'))
  for word, other in changes:
    paths = [path for path in tree.rglob('*.py') if word in path.read_text()]
    assert len(paths) == 1, (word, paths)
    paths[0].write_text(paths[0].read_text().replace(word, other))
  return tree


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_planted_changes_are_found(tmp_path):
  tree = copied(
      tmp_path, ('shuffle_block: int = 64', 'shuffle_block: int = 8'),
      ("Prepares what is missing, then trains", 'Prepares, then trains'))
  done = subprocess.run(
      [sys.executable, '-m', 'benchmarks.same', f'--tree={tree}',
       '--cases=defaults,configs-quickstart,full_sentences-byte_bpe,'
       'batches-full_sentences,help-main,help-prepare'],
      cwd=ROOT, capture_output=True, text=True, timeout=1100,
      env=os.environ | {'PYTHONPATH': str(ROOT)})
  assert done.returncode == 1, done.stdout[-3000:] + done.stderr[-3000:]
  found = json.loads(done.stdout.splitlines()[-1])
  assert not found['same'] and not found['errors']
  where = {' '.join(said.split()[:2]).rstrip(':')
           for said in found['differences']}
  assert where == {'config defaults', 'config configs-quickstart',
                   'batches batches-full_sentences', 'doors help-main'}
  assert any("data.shuffle_block: 'int 8', now 'int 64'" in said
             for said in found['differences'])
  assert any('step 0 input_ids' in said and 'first at' in said
             for said in found['differences'])


def test_of_a_drawing_its_label_is_compared(tmp_path):
  def page(number, label, path, cell):
    file = tmp_path / f'{number}.html'
    file.write_text(f'<svg role="img" aria-label="{label}">\n<path d="{path}"/>'
                    f'</svg><p>{cell}</p>')
    return file

  one = page(1, 'loss ends at 3', 'M0 0', '3')
  assert same_diff.unlike_files(
      'x.html', one, page(2, 'loss ends at 3', 'M0 0L1 1', '3')) == []
  assert same_diff.unlike_files(
      'x.html', one, page(3, 'loss ends at 4', 'M0 0', '3'))
  assert same_diff.unlike_files(
      'x.html', one, page(4, 'loss ends at 3', 'M0 0', '4'))
