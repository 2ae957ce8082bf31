"""One clear line for whoever gave something wrong, nothing hidden otherwise."""

import contextlib
import errno
import io
import os
import pathlib
import sys

import pytest

from robertax import files, flags, progress
from robertax.errors import (
    InputError,
    Truncated,
    beside,
    door,
    no_panic,
    print_result,
    raise_unless_damage,
    writing,
)

FULL = pathlib.Path('/dev/full')


def test_a_full_disk_is_named():
  if not FULL.exists():
    pytest.skip('no /dev/full here, the disk that is always full')
  with pytest.raises(InputError, match=r'^cannot write /a/b: the disk is full'):
    with writing('/a/b'), FULL.open('wb') as f:
      f.write(b'x')


def test_a_full_disk_found_at_closing_is_named_too():
  # What fits a buffer fails when it is flushed, with the file's own `with`.
  if not FULL.exists():
    pytest.skip('no /dev/full here, the disk that is always full')
  with pytest.raises(InputError, match='disk is full'):
    with writing('x'):
      with FULL.open('w') as f:
        f.write('x' * 10)


def test_a_folder_without_write_permission_is_named(tmp_path):
  if os.geteuid() == 0:
    pytest.skip('root may write everywhere')
  closed = tmp_path / 'closed'
  closed.mkdir(mode=0o500)
  with pytest.raises(InputError, match='no permission'):
    with writing(closed / 'x'):
      (closed / 'x').write_text('x')


def test_a_missing_folder_is_named(tmp_path):
  path = tmp_path / 'missing' / 'x'
  with pytest.raises(InputError, match='does not exist') as e:
    with writing(path):
      path.write_text('x')
  assert str(path) in str(e.value)


def test_a_file_where_a_folder_should_be_is_named(tmp_path):
  (tmp_path / 'file').write_text('')
  path = tmp_path / 'file' / 'x'
  with pytest.raises(InputError, match='is a file, not a folder') as e:
    with writing(path):
      path.write_text('x')
  assert str(path) in str(e.value)


@pytest.mark.parametrize('number', [
    errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS,
    errno.ENOTDIR, errno.ENOENT])
def test_what_a_person_can_mend_is_one_line_with_its_cause(number):
  cause = OSError(number, os.strerror(number), 'W/checkpoints/3/a')
  with pytest.raises(InputError) as e:
    with writing('W/checkpoints'):
      raise cause
  assert 'W/checkpoints' in str(e.value)
  assert '\n' not in str(e.value)
  assert e.value.__cause__ is cause


@pytest.mark.parametrize('error', [
    OSError(errno.EIO, 'a broken disk'), OSError('no number'),
    KeyError('a bug'), KeyboardInterrupt()])
def test_what_a_person_cannot_mend_passes_unchanged(error):
  with pytest.raises(type(error)) as e:
    with writing('x'):
      raise error
  assert e.value is error


@pytest.mark.parametrize('number, name', [
    (errno.ENOENT, 'V/a'), (errno.EACCES, '/etc/shadow'), (errno.EISDIR, 'W2'),
    (errno.ENOTDIR, 'gs://bucket/V'), (errno.EACCES, None),
    (errno.ENOENT, None)])
def test_an_error_of_another_file_is_none_of_writing(number, name):
  """As of one that the body reads."""
  cause = OSError(number, os.strerror(number), *[name] * (name is not None))
  with pytest.raises(OSError) as e:
    with writing('W'):
      raise cause
  assert e.value is cause


def test_a_failed_read_is_not_called_a_failed_write(tmp_path):
  with pytest.raises(FileNotFoundError):
    with writing(tmp_path / 'there'):
      (tmp_path / 'here').read_text()


@pytest.mark.parametrize('names', [
    ('W',), ('W/3.orbax-checkpoint-tmp/a',), ('W.1a2b.partial', 'W'), ('.',)])
def test_names_in_and_above_and_beside_the_path_are_its_own(names, tmp_path,
                                                            monkeypatch):
  monkeypatch.chdir(tmp_path)
  with pytest.raises(InputError, match='no permission'):
    with writing(tmp_path / 'W'):
      raise OSError(errno.EACCES, '', names[0], None, *names[1:])


@pytest.mark.parametrize('words, says', [
    ("RESOURCE_EXHAUSTED: [os_error_code='28'] No space left on device",
     'the disk is full'),
    ('write() failed: File too large', 'may not grow that large')])
def test_the_systems_words_are_understood_in_any_error(words, says):
  with pytest.raises(InputError, match=f'cannot write W: .*{says}'):
    with writing('W'):
      raise RuntimeError('saving failed') from ValueError(words)


@pytest.mark.parametrize('words', [
    'rpc to 10.0.0.2 failed: Permission denied', 'Is a directory',
    'Error opening "/V/a": No such file or directory'])
def test_words_that_name_no_path_of_ours_pass_unchanged(words):
  error = RuntimeError(words)
  with pytest.raises(RuntimeError) as e:
    with writing('W'):
      raise error
  assert e.value is error


def test_words_that_name_the_path_are_understood(tmp_path):
  with pytest.raises(InputError, match='no permission'):
    with writing(tmp_path / 'W'):
      raise ValueError(f'Error opening "{tmp_path}/W/a": Permission denied')
  with pytest.raises(ValueError, match='Error opening'):
    with writing(tmp_path / 'W'):
      raise ValueError(f'Error opening "{tmp_path}/W2/a": Permission denied')


def test_an_input_error_passes_whatever_it_quotes():
  error = InputError('cannot read x: Permission denied')
  with pytest.raises(InputError) as e:
    with writing('W'):
      raise error
  assert e.value is error


def test_the_innermost_path_is_the_one_named():
  with pytest.raises(InputError, match='cannot write inner'):
    with writing('outer'), writing('inner'):
      raise OSError(errno.ENOSPC, '')


def test_a_door_turns_an_input_error_into_one_line(capsys):
  @door
  def main(argv):
    raise InputError(f'{argv[1]}: no such file')

  print('said before')
  with pytest.raises(SystemExit) as e:
    main(['main', 'a.txt'])
  assert e.value.code == 2
  out, err = capsys.readouterr()
  assert out == 'said before\n'
  assert err == 'robertax: error: a.txt: no such file\n'


def test_a_door_hides_no_bug():
  @door
  def main(argv):
    raise ValueError('a bug')

  with pytest.raises(ValueError, match='a bug'):
    main([])


def test_a_door_gives_back_what_main_gives():
  @door
  def main(argv):
    """What it does."""
    return len(argv)

  assert main(['main', 'x']) == 2
  assert main.__doc__ == 'What it does.'


def test_an_input_error_is_a_value_error():
  assert issubclass(InputError, ValueError)


@pytest.mark.parametrize('error, words', [
    (InputError('cannot write x: the disk is full'),
     'cannot write x: the disk is full'),
    (ImportError("No module named 'matplotlib'\nmore"),
     "ImportError: No module named 'matplotlib'")])
def test_what_fails_beside_saved_work_is_a_line(capsys, error, words):
  with beside('the run is saved, but without a picture'):
    raise error
  assert capsys.readouterr().err == (
      f'robertax: the run is saved, but without a picture: {words}\n')


def test_a_full_stdout_is_no_error_of_saved_work(monkeypatch, capsys):
  if not FULL.exists():
    pytest.skip('no /dev/full here, the disk that is always full')
  with FULL.open('w') as out:
    monkeypatch.setattr(sys, 'stdout', out)
    print_result('done')
    out.flush()  # As Python does at its end.
  monkeypatch.undo()
  assert capsys.readouterr().err == (
      'robertax: all is done and saved, but stdout: [Errno 28] No space left '
      'on device\n')


def test_a_full_stdout_that_had_the_only_copy_is_said_and_no_success():
  if not FULL.exists():
    pytest.skip('no /dev/full here, the disk that is always full')
  with FULL.open('w') as out, contextlib.redirect_stdout(out):
    with pytest.raises(InputError, match='No space left'):
      print_result('done', saved=False)


def test_a_reader_that_has_read_enough_is_no_failure(capsys):
  here, there = os.pipe()
  os.close(here)
  with os.fdopen(there, 'w') as out, contextlib.redirect_stdout(out):
    print_result('done', saved=False)
    print_result('done')
  assert capsys.readouterr().err == ''


def test_what_remote_storage_refuses_is_a_line_that_may_be_tried_again(capsys):
  def main(argv):
    with files._remote_errors('gs://bucket/x'):
      raise RuntimeError('Could not resolve host\nmore')

  with pytest.raises(SystemExit) as e:
    door(main)([])
  assert e.value.code == 1  # Schedulers start again after it, unlike 2.
  assert capsys.readouterr().err.startswith(
      'robertax: error: gs://bucket/x: Could not resolve host. Check')
  with pytest.raises(OSError):
    door(lambda argv: open('/no/such/file'))([])


def test_a_config_that_the_network_does_not_give_is_not_missing():
  with pytest.raises(OSError) as raised, files._remote_errors('gs://b/x.py'):
    raise RuntimeError('Could not resolve host')
  assert flags._why(raised.value, 'gs://b/x.py') == (
      'cannot read --config=gs://b/x.py: Could not resolve host.')


def refused(number, remote=False):
  error = OSError(number, os.strerror(number), 'x')
  error.remote = remote
  return error


@pytest.mark.parametrize('error, raised', [
    (ValueError('not JSON'), None), (refused(errno.ENOENT), None),
    (refused(errno.ENOENT, remote=True), None),
    (Truncated(errno.EIO, 'x'), None), (TimeoutError('x'), OSError),
    (refused(errno.EIO), OSError), (refused(errno.ESTALE), OSError),
    (refused(errno.EIO, remote=True), OSError),
    (refused(errno.EACCES), InputError), (refused(errno.EMFILE), InputError)])
def test_what_the_system_refuses_is_no_damage(error, raised):
  with (pytest.raises(raised) if raised else contextlib.nullcontext()) as e:
    raise_unless_damage(error, 'x')
  assert not raised or (e.type is InputError) == (raised is InputError)


def test_a_panic_of_a_library_is_an_error_and_ctrl_c_is_not():
  panic = type('PanicException', (BaseException,), {})  # As pyo3 makes them.
  for raised, error in ((RuntimeError, panic('index 5\nmore')),
                        (KeyboardInterrupt, KeyboardInterrupt('index 5'))):
    with pytest.raises(raised, match='index 5$'):
      with no_panic():
        raise error


def test_a_full_stderr_ends_no_run(monkeypatch):
  if not FULL.exists():
    pytest.skip('no /dev/full here, the disk that is always full')
  with FULL.open('w') as out:
    monkeypatch.setattr(sys, 'stderr', out)
    progress.say('step 3 is not saved')
    with beside('the run is saved, but without a picture'):
      raise ValueError
    with pytest.raises(OSError):  # It is full indeed.
      out.write('x')
      out.flush()
    with contextlib.suppress(OSError):
      out.close()


def test_letters_that_stdout_lacks_are_no_error_of_saved_work(monkeypatch):
  out = io.TextIOWrapper(io.BytesIO(), encoding='ascii')
  monkeypatch.setattr(sys, 'stdout', out)
  print_result('gu\xfc')
  out.flush()
  assert out.buffer.getvalue() == b'gu\\xfc\n'
