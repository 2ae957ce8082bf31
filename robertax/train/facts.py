"""What a checkpoint says of itself: checksums of its arrays, what it is of.

`<step>/facts/metadata` is JSON, with a checksum of its own, and read by this
file, not by orbax.
"""

from collections.abc import Callable, Iterator
import contextlib
import hashlib
import json
from typing import Any, TypeVar

import jax

from robertax import files
from robertax.errors import InputError
from robertax.parallel import processes
from robertax.train.sums import flat, kind, tree_sums

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
def reading(where: str) -> Iterator[None]:
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


def sealed(values: dict[str, Any]) -> dict[str, Any]:
  """The values with a checksum of them all."""
  return values | {'sha256': _hash(values)}


def _hash(values: dict[str, Any]) -> str:
  return hashlib.sha256(
      json.dumps(values, sort_keys=True).encode()).hexdigest()


def read(folder: str, step: int) -> dict[str, Any] | None:
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
    if values.pop('sha256') != _hash(values):
      raise ValueError('its own checksum is not that of what it says')
    if values['step'] != step:
      raise ValueError(f'it is that of step {values["step"]}')
  except (OSError, ValueError, KeyError, TypeError) as e:
    raise Damaged(where, f'facts/metadata: {first_line(e)}') from e
  return values


def unlike(facts: dict[str, Any], restored: dict[str, Any]) -> str:
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
      raise agreed(raised)
  return result


def agreed(error: InputError) -> InputError:
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
  here = kinds(wanted)
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


def kinds(tree: Any) -> dict[str, str]:
  """path -> kind of each leaf of a nested dict."""
  return {path: kind(leaf) for path, leaf in flat(tree).items()}
