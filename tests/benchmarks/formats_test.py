
from benchmarks import formats


def test_the_table_has_means_and_spreads():
  found = formats.table({
      'static': [{'own': 2., 'common': 3., 'steps': 7},
                 {'own': 4., 'common': 3., 'steps': 7}],
      'segment_pair': [{'own': 1., 'common': 1., 'steps': 9, 'nsp': .5}]})
  *_, static, pairs = found.splitlines()
  assert static == (
      '| FULL-SENTENCES, static masks | 7 | 3.000 (2.000 to 4.000) | '
      '3.000 (3.000 to 3.000) |  |')
  assert pairs.endswith('| 0.500 (0.500 to 0.500) |')


def test_every_format_and_both_masks_are_in_it():
  from robertax.corpus import FORMATS
  assert {v['format'] for v in formats.VARIANTS.values()} == set(FORMATS)
  assert formats.SHOWN.keys() == formats.VARIANTS.keys()
  for variant in formats.VARIANTS:
    config = formats.make_config('x', 'train', variant, 3)
    assert config.seed == 3 and config.model.max_positions == formats.LENGTH
    assert config.data.masks == (
        'static' if variant == 'static' else 'dynamic')
