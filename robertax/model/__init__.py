"""RoBERTa: ids -> vectors -> logits -> losses; the only room that knows flax.

Floor 1 (imports kernels). Other rooms have only nested dicts of arrays, which
`create` makes and `bind` turns into a module inside the traced loss. The room
knows neither mesh nor optimizer.

Names contain shapes, here as in kernels.attention:
  B batch rows, T tokens, S source tokens (= T), D hidden size, H heads,
  K head dim, F MLP size, V vocabulary, M masked positions, N layers,
  P packed examples, C classes or types, 1 a broadcast dim.
"""

from robertax.config import ModelConfig
from robertax.model.encoder import pad_vocabulary, unpad_vocabulary
from robertax.model.heads import class_loss, mlm_loss, nsp_loss, span_loss
from robertax.model.roberta import Roberta, bind, create

__all__ = ['ModelConfig', 'Roberta', 'bind', 'class_loss', 'create',
           'mlm_loss', 'nsp_loss', 'pad_vocabulary', 'span_loss',
           'unpad_vocabulary']
