"""The loss of extractive question answering: where the answer starts and ends.
"""

from collections.abc import Sequence
import dataclasses
from typing import ClassVar

import jax.numpy as jnp
import numpy as np

from robertax import model
from robertax.data.examples import Examples
from robertax.tasks import squad_windows
from robertax.tasks.squad_windows import EncodedQuestion, Window, WindowLaw
from robertax.tasks.tuning import Tuning
from robertax.text import Tokenizer

UNANSWERABLE, ANSWERABLE = range(2)
LABELS = ('unanswerable', 'answerable')  # Of the classes, in their order.


@dataclasses.dataclass(frozen=True)
class SpanTuning(Tuning):
  """Spans and, with num_classes=2, whether there is an answer at all.

  Fields: span_starts, span_ends int32[B,Q], places in the row, those of <s>
  where the window has no answer; class_targets int32[B,Q], ANSWERABLE where it
  has one.
  """
  token_outputs: ClassVar[frozenset[str]] = frozenset({'starts', 'ends'})

  def loss(self, params, batch, dropout_keys, totals):
    """Half the cross-entropies of start and end, over the window's tokens; of
    SQuAD 2.0 plus that of the classifier on <s>, summed as in the paper
    (section 5.2). In nats.
    """
    encoder, x_BTD = self.body(params, batch, dropout_keys)
    weights = batch['class_weights']
    sums = model.span_loss(
        *encoder.span_logits(x_BTD), batch['segment_ids'],
        batch['span_starts'], batch['span_ends'], weights)
    loss = sums['loss_sum']
    if self.model.num_classes:
      answerable = model.class_loss(
          encoder.class_logits(x_BTD, batch['class_positions'],
                               dropout_key=dropout_keys),
          batch['class_targets'], weights)
      loss += answerable['loss_sum']
      sums |= {'loss_sum': loss,
               'answerable_correct_sum': answerable['correct_sum']}
    objective = loss / jnp.maximum(totals['weight_sum'], 1.0)
    return objective, sums | self.places(batch)

  def outputs(self, params, batch):
    """starts, ends [B,T], logits; of SQuAD 2.0 answerable [B,Q], log-odds."""
    encoder, x_BTD = self.body(params, batch)
    starts, ends = encoder.span_logits(x_BTD)
    found = {'starts': starts, 'ends': ends}
    if self.model.num_classes:
      logits = encoder.class_logits(x_BTD, batch['class_positions'])
      found['answerable'] = (logits[..., ANSWERABLE]
                             - logits[..., UNANSWERABLE])
    return found


def examples(encoded: Sequence[EncodedQuestion], windows: Sequence[Window],
             law: WindowLaw, tokenizer: Tokenizer) -> Examples:
  """Windows as examples, in order."""
  spans = np.array([squad_windows.targets(window, encoded)
                    for window in windows], np.int32).reshape(-1, 2)
  return Examples.of(
      [squad_windows.input_ids(window, encoded, law, tokenizer)
       for window in windows],
      # An answer cannot end at <s>.
      values={'class_targets': np.where(
          spans[:, 1] > 0, ANSWERABLE, UNANSWERABLE).astype(np.int32)},
      marks={'span_starts': spans[:, 0], 'span_ends': spans[:, 1]},
      second_starts=np.array([w.offset for w in windows], np.int32))
