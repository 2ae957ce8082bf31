"""The `model` section of a config."""

import dataclasses
import math

from robertax.errors import InputError
from robertax.sections import unknown

ATTENTION = ('auto', 'cudnn', 'fused', 'splash', 'xla')
REMAT = ('attention', 'full', 'none', 'products')


@dataclasses.dataclass(frozen=True)
class ModelConfig:
  """The encoder's shape. Defaults are RoBERTa base (paper, appendix A).

  Attributes:
    vocab_size: 0 takes the tokenizer's.
    hidden_size, num_layers, num_heads, mlp_size: D, N, H, F.
    max_positions: longest sequence, T (the table has two rows more: positions
      start at 2, fairseq utils.py:256).
    dropout_rate: after embeddings, attention and MLP.
    attention_dropout_rate: on attention probabilities.
    layer_norm_eps: fairseq modules/layer_norm.py:28.
    initializer_std: of all matrices and tables, not truncated.
    tie_embeddings: the decoder is the token table.
    num_types: rows of the table of token types (BERT: 2, for A and B); 0: there
      is none, as in RoBERTa. A task whose format has pairs fills it in.
    nsp_head: whether there is BERT's head for next-sentence prediction; filled
      in likewise.
    lm_head: whether there is the masked-LM head; a task that predicts no tokens
      has none, so that it neither decays nor takes room.
    num_classes: C of the classifier on <s> (1: a score); 0: there is none. Of
      this and the next, a fine-tuning task fills in what it needs.
    span_head: whether there is a head for the start and end of a span.
    classifier_dropout_rate: in the classifier (fairseq's pooler_dropout).
    dtype: of activations; parameters, softmax and LayerNorm stay float32.
    attention: name of an implementation in kernels.attention; `auto` takes
      `fused` on a TPU and `xla` on a CPU, and says which.
    remat: what the backward pass makes again to save memory, a row of
      model.remat.POLICIES. The numbers are the same.
    layers_unrolled: blocks a turn of the scan over layers: more compile slower
      and may run faster. The numbers are the same.
  """
  vocab_size: int = 0
  hidden_size: int = 768
  num_layers: int = 12
  num_heads: int = 12
  mlp_size: int = 3072
  max_positions: int = 512
  dropout_rate: float = 0.1
  attention_dropout_rate: float = 0.1
  layer_norm_eps: float = 1e-5
  initializer_std: float = 0.02
  tie_embeddings: bool = True
  num_types: int = 0
  nsp_head: bool = False
  lm_head: bool = True
  num_classes: int = 0
  span_head: bool = False
  classifier_dropout_rate: float = 0.0
  dtype: str = 'float32'
  attention: str = 'auto'
  remat: str = 'none'
  layers_unrolled: int = 1

  def __post_init__(self):
    for name in ('hidden_size', 'num_layers', 'num_heads', 'mlp_size',
                 'max_positions', 'layers_unrolled'):
      if getattr(self, name) < 1:
        raise InputError(f'model.{name}={getattr(self, name)}: at least 1.')
    if self.num_types < 0:
      raise InputError(f'model.num_types={self.num_types}: rows of a table, or '
                       '0 for none.')
    if self.num_classes < 0:
      raise InputError(f'model.num_classes={self.num_classes}: classes, 1 for '
                       'a score, or 0 for no classifier.')
    if self.hidden_size % self.num_heads:
      raise InputError(
          f'model.hidden_size={self.hidden_size} is not a multiple of '
          f'model.num_heads={self.num_heads}.')
    for name in ('dropout_rate', 'attention_dropout_rate',
                 'classifier_dropout_rate'):
      if not 0 <= getattr(self, name) < 1:
        raise InputError(f'model.{name}={getattr(self, name)}: a share from '
                         '0 up to, not including, 1.')
    for name in ('layer_norm_eps', 'initializer_std'):
      if not 0 < getattr(self, name) < math.inf:
        raise InputError(f'model.{name}={getattr(self, name)}: more than 0.')
    if self.attention not in ATTENTION:
      raise unknown('model.attention', self.attention, ATTENTION)
    if self.remat not in REMAT:
      raise unknown('model.remat', self.remat, REMAT)
    if self.dtype not in ('float32', 'bfloat16'):
      raise InputError(f'model.dtype={self.dtype!r}: float32 or bfloat16.')
