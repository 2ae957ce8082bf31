"""Folders of checkpoints: which steps are there, and what was set aside."""

from collections.abc import Collection
import contextlib
import os

from robertax import files
from robertax.errors import InputError
from robertax.parallel import processes

_LAST = 'commit_success.txt'  # What orbax writes last, in a bucket.
# Steps of a future that was given up, and such as are being removed.
ABANDONED, REMOVED = 'abandoned-', 'removed-'
# What orbax writes arrays to, beside folders of this machine.
SCHEMES = ('gs',)


def check_place(workdir: str):
  """Refuses a storage that no checkpoint can be written to, before any work.

  Args:
    workdir: W, local or remote.

  Raises:
    InputError: orbax does not write there, or lacks what it asks of a bucket.
  """
  scheme, _, rest = workdir.partition('://')
  if not files.is_remote(workdir):
    return
  if scheme not in SCHEMES:
    known = ' and '.join(f'{name}://' for name in SCHEMES)
    raise InputError(
        f'{workdir}: checkpoints can be written to local folders and {known}, '
        f'not to {scheme}://: choose another --workdir. Text and records may '
        'lie there all the same.')
  if scheme == 'gs':
    _check_bucket(workdir, rest.partition('/')[0])


def _check_bucket(workdir: str, bucket: str):
  """Asks for the bucket, as orbax does before it lists or removes a step."""
  try:
    from google.api_core import exceptions
    from google.auth.exceptions import DefaultCredentialsError
    from google.cloud import storage
  except ImportError as e:
    raise InputError(
        f'{workdir}: checkpoints in gs:// need the package '
        f'google-cloud-storage: pip install google-cloud-storage. ({e})'
        ) from e
  try:
    storage.Client().get_bucket(bucket)
  except (exceptions.Unauthorized, exceptions.Forbidden, exceptions.NotFound,
          DefaultCredentialsError) as e:
    raise InputError(
        f'{workdir}: checkpoints cannot be written there, for gs://{bucket} '
        'itself cannot be looked at, which takes the permission '
        f'storage.buckets.get ({str(e).strip().splitlines()[0]}).') from e


def saved_steps(folder: str) -> list[int]:
  """Steps of a folder that look finished, oldest first.

  An empty folder does not, nor, in a bucket, one without orbax's last file.
  """
  if not files.isdir(folder):
    return []
  steps = sorted(int(name) for name in files.listdir(folder) if name.isdigit())
  if files.is_remote(folder):
    return [step for step in steps
            if files.exists(f'{folder}/{step}/{_LAST}')]
  return [step for step in steps if files.isdir(f'{folder}/{step}')
          and files.listdir(f'{folder}/{step}')]


def make(folder: str):
  """Makes the folder; step folders in it that are empty are removed.

  All processes call it. Orbax takes an empty folder for the newest step, and
  saves nothing up to it, in silence.
  """
  files.makedirs(folder)
  if processes.first() and not files.is_remote(folder):
    for name in files.listdir(folder):
      if name.isdigit():
        with contextlib.suppress(OSError):  # It is not empty.
          os.rmdir(f'{folder}/{name}')
  processes.gather(None)  # None looks before they are gone.


def nothing_left(folder: str, aside: list[str]) -> str:
  """What is said where damaged checkpoints are all that there is."""
  return (f'{folder}: no checkpoint is left to go on from; damaged ones were '
          f'set aside as {", ".join(aside)}. Put back a copy of one as '
          f'{folder}/<step>, begin anew with another --workdir, or, to begin '
          'anew here, move those folders away.')


def free_name(folder: str, step: int) -> str:
  """A name for what is set aside: damaged-<step>-<n>, not there yet."""
  number = 1
  while files.exists(f'{folder}/damaged-{step}-{number}'):
    number += 1
  return f'damaged-{step}-{number}'


def set_aside_names(folder: str) -> list[str]:
  """What was set aside there."""
  if not files.isdir(folder):
    return []
  return [name for name in files.listdir(folder) if name.startswith('damaged-')]


def abandon(folder: str, step: int):
  """Takes a step out of sight, until `keep` finds that another is there."""
  aside = f'{folder}/{ABANDONED}{step}'
  if files.exists(aside):  # Of a start before: the newer one is as good.
    files.rmtree(aside)
  rename(f'{folder}/{step}', aside)


def keep(folder: str, steps: Collection[int]):
  """Removes all other steps, and those abandoned. One process calls it.

  A kill meanwhile leaves no half of a step that looks finished.
  """
  _clear(folder)  # What a kill has left.
  for step in saved_steps(folder):
    if step in steps:
      continue
    if files.is_remote(folder):
      files.remove(f'{folder}/{step}/{_LAST}')
      files.rmtree(f'{folder}/{step}')
    else:
      files.replace(f'{folder}/{step}', f'{folder}/{REMOVED}{step}')
  _clear(folder)


def _clear(folder):
  for name in files.listdir(folder) if files.isdir(folder) else ():
    if name.startswith((ABANDONED, REMOVED)):
      files.rmtree(f'{folder}/{name}')


def rename(path: str, target: str):
  """Renames a folder, in a bucket too."""
  if files.is_remote(path):
    files.to_epath(path).rename(target)  # paths.replace is of files.
  else:
    files.replace(path, target)
