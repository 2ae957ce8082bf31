"""Charts: every value at its place, nothing of a label is markup."""

import json
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from robertax.inspection import page
from robertax.inspection.page import ChartLine

NASTY = '<script>alert(1)</script> & "x\' \'y'


def svg(html):
  return ET.fromstring(re.search('<svg.*?</svg>', html, re.S).group())


def path(html, number=0):
  """Points of a curve, a list for each unbroken run."""
  d = [p.get('d') for p in svg(html).iter('path')
       if p.get('clip-path') and 'var(--c' in p.get('style')][number]
  return [[tuple(map(float, point.split())) for point in run.split('L')]
          for run in d.split('M')[1:]]


def test_points_are_where_the_axes_say():
  """Against the ticks' own places and numbers."""
  html = page.chart_figure('T', 'u',
                           [ChartLine('a', [0, 50, 200], [3., 1., 7.])])
  texts = [('text-anchor: end' in t.get('style'), float(t.get('x')),
            float(t.get('y')), float(t.text))
           for t in svg(html).iter('text') if t.text != 'step']
  assert len([*svg(html).iter('text')]) == len(texts) + 1  # The axis's name.
  rows = [(y, number) for at_left, _, y, number in texts if at_left]
  columns = [(x, number) for at_left, x, _, number in texts if not at_left]
  assert len(rows) >= 3 and len(columns) >= 3
  slope, start = np.polyfit(*zip(*rows), 1)
  across, left = np.polyfit(*zip(*columns), 1)
  (points,) = path(html)
  for (x, y), step, value in zip(points, [0, 50, 200], [3, 1, 7]):
    assert across * x + left == pytest.approx(step, abs=.1)
    assert slope * (y + 5.3) + start == pytest.approx(value, abs=.05)


def test_what_is_not_finite_is_a_gap_that_is_counted():
  html = page.chart_figure('T', 'u', [
      ChartLine('a', range(5), [1, 2, np.nan, 4, 5.])])
  assert [len(run) for run in path(html)] == [2, 2]
  assert '1 values are not finite, or too large to be drawn: gaps.' in html
  assert page.chart_figure('T', 'u', [ChartLine('a', [1], [np.nan])]) == ''
  assert page.chart_figure('T', 'u', []) == ''
  # One step is no curve: its number is in the page's tables.
  assert page.chart_figure('T', 'u', [ChartLine('a', [3], [2.])]) == ''
  lone = page.chart_figure('T', 'u', [ChartLine('a', [3], [2.]),
                                      ChartLine('b', [3, 4], [1., 2.])])
  assert 'a, step 3: 2' in [  # A line of one point is a dot.
      t.text for t in svg(lone).findall('.//use/title')]


@pytest.mark.filterwarnings('error')
@pytest.mark.parametrize('odd', [1e304, -1e304, 1e-320, np.inf, np.nan])
def test_no_value_is_too_odd_for_a_chart(odd, tmp_path):
  values = [1., odd, 3., odd, 2.]
  for zero in (False, True):
    page.chart_figure('T', 'u', [ChartLine('a', range(5), values, dots=True)],
                      zero=zero)
  smooth = page.smooth_values(np.array(values), 3)
  assert np.nanmax(np.abs(smooth)) <= 3 and smooth[0] == 1
  assert 'nan' not in page.bar_figure('T', 's', [('a', odd), ('b', 1.)])
  assert len(page._short_number(odd)) + len(page._cell_text(odd)) < 20
  (tmp_path / 'metrics.jsonl').write_text(''.join(
      json.dumps({'step': step, 'train/loss': value}) + '\n'
      for step, value in enumerate(values)))
  page.learning_curve(str(tmp_path))


def test_no_spike_is_lost_among_many_points():
  values = np.sin(np.arange(20_000))
  values[[7_777, 13_001]] = 3, -3
  (points,) = path(
      page.chart_figure('T', 'u', [ChartLine('a', range(20_000), values)]))
  assert len(points) <= 2 * page.MOST_POINTS
  heights = sorted(y for _, y in points)
  assert heights[0] < heights[1] - 20 and heights[-1] > heights[-2] + 20
  assert [x for x, _ in points] == sorted(x for x, _ in points)


def test_values_that_tower_over_the_others_are_drawn_by_logarithm():
  html = page.chart_figure('T', 'u',
                           [ChartLine('a', range(4), [1, 1, 1, 1000.])])
  assert 'logarithmic' in html
  assert 'logarithmic' not in page.chart_figure(
      'T', 'u', [ChartLine('a', range(4), [1, 2, 3, 9.])])


def test_labels_are_text():
  for html in (page.chart_figure(NASTY, NASTY,
                                 [ChartLine(NASTY, [0, 1], [1, 2.], dots=True)],
                                 note=NASTY),
               page.bar_figure(NASTY, NASTY, [(NASTY, 2.0), ('b', 1.0)])):
    assert '<script' not in html and 'alert(1)' in html
    assert svg(html) is not None
    ET.fromstring(html)  # Well-formed as a whole: no attribute is left early.


def test_bars_share_the_width_out():
  rects = list(
      svg(page.bar_figure('T', 's', [('a', 30.), ('b', 0.),
                                     ('c', 10.)])).iter('rect'))
  widths = [float(r.get('width')) for r in rects]
  assert widths[0] == 3 * widths[2] == .75 * page.WIDTH
  assert page.bar_figure('T', 's', [('a', 0.)]) == ''


def test_smooth_is_the_mean_of_neighbours():
  rng = np.random.default_rng(0)
  values = rng.normal(size=40)
  values[[3, 20]] = np.nan
  found = page.smooth_values(values, 7)
  for i in range(40):
    reach = min(i, 39 - i, 3)
    expected = np.nanmean(values[i - reach:i + reach + 1])
    if np.isnan(values[i]):
      assert np.isnan(found[i])
    else:
      assert found[i] == pytest.approx(expected)


@pytest.mark.parametrize('value, said', [
    (0, '0'), (3.45678, '3.457'), (12_000, '12K'), (2.5e6, '2.5M'),
    (6e-4, '6e-4'), (-1.25e-5, '-1.25e-5'), (4e9, '4G'), (2500, '2500'),
    (1.25e304, '1.25e304'), (np.inf, 'inf')])
def test_numbers_are_short(value, said):
  assert page._short_number(value) == said


def test_a_chart_takes_the_colours_of_the_page_around_it():
  html = page.chart_figure('T', 'u', [
      ChartLine('a', [0, 1], [1, 2.], dots=True),
      ChartLine('b', [0, 1], [2, 2.], None, 'dashed')])
  styles = ' '.join(e.get('style', '') for e in svg(html).iter())
  fixed = set(re.findall(r'(?:fill|stroke): (#\w+)', styles))
  assert not fixed and 'currentColor' in styles and 'var(--c0,' in styles
  assert '<style' not in html and 'font-family' not in html


def test_charts_of_one_page_share_no_id():
  charts = [page.chart_figure('T', 'u', [ChartLine('a', [0, 1], [1, value])])
            for value in (2., 3.)]
  ids = [re.findall(' id="([^"]*)"', html) for html in charts]
  assert ids[0] and not {*ids[0]} & {*ids[1]}
