"""Reading: what a reader of one file is given, and what all readers share.

A reader is a function from a `Reading` to the file's documents, in the file's
order; it holds one document in memory, or a bounded batch. `documents.READERS`
is the table of them.
"""

from collections import Counter
from collections.abc import Callable, Iterator
import dataclasses
import importlib.metadata
import re
from typing import NamedTuple

from robertax.errors import InputError

_SURROGATE = re.compile('[\ud800-\udfff]')


@dataclasses.dataclass(frozen=True)
class Reading:
  """One file, being read.

  Attributes:
    path: of the file.
    field: the field, or column, that holds the text.
    replace: whether what is not UTF-8 becomes U+FFFD, or is an error.
    counts: what is skipped or replaced is counted here.
    advance: is told how many bytes of the file were read.
    size: bytes of the file.
  """
  path: str
  field: str
  replace: bool
  counts: Counter
  advance: Callable[[int], None]
  size: int

  def decode(self, raw: bytes, unit: str, number: int) -> str:
    """UTF-8 as text.

    Args:
      raw: the bytes of a line, a row or a record.
      unit: which of these it is.
      number: and the how manieth of the file, from 1.

    Raises:
      InputError: not UTF-8, and not to be replaced.
    """
    try:
      return raw.decode()
    except UnicodeDecodeError as e:
      if not self.replace:
        hint = (' It looks like UTF-16.' if number == 1 and
                raw[:2] in (b'\xff\xfe', b'\xfe\xff') else '')
        raise InputError(
            f'{self.path}: {unit} {number}, byte {e.start + 1} of the {unit}: '
            f'0x{raw[e.start]:02x} is not valid UTF-8.{hint} Mend the file, '
            'or set data.invalid_utf8=replace to put U+FFFD there.') from e
    # Exactly one U+FFFD a bad byte; errors='replace' merges some.
    text, bad = _SURROGATE.subn(
        '\ufffd', raw.decode(errors='surrogateescape'))
    self.counts['replaced_bytes'] += bad
    return text

  def without_surrogates(self, text: str, number: int) -> str:
    """JSON can write half a character, as \\ud800, and UTF-8 cannot."""
    text, bad = _SURROGATE.subn('\ufffd', text)
    if bad and not self.replace:
      raise InputError(
          f'{self.path}: line {number}: holds half a character (a lone '
          'surrogate, such as \\ud800). Mend the line, or set '
          'data.invalid_utf8=replace to put U+FFFD there.')
    self.counts['replaced_surrogates'] += bad
    return text


class Reader(NamedTuple):
  """A row of the table of readers.

  Attributes:
    read: gives the documents of a file.
    packages: that must be installed, as pip calls them. The text may depend on
      their versions, so these are part of a corpus's fingerprint.
    extra: the extra of robertax that brings them.
    packed: whether the file may be .gz, .zst or .bz2.
  """
  read: Callable[[Reading], Iterator[str]]
  packages: tuple[str, ...] = ()
  extra: str = ''
  packed: bool = True

  def versions(self, path: str) -> list[tuple[str, str]]:
    """(package, version) of what must be installed to read that file.

    Raises:
      InputError: it is not; with the command that installs it.
    """
    found, missing = [], []
    for package in self.packages:
      try:
        found.append((package, importlib.metadata.version(package)))
      except importlib.metadata.PackageNotFoundError:
        missing.append(package)
    if missing:
      raise InputError(
          f'{path}: to read it, {" and ".join(missing)} must be installed: '
          f'pip install {" ".join(self.packages)}'
          + (f" (or '.[{self.extra}]' in robertax's folder)."
             if self.extra else '.'))
    return found


def unix_lines(text: str) -> str:
  """Lines end with '\\n', whatever they ended with."""
  if '\r' in text:
    return text.replace('\r\n', '\n').replace('\r', '\n')
  return text
