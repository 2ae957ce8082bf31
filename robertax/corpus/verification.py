"""Verification: whether prepared files are still what was written."""

from collections.abc import Iterator, Mapping
import os

from robertax import paths
from robertax.corpus.checksums import Checksum, Damage, damage
from robertax.corpus.manifest import MANIFEST
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
    if name not in expected and name not in OURS:
      yield Damage(os.path.join(folder, name), None,
                   'not one of the files that were written')
