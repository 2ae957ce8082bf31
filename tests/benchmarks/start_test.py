"""Two builds' starts, of builds that take what they are told to."""

import json
import subprocess

import pytest

from benchmarks import start

# A build: it writes its metrics after some seconds, and holds some MB.
MAIN = '''
import json, os, pathlib, sys, time
if '--help' in sys.argv:
  print('usage')
  sys.exit(1)  # As absl does.
flags = dict(x.lstrip('-').split('=', 1) for x in sys.argv[1:])
assert pathlib.Path('configs/quickstart.py').exists()
assert flags['config.train.log_every'] == '1'
cache = pathlib.Path(flags['config.data.cache_dir'])
cold = not cache.exists()
assert cold == (flags['config.train.compile_cache'] == 'off') or (
    'warm' in flags['workdir'])
cache.mkdir(parents=True, exist_ok=True)
workdir = pathlib.Path(flags['workdir'])
workdir.mkdir(parents=True)
held = bytearray(os.urandom(MEGABYTES * 1_000_000))
if flags.get('config.data.backend') == 'numpy':
  held = None
with open(workdir / 'metrics.jsonl', 'w', 1) as f:
  f.write(json.dumps({'step': 0}) + '\\n')
  time.sleep(SECONDS * (2 if cold else 1))
  f.write(json.dumps({'step': 1}) + '\\n')
time.sleep(.05)
sys.exit(CODE)
'''
# Memory is polled, and a process that ends at once may never be seen.
LOAD = '''
import os, time
def load(path):
  assert os.path.exists(path + '/metrics.jsonl')
  time.sleep(.2)
  class Model:
    def fill_mask(self, text):
      assert '<mask>' in text
  return Model()
'''


def build(folder, seconds=0.1, megabytes=1, code=0):
  """A tree."""
  for name in ('robertax', 'configs'):
    (folder / name).mkdir(parents=True)
  (folder / 'configs' / 'quickstart.py').touch()
  (folder / 'robertax' / '__init__.py').write_text(LOAD)
  (folder / 'robertax' / 'main.py').write_text(
      MAIN.replace('SECONDS', str(seconds)).replace(
          'MEGABYTES', str(megabytes)).replace('CODE', str(code)))
  return folder


@pytest.fixture(name='mine')
def _mine(tmp_path, monkeypatch):
  """The tree that stands for this one."""
  tree = build(tmp_path / 'mine', seconds=.4, megabytes=60)
  monkeypatch.setattr(start, 'ROOT', tree)
  return tree


def last(capsys):
  return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_what_is_faster_and_smaller_is_seen(tmp_path, mine, capsys):
  build(tmp_path / 'other', seconds=.1)
  start.main([f'--tree={tmp_path / "other"}', '--repeats=2'])
  lines = capsys.readouterr().out.splitlines()
  found = json.loads(lines[-1])
  assert found.keys() == {
      'seconds_ratio', 'memory_ratio', 'help_seconds', 'help_memory_ratio',
      'config_help_seconds', 'config_help_memory_ratio', 'load_memory_ratio',
      'numpy_memory_ratio', 'cold_seconds_ratio', 'repeats'}
  assert found['repeats'] == 2 and 0 < found['help_seconds'] < 5
  assert found['seconds_ratio'] > 1.2 and found['cold_seconds_ratio'] > 1.2
  assert found['memory_ratio'] > 2
  # It took as much before it let go of it.
  assert found['numpy_memory_ratio'] > 2
  assert .8 < found['load_memory_ratio'] < 1.25
  assert .8 < found['help_memory_ratio'] < 1.25
  # Turns: A B A B.
  turns = [line.split(':')[0].split()[-1] for line in lines
           if line.startswith('round') and ', start, ' in line]
  assert turns == ['ours', 'theirs'] * 2
  assert any(line.startswith('start: first step, s') for line in lines)


def test_a_commit_is_taken_out_and_put_away(tmp_path, mine, capsys):
  def git(*words):
    return subprocess.run(
        ['git', '-C', str(mine), '-c', 'user.name=a', '-c', 'user.email=a@b',
         *words], check=True, capture_output=True, text=True).stdout
  git('init', '--quiet')
  git('add', '.')
  git('commit', '--quiet', '-m', 'a build')
  # What is not committed counts as ours.
  build(tmp_path / 'later', seconds=.1)
  (tmp_path / 'later' / 'robertax' / 'main.py').replace(
      mine / 'robertax' / 'main.py')
  start.main(['--against=HEAD', '--repeats=1', '--cold=0'])
  found = last(capsys)
  assert found['seconds_ratio'] < .8 and found['memory_ratio'] < .6
  assert found['cold_seconds_ratio'] is None
  assert len(git('worktree', 'list').splitlines()) == 1


def test_the_time_of_the_first_step_is_not_that_of_the_end(tmp_path):
  side = start.Side('ours', build(tmp_path / 'a', seconds=.2), tmp_path)
  found = side.run('warm')
  assert .2 < found['first step, s'] < found['s'] - .03


@pytest.mark.parametrize('words, said', [
    ([], 'required'), (['--against=HEAD', '--tree=.'], 'not allowed with'),
    (['--tree=.', '--repeats=0'], 'at least 1'),
    (['--tree=nowhere'], 'no robertax/main.py'),
    (['--against=no-such-commit'], 'no commit of')])
def test_wrong_input(words, said, capsys):
  with pytest.raises(SystemExit) as e:
    start.main(words)
  assert e.value.code == 2
  assert said in capsys.readouterr().err


def test_a_build_that_fails_says_why(tmp_path):
  side = start.Side('theirs', build(tmp_path / 'a', code=3), tmp_path)
  with pytest.raises(RuntimeError, match='theirs: .* ended with 3'):
    side.run('warm')
  with pytest.raises(RuntimeError, match='ModuleNotFoundError'):
    start.watch(side, ['-c', 'import no_such_module'])
