"""Encoders: what turns many texts into ids, a row of `ENCODERS` each.

The `tokenizers` library says what is right and is always there. A faster
encoder takes its place for a tokenizer where it gave the same ids for all
pieces of the tokenizer, for `hard_texts` and for a sample of the text.
"""

from collections.abc import Callable, Iterator, Sequence
import importlib.util
from itertools import chain
from typing import NamedTuple

import numpy as np

from robertax import errors
from robertax.errors import InputError

# Texts -> the ids uint32[N] of all, and int64[texts]: how many each has.
Encode = Callable[[list[str]], tuple[np.ndarray, np.ndarray]]
DEFAULT, AUTO = 'tokenizers', 'auto'
# A text has at most so many of the characters of `hard_texts`.
CHARACTERS = 64
# Ranges whose characters all programs treat alike: ideographs, syllables and
# private characters. Every 97th of these is tried.
_ALIKE = ((0x3400, 0x4DC0), (0x4E00, 0xA000), (0xAC00, 0xD7A4),
          (0xE000, 0xF900), (0x17000, 0x18D00), (0x20000, 0x2A6E0),
          (0x2A700, 0x30000))


def reference(made) -> Encode:
  """Encodes with a tokenizers.Tokenizer."""
  def encode(texts):
    found = [encoding.ids for encoding in made.encode_batch_fast(
        texts, add_special_tokens=False)]
    lengths = np.fromiter(map(len, found), np.int64, len(found))
    return (np.fromiter(chain.from_iterable(found), np.uint32, lengths.sum()),
            lengths)
  return encode


def fastokens(made) -> Encode:
  """Encodes with the package fastokens, which knows BPE (Apache-2.0)."""
  from fastokens import Tokenizer
  encode_flat = Tokenizer.from_json_str(made.to_str()).encode_batch_flat

  def encode(texts):
    ids, ends = encode_flat(texts)
    return (np.frombuffer(ids, np.uint32),
            np.diff(np.frombuffer(ends, np.uint64).astype(np.int64)))
  return encode


# Each row takes a tokenizers.Tokenizer, or raises if it cannot do its work; its
# name is also that of the package.
ENCODERS = {DEFAULT: reference, 'fastokens': fastokens}
NAMES = (AUTO, *ENCODERS)


class Encoder(NamedTuple):
  """A row of ENCODERS, and a line for people, or '' if all is as expected."""
  name: str
  said: str = ''


def choose(wanted: str, made, pieces: Sequence[str], sample: Sequence[str]
           ) -> Encoder:
  """Chooses the encoder of a tokenizer.

  Args:
    wanted: data.encoder.
    made: the tokenizers.Tokenizer that says what is right.
    pieces: its pieces as text.
    sample: some text of the corpus.

  Raises:
    InputError: `wanted` is not installed or cannot encode with this tokenizer.
  """
  if wanted == DEFAULT:
    return Encoder(DEFAULT)
  is_bpe = type(made.model).__name__ == 'BPE'
  rows = [wanted] if wanted != AUTO else [n for n in ENCODERS if n != DEFAULT]
  said = ''
  for name in rows:
    if importlib.util.find_spec(name) is None:
      if wanted != AUTO:
        raise InputError(f'data.encoder={name!r}: the package is not installed:'
                         f" pip install {name}, or data.encoder='auto'.")
      if is_bpe:
        said = (f'tokenizing: `pip install {name}` would make it some ten '
                'times faster, with the same ids.')
      continue
    try:
      with errors.no_panic():
        encode = ENCODERS[name](made)
    except Exception as e:  # Each package has its own.
      if wanted != AUTO:
        raise InputError(f'data.encoder={name!r}: it does not encode with this '
                         f"tokenizer ({errors.first_line(e)}): "
                         "data.encoder='auto' does.") from e
      continue
    different = difference(reference(made), encode, chain(
        [list(pieces)], [list(hard_texts())], [list(sample)]))
    if different is None:
      return Encoder(name)
    said = (f'tokenizing: {name} gives other ids than the tokenizers library '
            f'for {different[:40]!r}: the library is used.')
  return Encoder(DEFAULT, said)


def difference(right: Encode, tried: Encode, batches: Iterator[list[str]]
               ) -> str | None:
  """Returns a text for which two encoders give other ids; None: there is none.
  """
  for texts in batches:
    ids, lengths = right(texts)
    try:
      with errors.no_panic():
        other, others = tried(texts)
    except Exception as e:
      return f'{texts[0]} ({errors.first_line(e)})'
    if np.array_equal(lengths, others) and np.array_equal(ids, other):
      continue
    ends, other_ends = (np.cumsum([0, *n]) for n in (lengths, others))
    for number, text in enumerate(texts):
      if not np.array_equal(ids[ends[number]:ends[number + 1]],
                            other[other_ends[number]:other_ends[number + 1]]):
        return text
  return None


def hard_texts() -> Iterator[str]:
  """Yields texts in which encoders differ if their tables of Unicode do.

  Each character, those that no version of Unicode has yet among them, follows a
  letter, itself and a digit, and stands before a space. There are runs of white
  space of all kinds, contractions, and long words besides.
  """
  alike = [range(a, b) for a, b in _ALIKE]
  inside = set(chain(*alike, range(0xD800, 0xE000)))
  numbers = [c for c in range(0x20000) if c not in inside]
  numbers += chain(*(part[::97] for part in alike))
  for start in range(0, len(numbers), CHARACTERS):
    yield ''.join(f'a{chr(c)}{chr(c)}1{chr(c)} '
                  for c in numbers[start:start + CHARACTERS])
  spaces = ' \t\n\r\x0b\x0c\x85\xa0\u1680\u2003\u2028\u2029\u202f\u3000'
  yield ''.join(f'{a}{b}{a}x{a}{b}{b}1{a}.{b}' for a in spaces for b in spaces)
  yield ''.join(f"we{end} {end} WE{end.upper()} {end}{end}'" for end in (
      "'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'x", '\u2019s'))
  for run in ('a', ' ', '\n', '1', '.', '\u0301', '\u4e00', 'ab', ' \n'):
    yield run * 300
