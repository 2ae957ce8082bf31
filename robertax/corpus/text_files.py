"""Text files: .txt with blank lines between documents, .jsonl one a line.

Text is UTF-8, lines may end as Windows has them, a byte-order mark is skipped.
Whatever is not as it should be is an error with its file and line, or counted.
"""

from collections.abc import Iterator
import json

from robertax.corpus import compression
from robertax.corpus.reading import Reading, unix_lines
from robertax.errors import InputError

MAX_REJOINED = 1000  # Lines; one after another is read, so it must end.
_BOM = b'\xef\xbb\xbf'


def txt(reading: Reading) -> Iterator[str]:
  """Counts `carriage_returns`: those that end no line, and stay."""
  document = []
  for number, line in compression.lines(reading.path, reading.advance):
    text = _decode(reading, number, line)
    if text and not text.isspace():
      if '\r' in text:
        reading.counts['carriage_returns'] += text.count('\r')
      document.append(text)
    elif document:
      yield '\n'.join(document)
      document = []
  if document:
    yield '\n'.join(document)


def jsonl(reading: Reading) -> Iterator[str]:
  """Counts `blank_lines`, `replaced_surrogates`, and as `rejoined_lines` those
  that belonged to the object of the line before."""
  path, field = reading.path, reading.field
  lines = compression.lines(path, reading.advance)
  for number, line in lines:
    text = _decode(reading, number, line)
    if not text or text.isspace():
      reading.counts['blank_lines'] += 1
      continue
    try:
      value = _json(reading, text, lines)
    except (ValueError, RecursionError) as e:
      if isinstance(e, InputError):
        raise
      # A JSON error's own words have a line 1 of their own: misleading.
      why = (f'{e.msg} (character {e.pos + 1})'
             if isinstance(e, json.JSONDecodeError) else e)
      raise InputError(f'{path}: line {number}: not JSON: {why}. Each line '
                       'should be an object such as {"text": "..."}.') from e
    found = value.get(field) if isinstance(value, dict) else None
    if not isinstance(found, str):
      raise InputError(f'{path}: line {number}: ' + _why_no_text(value, field))
    if not found.isascii():
      found = reading.without_surrogates(found, number)
    yield unix_lines(found)


def _json(reading: Reading, text: str, lines):
  """A line's value; a line that ends inside a string takes the next ones.

  Writers that break lines at every character Unicode calls a line end leave
  such files, and nothing of the document need be lost. A line that is cut off
  does not pass: the quotes of the next one do not fit.
  """
  whole, rejoined = text, 0
  while True:
    try:
      value = json.loads(whole, strict=not rejoined)
      reading.counts['rejoined_lines'] += rejoined
      return value
    except json.JSONDecodeError as e:
      if not e.msg.startswith('Unterminated string'):
        raise
      number, line = next(lines, (0, None))
      if line is None or rejoined == MAX_REJOINED:
        raise
      rejoined += 1
      whole += '\n' + _decode(reading, number, line)


def _decode(reading: Reading, number: int, line: bytes) -> str:
  """One line's text, without its end."""
  if number == 1 and line.startswith(_BOM):
    line = line[len(_BOM):]
  return reading.decode(line.removesuffix(b'\r'), 'line', number)


def _why_no_text(value, field: str) -> str:
  if not isinstance(value, dict):
    return (f'expected an object with a field {field!r}, found '
            f'{type(value).__name__}.')
  if field not in value:
    keys = ', '.join(map(repr, list(value)[:8])) or 'none'
    return (f'no field {field!r}; its fields are {keys}. data.text_field says '
            'which one holds the text.')
  return (f'the field {field!r} should be a string, found '
          f'{type(value[field]).__name__}.')
