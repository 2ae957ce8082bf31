"""Config sections <-> frozen dataclasses: where a typo in a config is caught.

Floor 0, beside no room. A config is a `ml_collections.ConfigDict` (or a plain
nested dict) with one section per room; each room turns its section into a
frozen dataclass at its door by `section`.
"""

from collections.abc import Mapping
import dataclasses
import difflib
from typing import Any, TypeVar

from robertax.errors import InputError

T = TypeVar('T')
MANY = 30  # Names; a list of more hides the one that was meant.


def unknown(kind: str, name: str, known) -> InputError:
  """The error for a name that is not in a table: says what is, and is close."""
  known = sorted(known)
  close = difflib.get_close_matches(name, known, n=1)
  hint = f' Did you mean {close[0]!r}?' if close else ''
  if close and len(known) > MANY:
    return InputError(f'unknown {kind} {name!r}.{hint}')
  return InputError(
      f'unknown {kind} {name!r}.{hint} Known are: {", ".join(known)}.')


def typed(value: Any, like: Any, key: str) -> Any:
  """`value` as the type of `like`.

  >>> typed('3', 1, 'train.steps'), typed(1, 1.0, 'x'), typed('no', True, 'x')
  (3, 1.0, False)

  Raises:
    InputError: it cannot be read as that type.
  """
  kind = type(like)
  words = {'true': True, '1': True, 'yes': True,
           'false': False, '0': False, 'no': False}
  try:
    if kind is bool:
      if isinstance(value, bool):
        return value
      return words[str(value).lower()]
    if kind is int:
      if isinstance(value, bool):
        raise ValueError
      number = int(value)
      if not isinstance(value, str) and number != value:
        raise ValueError
      return number
    if kind is float:
      if isinstance(value, bool):
        raise ValueError
      return float(value)
    if kind is str and isinstance(value, str):
      return value
  except (KeyError, ValueError, TypeError, OverflowError):
    pass
  raise InputError(f'{key}={value!r}: expected {kind.__name__}, '
                   f'such as {like!r}.')


def section(cls: type[T], values: Mapping[str, Any], name: str) -> T:
  """Turns one config section into its frozen dataclass.

  Args:
    cls: a dataclass in which every field has a default of type bool, int,
      float or str.
    values: the section, any mapping.
    name: the section's name, for error messages.

  Raises:
    InputError: an unknown key, or a value of another type.
  """
  fields = {f.name: f.default for f in dataclasses.fields(cls)}
  for key in values:
    if key not in fields:
      raise unknown('config key', f'{name}.{key}',
                    [f'{name}.{k}' for k in fields])
  return cls(**{key: typed(value, fields[key], f'{name}.{key}')
                for key, value in values.items()})


def parse_arg(arg: str | None, **defaults: Any) -> dict[str, Any]:
  """Reads the text behind the colon of `--config=configs/x.py:a=1,b=text`.

  >>> parse_arg('batch_size=64,dry', batch_size=256, dry=False)
  {'batch_size': 64, 'dry': True}

  Args:
    arg: `key=value` pairs with commas between; a bare `key` means True.
    **defaults: every key that may be given; its default says its type.

  Raises:
    InputError: an unknown key, or a value of another type.
  """
  values = dict(defaults)
  for pair in filter(None, (arg or '').split(',')):
    key, equals, value = pair.partition('=')
    if key not in defaults:
      raise unknown('config argument', key, defaults)
    values[key] = typed(value if equals else True, defaults[key], key)
  return values


def take_arg(arg: str | None, key: str, default: str) -> tuple[str, str]:
  """One key out of the text behind the colon, and what is left of it.

  For a config file that must know one value, such as its task, before it can
  say what the others are.

  >>> take_arg('task=rte,seed=4', 'task', 'mnli')
  ('rte', 'seed=4')

  Args:
    arg: as for `parse_arg`.
    key: the last that is given counts.
    default: where none is.
  """
  value, rest = default, []
  for pair in filter(None, (arg or '').split(',')):
    if pair.startswith(f'{key}='):
      value = pair.partition('=')[2]
    else:
      rest.append(pair)
  return value, ','.join(rest)


def flatten(config: Mapping[str, Any], prefix: str = '') -> dict[str, Any]:
  """{'train': {'steps': 3}} -> {'train.steps': 3}."""
  flat = {}
  for key, value in config.items():
    if hasattr(value, 'items'):  # A ConfigDict is no Mapping.
      flat.update(flatten(value, f'{prefix}{key}.'))
    else:
      flat[prefix + key] = value
  return flat


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
  """Lines `key: old -> new` for each key whose value differs."""
  old, new = flatten(old), flatten(new)
  absent = '(absent)'
  return [f'{key}: {old.get(key, absent)!r} -> {new.get(key, absent)!r}'
          for key in sorted(old.keys() | new.keys())
          if old.get(key, absent) != new.get(key, absent)]
