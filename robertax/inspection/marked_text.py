r"""Text with marks: where masking hid, replaced or kept a token, and which.

In plain text:

    [mask: cat]          ' cat' is hidden behind <mask>
    [random: xy<- cat]   ' xy' stands where ' cat' was
    [kept: cat]          ' cat' stays, and is predicted too

A token's leading space stands with it. Special tokens stand as they are named,
and nothing else can be taken for either: where the text itself spells one, a
backslash stands before it, and its own backslashes are doubled. Line ends and
other control characters are \n, \x1b, \u2028; bytes that are no whole
character, because a token or a row ends in its middle, \xe4.
"""

import codecs
from collections.abc import Iterator, Sequence
import itertools
import re
from typing import NamedTuple

import numpy as np

from robertax.text import Tokenizer

KINDS = ('text', 'masked', 'random', 'kept')
TEXT = 0
SPECIAL = 'special'
_NAMES = {'masked': 'mask', 'random': 'random', 'kept': 'kept'}
_SHORT = {'\n': '\\n', '\r': '\\r', '\t': '\\t'}
# Control characters, what turns the direction of a line, and stray bytes.
_UNSEEN = re.compile('[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069'
                     '\ud800-\udfff]')


class Part(NamedTuple):
  """A piece of text.

  Attributes:
    kind: of KINDS, or SPECIAL.
    text: what stands there; stray bytes are surrogates (`surrogateescape`).
    was: what the token was; '' where nothing is predicted.
  """
  kind: str
  text: str
  was: str = ''


def visible(text: str) -> str:
  r"""Without characters that a terminal obeys or swallows.

  >>> visible('one\n\x1b[2J two\u202e \udce4')
  'one\\n\\x1b[2J two\\u202e \\xe4'
  """
  return _UNSEEN.sub(_escaped, text)


class Marked(NamedTuple):
  """A segment before and after masking.

  Attributes:
    before: what is predicted has the kind of what becomes of it; a character
      that several tokens share is in one part.
    after: each predicted token is a part of its own.
    plain_before, plain_after: both in the notation of this file's head; the
      first has no marks.
  """
  before: list[Part]
  after: list[Part]
  plain_before: str
  plain_after: str


class Marker:
  """Ids before and after masking -> text with marks.

  A functor: it holds what a tokenizer calls its special tokens.
  """

  def __init__(self, tokenizer: Tokenizer):
    self._tokenizer = tokenizer
    self._special = frozenset(tokenizer.special_ids)
    self.special_tokens = tuple(
        tokenizer.token_text(i).strip() for i in tokenizer.special_ids)
    self.mask_token = tokenizer.token_text(tokenizer.mask_id).strip()
    names = '|'.join(map(re.escape, self.special_tokens))
    self._spelled = re.compile(rf'\[(?:mask|random|kept):|{names}')

  def __call__(self, ids: np.ndarray, input_ids: np.ndarray, kinds: np.ndarray
               ) -> Marked:
    """Marks a segment.

    Args:
      ids, input_ids: int32[L], before and after masking.
      kinds: int8[L], index in KINDS.
    """
    plain = [SPECIAL if i in self._special else 'text' for i in ids.tolist()]
    names = [KINDS[kind] if kind != TEXT else name
             for name, kind in zip(plain, kinds.tolist())]
    after = list(self._after(ids, input_ids, names))
    return Marked(
        list(self._before(ids, names)), after,
        ''.join(map(self._plain, self._before(ids, plain))),
        ''.join(map(self._plain, after)))

  def text(self, ids: Sequence[int]) -> str:
    r"""The text of ids, stray bytes as \xe4."""
    return self._bytes(ids).decode('utf-8', 'backslashreplace')

  def _plain(self, part: Part) -> str:
    if part.kind == SPECIAL:
      return part.text
    if part.kind == 'text':
      return self._text(part.text)
    was = self._word(part.was)
    if part.kind == 'random':
      was = f'{self._word(part.text)}<-{was}'
    return f'[{_NAMES[part.kind]}:{was}]'

  def _text(self, text: str) -> str:
    return self._spelled.sub(lambda found: f'\\{found.group()}',
                             visible(text.replace('\\', '\\\\')))

  def _word(self, text: str) -> str:
    return re.sub(r'\]|<-', lambda found: f'\\{found.group()}',
                  visible(text.replace('\\', '\\\\')))

  def _before(self, ids: np.ndarray, names: list[str]) -> Iterator[Part]:
    wholes, raw, kind = [], b'', 'text'
    follows = [*names[1:], SPECIAL]
    for token, name, following in zip(ids, names, follows):
      raw += self._bytes([token])
      # What is predicted colours the character that it is part of.
      kind = name if kind == 'text' else kind
      if following != SPECIAL and _unfinished(raw):
        continue
      wholes.append((kind, raw))
      raw, kind = b'', 'text'
    for kind, run in itertools.groupby(wholes, lambda whole: whole[0]):
      yield Part(kind, _decode(b''.join(raw for _, raw in run)))

  def _after(self, ids: np.ndarray, input_ids: np.ndarray, names: list[str]
             ) -> Iterator[Part]:
    start = 0
    for end, name in enumerate([*names, SPECIAL]):
      if name == 'text':
        continue
      if start < end:
        yield Part('text', _decode(self._bytes(ids[start:end])))
      start = end + 1
      if end < len(names):
        yield Part(name, _decode(self._bytes(input_ids[end:start])),
                   '' if name == SPECIAL else
                   _decode(self._bytes(ids[end:start])))

  def _bytes(self, ids: Sequence[int]) -> bytes:
    return b''.join(self._tokenizer.token_bytes(i) for i in ids)


def _decode(raw: bytes) -> str:
  return raw.decode('utf-8', 'surrogateescape')


def _unfinished(raw: bytes) -> bool:
  """Whether it ends in the middle of a character that may yet be finished."""
  decoder = codecs.getincrementaldecoder('utf-8')('surrogateescape')
  decoder.decode(raw)
  return bool(decoder.getstate()[0])


def _escaped(found: re.Match) -> str:
  character = found.group()
  number = ord(character)
  if 0xdc80 <= number <= 0xdcff:
    return f'\\x{number - 0xdc00:02x}'
  return _SHORT.get(character) or (
      f'\\x{number:02x}' if number < 0x80 else f'\\u{number:04x}')
