"""What a checkpoint says of itself: checksums of its arrays, what it is of.

`<step>/facts/metadata` is JSON, with a checksum of its own, and read by this
file, not by orbax.
"""

from collections.abc import Callable, Iterator, Mapping
import contextlib
import hashlib
from importlib import metadata
import json
import sys
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from robertax import files
from robertax.errors import InputError
from robertax.parallel import processes

# Checksums of arrays: two numbers for each, the same on any mesh.
#
# A storage that flips a byte of an array gives it back without a word, orbax
# too. So a checkpoint has, for each array, two sums over its elements of a hash
# of (place, bits), modulo 2^32: exact integers, hence in any order, on any
# devices and from any number of processes. Each hash is a bijection of the bits
# at its place: one changed element always changes both sums; more of them leave
# both as they were in one case of 2^64.


MOST_ON_HOST = 1 << 20  # Elements of an array in this machine's memory.
_PART = 1 << 16  # Elements that NumPy takes at once: they stay in its cache.
_BITS = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32}


def _mix_bits(x: Any, a: int, b: int) -> Any:
  """A bijection of uint32 in which each bit of x moves about half of all.

  The multipliers are from https://github.com/skeeto/hash-prospector.
  """
  x = (x ^ (x >> 16)) * np.uint32(a)
  x = (x ^ (x >> 15)) * np.uint32(b)
  return x ^ (x >> 16)


@jax.jit
def array_sums(x: jax.Array) -> jax.Array:
  """uint32[2] of an array whose elements have at most 32 bits."""
  if x.dtype == jnp.bool_:
    x = x.astype(jnp.uint8)
  bits = jax.lax.bitcast_convert_type(
      x, _BITS[x.dtype.itemsize]).astype(jnp.uint32)
  place, stride = jnp.zeros(x.shape, jnp.uint32), 1
  for dim in reversed(range(x.ndim)):
    place += (jax.lax.broadcasted_iota(jnp.uint32, x.shape, dim)
              * np.uint32(stride % (1 << 32)))
    stride *= x.shape[dim]
  first = _mix_bits(place, 0x7feb352d, 0x846ca68b)
  second = _mix_bits(place ^ np.uint32(0x9e3779b9), 0x21f0aaad, 0xd35a2d97)
  return jnp.stack([
      _mix_bits(bits ^ first, 0x21f0aaad, 0xd35a2d97).sum(dtype=jnp.uint32),
      _mix_bits(bits + second, 0x7feb352d, 0x846ca68b).sum(dtype=jnp.uint32)])


def host_sums(x: np.ndarray) -> tuple[int, int]:
  """The same two numbers as `array_sums`, by NumPy."""
  bits = np.ascontiguousarray(x).reshape(-1)
  bits = bits.view(f'uint{8 * bits.itemsize}')
  first, second = 0, 0
  with np.errstate(over='ignore'):  # uint32 wraps, as in XLA.
    for start in range(0, len(bits), _PART):
      part = bits[start:start + _PART].astype(np.uint32)
      place = np.arange(start, start + len(part)).astype(np.uint32)
      a = _mix_bits(place, 0x7feb352d, 0x846ca68b)
      b = _mix_bits(place ^ np.uint32(0x9e3779b9), 0x21f0aaad, 0xd35a2d97)
      first += int(_mix_bits(part ^ a, 0x21f0aaad, 0xd35a2d97).sum(
          dtype=np.uint64))
      second += int(_mix_bits(part + b, 0x7feb352d, 0x846ca68b).sum(
          dtype=np.uint64))
  return first % (1 << 32), second % (1 << 32)


def flat_leaves(tree: Any) -> dict[str, Any]:
  """path -> leaf of a nested dict.

  >>> flat_leaves({'a': {'b': 1}})
  {'a/b': 1}
  """
  return {'/'.join(str(key.key) for key in path): leaf for path, leaf
          in jax.tree_util.tree_leaves_with_path(tree)}


def array_kind(x: Any) -> str:
  """What an array is.

  >>> array_kind(np.zeros((3, 4), np.float32))
  'float32[3,4]'
  """
  return f'{x.dtype}[{",".join(map(str, x.shape))}]'


def tree_sums(tree: dict[str, Any]) -> dict[str, list[Any]]:
  """{path: [kind, sum, sum]} of a nested dict of arrays.

  Over several processes each calls it, and each has all of it.
  """
  # One program a shape, not one a tree: less to compile, and most shapes of a
  # model come three times, with the optimizer's two moments.
  # And one after another: several collective programs under way at once can
  # starve each other of a CPU's threads, and XLA then ends the process.
  return {path: [array_kind(x), *map(int, host_sums(np.asarray(x))
                                     if _is_small_here(x) else
                                     jax.device_get(array_sums(x)))]
          for path, x in flat_leaves(tree).items()}


def _is_small_here(x: Any) -> bool:
  """Whether NumPy is done before XLA has compiled a program for the shape."""
  return x.size <= MOST_ON_HOST and (
      not isinstance(x, jax.Array) or x.is_fully_addressable and all(
          device.platform == 'cpu' for device in x.devices()))


T = TypeVar('T')


class Damaged(InputError):
  """A checkpoint that is not what was saved."""

  def __init__(self, where: str, why: str):
    """Args:
      where: the folder of the step.
      why: a few words.
    """
    super().__init__(f'{where}: this checkpoint is damaged ({why}).')


@contextlib.contextmanager
def reading_checkpoint(where: str) -> Iterator[None]:
  """Around what reads a step: what cannot be read is damaged.

  But for what a device or the machine's memory says: the step may be whole,
  and all that are older would be set aside for the same reason.

  Args:
    where: the folder of the step.

  Raises:
    Damaged: it cannot be read.
  """
  try:
    yield
  except (jax.errors.JaxRuntimeError, MemoryError):
    raise
  except Exception as e:  # That bare class is among those orbax raises.
    raise Damaged(where, first_line(e)) from e


def sealed_facts(values: dict[str, Any]) -> dict[str, Any]:
  """The values with a checksum of them all."""
  return values | {'sha256': _facts_hash(values)}


def _facts_hash(values: dict[str, Any]) -> str:
  return hashlib.sha256(
      json.dumps(values, sort_keys=True).encode()).hexdigest()


def read_facts(folder: str, step: int) -> dict[str, Any] | None:
  """What a step says of itself; None: it was written before any did.

  Returns:
    {'step': int, 'belongs': of train.identity, 'sums': {item: of train.sums}}.

  Raises:
    Damaged: it is not what was written, or of another step.
  """
  where = f'{folder}/{step}'
  if not files.isdir(f'{where}/facts'):
    return None
  try:
    with files.open(f'{where}/facts/metadata') as f:
      values = dict(json.load(f))
    if values.pop('sha256') != _facts_hash(values):
      raise ValueError('its own checksum is not that of what it says')
    if values['step'] != step:
      raise ValueError(f'it is that of step {values["step"]}')
  except (OSError, ValueError, KeyError, TypeError) as e:
    raise Damaged(where, f'facts/metadata: {first_line(e)}') from e
  return values


def unlike_arrays(facts: dict[str, Any], restored: dict[str, Any]) -> str:
  """Names of the arrays whose checksum is another; '': none.

  Args:
    facts: of `read`.
    restored: {item: nested dict of arrays}; all processes call this.
  """
  wrong = []
  for item, tree in restored.items():
    saved = facts['sums'].get(item, {})
    wrong += [f'{item}/{path}' for path, value in tree_sums(tree).items()
              if saved.get(path) != value]
  more = f' and {len(wrong) - 3} more' if len(wrong) > 3 else ''
  return ', '.join(wrong[:3]) + more


def together(function: Callable[[], T]) -> T:
  """As processes.together, and damage stays damage.

  Raises:
    Damaged, InputError: of the first process in which it was.
  """
  try:
    result, error = function(), ['', '']
  except InputError as e:
    if jax.process_count() == 1:
      raise
    result, error = None, [str(e), 'damaged' if isinstance(e, Damaged) else '']
  for number, (text, damaged) in enumerate(processes.gather(error)):
    if text:
      raised = Damaged('', '') if damaged else InputError('')
      raised.args = (f'process {number}: {text}' if number else text,)
      raise agreed_error(raised)
  return result


def agreed_error(error: InputError) -> InputError:
  """The error as one that all processes raise (processes.as_one)."""
  error.agreed = True
  return error


def first_line(error: BaseException) -> str:
  """The first words of an error, or of what it was raised from."""
  why = error.__cause__ or error
  text = str(why).strip()
  return text.splitlines()[0] if text else repr(error)


def check_shapes(where: str, item: str, saved: dict[str, str], wanted: Any):
  """Refuses what is of another shape: that is not damage.

  Args:
    where: the folder of the step.
    item: params or opt_state.
    saved: path -> kind (train.sums), of what is there.
    wanted: nested dict, leaves with shape and dtype.

  Raises:
    InputError: names what differs.
  """
  here = array_kinds(wanted)
  wrong = [f'{item}/{path} is {saved.get(path, "missing")} there and '
           f'{here.get(path, "unknown")} here'
           for path in sorted(here.keys() | saved.keys())
           if here.get(path) != saved.get(path)]
  if wrong:
    more = f', and {len(wrong) - 3} more' if len(wrong) > 3 else ''
    raise InputError(f'{where}: this checkpoint is of another model or '
                     f'optimizer: {"; ".join(wrong[:3])}{more}.')


def saved_kinds(facts: dict[str, Any], item: str) -> dict[str, str]:
  """path -> kind, of what a checkpoint says that an item holds."""
  return {path: value[0] for path, value in facts['sums'].get(item, {}).items()}


def array_kinds(tree: Any) -> dict[str, str]:
  """path -> kind of each leaf of a nested dict."""
  return {path: array_kind(leaf) for path, leaf in flat_leaves(tree).items()}


# What a state belongs to: its data, its tokenizer, its code.
#
# Step k of a run is a function of these besides its config. They are saved with
# each checkpoint; a run does not go on from one that belongs to others, unless
# `train.allow_changed` names what may differ.


# Raised whenever the same config, data and step would give another state or
# another batch, by more than the last bits.
CODE_VERSION = 1
# What may be named in train.allow_changed.
GUARDED = ('data', 'tokenizer', 'code')
# Said, not refused: another version may change sums in their last bits.
NOTED_ONLY = {'jax': 'jax', 'jaxlib': 'jaxlib', 'orbax': 'orbax-checkpoint'}


def identity(task: Any) -> dict[str, str]:
  """Key -> value; `data` has several keys, `data.*`.

  Args:
    task: with `identity()`, what it reads, and `tokenizer`.
  """
  return {
      f'data.{key}': value for key, value in task.identity().items()
  } | {
      'tokenizer': task.tokenizer.fingerprint,
      'code': str(CODE_VERSION),
      **{
          name: metadata.version(package) for name, package in NOTED_ONLY.items(
          )
      }
  }


def check_identity(where: str, saved: Mapping[str, str] | None,
                   now: Mapping[str, str], allowed: str):
  """Refuses a state that belongs to something else.

  A key that only one of the two has says nothing: records of other forms have
  other checksums.

  Args:
    where: the checkpoint, for the message.
    saved, now: of `identity`; None: it is older than these.
    allowed: train.allow_changed.

  Raises:
    InputError: names the keys that differ, and their values.
  """
  names = allowed_names(allowed)
  if saved is None:
    print(f'{where} was written before checkpoints had checksums: what it '
          'holds, and for which data, cannot be verified.', file=sys.stderr)
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
    print(f'{where}: changed since: {"; ".join(changed.values())}',
          file=sys.stderr)


def allowed_names(text: str) -> tuple[str, ...]:
  """The names in train.allow_changed.

  Raises:
    InputError: one is not in GUARDED.
  """
  names = tuple(name.strip() for name in text.split(',') if name.strip())
  for name in names:
    if name not in GUARDED:
      raise InputError(f'train.allow_changed={text!r}: unknown {name!r}; known '
                       f'are {", ".join(GUARDED)}.')
  return names
