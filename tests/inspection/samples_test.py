"""What a run keeps for its report, there and back."""

import json

import pytest

from robertax.errors import InputError
from robertax.inspection import report
from robertax.train import workdir


@pytest.fixture(scope='module')
def gathered(run, loaded):
  return report.gather_samples(
      workdir.read_config(run.workdir), run.task, run.step,
      report.fill_examples(loaded, run.task.heldout_ids(2)))


def test_what_was_kept_comes_back(gathered, tmp_path):
  assert report.load_samples(str(tmp_path)) is None
  report.save_samples(str(tmp_path), gathered)
  found = report.load_samples(str(tmp_path))
  assert report.samples_html(found) == report.samples_html(gathered)
  assert found.step == 250 and 'cpu' in found.machine
  assert [x[:2] for x in found.filled] == [x[:2] for x in gathered.filled]
  # The last step's batch.
  assert found.batch.statistics['step'] == 249
  guesses, batch = report.samples_html(found)
  assert '&lt;mask&gt;' in guesses and 'It was <code>' in guesses
  assert batch.count('>before<') == batch.count('>after<') == 2


def test_what_is_kept_is_no_markup(gathered, tmp_path):
  path = report.save_samples(str(tmp_path), gathered)
  content = json.load(open(path))
  nasty = '<script>alert(1)</script>\udce4\x1b[2J'
  content['filled'] = [[nasty, nasty, [[nasty, .5, nasty]]]]
  row = content['batch']['rows'][0]
  row['corpus'], row['row'], row['length'] = nasty, nasty, nasty
  content['batch']['special_tokens'] = [nasty]
  content['batch']['marked'][0][0][0][0] = [nasty, nasty, nasty]
  json.dump(content, open(path, 'w'))
  for html in report.samples_html(report.load_samples(str(tmp_path))):
    assert '<script' not in html and '\x1b' not in html
    html.encode()  # No stray byte is left that could not be written.
    assert '&lt;script' in html


@pytest.mark.parametrize('damage', [
    lambda c: c.pop('batch'), lambda c: c['batch'].pop('marked'),
    lambda c: c['batch']['statistics'].update(rows='many'),
    lambda c: c.update(filled=[[1]]), lambda c: c.update(step='x')])
def test_damage_is_named(gathered, tmp_path, damage):
  path = report.save_samples(str(tmp_path), gathered)
  content = json.load(open(path))
  damage(content)
  json.dump(content, open(path, 'w'))
  with pytest.raises(InputError, match=path):
    report.load_samples(str(tmp_path))
