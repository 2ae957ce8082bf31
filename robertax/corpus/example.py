"""What every input format yields."""

from typing import NamedTuple

import numpy as np


class Example(NamedTuple):
  """One packed sequence, or one pair: `<s> A </s> B </s>`.

  Attributes:
    ids: [n] token ids, <s> first, no padding.
    document: which of the given documents its first sentence comes from.
    first_length: of a pair, the tokens of `<s> A </s>`: those have type 0, and
      the others, `B </s>`, type 1. Otherwise 0.
    second_document: of a pair, the document of B. If it is `document`, B
      follows A there; any other is a random negative. Otherwise -1.
  """
  ids: np.ndarray
  document: int
  first_length: int = 0
  second_document: int = -1
