"""Verification: whether prepared files are still what was written."""

from collections.abc import Iterator, Mapping
import os

from robertax import paths
from robertax.corpus import token_store
from robertax.corpus.checksums import ADVICE, Checksum, Damage, damage
from robertax.corpus.manifest import MANIFEST, Manifest
from robertax.corpus.preparation import plan
from robertax.corpus.progress import bar

OURS = (MANIFEST, '.lock')


def verify(folder: str, expected: Mapping[str, Checksum],
           progress: bool = False) -> Iterator[Damage]:
  """Reads every file of a folder and yields what is wrong, file by file.

  Args:
    folder: of a manifest (records) or of a store of tokens.
    expected: its checksums; not empty.
    progress: show a bar on stderr.
  """
  with bar(sum(file.size for file in expected.values()), 'B',
           f'{folder}: reading', progress) as shown:
    for name, file in sorted(expected.items()):
      found = damage(os.path.join(folder, name), file)
      if found:
        yield found
      shown.update(file.size)
  for name in paths.listdir(folder):
    known = name in expected or name in OURS
    # A store's: they say where in its files the blocks are.
    index = name.removesuffix('.json') + '.tokens' in expected
    if not known and not index:
      yield Damage(os.path.join(folder, name), None,
                   'not one of the files that were written')


def verify_prepared(folders, progress: bool = True) -> bool:
  """Checks folders of records and stores of tokens, and prints what it finds.

  Args:
    folders: of either kind; one that `prepare` never made is an error.
    progress: show bars on stderr.

  Returns:
    Whether all are what was written. What has no checksums is not.

  Raises:
    InputError: a folder is not of either kind, or its manifest is damaged.
  """
  whole = True
  for folder in folders:
    expected = _expected(folder)
    if not expected:
      whole = False
      print(f'{folder}: prepared before there were checksums, so nothing can '
            f'be said: {ADVICE} if in doubt.')
      continue
    found = list(verify(folder, expected, progress))
    for damaged in found:
      print(f'{damaged}: {ADVICE}.')
    size = sum(file.size for file in expected.values())
    if not found:
      print(f'OK {folder}: {len(expected)} files, {size:,} bytes')
    whole = whole and not found
  return whole


def verify_config(data, tokenizer_config, **options) -> bool:
  """The same for all that a config names: records, and tokens where kept.

  Args:
    data, tokenizer_config, **options: as `preparation.prepare` takes them.

  Raises:
    InputError: not prepared, or not to the end.
  """
  jobs = plan(data, tokenizer_config, progress=False, only_kept=True,
              **options).jobs
  folders = [job.folder for job in jobs]
  folders += [job.store_folder for job in jobs
              if paths.isdir(job.store_folder)
              and token_store.stored(job.store_folder)]
  return verify_prepared(folders)


def _expected(folder: str) -> Mapping[str, Checksum]:
  """Checksums of what a folder should hold."""
  if paths.exists(os.path.join(folder, MANIFEST)):
    return Manifest.read(folder).checksums
  if paths.isdir(folder):
    found = token_store.stored(folder)
    if found:
      return found
  return Manifest.read(folder).checksums  # It says what is wrong.
