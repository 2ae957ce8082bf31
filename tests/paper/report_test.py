"""What a table says: only what the intervals carry, computed."""

import io

import pytest

from robertax.paper import report
from robertax.paper.tables import TABLES

SHARED = {'title': 'T', 'scale': 'tiny', 'text': '', 'stand_ins': {},
          'missing': {}, 'not_asked': []}
ASKED = {'metric': 'accuracy', 'split': 'dev', 'rows': 872, 'data': 'd',
         'train_rows': 1024, 'train_data': 't'}


def row(name, values, **more):
  table = TABLES['1']
  found = {'name': name, 'shown': table.row(name).shown,
           'paper': dict(table.row(name).paper), 'beyond': False}
  if values:
    found |= {'shape': '2 x 128', 'steps': 1464, 'batch_size': 8,
              'tokens': 1_500_000, 'passes': 22.9, 'seeds': [0, 1, 2],
              'models': ['m'] * 3,
              'values': values, 'at_chance': {'sst2': 1},
              'asked': {'sst2': ASKED}}
  return found | more


def found(static, dynamic, columns=('loss', 'sst2'), **more):
  table = SHARED | {'columns': list(columns), 'rows': [
      row('reference', {}), row('static', static), row('dynamic', dynamic)]}
  table |= more
  table['comparisons'] = report.comparisons(TABLES['1'], table)
  return table


CLEAR = found({'loss': [5.9, 5.91, 5.92], 'sst2': [70.0, 74.0, 78.0]},
              {'loss': [5.8, 5.81, 5.82], 'sst2': [74.0, 70.0, 79.0]})


def test_a_difference_beyond_the_seeds_is_said_and_no_other():
  loss, accuracy = CLEAR['comparisons']
  assert loss['apart'] and not accuracy['apart']
  assert loss['paper'] is None and accuracy['paper'] == pytest.approx(.4)
  text = report.table_markdown(TABLES['1'], CLEAR)
  one, two = (line for line in text.splitlines() if ' less ' in line)
  assert 'dynamic less static is -0.100' in one
  assert one.endswith('better, by more than the seeds differ.')
  assert 'they do not differ beyond the seeds. In the paper +0.4.' in two
  assert 'of these 2 comparisons 0.1 would be apart by chance' in text


def test_worse_is_worse_whichever_way_is_down():
  turned = found({'loss': [5.8, 5.81, 5.82], 'sst2': [90.0, 90.1, 90.2]},
                 {'loss': [5.9, 5.91, 5.92], 'sst2': [70.0, 70.1, 70.2]})
  text = report.table_markdown(TABLES['1'], turned)
  assert text.count('worse, by more than the seeds differ') == 2


def test_one_seed_concludes_nothing():
  single = found({'loss': [5.9]}, {'loss': [2.1]}, ('loss',))
  text = report.table_markdown(TABLES['1'], single)
  assert 'with one seed: nothing can be said' in text
  assert 'Welch' not in text and 'better' not in text


def test_the_grid_has_ours_beside_the_papers():
  lines = report.table_markdown(TABLES['1'], CLEAR).splitlines()
  grid = [line for line in lines if line.startswith('|')]
  assert grid[0] == ('|  | layers x width | steps | batch | tokens seen | '
                     'passes | held-out loss | SST-2 | paper |')
  assert grid[2].endswith('|  |  |  |  |  |  |  | 92.8 |')
  assert grid[3] == ('| static | 2 x 128 | 1,464 | 8 | 1,500,000 | 22.9 | '
                     '5.910 (5.900 to 5.920) | 74.0 (70.0 to 78.0), 1 at '
                     'chance | 92.5 |')


def test_stand_ins_and_what_is_missing_are_named():
  table = found({'loss': [1.0, 1.1], 'sst2': [70.0, 71.0]}, {},
                ('loss', 'mnli', 'sst2'), missing={'mnli': 'no train file'},
                stand_ins={'sst2': 'other rows'}, not_asked=['squad2'],
                text='Wikipedia alone')
  text = report.table_markdown(TABLES['1'], table)
  assert '- text: Wikipedia alone.' in text
  assert '- MNLI-m: not run, no train file.' in text
  assert ('- SST-2: trained on 1,024 rows, scored on 872 of dev. STAND-IN: '
          'other rows.') in text
  assert '- Not asked at this scale: SQuAD 2.0 F1.' in text


def test_the_picture_shows_every_seed_and_is_the_same_again():
  from PIL import Image
  first = report.draw_table(CLEAR)
  assert first == report.draw_table(CLEAR)
  other = report.draw_table(found(
      {'loss': [5.9, 5.91, 5.92]}, {'loss': [5.8, 5.81, 5.9]}))
  assert other != first
  with Image.open(io.BytesIO(first)) as image:
    assert image.format == 'PNG' and image.width > 400
