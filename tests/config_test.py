"""A typo in a config is caught, named, and the nearest right key offered."""

import dataclasses
import json

from hypothesis import given
from hypothesis import strategies as st
from ml_collections import ConfigDict
import pytest

from robertax.config import (
  ATTENTION,
  MASKING_LAWS,
  REMAT,
  DataConfig,
  check_data,
  differences,
  flatten,
  parse,
  parse_arg,
  section,
  take_arg,
  typed,
)
from robertax.data.masking import LAWS
from robertax.errors import InputError, unknown
from robertax.kernels.attention import IMPLEMENTATIONS
from robertax.model.encoder import POLICIES

BIG = 2**53  # Beyond it a float no longer holds every int.


@dataclasses.dataclass(frozen=True)
class Section:
  steps: int = 10
  rate: float = 0.1
  name: str = ''
  dry: bool = False


@given(st.integers())
def test_an_int_survives_as_itself_and_as_text(n):
  assert typed(n, 0, 'k') == n
  assert typed(str(n), 0, 'k') == n


@pytest.mark.parametrize('n', [BIG + 1, -BIG - 1, 2**63 - 1])
def test_a_large_int_is_not_rounded(n):
  assert typed(n, 0, 'seed') == n
  assert typed(str(n), 0, 'seed') == n


@given(st.floats(allow_nan=False))
def test_a_float_survives_as_itself_and_as_text(x):
  assert typed(x, 0.0, 'k') == x
  assert typed(repr(x), 0.0, 'k') == x


@given(st.integers(-BIG, BIG))
def test_ints_and_whole_floats_pass_for_each_other(n):
  as_float, as_int = typed(n, 0.0, 'k'), typed(float(n), 0, 'k')
  assert as_float == n and type(as_float) is float
  assert as_int == n and type(as_int) is int


@given(st.text())
def test_text_is_never_changed(text):
  assert typed(text, '', 'k') == text


@pytest.mark.parametrize('value, expected', [
    (True, True), (False, False), (1, True), (0, False), ('yes', True),
    ('No', False), ('TRUE', True), ('false', False), ('1', True)])
def test_words_for_true_and_false(value, expected):
  assert typed(value, True, 'k') is expected


@pytest.mark.parametrize('value, like', [
    ('x', 1), ('', 1), (1.5, 1), ('1.5', 1), (True, 1), (None, 1), ([1], 1),
    (float('inf'), 1), (float('nan'), 1),
    ('x', 1.0), (True, 1.0), (None, 1.0), (10**400, 1.0),
    ('maybe', True), (2, True), (None, True), ('', True),
    (1, 'x'), (None, 'x'), (b'x', 'x')])
def test_another_type_is_refused_by_its_key(value, like):
  with pytest.raises(InputError) as e:
    typed(value, like, 'train.steps')
  assert str(e.value) == (f'train.steps={value!r}: expected '
                          f'{type(like).__name__}, such as {like!r}.')


def test_unknown_offers_the_nearest():
  e = unknown('format', 'full_sentence', ['segment_pairs', 'full_sentences'])
  assert isinstance(e, InputError)
  assert str(e) == ("unknown format 'full_sentence'. Did you mean "
                    "'full_sentences'? Known are: full_sentences, "
                    'segment_pairs.')


def test_of_many_names_only_the_nearest_is_said():
  message = str(unknown('key', 'key_7x', [f'key_{i}' for i in range(99)]))
  assert message == "unknown key 'key_7x'. Did you mean 'key_7'?"


def test_unknown_offers_nothing_where_nothing_is_near():
  message = str(unknown('format', 'zzz', {'a_b': 1, 'c_d': 2}))
  assert message == "unknown format 'zzz'. Known are: a_b, c_d."


@given(st.fixed_dictionaries({}, optional={
    'steps': st.integers(-BIG, BIG), 'rate': st.floats(allow_nan=False),
    'name': st.text(), 'dry': st.booleans()}))
def test_a_section_takes_what_is_given_and_keeps_the_other_defaults(values):
  made = dataclasses.asdict(section(Section, values, 'train'))
  assert made == dataclasses.asdict(Section()) | values


def test_a_section_may_be_a_config_dict():
  values = ConfigDict({'steps': 3, 'rate': 0.5})
  assert section(Section, values, 'train') == Section(3, 0.5)


@pytest.mark.parametrize('typo, meant', [
    ('stepz', 'steps'), ('raet', 'rate'), ('names', 'name')])
def test_a_typo_in_a_section_is_named_with_what_was_meant(typo, meant):
  with pytest.raises(InputError) as e:
    section(Section, {typo: 1}, 'train')
  assert f"unknown config key 'train.{typo}'" in str(e.value)
  assert f"Did you mean 'train.{meant}'?" in str(e.value)
  assert 'train.dry' in str(e.value)


def test_a_wrong_type_in_a_section_is_named_in_full():
  with pytest.raises(InputError, match=r"^train\.steps='many': expected int"):
    section(Section, {'steps': 'many'}, 'train')


@given(st.dictionaries(
    st.sampled_from(['steps', 'rate', 'name', 'dry']),
    st.integers(0, 9)))
def test_arguments_are_read_back_as_they_were_written(numbers):
  kinds = {'steps': int, 'rate': float, 'name': str, 'dry': bool}
  given_ = {k: kinds[k](v) for k, v in numbers.items()}
  defaults = dataclasses.asdict(Section())
  arg = ','.join(f'{k}={v}' for k, v in given_.items())
  read = parse_arg(arg, **defaults)
  assert read == defaults | given_
  assert all(type(read[k]) is type(defaults[k]) for k in defaults)


@pytest.mark.parametrize('arg', [None, '', ',', ',,'])
def test_no_argument_means_the_defaults(arg):
  assert parse_arg(arg, a=1) == {'a': 1}


def test_a_bare_key_means_true_and_only_that():
  assert parse_arg('dry', dry=False) == {'dry': True}
  with pytest.raises(InputError, match='^steps=True: expected int'):
    parse_arg('steps', steps=1)


def test_a_value_may_hold_an_equals_sign_or_nothing():
  assert parse_arg('name=a=b,other=', name='', other='x') == {
      'name': 'a=b', 'other': ''}


def test_an_unknown_argument_is_named_with_what_was_meant():
  with pytest.raises(InputError, match="Did you mean 'batch_size'"):
    parse_arg('batchsize=3', batch_size=1, steps=2)


def test_the_defaults_are_not_changed():
  defaults = {'a': 1}
  parse_arg('a=2', **defaults)
  assert defaults == {'a': 1}


SCALARS = (st.integers() | st.floats(allow_nan=False) | st.booleans()
           | st.text(max_size=5))
CONFIGS = st.dictionaries(
    st.sampled_from(['data', 'train', 'seed']),
    SCALARS | st.dictionaries(st.sampled_from(['steps', 'rate']), SCALARS))


@given(CONFIGS)
def test_nothing_differs_from_itself_nor_after_json(config):
  assert differences(config, config) == []
  assert differences(config, json.loads(json.dumps(config))) == []


@given(CONFIGS, CONFIGS)
def test_differences_name_exactly_the_keys_that_differ(old, new):
  a, b = flatten(old), flatten(new)
  found = [line.partition(': ')[0] for line in differences(old, new)]
  missing = object()
  assert found == sorted(k for k in a.keys() | b.keys()
                         if a.get(k, missing) != b.get(k, missing))


def test_differences_read_well():
  old = {'train': {'steps': 3, 'rate': 0.1}, 'seed': 0}
  new = {'train': {'steps': 4, 'rate': 0.1}, 'name': 'x'}
  assert differences(old, new) == [
      "name: '(absent)' -> 'x'", "seed: 0 -> '(absent)'",
      'train.steps: 3 -> 4']


def test_a_config_dict_flattens_as_a_dict_does():
  nested = {'train': {'steps': 3}, 'data': {'mask': {'rate': 0.15}}, 'seed': 1}
  flat = {'train.steps': 3, 'data.mask.rate': 0.15, 'seed': 1}
  assert flatten(nested) == flat
  assert flatten(ConfigDict(nested)) == flat


@pytest.mark.parametrize('arg, expected', [
    (None, ('a', '')), ('', ('a', '')), ('task=b', ('b', '')),
    ('x=1,task=b,y=2', ('b', 'x=1,y=2')), ('task=b,task=c', ('c', '')),
    ('subtask=b', ('a', 'subtask=b')), ('task=', ('', ''))])
def test_one_key_is_taken_out_of_an_argument(arg, expected):
  assert take_arg(arg, 'task', 'a') == expected


def test_defaults_are_fine():
  check_data(DataConfig())
  check_data(DataConfig(replace_random_rate=0.5, replace_keep_rate=0.5))
  check_data(DataConfig(masking_law='bert', max_predictions=77, masks='static'))
  check_data(DataConfig(mask_rate_end=0.3, mask_rate_steps=1000))


@pytest.mark.parametrize('change, said', [
    ({'backend': 'nump'}, "Did you mean 'numpy'"),
    ({'specials': 'none'}, 'exclude, fairseq'),
    ({'masks': 'dynamc'}, "Did you mean 'dynamic'"),
    ({'masking_law': 'bart'}, "Did you mean 'bert'"),
    ({'masking_unit': 'word'}, 'span, token, whole_word'),
    ({'masking_ops': 'jax'}, 'numpy, tensorflow'),
    ({'num_static_masks': 0}, 'data.num_static_masks=0'),
    ({'span_length': 0}, 'data.span_length=0'),
    ({'span_stdev': -1.0}, 'data.span_stdev=-1.0'),
    ({'span_stdev': float('nan')}, 'data.span_stdev=nan'),
    ({'masking_law': 'bert', 'masking_unit': 'span'}, 'BERT has no spans'),
    ({'max_predictions': -1}, 'data.max_predictions=-1'),
    ({'max_predictions': 20}, "data.masking_law='fairseq' has no such"),
    ({'mask_rate_end': 0.0, 'mask_rate_steps': 9}, 'data.mask_rate_end=0.0'),
    ({'mask_rate_end': 0.3}, 'data.mask_rate_steps=0: at least 1'),
    ({'mask_rate_end': 0.3, 'mask_rate_steps': 9, 'masks': 'static'},
     'one rate'),
    ({'sequence_length': 0}, 'data.sequence_length=0: at least 1'),
    ({'sequence_length': 65537}, 'at most 65536'),
    ({'batch_size': -1}, 'data.batch_size=-1'),
    ({'prefetch': 0}, 'data.prefetch=0'),
    ({'shuffle_block': 0}, 'data.shuffle_block=0'),
    ({'shuffle_window': 0}, 'data.shuffle_window=0'),
    ({'mask_rate': 1.5}, 'data.mask_rate=1.5'),
    ({'mask_rate': float('nan')}, 'data.mask_rate=nan'),
    ({'mask_rate': 0.0}, 'nothing would be predicted'),
    ({'replace_keep_rate': -0.1}, 'data.replace_keep_rate=-0.1'),
    ({'replace_random_rate': 0.6, 'replace_keep_rate': 0.6},
     'at most 1 together'),
])
def test_what_cannot_be(change, said):
  with pytest.raises(InputError) as e:
    check_data(dataclasses.replace(DataConfig(), **change))
  assert said in str(e.value)


def test_choices_are_those_of_the_tables_that_act_on_them():
  assert sorted(MASKING_LAWS) == sorted(LAWS)
  assert sorted(ATTENTION) == sorted(IMPLEMENTATIONS)
  assert sorted(REMAT) == sorted(POLICIES)


@pytest.mark.parametrize('key, value', [
    ('optim.learning_rate', float('nan')), ('optim.learning_rate', -1.0),
    ('optim.learning_rate', float('inf')), ('optim.warmup_steps', -1),
    ('optim.eps', -1e-6), ('optim.weight_decay', -0.1),
    ('optim.clip_norm', -1.0), ('optim.b1', 1.0), ('optim.b2', -0.1),
    ('train.steps', 0), ('train.eval_examples', -1),
    ('train.keep_checkpoints', -1), ('model.layer_norm_eps', 0.0),
    ('model.initializer_std', float('nan')), ('model.attention', 'flash')])
def test_wrong_values_are_named(key, value):
  section, name = key.split('.')
  with pytest.raises(InputError, match=key.replace('.', r'\.')) as e:
    parse({section: {name: value}})
  assert str(value) in str(e.value)


@pytest.mark.parametrize('seed', [-1, 1 << 32, 10 ** 30])
def test_seeds_that_would_share_parameters(seed):
  with pytest.raises(InputError, match='from 0 to 4294967295'):
    parse({'seed': seed})
  assert parse({'seed': (1 << 32) - 1}).seed == (1 << 32) - 1
