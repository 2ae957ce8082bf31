"""The tables as data: the paper's figures, and what each table compares."""

import re

import pytest

from robertax.config import differences, to_dict
from robertax.corpus import FORMATS
from robertax.errors import InputError
from robertax.paper.scales import (
  PAPER_TASKS,
  SCALES,
  pretraining_config,
  run_name,
  table_names,
)
from robertax.paper.tables import COLUMNS, FIVE, PAIR, TABLES
from robertax.tasks import TASKS as ALL_TASKS

# Liu et al. 2019, as printed, transcribed a second time: a row's figures in the
# order of the table's own columns.
PRINTED = {
    '1': '''reference 76.3 84.3 92.8
            static 78.3 84.3 92.5
            dynamic 78.7 84.0 92.9''',
    '2': '''segment_pair 90.4 78.7 84.0 92.9 64.2
            sentence_pair 88.7 76.2 82.9 92.1 63.0
            full_sentences 90.4 79.1 84.7 92.5 64.8
            doc_sentences 90.6 79.7 84.7 92.7 65.6
            bert 88.5 76.3 84.3 92.8 64.3''',
    '3': '''256 3.99 84.7 92.7
            2k 3.68 85.2 92.9
            8k 3.77 84.6 92.8''',
    '4': '''two 93.6 87.3 89.0 95.3
            five 94.0 87.7 89.3 95.6
            longer 94.4 88.7 90.0 96.1
            longest 94.6 89.4 90.2 96.4''',
    '5': '''roberta 90.2 90.2 94.7 92.2 86.6 96.4 90.9 68.0 92.4 91.3
            test 90.8 90.2 98.9 90.2 88.2 96.7 92.3 67.8 92.2 89.0''',
    '6': '''roberta 88.9 94.6 86.5 89.4
            test - - 86.8 89.8''',
    '7': 'roberta 83.2 86.5 81.3',
    '8': '''base 87.6 92.8 91.9 78.7 94.8 90.2 63.6 91.2
            two 89.0 93.9 91.9 84.5 95.3 90.2 66.3 91.6
            five 89.3 94.0 92.0 82.7 95.6 91.4 66.1 92.2
            longer 90.0 94.5 92.2 83.3 96.1 91.1 67.4 92.3
            longest 90.2 94.7 92.2 86.6 96.4 90.9 68.0 92.4'''}


@pytest.mark.parametrize('name', PRINTED)
def test_figures_of_the_paper(name):
  table = TABLES[name]
  columns = [c for c in table.columns if any(c in r.paper for r in table.rows)]
  found = {row.name: [row.paper.get(c) for c in columns] for row in table.rows
           if row.paper}
  assert found == {
      line.split()[0]: [None if x == '-' else float(x)
                        for x in line.split()[1:]]
      for line in PRINTED[name].splitlines()}


# Batch, steps, rate, shape and text of each row, as the paper says.
MADE = {
    ('1', 'static'): (256, 1_000_000, 1e-4, 12, PAIR),
    ('1', 'dynamic'): (256, 1_000_000, 1e-4, 12, PAIR),
    ('2', 'doc_sentences'): (256, 1_000_000, 1e-4, 12, PAIR),
    ('3', '2k'): (2048, 125_000, 7e-4, 12, PAIR),
    ('3', '8k'): (8192, 31_000, 1e-3, 12, PAIR),
    ('4', 'two'): (8192, 100_000, 4e-4, 24, PAIR),
    ('4', 'five'): (8192, 100_000, 4e-4, 24, FIVE),
    ('4', 'longer'): (8192, 300_000, 4e-4, 24, FIVE),
    ('4', 'longest'): (8192, 500_000, 4e-4, 24, FIVE),
    ('8', 'base'): (8192, 500_000, 6e-4, 12, FIVE)}


@pytest.mark.parametrize('key', MADE, ids='-'.join)
def test_numbers_of_the_rows(key):
  row = TABLES[key[0]].row(key[1])
  config = pretraining_config(row, SCALES['paper'])
  assert MADE[key] == (
      config.data.batch_size, config.train.steps, config.optim.learning_rate,
      config.model.num_layers, row.corpora)


@pytest.mark.parametrize('scale', SCALES.values(), ids=lambda s: s.name)
def test_rows_differ_in_what_the_table_compares_alone(scale):
  """But for steps, of which equal tokens are another number in each format."""
  def differing(table, *names):
    one, two = (to_dict(pretraining_config(TABLES[table].row(name), scale))
                for name in names)
    return {line.partition(':')[0] for line in differences(one, two)
            if not line.startswith('train.steps:')}

  assert differing('1', 'static', 'dynamic') == {'data.masks'}
  for name in ('segment_pair', 'sentence_pair', 'doc_sentences'):
    assert differing('2', 'full_sentences', name) == {'data.format'}
  assert differing('4', 'two', 'five') == {'data.corpora'}
  assert differing('4', 'five', 'longest') == set()
  assert differing('encoding', 'byte_bpe', 'wordpiece') == {
      'tokenizer.kind', 'tokenizer.vocab_size'}
  assert {pretraining_config(row, scale).data.format
          for row in TABLES['2'].made} == set(FORMATS)


def test_passes_are_equal_in_table_3():
  for scale in SCALES.values():
    seen = {
        name: (r.steps * r.batch_size, r.tokens) for name, r in
        scale.recipes.items() if name in ('256', '2k', '8k', 'lamb')}
    rows, tokens = zip(*seen.values())
    assert max(rows) <= 1.01 * min(rows) and len(set(tokens)) == 1


def test_tables_share_the_models_that_are_the_same():
  def name(table, row):
    return run_name(
        pretraining_config(TABLES[table].row(row), SCALES['paper']))
  assert name('1', 'dynamic') == name('2', 'segment_pair')
  assert name('2', 'full_sentences') == name('3', '256')
  assert name('4', 'longest') == name('8', 'longest') == name('5', 'roberta')
  assert name('6', 'roberta') == name('7', 'roberta') == name('5', 'roberta')
  assert name('1', 'static') != name('1', 'dynamic')


@pytest.mark.parametrize('name', TABLES)
def test_names_are_of_tables(name):
  table = TABLES[name]
  names = [row.name for row in table.rows]
  assert len(set(names)) == len(names)
  assert table.baseline in [row.name for row in table.made]
  for row in table.rows:
    assert re.fullmatch(r'\w+', row.name) and set(row.paper) <= set(
        table.columns)
    if row.random_of:
      assert row.random_of in names
  for scale in SCALES.values():
    columns = scale.columns.get(name, table.columns)
    assert set(columns) <= set(table.columns)
    for column in columns:
      task = COLUMNS[column].task
      assert bool(task) != bool(COLUMNS[column].heldout)
      assert not task or PAPER_TASKS[task].task in ALL_TASKS
    for row in table.made:
      if row.recipe:
        assert row.recipe in scale.recipes and row.shape in scale.shapes
    if scale.characters:
      assert name in scale.characters


def test_pretraining_is_compared_over_seeds_of_pretraining():
  assert SCALES['tiny'].seeds == 3


@pytest.mark.parametrize('text, names', [
    ('3', ['3']), ('1,2', ['1', '2']), ('encoding', ['encoding']),
    ('all', list(TABLES))])
def test_tables_that_are_asked_for(text, names):
  assert table_names(text) == names


@pytest.mark.parametrize('text', ['9', '', '1,nine', '1 2'])
def test_other_tables_are_refused(text):
  with pytest.raises(InputError, match='1, 2, 3, 4, encoding'):
    table_names(text)
