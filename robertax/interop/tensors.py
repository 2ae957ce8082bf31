"""Files of named tensors: safetensors, whole or sharded, and PyTorch's .bin.

Where the file format allows it, an array is read only when it is used. Code in
a file is never run.
"""

from collections.abc import Callable, Mapping
import functools
import os
import re
from typing import NamedTuple

import numpy as np

from robertax import files
from robertax.errors import InputError, raise_unless_damage, reading, writing

SAFETENSORS, SAFETENSORS_INDEX = (
    'model.safetensors', 'model.safetensors.index.json')
BIN, BIN_INDEX = 'pytorch_model.bin', 'pytorch_model.bin.index.json'


class Tensor(NamedTuple):
  """An array of a file; `read` returns floats of any type as float32."""
  shape: tuple[int, ...]
  read: Callable[[], np.ndarray]


Tensors = dict[str, Tensor]


def read_weights(folder: str) -> Tensors:
  """Finds a Hugging Face folder's tensors; InputError if missing or damaged."""
  for name, read in (
      (SAFETENSORS, read_safetensors), (SAFETENSORS_INDEX, _read_index),
      (BIN, read_torch), (BIN_INDEX, _read_index)):
    path = os.path.join(folder, name)
    if os.path.isfile(path):
      return read(path)
  raise InputError(f'{folder}: it has no weights: {SAFETENSORS} (or its parts '
                   f'with {SAFETENSORS_INDEX}), or {BIN}, would do.')


def read_safetensors(path: str) -> Tensors:
  """Finds a file's tensors; InputError if it is truncated or another kind."""
  import safetensors
  try:
    file = safetensors.safe_open(path, 'numpy')
    shapes = {name: tuple(file.get_slice(name).get_shape())
              for name in file.keys()}
  except (safetensors.SafetensorError, OSError) as e:
    raise_unless_damage(e, path)
    raise InputError(
        f'{path}: not a whole safetensors file ({" ".join(str(e).split())}; '
        f'{os.path.getsize(path):,} bytes): copy or download it again.') from e

  def read(name):
    x = file.get_tensor(name)
    return x if x.dtype.kind in 'iub' else np.asarray(x, np.float32)
  return {name: Tensor(shape, functools.partial(read, name))
          for name, shape in shapes.items()}


def _read_index(path: str) -> Tensors:
  """Finds the tensors of all files that an index names."""
  with reading(path, 'not an index of weights: it has no readable "weight_map" '
               'of names and files'):
    where = files.read_json(path)['weight_map']
    parts = sorted(set(where.values()))
  read = read_torch if path.endswith(BIN_INDEX) else read_safetensors
  found: Tensors = {}
  for part in parts:
    file = os.path.join(os.path.dirname(path), part)
    if os.path.basename(part) != part:
      raise InputError(f'{path}: names {part!r}, which is not a file of that '
                       'folder.')
    if not os.path.isfile(file):
      raise InputError(f'{path}: names {part}, which does not exist: the '
                       'folder is incomplete.')
    found |= {name: tensor for name, tensor in read(file).items()
              if where.get(name) == part}
  absent = sorted(set(where) - set(found))
  if absent:
    raise InputError(f'{path}: its files lack {", ".join(absent[:5])}'
                     f'{" and more" if absent[5:] else ""}.')
  return found


def read_torch(path: str) -> Tensors:
  """Reads a dict of tensors that torch has saved."""
  state = load_torch(path)
  if not isinstance(state, Mapping) or not all(
      hasattr(x, 'numpy') for x in state.values()):
    raise InputError(f'{path}: not a dict of tensors.')
  return from_torch(state)


def load_torch(path: str, allowed: tuple[type, ...] = ()):
  """Loads what torch has saved, if it consists of tensors and plain values.

  Args:
    path: a file of `torch.save`, a zip or an older pickle.
    allowed: harmless classes that may be in it as well.

  Raises:
    InputError: torch is not installed, or the file is damaged or would run
      code, which torch's `weights_only` refuses.
  """
  try:
    import torch
  except ImportError as e:
    raise InputError(f'{path}: to read it, install torch (requirements-oracle'
                     '.txt has the version); only safetensors files need none.'
                     ) from e
  try:
    with torch.serialization.safe_globals(list(allowed)):
      return torch.load(path, map_location='cpu', weights_only=True)
  except OSError as e:
    raise InputError(f'cannot read {path}: {e.strerror or e}') from e
  except Exception as e:  # Unpickling may raise anything.
    words = ' '.join(str(e).split())
    _, found, name = words.partition('GLOBAL ')
    if found or 'Unsupported' in words or 'weights_only' in words.lower():
      name = name.split(' ')[0] if found else 'something'
      raise InputError(
          f'{path}: it holds {name} beside its weights, and would run code '
          'when read: refused. Save its tensors by themselves: torch.save('
          "{'model': state_dict, 'args': args}, file).") from e
    raise InputError(
        f'{path}: damaged, or not a file of torch ({words[:120]}).') from e


def from_torch(state: Mapping) -> Tensors:
  """Wraps a dict of torch's tensors."""
  def read(x):
    x = x.detach()
    return (x.float() if x.is_floating_point() else x).numpy()
  return {name: Tensor(tuple(x.shape), functools.partial(read, x))
          for name, x in state.items()}


# What wrappers of torch put into names: DataParallel, torch.compile, FSDP and
# its checkpoints of activations.
_WRAPPERS = re.compile(r'(?:(?<=\.)|^)(?:module|_orig_mod|_fsdp_wrapped_module|'
                       r'_checkpoint_wrapped_module)\.')
# What a class around a model puts in front of all of them (Lightning, PEFT).
_OUTER = ('base_model.', 'model.')


def unwrapped(found: Tensors, source: str) -> tuple[Tensors, list[str]]:
  """Takes the names of wrappers off those of tensors; a line names them."""
  removed, renamed = dict[str, None](), {}
  names = dict(zip(found, found))
  for name in names:
    removed |= dict.fromkeys(_WRAPPERS.findall(name))
    names[name] = _WRAPPERS.sub('', name)
  for _ in range(4):
    for outer in _OUTER:
      if names and all(name.startswith(outer) for name in names.values()):
        removed[outer] = None
        names = {old: name.removeprefix(outer) for old, name in names.items()}
  for old, name in names.items():
    if name in renamed:
      raise InputError(f'{source}: {name} is in it twice, once as {old}: keep '
                       'one.')
    renamed[name] = found[old]
  return renamed, [f'{source}: taken off the names of its tensors: '
                   f'{", ".join(removed)}'] if removed else []


def first_rows(tensor: Tensor, count: int) -> Tensor:
  """The first rows of a tensor, which is read when they are."""
  return Tensor((count, *tensor.shape[1:]), lambda: tensor.read()[:count])


def write_safetensors(path: str, arrays: Mapping[str, np.ndarray]):
  """Writes one file for `transformers`; InputError if it cannot be written."""
  from safetensors.numpy import save_file
  partial = files.staging(path)
  try:
    with writing(path):
      with open(partial, 'wb'):  # The library's errors name no file.
        mode = os.stat(partial).st_mode
      # The library silently misorders arrays that are not contiguous.
      save_file({name: np.ascontiguousarray(x) for name, x in arrays.items()},
                partial, metadata={'format': 'pt'})
      os.chmod(partial, mode)  # The library lets nobody else read it.
      files.publish(partial, path)
  finally:
    files.discard(partial)
