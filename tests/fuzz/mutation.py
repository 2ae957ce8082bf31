"""Mutations: what may befall a file, as a pure function of a generator.

Some know nothing of the file (bits, cuts, pieces moved), some know that it is
JSON or a table, so that more than the parser is reached.
"""

from collections.abc import Callable
import gzip
import json
import random
from typing import Any

# What readers stumble over.
PIECES = (
    b'\x00', b'\xff\xfe', b'\xef\xbb\xbf', b'\r', b'\r\n', b'\n\n', b'\t',
    b'\xe2\x80\xa8', b'\xed\xa0\x80', b'\\ud800', b'"', b'{', b'[' * 200,
    b'{"a":' * 2000, b'[' * 100_000, b'NaN', b'Infinity', b'-1', b'1e999',
    b'9' * 5000, b'99999999999999999999', b'null', b'true', b'../../x', b'%s',
    b'<mask>', b'\xf0\x9f\x98\x80', b'\xcc\x81' * 500, b'\x1f\x8b\x08',
    b'(\xb5/\xfd', b'18446744073709551615')
VALUES = (None, True, -1, 0, 2**31, 2**63, 2**70, 1e308, float('nan'),
          float('inf'), '', 'x' * 3000, '\ud800', '\x00', '../../etc/passwd',
          [], {}, [[]], [None], {'': None}, [1] * 100)


def mutate(content: bytes, chance: random.Random) -> bytes:
  """One to four mutations of the content of a file."""
  if content[:2] == b'\x1f\x8b' and chance.random() < 0.5:
    return gzip.compress(mutate(gzip.decompress(content), chance), 1)
  if chance.random() < 0.5 and (found := _structured(content, chance)):
    return found
  for _ in range(chance.choice((1, 1, 2, 4))):
    content = chance.choice(BLIND)(content, chance)
  return content


def _place(content: bytes, chance: random.Random) -> int:
  # Heads of files say the most.
  size = len(content)
  return chance.randrange(min(size, 64) + 1 if chance.random() < 0.3
                          else size + 1)


def _flip(content, chance):
  if not content:
    return content
  at = min(_place(content, chance), len(content) - 1)
  return (content[:at] + bytes([content[at] ^ 1 << chance.randrange(8)])
          + content[at + 1:])


def _byte(content, chance):
  at = _place(content, chance)
  return content[:at] + bytes([chance.randrange(256)]) + content[at + 1:]


def _cut(content, chance):
  return content[:_place(content, chance)]


def _drop(content, chance):
  at = _place(content, chance)
  return content[:at] + content[at + chance.choice((1, 2, 8, 100)):]


def _piece(content, chance):
  at = _place(content, chance)
  return content[:at] + chance.choice(PIECES) + content[at:]


def _double(content, chance):
  at, end = sorted((_place(content, chance), _place(content, chance)))
  return content[:end] + content[at:end] * chance.choice((1, 2, 20)) + (
      content[end:])


def _number(content, chance):
  """Four or eight bytes become a number: lengths and offsets are such."""
  at, size = _place(content, chance), chance.choice((4, 8))
  number = chance.choice((0, 1, 2**31 - 1, 2**32 - 1, 2**63 - 1, 2**40))
  return (content[:at] + (number % 2**(8 * size)).to_bytes(size, 'little')
          + content[at + size:])


def _swap(content, chance):
  lines = content.split(b'\n')
  chance.shuffle(lines)
  return b'\n'.join(lines)


def _nothing(content, chance):
  return chance.choice((b'', b'\n', b'\x00' * 4096, chance.randbytes(200)))


BLIND: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    _flip, _flip, _byte, _cut, _drop, _piece, _piece, _double, _number, _swap,
    _nothing)


def _structured(content: bytes, chance: random.Random) -> bytes | None:
  """JSON or JSON lines with a value changed, a table with a cell changed."""
  if content[8:9] == b'{' and content[:1] != b'{':  # safetensors
    size = int.from_bytes(content[:8], 'little')
    head = _json(content[8:8 + size], chance)
    return head and len(head).to_bytes(8, 'little') + head + content[8 + size:]
  if content[:1] in (b'{', b'['):
    whole = _json(content, chance)
    if whole:
      return whole
    lines = content.split(b'\n')
    at = chance.randrange(len(lines))
    lines[at] = _json(lines[at], chance) or lines[at]
    return b'\n'.join(lines)
  if b'\t' in content:
    lines = content.split(b'\n')
    at = chance.randrange(len(lines))
    cells = lines[at].split(b'\t')
    cells[chance.randrange(len(cells))] = chance.choice(PIECES)
    lines[at] = b'\t'.join(cells[:chance.choice((1, 2, 99))])
    return b'\n'.join(lines)
  return None


def _json(content: bytes, chance: random.Random) -> bytes | None:
  try:
    value = json.loads(content)
  except (ValueError, RecursionError):
    return None
  holders = []

  def look(inside: Any):
    if isinstance(inside, (dict, list)):
      keys = inside if isinstance(inside, dict) else range(len(inside))
      holders.extend((inside, key) for key in list(keys)[:200])
      for key in list(keys)[:200]:
        look(inside[key])

  look(value)
  if not holders:
    return json.dumps(chance.choice(VALUES)).encode()
  for _ in range(chance.choice((1, 1, 3))):
    inside, key = chance.choice(holders)
    what = chance.random()
    try:
      if what < 0.2:
        del inside[key]
      elif what < 0.3:
        inside[key] = [inside[key], inside[key]]
      elif what < 0.4 and isinstance(inside, dict):
        inside[str(chance.choice(PIECES))] = inside.pop(key)
      else:
        inside[key] = chance.choice(VALUES)
    except (KeyError, IndexError):
      pass  # An earlier change took it away.
  return json.dumps(value, ensure_ascii=chance.random() < 0.8).encode(
      errors='surrogatepass')
