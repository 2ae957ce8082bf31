"""Unknown tokens: their share of a text, and a stop where it is too large.

A tokenizer without bytes gives unk_id for what it does not know, and a model
that reads and predicts mostly that token learns nothing, with a low loss.
"""

from collections import Counter
from collections.abc import Iterable

import numpy as np

from robertax.errors import InputError
from robertax.text import Tokenizer
from robertax.text.tokenizer import MAX_CHARS

EXAMPLES = 5  # Words that an error shows.
LOOKED_AT = 1 << 20  # Characters that are searched for them.


def refuse_unknown(where: str, unknown: int, total: int, most: float,
                   tokenizer: Tokenizer, texts: Iterable[str],
                   instead: str) -> None:
  """Raises an InputError if too many tokens of a text are unknown.

  Args:
    where: names the text.
    unknown, total: its unknown tokens, and all without <s> and </s>.
    most: the share that is allowed, tokenizer.max_unknown_share.
    tokenizer: gave the tokens.
    texts: are searched, after an error alone, for examples.
    instead: says what would do, beside allowing that share.
  """
  if unknown <= most * total:  # Of a tokenizer without such a token, 0.
    return
  share = unknown / total
  words = ', '.join(f'{word!r}' for word in unknown_words(tokenizer, texts))
  raise InputError(
      f'{where}: {share:.1%} of its {total:,} tokens are '
      f'{tokenizer.token_text(tokenizer.unk_id).strip()}, which the tokenizer '
      f'does not know{words and f" (most often {words})"}, and from which a '
      f'model learns nothing. {instead} would do; '
      f'tokenizer.max_unknown_share={min(1., share + .01):.2f} (now {most:g}) '
      'allows it.')


def unknown_words(tokenizer: Tokenizer, texts: Iterable[str]) -> list[str]:
  """Returns the most frequent words or characters that have no id."""
  found, seen = Counter(), 0
  for text in texts:
    text = text[:MAX_CHARS]
    (ids, spans), = tokenizer.encode_with_offsets([text])
    found.update(text[a:b] for a, b in spans[
        ids == tokenizer.unk_id].tolist())
    seen += len(text)
    if seen > LOOKED_AT:
      break
  return [word[:40] for word, _ in found.most_common(EXAMPLES)]


def count_unknown(tokenizer: Tokenizer, ids: np.ndarray) -> tuple[int, int]:
  """Counts unknown tokens, and all without <s>, </s> and padding."""
  outer = np.isin(ids, (tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id))
  return (int(np.count_nonzero(ids == tokenizer.unk_id)),
          int(ids.size - np.count_nonzero(outer)))
