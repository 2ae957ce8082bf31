"""What a state belongs to: its data, its tokenizer, its code.

Step k of a run is a function of these besides its config. They are saved with
each checkpoint; a run does not go on from one that belongs to others, unless
`train.allow_changed` names what may differ.
"""

from collections.abc import Mapping
from importlib import metadata
import sys
from typing import Any

from robertax.errors import InputError

# Raised whenever the same config, data and step would give another state or
# another batch, by more than the last bits.
CODE_VERSION = 1
# What may be named in train.allow_changed.
GUARDED = ('data', 'tokenizer', 'code')
# Said, not refused: another version may change sums in their last bits.
NOTED = {'jax': 'jax', 'jaxlib': 'jaxlib', 'orbax': 'orbax-checkpoint'}


def identity(task: Any) -> dict[str, str]:
  """Key -> value; `data` has several keys, `data.*`.

  Args:
    task: with `identity()`, what it reads, and `tokenizer`.
  """
  return {f'data.{key}': value for key, value in task.identity().items()} | {
      'tokenizer': task.tokenizer.fingerprint, 'code': str(CODE_VERSION),
      **{name: metadata.version(package) for name, package in NOTED.items()}}


def check(where: str, saved: Mapping[str, str] | None, now: Mapping[str, str],
          allowed: str):
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
             if key not in NOTED and key.partition('.')[0] not in names}
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
