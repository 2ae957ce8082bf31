"""The table of our, Hugging Face's and fairseq's names of arrays.

A row has the name of our array, its names in transformers (models/roberta/
modeling_roberta.py, models/bert/modeling_bert.py) and in fairseq's
models/roberta/model.py, or None where there is no such array, and the rule of
`RULES` that turns one shape into the other. `{n}` is the index of a layer: our
layers are stacked along a leading dim N, theirs are separate arrays.
`read_params` turns their tensors into our parameters, `write_params` the
reverse.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable
import functools
import operator
import re
from typing import Any, NamedTuple

import jax
import numpy as np

from robertax import model
from robertax.config import ModelConfig
from robertax.errors import InputError
from robertax.interop.tensors import Tensors, first_rows
from robertax.progress import advance


class NameRow(NamedTuple):
  """One of our arrays, and its names elsewhere."""
  ours: str
  roberta: str | None
  bert: str | None
  fairseq: str | None
  rule: str


_HF = '{body}.encoder.layer.{n}.'
_FS = 'encoder.sentence_encoder.layers.{n}.'


def _layer(ours, roberta, bert, fairseq=None, weight=('kernel', 'linear'),
           bias='same'):
  """The rows of a layer's weight and bias; weight: our name, and the rule."""
  return [NameRow(f'{ours}/{part}', *(
      name and f'{name}.{end}' for name in (roberta, bert, fairseq)), rule)
          for part, end, rule in ((weight[0], 'weight', weight[1]),
                                  ('bias', 'bias', bias))]


def _both(hf):
  """The names in RoBERTa and BERT, where only their prefixes differ."""
  return [hf.replace('{body}', body) for body in ('roberta', 'bert')]


_SCALE = ('scale', 'same')


def _dense(ours, hf, fairseq, rule):
  return _layer(ours, *_both(hf), fairseq, ('kernel', rule), 'flat')


def _norm(ours, hf, fairseq):
  return _layer(ours, *_both(hf), fairseq, _SCALE)


_EMBEDDINGS = '{body}.embeddings.'
ROWS = (
    NameRow('embeddings/tokens', *_both(f'{_EMBEDDINGS}word_embeddings.weight'),
            'encoder.sentence_encoder.embed_tokens.weight', 'same'),
    NameRow('embeddings/positions',
            *_both(f'{_EMBEDDINGS}position_embeddings.weight'),
            'encoder.sentence_encoder.embed_positions.weight', 'positions'),
    NameRow('embeddings/types',
            *_both(f'{_EMBEDDINGS}token_type_embeddings.weight'), None, 'same'),
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
    *_dense('layers/mlp_in', f'{_HF}intermediate.dense', f'{_FS}fc1', 'linear'),
    *_dense('layers/mlp_out', f'{_HF}output.dense', f'{_FS}fc2', 'linear'),
    *_norm('layers/mlp_norm', f'{_HF}output.LayerNorm',
           f'{_FS}final_layer_norm'),
    *_layer('lm_head/dense', 'lm_head.dense', 'cls.predictions.transform.dense',
            'encoder.lm_head.dense'),
    *_layer('lm_head/norm', 'lm_head.layer_norm',
            'cls.predictions.transform.LayerNorm', 'encoder.lm_head.layer_norm',
            _SCALE),
    NameRow('lm_head/bias', 'lm_head.bias', 'cls.predictions.bias',
            'encoder.lm_head.bias', 'same'),
    NameRow('lm_head/decoder', 'lm_head.decoder.weight',
            'cls.predictions.decoder.weight', 'encoder.lm_head.weight', 'same'),
    *_layer('nsp_head/pooler', None, 'bert.pooler.dense'),
    *_layer('nsp_head/output', None, 'cls.seq_relationship'),
    # RobertaForSequenceClassification; people name the heads of fairseq.
    *_layer('classifier/dense', 'classifier.dense', 'bert.pooler.dense',
            'classification_heads.{head}.dense'),
    *_layer('classifier/output', 'classifier.out_proj', 'classifier',
            'classification_heads.{head}.out_proj'),
    *_layer('span_head/output', 'qa_outputs', 'qa_outputs'))
# RobertaForMultipleChoice has BERT's classifier, and these names.
CHOICE = {
    'classifier.dense.weight': 'roberta.pooler.dense.weight',
    'classifier.dense.bias': 'roberta.pooler.dense.bias',
    'classifier.out_proj.weight': 'classifier.weight',
    'classifier.out_proj.bias': 'classifier.bias'}

# {family: {copy: original}}. Biases are always copies, and weights are if the
# decoder is tied.
COPIES = {
    'roberta': {'lm_head.decoder.weight':
                    'roberta.embeddings.word_embeddings.weight',
                'lm_head.decoder.bias': 'lm_head.bias'},
    'bert': {'cls.predictions.decoder.weight':
                 'bert.embeddings.word_embeddings.weight',
             'cls.predictions.decoder.bias': 'cls.predictions.bias'},
    'fairseq': {'encoder.lm_head.weight':
                    'encoder.sentence_encoder.embed_tokens.weight'}}
# Tables with a row for each id, some of which are copies of others.
_OF_TOKENS = ('embeddings/tokens', 'lm_head/bias', 'lm_head/decoder')
# A table may be longer than its tokenizer (to a multiple of 64, say): by so
# many rows, or by this share. Else the tokenizer is probably another model's.
MOST_PADDING, MOST_PADDING_SHARE = 1024, .1
_BODIES = ('roberta', 'bert', 'encoder')  # How the body's names begin.
# Tensors that are not trained.
BUFFERS = {
    'roberta': ('roberta.embeddings.position_ids',
                'roberta.embeddings.token_type_ids'),
    'bert': ('bert.embeddings.position_ids', 'bert.embeddings.token_type_ids'),
    'fairseq': ('encoder.sentence_encoder.version',
                'encoder.sentence_encoder.embed_positions._float_tensor')}


def _positions_to_ours(x, shape, first):
  # Our positions begin at row 2. Earlier rows are kept as far as both tables
  # have room for them, so that a round trip restores a table.
  kept = min(2, first)
  ours = np.zeros(shape, x.dtype)
  ours[2:], ours[2 - kept:2] = x[first:], x[first - kept:first]
  return ours


def _positions_to_theirs(x, first):
  kept = min(2, first)
  theirs = np.zeros((first + len(x) - 2, *x.shape[1:]), x.dtype)
  theirs[first:], theirs[first - kept:first] = x[2:], x[2 - kept:2]
  return theirs


# Each rule is a pair of functions: (x, our shape, first) -> our array of all
# layers, stacked along N, and (x, first) -> their array of one layer. `first`
# is the row of a sequence's first token. torch's Linear is [outputs, inputs];
# only ours has a dim of heads.
RULES = {
    'same': (lambda x, shape, first: x, lambda x, first: x),
    'flat': (lambda x, shape, first: x.reshape(shape),
             lambda x, first: x.reshape(-1)),
    'linear': (lambda x, shape, first: x.swapaxes(-1, -2).reshape(shape),
               lambda x, first: x.reshape(x.shape[0], -1).T),
    'linear_of_heads': (
        lambda x, shape, first: x.swapaxes(-1, -2).reshape(shape),
        lambda x, first: x.reshape(-1, x.shape[-1]).T),
    'positions': (_positions_to_ours, _positions_to_theirs)}


def to_theirs(rule: str, x: np.ndarray, first: int) -> np.ndarray:
  return RULES[rule][1](x, first)


# The number of rows that a family's table of types has in models without types.
NO_TYPES = {'roberta': 1, 'bert': 2}


class Naming(NamedTuple):
  """A column of the table, and what else a model's names depend on.

  Attributes:
    family: 'roberta', 'bert' or 'fairseq'.
    first: the row of a sequence's first token in the position table: the
      padding id + 1 in RoBERTa, 0 in BERT.
    choice: whether the classifier is that of RobertaForMultipleChoice.
    head: the name of fairseq's classification head.
  """
  family: str
  first: int
  choice: bool = False
  head: str = ''


def read_params(tensors: Tensors, config: ModelConfig, layout: Naming,
                source: str, unused: Collection[str] = (),
                dropped: Collection[str] = ()) -> tuple[Any, list[str]]:
  """Turns their tensors into our parameters.

  Args:
    tensors: all tensors of a model, by their names.
    config: decides which parameters there are, and their shapes.
    layout: the layout of their names.
    source: names the file in errors.
    unused: tensors that are not in the table; they may exist, and are ignored.
    dropped: parts (names up to a dot) that may exist, and are ignored.

  Returns:
    A nested dict of float32 arrays in main memory, and a message for each kind
    of tensor that was ignored on purpose.

  Raises:
    InputError: tensors are missing, of another shape, or unknown; each is
      named.
  """
  rows = _table_rows(config, layout)
  tensors, lines = _without_copies(tensors, config, layout, source)
  if config.num_layers > len(tensors):  # Do not make names for billions.
    raise InputError(f'{source}: its config has {config.num_layers} layers, '
                     f'and its weights are {len(tensors)} tensors.')
  missing, shapes, used = [], defaultdict(list), set()
  for row, shape in rows:
    one = shape[1:] if _layered(row) else shape
    # Only the rule 'positions' would make an array to tell a shape.
    wanted = ((layout.first + one[0] - 2, *one[1:]) if row.rule == 'positions'
              else to_theirs(row.rule, np.broadcast_to(np.float32(0), one),
                             layout.first).shape)
    for name in _their_names(row, shape, layout):
      if name not in tensors:
        missing.append(name)
      elif tensors[name].shape != wanted:
        shapes[f'{list(tensors[name].shape)}, not {list(wanted)}'].append(name)
      used.add(name)
  left = set(tensors) - used - set(unused) - set(BUFFERS[layout.family])
  if not config.num_types and layout.family in NO_TYPES:
    left.discard(types_name(layout))
  gone = {name for name in left
          if any(name.startswith(f'{part}.') for part in dropped
                 if part not in _BODIES)}
  left -= gone
  if missing or shapes or left:
    raise InputError(f'{source}: its config and its weights disagree: '
                     + '; '.join(filter(None, (
                         missing and f'missing {_folded(missing)}',
                         shapes and 'of another shape: ' + ', '.join(
                             f'{_folded(found)}: {kind}'
                             for kind, found in shapes.items()),
                         left and f'unused {_folded(left)}'))) + '.'
                     + how_to_drop(left if not missing and not shapes else ()))
  if ignored := gone | set(unused) & set(tensors):
    lines.append(f'{source}: not used: {_folded(ignored)}')
  params: dict[str, Any] = {}
  for row, shape in rows:
    parts = [tensors[name].read() for name in _their_names(row, shape, layout)]
    x = np.stack(parts) if _layered(row) else parts[0]
    x = RULES[row.rule][0](x, shape, layout.first)
    _put(params, row.ours, np.ascontiguousarray(x, np.float32))
    advance()
  return params, lines


def write_params(params: Any, config: ModelConfig, layout: Naming
                 ) -> dict[str, np.ndarray]:
  """Turns our parameters into their tensors: the inverse of `read_params`.

  Args:
    params: have a row for each of the tokenizer's ids (`unpad_vocabulary`).
    config: the shape of the params.
    layout: the layout of their names.

  Returns:
    float32 arrays by their names. As with `save_pretrained`, a tied decoder is
    left out, and the bias of an untied one appears under both its names.

  Raises:
    InputError: the family has no place for one of our arrays.
  """
  tensors = {}
  if layout.family == 'bert' and config.nsp_head and config.num_classes:
    raise InputError('a BERT of Hugging Face has one pooler: it has no place '
                     'for both model.nsp_head and model.num_classes.')
  for row, shape in _table_rows(config, layout):
    x = functools.reduce(operator.getitem, row.ours.split('/'), params)
    x = np.asarray(x, np.float32)
    parts = x if _layered(row) else [x]
    for name, part in zip(_their_names(row, shape, layout), parts):
      tensors[name] = np.ascontiguousarray(
          to_theirs(row.rule, part, layout.first))
  if not config.num_types and layout.family in NO_TYPES:
    tensors[types_name(layout)] = np.zeros(
        (NO_TYPES[layout.family], config.hidden_size), np.float32)
  for copy, original in COPIES[layout.family].items():
    # Readers of safetensors assume that a name that is missing is tied.
    if not config.tie_embeddings and copy not in tensors and (
        original in tensors):
      tensors[copy] = tensors[original]
  return tensors


def how_to_drop(left: Collection[str]) -> str:
  """Says how to leave these tensors behind, if none is of the body."""
  parts = sorted({name.partition('.')[0] for name in left})
  if not parts or set(parts) & set(_BODIES):
    return ''
  return (' A head that robertax does not have can be left behind: init_from '
          'with finetune.unused_parameters='
          f'{",".join(("lm_head", "nsp_head", *parts))} takes the rest.')


def cut_vocabulary(tensors: Tensors, layout: Naming, rows: int, ids: int,
                   source: str) -> tuple[Tensors, list[str]]:
  """Drops rows behind the tokenizer's last id; a line says so.

  InputError if there are fewer rows than ids, or far more (MOST_PADDING).
  """
  if rows == ids:
    return tensors, []
  if rows < ids:
    raise InputError(
        f'{source}: its tokenizer has {ids} ids, and its embeddings have '
        f'{rows} rows, so {ids - rows} ids have no vector: put the tokenizer '
        'of these weights there (with tokens that were added, save the model '
        'after resize_token_embeddings).')
  if rows - ids > max(MOST_PADDING, MOST_PADDING_SHARE * rows):
    raise InputError(
        f'{source}: its tokenizer has {ids} ids, and its embeddings have '
        f'{rows} rows, more than a padded table would: put the tokenizer of '
        'these weights there.')
  names = {getattr(row, layout.family) for row in ROWS
           if row.ours in _OF_TOKENS} | set(COPIES[layout.family])
  cut = {name: first_rows(x, ids) if name in names and x.shape[:1] == (rows,)
         else x for name, x in tensors.items()}
  return cut, [f'{source}: {rows - ids} rows of the embeddings ({rows}) are '
               f'behind the last of the tokenizer\'s {ids} ids: dropped']


def types_name(layout: Naming) -> str:
  """Returns their name for the table of types."""
  return f'{layout.family}.embeddings.token_type_embeddings.weight'


def _folded(found: Iterable[str]) -> str:
  """Turns ['layer.0.a', 'layer.1.a', 'b'] into 'b, layer.{0,1}.a'."""
  groups = defaultdict(list)
  for name in found:
    parts = re.split(r'(?<=layer\.|ayers\.)(\d+)(?=\.)', name)
    numbers = parts[1] if len(parts) == 3 else ''
    groups[(parts[0], parts[2] if numbers else '')].append(numbers)
  lines = []
  for (head, tail), numbers in sorted(groups.items()):
    numbers = ','.join(sorted(numbers, key=lambda n: int(n or 0)))
    lines.append(head + (f'{{{numbers}}}' if ',' in numbers else numbers)
                 + tail)
  return ', '.join(lines)


def _table_rows(config: ModelConfig, layout: Naming
                ) -> list[tuple[NameRow, tuple[int, ...]]]:
  """Returns the row of the table and our shape of each parameter."""
  shapes = jax.eval_shape(lambda: model.create(config, jax.random.key(0)))
  table = {row.ours: row for row in ROWS}
  found = []
  for path, leaf in jax.tree_util.tree_leaves_with_path(shapes):
    row = table[jax.tree_util.keystr(path, simple=True, separator='/')]
    if getattr(row, layout.family) is None:
      raise InputError(f'{row.ours}: {layout.family} models have no place for '
                       'it.')
    found.append((row, leaf.shape))
  return found


def _layered(row: NameRow) -> bool:
  return row.ours.startswith('layers/')


def _their_names(row: NameRow, shape: tuple[int, ...], layout: Naming
                 ) -> list[str]:
  name = getattr(row, layout.family)
  if layout.choice:
    name = CHOICE.get(name, name)
  if _layered(row):
    return [name.format(n=n) for n in range(shape[0])]
  return [name.format(head=layout.head)]


def _without_copies(tensors: Tensors, config: ModelConfig, layout: Naming,
                    source: str) -> tuple[Tensors, list[str]]:
  """Returns the tensors without copies, and messages about ignored ones."""
  tensors, lines = dict(tensors), []
  for copy, original in COPIES[layout.family].items():
    is_bias = original.endswith('bias')
    if is_bias and original in tensors and copy not in tensors and (
        not config.tie_embeddings):
      lines.append(f'{source}: no {copy} beside a decoder that is not tied: '
                   f'{original} is used, as by transformers 4, which wrote it '
                   '(transformers 5 begins it at zero)')
    if copy not in tensors or not (is_bias or config.tie_embeddings):
      continue  # A decoder that is not tied is a parameter of its own.
    twin = tensors.pop(copy)
    if original not in tensors:
      tensors[original] = twin
    elif twin.shape != tensors[original].shape or not np.array_equal(
        twin.read(), tensors[original].read()):
      if config.tie_embeddings:
        raise InputError(
            f'{source}: its config and its weights disagree: {copy} is not '
            f'{original}, and the config says that they are tied. '
            '"tie_word_embeddings": false says that they are not.')
      # transformers uses the decoder's bias; the other has no effect.
      tensors[original] = twin
      lines.append(f'{source}: not used: {original}, since the decoder, which '
                   f'is not tied, has {copy}')
  return tensors, lines


def _put(nested: dict, path: str, leaf: Any):
  *folders, last = path.split('/')
  for folder in folders:
    nested = nested.setdefault(folder, {})
  nested[last] = leaf
