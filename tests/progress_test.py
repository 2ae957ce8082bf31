"""Bars in a log: whole lines, and none for what is soon done."""

import contextlib
import os
import sys
import termios
import threading

import pytest

from robertax import progress


def shown():
  with progress.progress_bar(10, 'B', 'a: reading', True) as bar:
    for _ in range(10):
      bar.update(1)


def test_what_is_soon_done_leaves_no_line(capsys):
  shown()
  assert capsys.readouterr().err == ''


def test_a_log_gets_whole_lines(capsys, monkeypatch):
  monkeypatch.setattr(progress, 'PROGRESS_SECONDS', 1e-9)
  shown()
  err = capsys.readouterr().err
  assert '\r' not in err and '\n\n' not in err and err.endswith('\n')
  assert all(x.startswith('a: reading') for x in err.splitlines())
  assert err.splitlines()[-1].startswith('a: reading: 100%')


@pytest.mark.parametrize('seconds', [1e-9, 10])
def test_nothing_where_nothing_is_asked(capsys, monkeypatch, seconds):
  monkeypatch.setattr(progress, 'PROGRESS_SECONDS', seconds)
  with progress.progress_bar(10, 'B', 'a', False) as bar:
    bar.update(10)
  assert capsys.readouterr().err == ''


def test_what_is_said_does_not_split_a_bar(monkeypatch):
  """Whoever says it: on a terminal the bar gives way and comes back."""
  screen, into = os.openpty()
  termios.tcsetwinsize(into, (24, 80))
  with os.fdopen(into, 'w') as terminal:
    monkeypatch.setattr(sys, 'stderr', terminal)
    bar = progress.Progress(0, 9)
    bar.step(4)
    progress.say('attention: here')
    bar.close()
  seen = b''
  with contextlib.suppress(OSError):  # It ends so on Linux.
    while part := os.read(screen, 1 << 16):
      seen += part
  os.close(screen)
  seen = seen.decode()
  assert '\rattention: here\r\n' in seen and '4/9' in seen.split('here')[1]


@pytest.fixture
def stream():
  """(a Prefixed stream, what has come out of it so far)."""
  out, into = os.pipe()
  found = progress.Prefixed(into, '[process 3] ')
  yield found, lambda: os.read(out, 1 << 16).decode()
  os.close(out)
  os.close(into)


def test_each_line_has_the_prefix_and_comes_whole(stream):
  stream, written = stream

  def talk(name):
    for number in range(50):
      for word in (name, ' says ', f'{number}\nand', ' more', '\n'):
        stream.write(word)

  threads = [threading.Thread(target=talk, args=(name,)) for name in 'ab']
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  lines = written().splitlines()
  assert len(lines) == 200
  for name in 'ab':
    assert [line for line in lines if f' {name} says' in line] == [
        f'[process 3] {name} says {number}' for number in range(50)]
  assert lines.count('[process 3] and more') == 100
  dying = threading.Thread(target=stream.write, args=('its last words',))
  dying.start()
  dying.join()
  stream.flush()  # As Python does at its end.
  assert written() == '[process 3] its last words\n'
  stream.write('half')
  stream.flush()
  stream.flush()
  stream.write('\ud800\n')
  assert written() == '[process 3] half\n[process 3] \\ud800\n'
