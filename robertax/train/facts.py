"""What a checkpoint says about itself: checksums, and the data it belongs to.

`<step>/facts/metadata` is JSON with a checksum of its own, which is read here
and not by orbax. It holds the checksums of arrays and the identity of data,
tokenizer and code.
"""

from collections.abc import Iterator, Mapping
import contextlib
from importlib import metadata
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from robertax import files
from robertax.errors import InputError, first_line
from robertax.parallel import chips, processes
from robertax.progress import advance, say
from robertax.tasks import Task

# The checksum of an array is two numbers, the same on any mesh.
#
# Neither storage nor orbax notices a flipped byte. So a checkpoint has, for
# each array, two sums over its elements of a hash of (index, bits), modulo
# 2^32: exact integers, so the order, the devices and the number of processes do
# not matter. Each hash is a bijection of the bits at its index: one changed
# element always changes both sums; several keep both in one case of 2^64.

MOST_ON_HOST = 1 << 20  # Elements of a local array that NumPy takes.
_PART = 1 << 16  # Elements that NumPy takes at once; they fit into the cache.
_BITS = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32}


def _mix_bits(x: Any, a: int, b: int) -> Any:
  """Mixes bits, a bijection of uint32 (github.com/skeeto/hash-prospector)."""
  x = (x ^ (x >> 16)) * np.uint32(a)
  x = (x ^ (x >> 15)) * np.uint32(b)
  return x ^ (x >> 16)


def _hash_elements(bits: Any, index: Any) -> tuple[Any, Any]:
  """Returns the two uint32 hashes of each element, by NumPy or JAX."""
  first = _mix_bits(index, 0x7feb352d, 0x846ca68b)
  second = _mix_bits(index ^ np.uint32(0x9e3779b9), 0x21f0aaad, 0xd35a2d97)
  return (_mix_bits(bits ^ first, 0x21f0aaad, 0xd35a2d97),
          _mix_bits(bits + second, 0x7feb352d, 0x846ca68b))


@jax.jit
def array_sums(x: jax.Array) -> jax.Array:
  """Returns uint32[2] for an array of elements of at most 32 bits."""
  if x.dtype == jnp.bool_:
    x = x.astype(jnp.uint8)
  bits = jax.lax.bitcast_convert_type(
      x, _BITS[x.dtype.itemsize]).astype(jnp.uint32)
  index, stride = jnp.zeros(x.shape, jnp.uint32), 1
  for dim in reversed(range(x.ndim)):
    index += (jax.lax.broadcasted_iota(jnp.uint32, x.shape, dim)
              * np.uint32(stride % (1 << 32)))
    stride *= x.shape[dim]
  return jnp.stack([hashes.sum(dtype=jnp.uint32)
                    for hashes in _hash_elements(bits, index)])


def host_sums(x: np.ndarray) -> tuple[int, int]:
  """Computes `array_sums` by NumPy."""
  bits = np.ascontiguousarray(x).reshape(-1)
  bits = bits.view(f'uint{8 * bits.itemsize}')
  sums = [0, 0]
  with np.errstate(over='ignore'):  # uint32 wraps, as in XLA.
    for start in range(0, len(bits), _PART):
      part = bits[start:start + _PART].astype(np.uint32)
      index = np.arange(start, start + len(part)).astype(np.uint32)
      for i, hashes in enumerate(_hash_elements(part, index)):
        sums[i] += int(hashes.sum(dtype=np.uint64))
  return sums[0] % (1 << 32), sums[1] % (1 << 32)


def flat_leaves(tree: Any) -> dict[str, Any]:
  """Returns path -> leaf of a nested dict: {'a': {'b': 1}} gives {'a/b': 1}."""
  return {jax.tree_util.keystr(path, simple=True, separator='/'): leaf
          for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def array_kind(x: Any) -> str:
  """Returns type and shape, such as 'float32[3,4]'."""
  return f'{x.dtype}[{",".join(map(str, x.shape))}]'


def tree_sums(tree: dict[str, Any]) -> dict[str, list[Any]]:
  """Returns {path: [kind, sum, sum]} of a tree; all processes call it."""
  # One program per shape, because most come three times, with the optimizer's
  # two moments; and one after another: several collective programs at once can
  # starve each other of a CPU's threads, and XLA then ends the process.
  found = {}
  for path, x in flat_leaves(tree).items():
    sums = (host_sums(np.asarray(x)) if _is_small_here(x) else
            jax.device_get(array_sums(x)))
    found[path] = [array_kind(x), *map(int, sums)]
    advance()
  return found


def _is_small_here(x: Any) -> bool:
  """Tells whether NumPy is faster than compiling a program for the shape."""
  return x.size <= MOST_ON_HOST and (
      not isinstance(x, jax.Array) or x.is_fully_addressable and all(
          device.platform == 'cpu' for device in x.devices()))


# The errors for a file that is not there, which is damage; all other errors of
# the operating system are about its own state (no permission, a failing disk).
ABSENT = (FileNotFoundError, NotADirectoryError, IsADirectoryError)


class Damaged(InputError):
  """The checkpoint `where` is not what was saved, because of `why`."""

  def __init__(self, where: str, why: str):
    super().__init__(f'{where}: this checkpoint is damaged ({why}).')


@contextlib.contextmanager
def reading_checkpoint(where: str) -> Iterator[None]:
  """Wraps reading the folder of a step: what cannot be read is damaged.

  Errors of a device, of the system or for lack of memory pass: the step may be
  whole, and all older ones would be set aside for the same reason.
  """
  try:
    yield
  except Exception as e:  # Orbax raises bare Exceptions too.
    if isinstance(e, (jax.errors.JaxRuntimeError, MemoryError, OSError)) and (
        not isinstance(e, ABSENT)):
      raise
    raise Damaged(where, first_line(e.__cause__ or e)) from e


def sealed_facts(values: dict[str, Any]) -> dict[str, Any]:
  """Adds a checksum of all values."""
  return values | {'sha256': files.json_hash(values, sort_keys=True)}


def read_facts(folder: str, step: int) -> dict[str, Any] | None:
  """Reads {'step', 'belongs': identity, 'sums': {item: tree_sums}} of a step.

  Returns None for a step older than facts are; raises Damaged.
  """
  where = f'{folder}/{step}'
  if not files.isdir(f'{where}/facts'):
    return None
  try:
    values = dict(files.read_json(f'{where}/facts/metadata'))
    if values.pop('sha256') != files.json_hash(values, sort_keys=True):
      raise ValueError('its own checksum does not match its content')
    if values['step'] != step:
      raise ValueError(f'it is that of step {values["step"]}')
  except (*ABSENT, ValueError, KeyError, TypeError) as e:
    raise Damaged(
        where, f'facts/metadata: {first_line(e.__cause__ or e)}') from e
  return values


def unlike_arrays(facts: dict[str, Any], restored: dict[str, Any]) -> str:
  """Names the arrays of {item: tree} whose checksum differs; all call it."""
  wrong = [f'{item}/{path}' for item, tree in restored.items()
           for path, value in tree_sums(tree).items()
           if facts['sums'].get(item, {}).get(path) != value]
  more = f' and {len(wrong) - 3} more' if len(wrong) > 3 else ''
  return ', '.join(wrong[:3]) + more


def check_shapes(where: str, item: str, saved: dict[str, str], wanted: Any):
  """Refuses an item (path -> kind) of other shapes, which is no damage."""
  here = array_kinds(wanted)
  wrong = [f'{item}/{path} is {saved.get(path, "missing")} there and '
           f'{here.get(path, "unknown")} here'
           for path in sorted(here.keys() | saved.keys())
           if here.get(path) != saved.get(path)]
  if wrong:
    more = f', and {len(wrong) - 3} more' if len(wrong) > 3 else ''
    raise InputError(f'{where}: this checkpoint is of another model or '
                     f'optimizer: {"; ".join(wrong[:3])}{more}.')


def array_kinds(tree: Any) -> dict[str, str]:
  """Returns path -> kind of each leaf of a nested dict."""
  return {path: array_kind(leaf) for path, leaf in flat_leaves(tree).items()}


# Identity: step k of a run is a function of its data, its tokenizer, the code
# and its config. The first three are saved with each checkpoint, and a run goes
# on from a checkpoint with others only if `train.allow_changed` names them.

# Raised whenever the same config, data and step would give another state or
# another batch, by more than the last bits.
CODE_VERSION = 1
GUARDED = ('data', 'tokenizer', 'code')  # What train.allow_changed may name.
# These may change sums in their last bits, which is reported and not refused.
VERSIONS = {'jax': 'jax', 'jaxlib': 'jaxlib', 'orbax': 'orbax-checkpoint'}
NOTED_ONLY = (*VERSIONS, 'cpu_threads')


def identity(task: Task) -> dict[str, str]:
  """Returns the identity of data (`data.*`), tokenizer and code for a task.

  All processes call it; `cpu_threads` has those of each where they differ.
  """
  found = {f'data.{key}': value for key, value in task.identity().items()}
  found |= {'tokenizer': task.tokenizer.fingerprint, 'code': str(CODE_VERSION)}
  found |= {name: metadata.version(package)
            for name, package in VERSIONS.items()}
  if jax.default_backend() == 'cpu':
    threads = processes.gather(chips.cpu_threads())
    found['cpu_threads'] = ','.join(map(str, threads if len(
        set(threads)) > 1 else threads[:1]))
  return found


def check_identity(where: str, saved: Mapping[str, str] | None,
                   now: Mapping[str, str], allowed: str):
  """Refuses a state that belongs to something else.

  A key that only one of the two has is ignored: formats have other checksums.
  """
  names = allowed_names(allowed)
  if saved is None:
    say(f'{where} was written before checkpoints had checksums: what it '
        'holds, and for which data, cannot be verified.')
    return
  changed = {key: f'{key}: {saved[key]} -> {now[key]}' for key in now
             if key in saved and saved[key] != now[key]}
  refused = {key: text for key, text in changed.items()
             if key not in NOTED_ONLY and key.partition('.')[0] not in names}
  if refused:
    words = sorted({key.partition('.')[0] for key in refused})
    raise InputError(
        f'{where} belongs to other values of {"; ".join(refused.values())}. '
        'Put back what it was, choose another --workdir, or go on all the same '
        f'with --config.train.allow_changed={",".join([*names, *words])}.')
  if changed:
    say(f'{where}: changed since: {"; ".join(changed.values())}'
        + (' (sums may differ in their last bits)'
           if changed.keys() & set(NOTED_ONLY) else ''))


def allowed_names(text: str) -> tuple[str, ...]:
  """Returns the names in train.allow_changed, which must be GUARDED."""
  names = tuple(name.strip() for name in text.split(',') if name.strip())
  for name in names:
    if name not in GUARDED:
      raise InputError(f'train.allow_changed={text!r}: unknown {name!r}; known '
                       f'are {", ".join(GUARDED)}.')
  return names
