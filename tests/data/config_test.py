
import dataclasses

import pytest

from robertax.config import (
    ATTENTION,
    MASKING_LAWS,
    REMAT,
    DataConfig,
    check_data,
)
from robertax.data.masking import LAWS
from robertax.errors import InputError
from robertax.kernels.attention import IMPLEMENTATIONS
from robertax.model.encoder import POLICIES


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
    ({'max_predictions': 20}, "data.masking_law='fairseq' has none"),
    ({'masking_ops': 'tensorflow', 'backend': 'numpy'}, "data.backend='tf'"),
    ({'masking_ops': 'tensorflow', 'masking_unit': 'span'},
     "data.masking_unit='token'"),
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
