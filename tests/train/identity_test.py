"""What a state belongs to, and what may differ."""

import contextlib
import errno
import os
import resource

import jax
import pytest

from robertax.errors import InputError
from robertax.parallel import chips
from robertax.train import facts

SAVED = {'data.a/32/counts': '1', 'data.a/32/memmap': '2', 'tokenizer': 't',
         'code': '1', 'jax': '0.10.2'}


@pytest.mark.parametrize('key, name', [
    ('data.a/32/counts', 'data'), ('data.a/32/memmap', 'data'),
    ('tokenizer', 'tokenizer'), ('code', 'code')])
def test_a_change_is_refused_unless_allowed_by_name(key, name, capfd):
  now = SAVED | {key: 'x'}
  with pytest.raises(InputError, match=f'{key}: {SAVED[key]} -> x') as e:
    facts.check_identity('W/7', SAVED, now, '')
  assert f'train.allow_changed={name}.' in str(e.value)
  other = 'code' if name != 'code' else 'data'
  with pytest.raises(InputError, match=f'allow_changed={other},{name}'):
    facts.check_identity('W/7', SAVED, now, other)
  facts.check_identity('W/7', SAVED, now, f'{other}, {name}')
  assert f'{key}: {SAVED[key]} -> x' in capfd.readouterr().err


def test_what_is_not_refused(capfd):
  facts.check_identity('W/7', SAVED, dict(SAVED), '')
  assert not capfd.readouterr().err
  # Records of another form: their checksums are others, their counts are not.
  forms = {k: v for k, v in SAVED.items() if 'memmap' not in k}
  facts.check_identity('W/7', SAVED, forms | {'data.a/32/array_record': '9'},
                       '')
  assert not capfd.readouterr().err
  facts.check_identity('W/7', SAVED, SAVED | {'jax': '0.11'}, '')
  assert 'jax: 0.10.2 -> 0.11' in capfd.readouterr().err
  facts.check_identity('W/7', SAVED | {'cpu_threads': '2'},
                       SAVED | {'cpu_threads': '1'}, '')
  said = capfd.readouterr().err
  assert said.count('\n') == 1 and 'cpu_threads: 2 -> 1' in said
  assert 'last bits' in said
  facts.check_identity('W/7', None, SAVED, '')
  assert 'cannot be verified' in capfd.readouterr().err
  with pytest.raises(InputError, match='known are data, tokenizer, code'):
    facts.allowed_names('data,seed')


def test_the_threads_of_cpus_are_those_that_xla_uses(monkeypatch):
  devices = jax.local_device_count()
  monkeypatch.delenv('NPROC', raising=False)
  for value, threads in (('1', devices), (str(devices + 5), devices + 5),
                         ('many', max(devices, len(os.sched_getaffinity(0))))):
    monkeypatch.setenv('PJRT_NPROC', value)
    assert chips.cpu_threads() == threads


def test_an_error_of_the_system_is_no_damage(tmp_path):
  """A step may be whole; an older one fails for the same reason."""
  (tmp_path / '7' / 'facts').mkdir(parents=True)
  with pytest.raises(facts.Damaged):  # Its file is lost.
    facts.read_facts(str(tmp_path), 7)
  (tmp_path / '7' / 'facts' / 'metadata').write_text('{}')
  with no_more_files():
    for read in (lambda: facts.read_facts(str(tmp_path), 7), reads_a_file):
      with pytest.raises(OSError) as e:
        read()
      assert e.value.errno == errno.EMFILE
  with pytest.raises(facts.Damaged):
    facts.read_facts(str(tmp_path), 7)


@contextlib.contextmanager
def no_more_files():
  """This process may open no file."""
  before, held = resource.getrlimit(resource.RLIMIT_NOFILE), []
  most = max(map(int, os.listdir('/proc/self/fd'))) + 1
  resource.setrlimit(resource.RLIMIT_NOFILE, (most, before[1]))
  try:
    with contextlib.suppress(OSError):
      while True:
        held.append(os.open('/dev/null', os.O_RDONLY))
    yield
  finally:
    resource.setrlimit(resource.RLIMIT_NOFILE, before)
    for number in held:
      os.close(number)


def reads_a_file():
  with facts.reading_checkpoint('W/7'):
    open(os.devnull)
