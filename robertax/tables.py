"""Tables whose rows are imported only when they are chosen.

Floor 0, beside the rooms. A task, reader, format or splitter is one class or
function and one row. A run that reads plain text does not import the reader of
web archives.
"""

from collections.abc import Iterator, Mapping
import importlib
from typing import Any


class LazyTable(Mapping[str, Any]):
  """Rows by name, each 'package.module:attribute' until it is looked up.

  >>> LazyTable(ceil='math:ceil')['ceil'](1.5)
  2
  """

  def __init__(self, rows: Mapping[str, str] | None = None, **more: str):
    self._rows = {**(rows or {}), **more}

  def __getitem__(self, name: str) -> Any:
    """Imports the row; raises KeyError for an unknown name."""
    module, _, attribute = self._rows[name].partition(':')
    return getattr(importlib.import_module(module), attribute)

  def __iter__(self) -> Iterator[str]:
    return iter(self._rows)

  def __len__(self) -> int:
    return len(self._rows)

  def __contains__(self, name: object) -> bool:
    return name in self._rows
