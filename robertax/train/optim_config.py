"""The `optim` section of a config: the update, and what is no update."""

import dataclasses
import math

from robertax.errors import InputError
from robertax.sections import unknown

ON_DIVERGENCE = ('stop', 'skip', 'roll_back', 'go_on')


@dataclasses.dataclass(frozen=True)
class OptimConfig:
  """The update. Defaults are the paper's for base (appendix, Table 9).

  Attributes:
    name: a row of train.optimizer.OPTIMIZERS.
    learning_rate: the peak.
    schedule: a row of train.schedules.SCHEDULES.
    warmup_steps: from 0 to the peak, linearly.
    warmup_rate: where it is more than 0, so large a share of the steps instead.
    end_learning_rate: where the schedules that decay end.
    power: of schedule='polynomial'.
    b1, b2, eps: Adam's.
    first_moment_dtype: 'float32', or 'bfloat16', which saves two bytes a
      parameter.
    weight_decay: decoupled, times the learning rate.
    layer_decay: an update of a layer is this times that of the layer above;
      heads have the whole rate, embeddings the smallest. 1: all have the same.
    weight_decay_on: 'all' parameters (fairseq: trainer.py:305 has one group),
      or 'matrices' (no LayerNorm and no bias: BERT, Hugging Face).
    clip_norm: largest global norm of the gradient; 0: no clipping (the paper).
    on_divergence: what is done where the loss or the gradient's norm is not
      finite, or spikes: 'stop' (fairseq), 'skip' the update, 'roll_back' to the
      last checkpoint and pass over the batches that led there, or 'go_on'.
    spike_loss: a loss so many nats above the mean of the last 128 good updates
      is a spike; 0: none is.
    spike_gradient_norm: so is a gradient's norm of more than so many times
      their median; 0: none is.
    roll_back_batches: at most so many batches are passed over by a 'roll_back',
      the bad one the last of them; none that lies before the checkpoint.
  """
  name: str = 'adamw'
  learning_rate: float = 6e-4
  schedule: str = 'linear'
  warmup_steps: int = 24_000
  warmup_rate: float = 0.0
  end_learning_rate: float = 0.0
  power: float = 1.0
  b1: float = 0.9
  b2: float = 0.98
  eps: float = 1e-6
  first_moment_dtype: str = 'float32'
  weight_decay: float = 0.01
  weight_decay_on: str = 'all'
  layer_decay: float = 1.0
  clip_norm: float = 0.0
  on_divergence: str = 'stop'
  spike_loss: float = 0.0
  spike_gradient_norm: float = 0.0
  roll_back_batches: int = 100

  def __post_init__(self):
    if self.first_moment_dtype not in ('float32', 'bfloat16'):
      raise InputError(f'optim.first_moment_dtype={self.first_moment_dtype!r}: '
                       'float32 or bfloat16.')
    for name in ('learning_rate', 'warmup_steps', 'end_learning_rate', 'power',
                 'eps', 'weight_decay', 'clip_norm', 'spike_loss',
                 'spike_gradient_norm'):
      value = getattr(self, name)
      if not 0 <= value < math.inf:  # NaN is not either.
        raise InputError(f'optim.{name}={value}: a number, at least 0.')
    if self.on_divergence not in ON_DIVERGENCE:
      raise unknown('optim.on_divergence', self.on_divergence, ON_DIVERGENCE)
    if self.roll_back_batches < 1:
      raise InputError(f'optim.roll_back_batches={self.roll_back_batches}: at '
                       'least 1.')
    if not 0 < self.layer_decay <= 1:
      raise InputError(f'optim.layer_decay={self.layer_decay}: more than 0, at '
                       'most 1.')
    for name in ('b1', 'b2', 'warmup_rate'):
      if not 0 <= getattr(self, name) < 1:
        raise InputError(f'optim.{name}={getattr(self, name)}: from 0 up to, '
                         'not including, 1.')
