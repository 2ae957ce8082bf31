"""Marks can be read back: nothing is lost, nothing can be mistaken."""

import doctest
import re

import numpy as np
import pytest

from robertax import text
from robertax.inspection import batches
from robertax.inspection.batches import KINDS, SPECIAL, Marker

TEXTS = ['The cat sat on the mat.',
         'naïve 中文字 русский 🙂 \U0001f468‍\U0001f469',
         r'a\b \[mask: [mask:x] [kept:y] [random:a<-b] </s> <mask> ] <- \\',
         'tab\tbell\x07 esc\x1b[31m nel\x85 sep\u2028 turn\u202e end']


@pytest.fixture(scope='module')
def byte_bpe():
  return text.train_byte_bpe(TEXTS * 9, 300)


@pytest.fixture(scope='module')
def wordpiece():
  return text.train_wordpiece(lambda: TEXTS * 9, 150)


def read(plain, specials):
  """The notation's grammar, from its description: [(kind, now, was)]."""
  names = '|'.join(map(re.escape, specials))
  word = r'(?:\\.|(?!<-)[^\]\\])*'
  found, at = [], 0
  pattern = re.compile(
      rf'(?P<special>{names})|\[random:(?P<now>{word})<-(?P<was>{word})\]|'
      rf'\[(?P<kind>mask|kept):(?P<one>{word})\]|'
      r'(?P<text>\\x[0-9a-f]{2}|\\u[0-9a-f]{4}|\\.|[^\\])', re.S)
  while at < len(plain):
    match = pattern.match(plain, at)
    at = match.end()
    if match['special']:
      found.append((SPECIAL, match['special'], ''))
    elif match['now'] is not None:
      found.append(('random', value(match['now']), value(match['was'])))
    elif match['kind']:
      found.append(('masked' if match['kind'] == 'mask' else 'kept', None,
                    value(match['one'])))
    elif found and found[-1][0] == 'text':
      found[-1] = ('text', found[-1][1] + match['text'], '')
    else:
      found.append(('text', match['text'], ''))
  return [(kind, value(now) if kind == 'text' else now, was)
          for kind, now, was in found]


def value(written):
  """A text without its escapes, as bytes."""
  def one(match):
    escape = match.group(1)
    if escape[0] == 'x':
      code = int(escape[1:], 16)
      return chr(code + 0xdc00 * (code > 0x7f))
    if escape[0] == 'u':
      return chr(int(escape[1:], 16))
    return {'n': '\n', 't': '\t', 'r': '\r'}.get(escape, escape)

  return re.sub(r'\\(x[0-9a-f]{2}|u[0-9a-f]{4}|.)', one, written).encode(
      'utf-8', 'surrogateescape')


def token_bytes(tokenizer, ids):
  return b''.join(map(tokenizer.token_bytes, ids))


@pytest.mark.parametrize('seed', range(40))
def test_plain_text_can_be_read_back(byte_bpe, seed):
  """Any ids and marks, whole characters or not."""
  tok, rng = byte_bpe, np.random.default_rng(seed)
  ids = np.concatenate([[tok.bos_id], *(
      [*tok.encode(each), tok.eos_id] for each in TEXTS)]).astype(np.int32)
  if seed % 2:
    ids = rng.integers(0, tok.vocab_size - 1, 60, dtype=np.int32)
  kinds = rng.choice(4, len(ids), p=[.6, .2, .1, .1]).astype(np.int8)
  now = np.where(kinds == 1, tok.mask_id, np.where(
      kinds == 2, rng.integers(4, tok.vocab_size - 1, len(ids)), ids))
  marker = Marker(tok)
  marked = marker(ids, now, kinds)

  expected = []
  for i, j, kind in zip(ids.tolist(), now.tolist(), kinds.tolist()):
    name = KINDS[kind]
    if not kind and i in tok.special_ids:
      expected.append((SPECIAL, tok.token_text(i), ''))
    elif not kind and expected and expected[-1][0] == 'text':
      expected[-1] = ('text', expected[-1][1] + tok.token_bytes(i), '')
    else:
      expected.append((name, {'masked': None, 'kept': None}.get(
          name, tok.token_bytes(j)), tok.token_bytes(i) if kind else ''))
  assert read(marked.plain_after, marker.special_tokens) == expected
  whole = b''.join(part if isinstance(part, bytes) else part.encode()
                   for _, part, _ in read(marked.plain_before,
                                          marker.special_tokens))
  assert whole == token_bytes(tok, ids)
  for parts, shown in ((marked.before, ids), (marked.after, now)):
    assert ''.join(part.text for part in parts).encode(
        'utf-8', 'surrogateescape') == token_bytes(tok, shown)
  assert not re.search('[\x00-\x1f\x7f-\x9f\u2028\u202e]',
                       marked.plain_before + marked.plain_after)


def test_a_characters_tokens_are_together_before():
  """A third of a character is masked: before, it is whole and coloured."""
  tok = text.train_byte_bpe(['abc abc'] * 9, 262)  # Bytes and no more.
  ids = tok.encode('a中b').astype(np.int32)
  assert len(ids) == 5
  kinds = np.array([0, 0, 1, 0, 0], np.int8)
  marked = Marker(tok)(ids, np.where(kinds, tok.mask_id, ids), kinds)
  assert [(part.kind, part.text) for part in marked.before] == [
      ('text', 'a'), ('masked', '中'), ('text', 'b')]
  assert marked.plain_before == 'a中b'
  assert marked.plain_after == r'a\xe4[mask:\xb8]\xadb'


def test_what_is_written_by_hand():
  """The notation itself, once in full."""
  tok = text.train_byte_bpe(['he on he on'] * 9, 270)
  words = [tok.bos_id, *tok.encode('T'), *tok.encode('he'), *tok.encode(' on'),
           *tok.encode('x'), tok.eos_id]
  ids = np.array(words, np.int32)
  assert len(ids) == 6
  now = ids.copy()
  now[[2, 5]] = tok.mask_id
  now[3] = tok.encode('m')[0]
  marked = Marker(tok)(ids, now, np.array([0, 0, 1, 2, 3, 1], np.int8))
  assert marked.plain_after == '<s>T[mask:he][random:m<- on][kept:x][mask:</s>]'
  assert marked.plain_before == '<s>The onx</s>'


def test_wordpieces_have_their_spaces(wordpiece):
  tok = wordpiece
  ids = np.array([tok.bos_id, *tok.encode('The cat sat'), tok.eos_id], np.int32)
  marked = Marker(tok)(ids, ids, np.zeros(len(ids), np.int8))
  assert marked.plain_before == marked.plain_after == '[CLS] the cat sat[SEP]'


def test_worked_examples():
  assert doctest.testmod(batches).failed == 0
