"""Their tensors <-> our params, by the table of names; whatever differs named.
"""

from collections import defaultdict
from collections.abc import Mapping
import re
from typing import Any, NamedTuple

import jax
import numpy as np

from robertax import model
from robertax.config import ModelConfig
from robertax.errors import InputError
from robertax.interop import names
from robertax.interop.tensors import Tensors

# Rows of the type table where the family's models have no use for one.
NO_TYPES = {'roberta': 1, 'bert': 2}


class Layout(NamedTuple):
  """Which of the table's columns, and where its positions begin.

  Attributes:
    family: 'roberta', 'bert' or 'fairseq'.
    first: row of the position table that a sequence's first token has:
      RoBERTa's is the padding id + 1, BERT's 0.
    choice: the classifier is that of RobertaForMultipleChoice.
    head: name of fairseq's classification head.
  """
  family: str
  first: int
  choice: bool = False
  head: str = ''


def read_params(tensors: Tensors, config: ModelConfig, layout: Layout,
                source: str, unused: tuple[str, ...] = ()
                ) -> tuple[Any, list[str]]:
  """Our parameters of their tensors.

  Args:
    tensors: by their names, all of a model.
    config: which of ours there are, and their shapes.
    layout: theirs.
    source: names the file in errors.
    unused: tensors beside the table's that may be there, and are left.

  Returns:
    A nested dict of float32 arrays in main memory, and a line for each kind of
    tensor that was left unused on purpose.

  Raises:
    InputError: tensors are missing, of another shape, or of no use; each is
      named.
  """
  rows = _rows(config, layout)
  tensors, lines = _without_copies(tensors, config, layout, source)
  if config.num_layers > len(tensors):  # Before names are made for all.
    raise InputError(f'{source}: its config has {config.num_layers} layers, '
                     f'and its weights are {len(tensors)} tensors.')
  missing, shapes, used = [], defaultdict(list), set()
  for row, shape in rows:
    wanted = names.theirs_shape(
        row.rule, shape[1:] if _layered(row) else shape, layout.first)
    for name in _names(row, shape, layout):
      if name not in tensors:
        missing.append(name)
      elif tensors[name].shape != wanted:
        shapes[f'{list(tensors[name].shape)}, not {list(wanted)}'].append(name)
      used.add(name)
  left = set(tensors) - used - set(unused) - set(names.BUFFERS[layout.family])
  if not config.num_types and layout.family in NO_TYPES:
    left.discard(types_name(layout))
  if missing or shapes or left:
    raise InputError(f'{source}: its config and its weights disagree: '
                     + '; '.join(filter(None, (
                         missing and f'missing {folded(missing)}',
                         shapes and 'of another shape: ' + ', '.join(
                             f'{folded(found)}: {kind}'
                             for kind, found in shapes.items()),
                         left and f'unused {folded(left)}'))) + '.')
  dropped = sorted(set(unused) & set(tensors))
  if dropped:
    lines.append(f'{source}: not used: {folded(dropped)}')
  params: dict[str, Any] = {}
  for row, shape in rows:
    parts = [tensors[name].read() for name in _names(row, shape, layout)]
    x = np.stack(parts) if _layered(row) else parts[0]
    x = names.to_ours(row.rule, x, shape, layout.first)
    _put(params, row.ours, np.ascontiguousarray(x, np.float32))
  return params, lines


def write_params(params: Any, config: ModelConfig, layout: Layout
                 ) -> dict[str, np.ndarray]:
  """Their tensors of our parameters: the inverse of `read_params`.

  Args:
    params: with the tokenizer's rows (`model.unpad_vocabulary`).
    config: of them.
    layout: theirs.

  Returns:
    float32 arrays by their names. A tied decoder is not among them, as in what
    `save_pretrained` writes; where the decoder is not, its bias is there under
    both of its names.

  Raises:
    InputError: the family has no place for one of ours.
  """
  tensors = {}
  if layout.family == 'bert' and config.nsp_head and config.num_classes:
    raise InputError('a BERT of Hugging Face has one pooler: it has no place '
                     'for both model.nsp_head and model.num_classes.')
  for row, shape in _rows(config, layout):
    x = np.asarray(_get(params, row.ours), np.float32)
    parts = x if _layered(row) else [x]
    for name, part in zip(_names(row, shape, layout), parts):
      tensors[name] = np.ascontiguousarray(
          names.to_theirs(row.rule, part, layout.first))
  if not config.num_types and layout.family in NO_TYPES:
    tensors[types_name(layout)] = np.zeros(
        (NO_TYPES[layout.family], config.hidden_size), np.float32)
  for copy, original in names.COPIES[layout.family].items():
    # safetensors' readers take a file with one of two names as tied.
    if not config.tie_embeddings and copy not in tensors and (
        original in tensors):
      tensors[copy] = tensors[original]
  return tensors


def types_name(layout: Layout) -> str:
  """Their name of the type table."""
  return f'{layout.family}.embeddings.token_type_embeddings.weight'


def folded(found) -> str:
  """Names in one line, the layers of a name together.

  >>> folded(['layer.0.a', 'layer.1.a', 'b'])
  'b, layer.{0,1}.a'
  """
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


def _rows(config, layout):
  """(row of the table, our shape) of each parameter."""
  shapes = jax.eval_shape(lambda: model.create(config, jax.random.key(0)))
  table = {row.ours: row for row in names.ROWS}
  found = []
  for path, leaf in jax.tree_util.tree_leaves_with_path(shapes):
    row = table[jax.tree_util.keystr(path, simple=True, separator='/')]
    if getattr(row, layout.family) is None:
      raise InputError(f'{row.ours}: {layout.family} models have no place for '
                       'it.')
    found.append((row, leaf.shape))
  return found


def _layered(row):
  return row.ours.startswith('layers/')


def _names(row, shape, layout):
  name = getattr(row, layout.family)
  if layout.choice:
    name = names.CHOICE.get(name, name)
  if _layered(row):
    return [name.format(n=n) for n in range(shape[0])]
  return [name.format(head=layout.head)]


def _without_copies(tensors, config, layout, source):
  """(the tensors, none of them there twice; lines on what was left)."""
  tensors, lines = dict(tensors), []
  for copy, original in names.COPIES[layout.family].items():
    is_bias = original.endswith('bias')
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
      # transformers adds the decoder's; the other one is of no effect.
      tensors[original] = twin
      lines.append(f'{source}: not used: {original}, since the decoder, which '
                   f'is not tied, has {copy}')
  return tensors, lines


def _put(nested: dict, path: str, leaf: Any):
  *folders, last = path.split('/')
  for folder in folders:
    nested = nested.setdefault(folder, {})
  nested[last] = leaf


def _get(nested: Mapping, path: str) -> Any:
  for part in path.split('/'):
    nested = nested[part]
  return nested
