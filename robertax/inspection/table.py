"""A table for people: as text, in a notebook, in a page."""

from collections.abc import Sequence
import dataclasses
from html import escape
import re
from typing import Any

from robertax.inspection.marked_text import visible

_NUMBER = re.compile(r'[-+]?[\d,.]+(e[-+]?\d+)?( ?[%\w/]{1,6})?|none|')


@dataclasses.dataclass(frozen=True)
class Table:
  """Rows of cells under a head; all of it is data, never markup.

  Attributes:
    head: names of the columns.
    rows: cells; floats are shortened, None is empty.
    note: a line below.
  """
  head: tuple[str, ...]
  rows: list[Sequence[Any]]
  note: str = ''

  @property
  def cells(self) -> list[list[str]]:
    """As text."""
    return [[_said(value) for value in row] for row in self.rows]

  def __str__(self) -> str:
    lines = [list(self.head), *self.cells]
    widths = [max(map(len, column)) for column in zip(*lines)]
    right = self._right()
    return '\n'.join([*('  '.join(
        cell.rjust(width) if number else cell.ljust(width)
        for cell, width, number in zip(line, widths, right)).rstrip()
                        for line in lines), *filter(None, [self.note])])

  __repr__ = __str__

  def _repr_html_(self) -> str:
    right = self._right()

    def line(tag: str, cells: Sequence[str]) -> str:
      return '<tr>' + ''.join(
          f'<{tag} style="text-align:{"right" if number else "left"};'
          'vertical-align:top;padding:4px 14px 4px 0" dir="auto">'
          f'{escape(cell)}</{tag}>'
          for cell, number in zip(cells, right)) + '</tr>'

    note = f'<p class="note">{escape(self.note)}</p>' if self.note else ''
    # Nobody's mathematics: a notebook would set what stands between two $.
    return ('<div class="scroll" style="overflow-x:auto">'
            '<table class="tex2jax_ignore mathjax_ignore">'
            f'<thead>{line("th", self.head)}</thead><tbody>'
            f'{"".join(line("td", row) for row in self.cells)}'
            f'</tbody></table></div>{note}')

  def _right(self) -> list[bool]:
    """Which columns are of numbers."""
    return [bool(self.rows) and all(map(_NUMBER.fullmatch, column))
            for column in zip(*self.cells)] or [False] * len(self.head)


def _said(value: Any) -> str:
  if value is None:
    return ''
  if isinstance(value, float):
    return f'{value:,.4g}' if abs(value) < 1e4 else f'{value:,.0f}'
  if isinstance(value, int) and not isinstance(value, bool):
    return f'{value:,}'
  return visible(str(value))
