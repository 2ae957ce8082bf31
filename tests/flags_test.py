"""Wrong flags, wrong config files and Ctrl-C before there is work to save."""

import os
import pathlib
import signal
import subprocess
import sys

from absl import flags as absl_flags
import pytest

from robertax import flags as doors
from robertax.config import Config, flatten, to_dict

ROOT = pathlib.Path(__file__).parents[1]


def start(path, *flags):
  return subprocess.Popen(
      [sys.executable, '-m', 'robertax.main', f'--config={path}',
       '--workdir=/nowhere/w', *flags], cwd=ROOT, text=True,
      stdout=subprocess.PIPE, stderr=subprocess.PIPE,
      env=os.environ | {'JAX_PLATFORMS': 'cpu', 'PYTHONPATH': str(ROOT)})


@pytest.mark.parametrize('code, flags, says', [
    ('x = 1\ndef get_config(:', [], '{path}, line 2: SyntaxError: invalid'),
    ('x = 1\nimport nothing_like_it', [],
     "{path}, line 2: ModuleNotFoundError: No module named 'nothing_like_it'"),
    ('def get_config():\n  return 1 / 0', [],
     '{path}, line 2: ZeroDivisionError: division by zero'),
    ('def get_config():\n  return int("x")', [],
     '{path}, line 2: ValueError: invalid literal'),
    ('x = 1', [], '{path} has no function get_config()'),
    ('def get_config():\n  return 5', [], 'type int, not a ConfigDict'),
    (None, [], 'cannot read --config={path}: no such file.'),
    (None, ['--config.train.steps=3'],
     'cannot read --config={path}: no such file.'),
    ('from ml_collections import ConfigDict\n'
     'def get_config():\n  return ConfigDict({"a": {"b": 1}})',
     ['--config.c.b=2'], "unknown config key in a --config.* flag: 'c'"),
])
def test_a_wrong_config_file_is_one_line(tmp_path, code, flags, says):
  path = tmp_path / 'config.py'
  if code is not None:
    path.write_text(code)
  process = start(path, *flags)
  err = process.communicate(timeout=100)[1]
  assert process.returncode == 2
  assert err.startswith('robertax: error: ') and err.count('\n') == 1
  assert says.format(path=path) in err


def test_ctrl_c_in_the_middle_of_an_import_is_not_lost(tmp_path):
  """What would catch a KeyboardInterrupt there does not see one."""
  path = tmp_path / 'config.py'
  path.write_text('import sys, time\n'
                  'try:\n'
                  '  print("importing", file=sys.stderr, flush=True)\n'
                  '  time.sleep(100)\n'
                  'except BaseException:\n'
                  '  pass\n')
  process = start(path)
  assert process.stderr.readline() == 'importing\n'
  process.send_signal(signal.SIGINT)
  err = process.communicate(timeout=50)[1]
  assert process.returncode == 128 + signal.SIGINT
  assert err == ('\nrobertax: interrupted; the same command resumes from what '
                 'is finished.\n')


NAMED = '''
from absl import app
from robertax import flags
config = flags.config_flag()
app.run(lambda _: print(sorted(flags.named(config))))
'''


@pytest.mark.parametrize('in_file', [False, True])
def test_which_keys_the_command_line_sets(tmp_path, in_file):
  """As flags and behind the colon; what the file itself says is not named."""
  said = ['--config=configs/quickstart.py:max_positions=128,train.steps=5',
          '--config.model.num_heads=4', '--config.init_from=x']
  if in_file:
    (tmp_path / 'flags').write_text('\n'.join(said))
    said = [f'--flagfile={tmp_path}/flags']
  done = subprocess.run(
      [sys.executable, '-c', NAMED, *said],
      cwd=ROOT, capture_output=True, text=True, timeout=100,
      env=os.environ | {'PYTHONPATH': str(ROOT)})
  assert done.stdout.strip() == str(
      ['init_from', 'model.max_positions', 'model.num_heads', 'train.steps']
  ), done.stderr[-2000:]


REMOTE = '''
import sys
from benchmarks import fake_remote
from robertax import flags
fake_remote.mount(sys.argv.pop(1))
config = flags.config_flag()
def main(argv):
  value = flags.given(config, 'an example')
  print(value.train.steps, value.data.batch_size, sorted(flags.named(config)))
  print(sys.argv[1])
flags.run(main)
'''


@pytest.mark.parametrize('joined', [True, False])
def test_a_remote_config_file(tmp_path, joined):
  (tmp_path / 'bucket').mkdir()
  (tmp_path / 'bucket' / 'x.py').write_text(
      'from robertax.config import defaults, with_arg\n'
      'def get_config(arg=None):\n  return with_arg(defaults(), arg)\n')

  def run(url):
    flag = [f'--config={url}'] if joined else ['--config', url]
    return subprocess.run(
        [sys.executable, '-c', REMOTE, str(tmp_path), *flag,
         '--config.data.batch_size=48'], cwd=ROOT, text=True,
        capture_output=True, timeout=100,
        env=os.environ | {'JAX_PLATFORMS': 'cpu', 'PYTHONPATH': str(ROOT)})

  done = run('fake://bucket/x.py:steps=7')
  assert done.stdout.splitlines()[0] == (
      "7 48 ['data.batch_size', 'train.steps']"), done.stderr
  # What a person is told to type again is what was typed.
  assert not joined or done.stdout.splitlines()[1] == (
      '--config=fake://bucket/x.py:steps=7')
  (tmp_path / 'bucket' / 'z.py').write_text('x = 1\nimport nothing_like_it')
  assert run('fake://bucket/z.py').stderr.startswith(
      'robertax: error: fake://bucket/z.py, line 2: ModuleNotFoundError')
  missing = run('fake://bucket/y.py')
  assert missing.returncode == 2
  assert missing.stderr == ('robertax: error: cannot read --config=fake://bucket'
                            '/y.py: No such file or directory\n')


@pytest.mark.parametrize('door, flags', [
    ('main', ['--config=configs/quickstart.py', '--help']),
    ('score', ['--helpfull']), ('paper', ['--helpshort'])])
def test_help_is_no_error(door, flags):
  done = subprocess.run(
      [sys.executable, '-m', f'robertax.{door}', *flags], cwd=ROOT, text=True,
      capture_output=True, timeout=100,
      env=os.environ | {'PYTHONPATH': str(ROOT)})
  assert (done.returncode, done.stderr) == (0, '')
  assert f'python -m robertax.{door}' in done.stdout


def test_closed_streams_do_not_matter():
  done = subprocess.run(
      ['sh', '-c', '"$0" -m robertax.score <&- >&-', sys.executable], cwd=ROOT,
      stderr=subprocess.PIPE, text=True, timeout=100)
  assert done.returncode == 2
  assert done.stderr.startswith('robertax: error: --task is needed')


QUITTER = '''
import sys
def get_config():
  sys.exit(1)
'''


def test_a_config_file_that_ends_the_command_is_no_help(tmp_path):
  (tmp_path / 'config.py').write_text(QUITTER)
  process = start(tmp_path / 'config.py')
  process.communicate(timeout=100)
  assert process.returncode == 1


@pytest.mark.parametrize('name, key', [
    ('steps', 'train.steps'), ('train.steps', 'train.steps'),
    ('batch_size', 'data.batch_size'), ('learning_rte', 'optim.learning_rate')])
def test_a_key_given_as_a_flag_is_recognized(name, key):
  said = doors._why(absl_flags.UnrecognizedFlagError(name, '30'), '')
  assert said == (f"Unknown command line flag '{name}'. Did you mean "
                  f'--config.{key}?')


def test_help_lists_every_key():
  done = subprocess.run([sys.executable, '-m', 'robertax.main', '--help'],
                        capture_output=True, text=True, timeout=100)
  assert done.returncode == 0 and '--config: ' in done.stdout
  for key, value in flatten(to_dict(Config())).items():
    assert f'  --config.{key}={value!r}\n' in f'{done.stdout}\n'
