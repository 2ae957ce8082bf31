"""Pairs (to come)."""
import dataclasses


@dataclasses.dataclass(frozen=True)
class PairLaw:
  """How pairs are drawn."""
  short_rate: float = 0.0
  negatives: str = 'half'
