"""The one table of names: ours, Hugging Face's, fairseq's, and the shape rule.

A row is an array of ours and what it is called in transformers'
models/roberta/modeling_roberta.py and models/bert/modeling_bert.py and in
fairseq's models/roberta/model.py; None where there is no such array. `{n}` is
the layer's number: we stack all layers along a leading dim N, they have an
array each. Rules are functions of `RULES`.
"""

from typing import NamedTuple

import numpy as np


class Row(NamedTuple):
  """One array of ours, and its names."""
  ours: str
  roberta: str | None
  bert: str | None
  fairseq: str | None
  rule: str


_HF = '{body}.encoder.layer.{n}.'
_FS = 'encoder.sentence_encoder.layers.{n}.'


def _both(ours, hf, fairseq, rule):
  """A row of the body, in which RoBERTa and BERT have one name but for it."""
  return Row(ours, *(hf.replace('{body}', body)
                     for body in ('roberta', 'bert')), fairseq, rule)


def _dense(ours, hf, fairseq, rule):
  return (_both(f'{ours}/kernel', f'{hf}.weight', f'{fairseq}.weight', rule),
          _both(f'{ours}/bias', f'{hf}.bias', f'{fairseq}.bias', 'flat'))


def _norm(ours, hf, fairseq):
  return (_both(f'{ours}/scale', f'{hf}.weight', f'{fairseq}.weight', 'same'),
          _both(f'{ours}/bias', f'{hf}.bias', f'{fairseq}.bias', 'same'))


_EMBEDDINGS = '{body}.embeddings.'
ROWS = (
    _both('embeddings/tokens', f'{_EMBEDDINGS}word_embeddings.weight',
          'encoder.sentence_encoder.embed_tokens.weight', 'same'),
    _both('embeddings/positions', f'{_EMBEDDINGS}position_embeddings.weight',
          'encoder.sentence_encoder.embed_positions.weight', 'positions'),
    _both('embeddings/types', f'{_EMBEDDINGS}token_type_embeddings.weight',
          None, 'same'),
    *_norm('embeddings/norm', f'{_EMBEDDINGS}LayerNorm',
           'encoder.sentence_encoder.layernorm_embedding'),
    *_dense('layers/attention/query', f'{_HF}attention.self.query',
            f'{_FS}self_attn.q_proj', 'linear'),
    *_dense('layers/attention/key', f'{_HF}attention.self.key',
            f'{_FS}self_attn.k_proj', 'linear'),
    *_dense('layers/attention/value', f'{_HF}attention.self.value',
            f'{_FS}self_attn.v_proj', 'linear'),
    *_dense('layers/attention/output', f'{_HF}attention.output.dense',
            f'{_FS}self_attn.out_proj', 'linear_of_heads'),
    *_norm('layers/attention_norm', f'{_HF}attention.output.LayerNorm',
           f'{_FS}self_attn_layer_norm'),
    *_dense('layers/mlp_in', f'{_HF}intermediate.dense', f'{_FS}fc1',
            'linear'),
    *_dense('layers/mlp_out', f'{_HF}output.dense', f'{_FS}fc2', 'linear'),
    *_norm('layers/mlp_norm', f'{_HF}output.LayerNorm',
           f'{_FS}final_layer_norm'),
    Row('lm_head/dense/kernel', 'lm_head.dense.weight',
        'cls.predictions.transform.dense.weight',
        'encoder.lm_head.dense.weight', 'linear'),
    Row('lm_head/dense/bias', 'lm_head.dense.bias',
        'cls.predictions.transform.dense.bias',
        'encoder.lm_head.dense.bias', 'same'),
    Row('lm_head/norm/scale', 'lm_head.layer_norm.weight',
        'cls.predictions.transform.LayerNorm.weight',
        'encoder.lm_head.layer_norm.weight', 'same'),
    Row('lm_head/norm/bias', 'lm_head.layer_norm.bias',
        'cls.predictions.transform.LayerNorm.bias',
        'encoder.lm_head.layer_norm.bias', 'same'),
    Row('lm_head/bias', 'lm_head.bias', 'cls.predictions.bias',
        'encoder.lm_head.bias', 'same'),
    Row('lm_head/decoder', 'lm_head.decoder.weight',
        'cls.predictions.decoder.weight', 'encoder.lm_head.weight', 'same'),
    Row('nsp_head/pooler/kernel', None, 'bert.pooler.dense.weight', None,
        'linear'),
    Row('nsp_head/pooler/bias', None, 'bert.pooler.dense.bias', None, 'same'),
    Row('nsp_head/output/kernel', None, 'cls.seq_relationship.weight', None,
        'linear'),
    Row('nsp_head/output/bias', None, 'cls.seq_relationship.bias', None,
        'same'),
    # RobertaForSequenceClassification; fairseq's heads have names of their own.
    Row('classifier/dense/kernel', 'classifier.dense.weight',
        'bert.pooler.dense.weight', 'classification_heads.{head}.dense.weight',
        'linear'),
    Row('classifier/dense/bias', 'classifier.dense.bias',
        'bert.pooler.dense.bias', 'classification_heads.{head}.dense.bias',
        'same'),
    Row('classifier/output/kernel', 'classifier.out_proj.weight',
        'classifier.weight', 'classification_heads.{head}.out_proj.weight',
        'linear'),
    Row('classifier/output/bias', 'classifier.out_proj.bias',
        'classifier.bias', 'classification_heads.{head}.out_proj.bias',
        'same'),
    Row('span_head/output/kernel', 'qa_outputs.weight', 'qa_outputs.weight',
        None, 'linear'),
    Row('span_head/output/bias', 'qa_outputs.bias', 'qa_outputs.bias', None,
        'same'),
)
FAMILIES = ('roberta', 'bert', 'fairseq')
# RobertaForMultipleChoice has the classifier of BERT: its names for RoBERTa's.
CHOICE = {
    'classifier.dense.weight': 'roberta.pooler.dense.weight',
    'classifier.dense.bias': 'roberta.pooler.dense.bias',
    'classifier.out_proj.weight': 'classifier.weight',
    'classifier.out_proj.bias': 'classifier.bias'}

# What is another tensor again, where the decoder is tied and, the biases, also
# where not: {family: {copy: original}}.
COPIES = {
    'roberta': {'lm_head.decoder.weight':
                    'roberta.embeddings.word_embeddings.weight',
                'lm_head.decoder.bias': 'lm_head.bias'},
    'bert': {'cls.predictions.decoder.weight':
                 'bert.embeddings.word_embeddings.weight',
             'cls.predictions.decoder.bias': 'cls.predictions.bias'},
    'fairseq': {'encoder.lm_head.weight':
                    'encoder.sentence_encoder.embed_tokens.weight'},
}
# Counted from 0 and nothing learned.
BUFFERS = {
    'roberta': ('roberta.embeddings.position_ids',
                'roberta.embeddings.token_type_ids'),
    'bert': ('bert.embeddings.position_ids', 'bert.embeddings.token_type_ids'),
    'fairseq': ('encoder.sentence_encoder.version',
                'encoder.sentence_encoder.embed_positions._float_tensor'),
}


def theirs_shape(rule: str, shape: tuple[int, ...], first: int
                 ) -> tuple[int, ...]:
  """Their shape of an array that has `shape` with us (without N)."""
  if rule == 'positions':  # The only rule that would make an array for it.
    return (first + shape[0] - 2, *shape[1:])
  return to_theirs(rule, np.broadcast_to(np.float32(0), shape), first).shape


def to_ours(rule: str, x: np.ndarray, shape: tuple[int, ...], first: int
            ) -> np.ndarray:
  """An array of theirs as ours.

  Args:
    rule: of its row.
    x: theirs; of layers, all of them stacked along a leading dim N.
    shape: ours, with N where x has it.
    first: for 'positions': the row of a sequence's first token.
  """
  return RULES[rule][0](x, shape, first)


def to_theirs(rule: str, x: np.ndarray, first: int) -> np.ndarray:
  """The inverse of `to_ours`, of one layer or of no layer."""
  return RULES[rule][1](x, first)


def _positions_to_ours(x, shape, first):
  # Ours begin at row 2. What lies before is no token's; as much of it as both
  # have room for is kept, so that a table comes back as it was.
  kept = min(2, first)
  ours = np.zeros(shape, x.dtype)
  ours[2:], ours[2 - kept:2] = x[first:], x[first - kept:first]
  return ours


def _positions_to_theirs(x, first):
  kept = min(2, first)
  theirs = np.zeros((first + len(x) - 2, *x.shape[1:]), x.dtype)
  theirs[first:], theirs[first - kept:first] = x[2:], x[2 - kept:2]
  return theirs


# name: (x, our shape, first) -> ours; (x, first) -> theirs. torch's Linear is
# [outputs, inputs]; heads are a dim of their own with us alone.
RULES = {
    'same': (lambda x, shape, first: x, lambda x, first: x),
    'flat': (lambda x, shape, first: x.reshape(shape),
             lambda x, first: x.reshape(-1)),
    'linear': (lambda x, shape, first: x.swapaxes(-1, -2).reshape(shape),
               lambda x, first: x.reshape(x.shape[0], -1).T),
    'linear_of_heads': (
        lambda x, shape, first: x.swapaxes(-1, -2).reshape(shape),
        lambda x, first: x.reshape(-1, x.shape[-1]).T),
    'positions': (_positions_to_ours, _positions_to_theirs),
}
