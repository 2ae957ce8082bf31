"""Next-sentence prediction: what pairs need of a model, and their metrics.

A format of pairs gives each example two segments, A and B, and asks whether B
follows A in the text or is random (Devlin et al. 2019, section 3.1; the upper
half of RoBERTa's Table 2).
"""

import dataclasses
import sys

from robertax.config import ModelConfig
from robertax.corpus.formats import FORMATS
from robertax.errors import InputError, unknown


def for_format(config: ModelConfig, name: str) -> ModelConfig:
  """Fills in what a format of pairs needs: two types and the NSP head.

  Of another format nothing is changed: a model that has them, by `init_from`
  or because it was asked for, keeps them. All its tokens are of type 0 then,
  and one line says that its head is not trained.

  Args:
    config: the `model` section.
    name: a row of corpus.formats.FORMATS.

  Raises:
    InputError: no such format; pairs, and a table of another number of types.
  """
  if name not in FORMATS:
    raise unknown('data.format', name, FORMATS)
  if not FORMATS[name].pairs:
    if config.nsp_head:
      print(f'model.nsp_head=True, and data.format={name!r} has no pairs: the '
            'head is kept and not trained.', file=sys.stderr)
    return config
  if config.num_types not in (0, 2):
    raise InputError(f'model.num_types={config.num_types}: data.format='
                     f'{name!r} has 2, of A and B; 0 takes that.')
  return dataclasses.replace(config, num_types=2, nsp_head=True)


def metrics(sums: dict[str, float]) -> dict[str, float]:
  """nsp_loss in nats and nsp_accuracy; nothing where there are no pairs."""
  if 'nsp_weight_sum' not in sums:
    return {}
  weight = max(sums['nsp_weight_sum'], 1.0)
  return {'nsp_loss': sums['nsp_loss_sum'] / weight,
          'nsp_accuracy': sums['nsp_correct_sum'] / weight}
