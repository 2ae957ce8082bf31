"""WSC's sentences as ids: the query and each candidate in the pronoun's place.

fairseq's law (examples/roberta/wsc/wsc_task.py, binarize_with_mask, and
wsc_criterion.py, get_masked_input): the phrase stands where the pronoun stood,
with the space before it that the pronoun had; all its tokens are masked; its
score is the mean log-probability of those tokens. Sequences here are `<s> text
</s>`, as in pretraining; fairseq's recipe leaves the <s> out.
"""

from collections.abc import Sequence
import dataclasses

import numpy as np

from robertax.data.examples import Examples
from robertax.tasks.candidates import candidates
from robertax.tasks.pronouns import PronounSentence
from robertax.text import Tokenizer


@dataclasses.dataclass(frozen=True)
class Features:
  """Groups of sequences, one group a sentence.

  Attributes:
    examples: the query, then its candidates. values: span_targets int32[E, S],
      the phrase's own ids, and span_weights float32[E, S], 1 where there is
      one; marks: span_positions int32[E, S], where they stand.
    phrases: for each sentence, the query and its candidates as text.
    truncated: sequences whose ends were cut.
  """
  examples: Examples
  phrases: list[list[str]]
  truncated: int


def features(sentences: Sequence[PronounSentence], tokenizer: Tokenizer,
             max_length: int, chunker: str = 'rules') -> Features:
  """Sequences of all sentences.

  Args:
    sentences: any number.
    tokenizer: of the model.
    max_length: most tokens of a sequence. A longer one keeps what is around the
      phrase.
    chunker: a row of candidates.CHUNKERS.
  """
  phrases = [[s.query, *candidates(s, chunker)] for s in sentences]
  texts = []
  for sentence, options in zip(sentences, phrases):
    before = sentence.prefix.rstrip()
    space = sentence.prefix[len(before):]
    texts += [before, sentence.suffix, *(space + o for o in options)]
  encoded = iter(tokenizer.encode_batch(texts))
  sequences, starts, spans, groups, truncated = [], [], [], [], 0
  for number, options in enumerate(phrases):
    prefix, suffix = next(encoded), next(encoded)
    for _ in options:
      span = next(encoded)[:max_length - 2]
      left, right = window(len(prefix), len(suffix),
                           max_length - 2 - len(span))
      truncated += left + right < len(prefix) + len(suffix)
      starts.append(1 + left)
      spans.append(span)
      groups.append(number)
      sequences.append(np.concatenate([
          [tokenizer.bos_id], prefix[len(prefix) - left:],
          np.full(len(span), tokenizer.mask_id), suffix[:right],
          [tokenizer.eos_id]]).astype(tokenizer.dtype))
  width = max(map(len, spans), default=1)
  targets = np.zeros((len(spans), width), np.int32)
  positions = np.full((len(spans), width), -1, np.int32)
  for number, (start, span) in enumerate(zip(starts, spans)):
    targets[number, :len(span)] = span
    positions[number, :len(span)] = start + np.arange(len(span))
  return Features(
      Examples.of(
          sequences, groups=np.array(groups, np.int64),
          values={'span_targets': targets,
                  'span_weights': (positions >= 0).astype(np.float32)},
          marks={'span_positions': positions}),
      phrases, truncated)


def window(before: int, behind: int, room: int) -> tuple[int, int]:
  """How many tokens stay on each side: all, or half of the room and what the
  other side leaves.

  >>> window(5, 5, 20), window(50, 5, 20), window(50, 50, 21)
  ((5, 5), (15, 5), (11, 10))
  """
  right = min(behind, max(room // 2, room - before))
  return min(before, room - right), right
