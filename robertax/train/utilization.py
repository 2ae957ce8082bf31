"""MFU: the model's own arithmetic over what the devices' data sheet allows."""

import jax

from robertax.config import Config
from robertax.model.roberta import training_flops
from robertax.parallel import chips


class Utilization:
  """Model FLOP/s of a run over the peak of its devices.

  Only real tokens and real targets count, forward and backward; what is
  computed again to save memory does not.
  """

  def __init__(self, config: Config, devices: list[jax.Device]):
    """Looks the devices up.

    Args:
      config: of the run, the model's vocabulary filled in.
      devices: of the whole mesh.
    """
    self._config = config
    chip = chips.chip_of(devices[0].device_kind)
    self._peak = chip.flops * len(devices) if chip else None

  def __call__(self, step: int, sums: dict[str, float], seconds: float
               ) -> float | None:
    """From 0 to 1; None where no peak is known (a CPU).

    Args:
      step: whose length of rows is taken for all.
      sums: of some steps: token_sum, and weight_sum, the masked tokens.
      seconds: that those steps took.
    """
    if not self._peak:
      return None
    data = self._config.data
    length = (data.first_sequence_length if step <= data.first_sequence_steps
              else data.sequence_length)
    targets = (sums['weight_sum'] if self._config.task == 'pretrain' else 0)
    return (training_flops(self._config.model, sums['token_sum'], targets,
                           length) / seconds / self._peak)
