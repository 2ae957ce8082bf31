"""Bars in a log: whole lines, and none for what is soon done."""

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
