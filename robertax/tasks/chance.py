"""Whether answers are more than a constant one: runs at chance are common
(fairseq #1114, #1946, #5361), and their scores look like scores.
"""

from collections.abc import Sequence

import numpy as np


def why_degenerate(found: Sequence[int], labels: Sequence[int],
                   names: Sequence[str], split: str) -> str:
  """Why these classes say nothing; '' if they do.

  Args:
    found, labels: classes, predicted and right.
    names: of the classes, for people.
    split: of what, likewise.
  """
  found, labels = np.asarray(found, int), np.asarray(labels, int)
  if len(np.unique(found)) == 1:
    return f'all answers on {split} are {names[found[0]]}.'
  value = 100 * np.mean(found == labels)
  chance = 100 * np.bincount(labels).max() / len(labels)
  if value <= chance:
    return (f'accuracy {value:.2f} on {split} is not above {chance:.2f}, what '
            'a constant answer has.')
  return ''
