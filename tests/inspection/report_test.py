"""A run on one page: all of it there, nothing from outside, in a browser."""

import dataclasses
from html.parser import HTMLParser
import json
import pathlib
import re
import shutil
import time

import pytest

from robertax import text
from robertax.inspection import report, run_log
from tests.inspection import browser

NASTY = '<script>alert(1)</script><img src=http://evil.invalid/x>'


class Page(HTMLParser):
  """Tags, what they point at, headings, text."""

  def __init__(self, html):
    super().__init__()
    self.tags, self.links, self.attributes, self.text = set(), [], set(), ''
    self.open = []
    self.feed(html)
    assert not self.open, f'left open: {self.open}'

  def handle_starttag(self, tag, attrs):
    self.tags.add(tag)
    self.attributes |= {name for name, _ in attrs}
    self.links += [value for name, value in attrs if name in (
        'src', 'href', 'srcset', 'data', 'action', 'xlink:href')]
    if tag not in ('meta', 'link', 'br'):
      self.open.append(tag)

  def handle_startendtag(self, tag, attrs):
    self.handle_starttag(tag, attrs)
    if self.open and self.open[-1] == tag:
      self.open.pop()

  def handle_endtag(self, tag):
    assert self.open.pop() == tag

  def handle_data(self, data):
    self.text += data


@pytest.fixture(scope='module')
def others(run, tmp_path_factory):
  """Copies: a shorter run, one of another tokenizer, a degenerate score."""
  folder = tmp_path_factory.mktemp('others')
  for name in ('short', 'alien', 'tuned'):
    (folder / name).mkdir()
    for file in ('config.json', 'metrics.jsonl', 'tokenizer.json'):
      shutil.copy(f'{run.workdir}/{file}', folder / name)
  lines = (folder / 'short/metrics.jsonl').read_text().splitlines(True)
  (folder / 'short/metrics.jsonl').write_text(''.join(lines[:3]))
  config = json.loads((folder / 'short/config.json').read_text())
  config['optim']['learning_rate'] = .0125
  (folder / 'short/config.json').write_text(json.dumps(config))
  text.train_byte_bpe(['eleven twelve thirteen'] * 9, 280).save(
      f'{folder}/alien/tokenizer.json')
  config['task'] = 'glue/rte'
  (folder / 'tuned/config.json').write_text(json.dumps(config))
  (folder / 'tuned/metrics.jsonl').write_text(''.join(json.dumps(line) + '\n'
      for line in ({'step': 5, 'train/loss': .7, 'eval/dev/accuracy': 50.},
                   {'step': 9, 'train/loss': .6, 'eval/dev/accuracy': 52.5,
                    'eval/accuracy': 52.5})))
  (folder / 'tuned/results.json').write_text(json.dumps({
      'task': 'glue/rte', 'metric': 'accuracy', 'value': 52.5, 'split': 'dev',
      'rows': 277, 'seed': 0, 'best_epoch': 1.0, 'data': 'dev.tsv',
      'train_rows': 9, 'train_data': 'train.tsv',
      'scores': {'dev': {'accuracy': 52.5}}, 'degenerate': True,
      'degenerate_because': f'no better than a constant {NASTY}'}))
  return folder


@pytest.fixture(scope='module')
def written(run, others):
  """The page that a run writes at its end, and one that compares."""
  said = report.last_words(run, 'again')
  assert f'Report: {run.workdir}/report.html' in said
  own = pathlib.Path(f'{run.workdir}/report.html')
  before = own.read_bytes()
  path = report.write_report(run.workdir, [f'{others}/{name}' for name in (
      'short', 'alien', 'tuned')])
  # A comparison leaves the run its own report.
  assert path == f'{run.workdir}/compared.html' and own.read_bytes() == before
  return own, pathlib.Path(path)


def test_the_page_has_all_of_the_run(run, written):
  page = Page(written[0].read_text())
  log = run_log.read_run(run.workdir)
  for heading in ('Curves', 'Where the seconds went', 'Text', 'Final numbers',
                  'Words guessed in held-out text', 'What ran',
                  'A batch, before and after masking'):
    assert heading in page.text
  assert 'Beside other runs' not in page.text
  for chart in ('Loss', 'Learning rate', 'Gradient norm', 'Throughput'):
    assert f'{chart} by step' in page.text
  for key, value in log.keys.items():
    assert key in page.text and str(value) in page.text
  assert page.text.index('train.steps') < page.text.index('data.mask_rate')
  assert f'{log.last("eval/loss"):.3f}' in page.text
  assert all(key in page.text for key in log.metrics)


def test_nothing_comes_from_outside_and_nothing_runs(written):
  for path in written:
    html = path.read_text()
    page = Page(html)
    outside = [link for link in page.links if not link.startswith('#')]
    assert outside == ['data:,']
    for name in {*page.links} - {*outside}:
      assert f' id="{name[1:]}"' in html
    assert not page.tags & {'script', 'iframe', 'object', 'embed', 'form',
                            'img', 'base'}
    assert not any(name.startswith('on') for name in page.attributes)
    assert not re.search(r'url\((?!#)|@import', html)
    # Names in the text may be addresses; what is loaded never is.
    assert not re.search(r'<[^>]*(https?:)?//', html)
    assert "default-src 'none'" in html and 'name="viewport"' in html


def test_other_runs_stand_beside_it(written):
  page = Page(written[1].read_text())
  assert 'short' in page.text and '0.0125' in page.text
  assert 'optim.learning_rate' in page.text.split('Keys of the config')[1]
  assert ('alien (dotted): another tokenizer: not comparable in nats per token'
          in page.text)
  assert 'tuned is not drawn: another task' in page.text
  assert 'accuracy 52.50 DEGENERATE' in page.text


def test_a_score_that_means_nothing_is_marked(others):
  html = pathlib.Path(report.write_report(f'{others}/tuned')).read_text()
  page = Page(html)
  assert '<b>DEGENERATE</b>' in html and NASTY in page.text
  assert 'accuracy 52.50 on dev (277 rows of dev.tsv)' in page.text
  assert '<img' not in html and 'Scores on held-out rows' in page.text


def test_a_name_is_no_markup(run, tmp_path):
  folder = tmp_path / 'a<b>&"\'<i>'
  shutil.copytree(run.workdir, folder, ignore=lambda *_: ['checkpoints'])
  config = json.loads((folder / 'config.json').read_text())
  config['data']['corpora'] = NASTY
  (folder / 'config.json').write_text(json.dumps(config))
  lines = (folder / 'metrics.jsonl').read_text()
  (folder / 'metrics.jsonl').write_text(
      lines.replace('counting', json.dumps(NASTY)[1:-1].replace('/', '|')))
  html = pathlib.Path(report.write_report(str(folder))).read_text()
  page = Page(html)
  assert not page.tags & {'script', 'img', 'i', 'u'} - {'i', 'u'}
  assert '<script' not in html and NASTY in page.text


def test_it_is_cheap(run):
  start = time.process_time()
  report.write_report(run.workdir)
  assert time.process_time() - start < 4  # Matplotlib draws a dozen charts.


def test_a_browser_opens_it(written, tmp_path, capsys):
  """In a real one where one is installed; else the tests above are all."""
  if not browser.installed():
    pytest.skip('no Chromium here: the tests above parse the page, no more')
  with capsys.disabled():
    print(f'\nreport.html: opened in {browser.installed()}')
  seen = browser.look(written[1], tmp_path)
  assert seen.console == [] and seen.requests == set()
  assert seen.page['width'] == browser.PHONE  # Nothing sticks out.
  assert seen.page['headings'][-1] == 'What ran'
  assert seen.page['figures'] >= 8 and seen.page['scripts'] == 0


def test_the_browser_would_have_told(tmp_path):
  if not browser.installed():
    pytest.skip('no Chromium here')
  path = tmp_path / 'bad.html'
  path.write_text('<p style="width:999px">x</p><script>nothing()</script>'
                  '<img src="http://outside.invalid/x.png">')
  seen = browser.look(path, tmp_path)
  assert seen.requests == {'http://outside.invalid/x.png'}
  assert len(seen.console) >= 1 and 'nothing' in ''.join(seen.console)
  assert seen.page['width'] > browser.PHONE and seen.page['scripts'] == 1


def test_a_saved_run_ends_well_where_nothing_of_it_can_be_drawn(
    run, tmp_path, capsys):
  """A folder is in the way of each file; the weights are gone, too."""
  folder = tmp_path / 'w'
  shutil.copytree(run.workdir, folder, ignore=lambda *_: [
      'checkpoints', 'report.html', 'learning_curve.png', 'samples.json'])
  for name in ('report.html', 'learning_curve.png'):
    (folder / name).mkdir()
  said = report.last_words(
      dataclasses.replace(run, workdir=str(folder)), 'again')
  assert said.startswith('Next, from a Python prompt:')
  errors = capsys.readouterr().err.splitlines()
  assert [line.split(': ')[1] for line in errors] == [
      'the run is done and saved, but without samples.json',
      'the run is done and saved, but without learning_curve.png',
      'the run is done and saved, but without report.html']
  # So does one whose results cannot be read, or have no report.
  (folder / 'results.json').write_text('{')
  ended = dataclasses.replace(run, workdir=str(folder), task=None, trained=0)
  assert report.last_words(ended, 'again') == (
      f'{folder} is done, nothing was changed.')
  assert 'results.json says: JSONDecodeError' in capsys.readouterr().err
