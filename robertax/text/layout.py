"""How a tokenizer lays out a text, or two: which special tokens stand where.

The library itself is asked what a tokenizer's post-processor does, so that one
law holds for RobertaProcessing, BertProcessing and templates.
"""

import dataclasses
import json
from typing import Any

import numpy as np

from robertax.errors import InputError

Ids = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Layout:
  """The special tokens around one text and two, and the types of all tokens.

  Two texts are `before` A `between` B `after`. In RoBERTa that is <s> A </s>
  </s> B </s>, and every type is 0; in BERT [CLS] A [SEP] B [SEP], and B and the
  [SEP] behind it have type 1. One text is `before` A `after`, unless a template
  says otherwise (`single`).

  Attributes:
    before: the ids in front of the first text.
    between: the ids between two texts; none if a template has none.
    after: the ids behind the last text.
    types: the type ids of the tokens of the first and the second text.
    before_types, between_types, after_types: the type of each id of `before`,
      `between` and `after` in a pair. In nearly all tokenizers these are
      types[0], types[0] and types[1]; of RoBERTa's two separators a template
      may give the second one types[1].
    single: the ids in front of and behind one text alone.
    single_types: the type ids in one text alone: of those in front of it, of
      its own tokens, and of those behind it.
  """
  before: Ids
  between: Ids
  after: Ids
  types: tuple[int, int]
  before_types: Ids
  between_types: Ids
  after_types: Ids
  single: tuple[Ids, Ids]
  single_types: tuple[Ids, int, Ids]

  def join(self, first, second=None) -> tuple[np.ndarray, np.ndarray]:
    """Lays out one text's ids, or two: int32[T] ids and int32[T] type ids."""
    if second is None:
      parts = [self.single[0], first, self.single[1]]
      front, own, back = self.single_types
      types = [front, [own] * len(first), back]
    else:
      parts = [self.before, first, self.between, second, self.after]
      types = [self.before_types, [self.types[0]] * len(first),
               self.between_types, [self.types[1]] * len(second),
               self.after_types]
    return tuple(np.concatenate([np.asarray(part, np.int32) for part in row])
                 for row in (parts, types))


def of(post_processor: dict[str, Any], vocab_size: int, source: str) -> Layout:
  """Reads the layout of a tokenizer.json's "post_processor".

  InputError if it puts the second text first, repeats or drops one, or adds an
  id that is not among the `vocab_size` ids.
  """
  import tokenizers
  # An encoding of one made-up token; specials carry their own ids.
  core = tokenizers.Tokenizer.from_str(json.dumps({
      'version': '1.0', 'added_tokens': [], 'post_processor': post_processor,
      'model': {'type': 'WordLevel', 'vocab': {'a': 0}, 'unk_token': 'a'}}))
  one, two = core.encode('a'), core.encode('a', 'a')
  for found, wanted in ((one, [0]), (two, [0, 1])):
    if [n for n in found.sequence_ids if n is not None] != wanted:
      raise InputError(f'{source}: its "post_processor" does not keep texts '
                       'once each and in order.')
    outside = [i for i, n in zip(found.ids, found.sequence_ids)
               if n is None and i >= vocab_size]
    if outside:
      raise InputError(f'{source}: its "post_processor" adds id {outside[0]}, '
                       f'and there are {vocab_size} ids.')
  a, b = two.sequence_ids.index(0), two.sequence_ids.index(1)
  middle = one.sequence_ids.index(0)
  ids, types = tuple(two.ids), tuple(two.type_ids)
  own, own_types = tuple(one.ids), tuple(one.type_ids)
  return Layout(
      before=ids[:a], between=ids[a + 1:b], after=ids[b + 1:],
      types=(types[a], types[b]), before_types=types[:a],
      between_types=types[a + 1:b], after_types=types[b + 1:],
      single=(own[:middle], own[middle + 1:]),
      single_types=(own_types[:middle], own_types[middle],
                    own_types[middle + 1:]))
