"""Sentences with a pronoun and a phrase that it may stand for: WSC's rows.

SuperGLUE's form (Wang et al. 2019): DIR/{train,val,test}.jsonl, a line
`{"text": ..., "target": {"span1_text": query, "span1_index": ..., "span2_text":
pronoun, "span2_index": ...}, "idx": ..., "label": true or false}`, the indices
counting words between white space. What is done to a row is fairseq's law
(examples/roberta/wsc/wsc_utils.py, jsonl_iterator), but that marks behind a
pronoun stay in the text (there they are lost in four rows).
"""

from collections.abc import Iterator
import dataclasses
import json
import os
import re

from robertax.corpus.compression import lines
from robertax.errors import InputError

SPLITS = ('train', 'val', 'test')
_TRAILING = '.,"'
# Penn Treebank's spaces, in front of marks and clitics: `Mr. Singer 's`.
_SPACED = re.compile(r" +(?=(?:[,.;:!?)]|['’](?:s|m|d|re|ve|ll)\b|n['’]t\b))")


@dataclasses.dataclass(frozen=True)
class PronounSentence:
  """A text around a pronoun: `prefix` + `pronoun` + `suffix` is all of it.

  Attributes:
    id: of the row, as text.
    prefix: ends with its space, if there is one.
    pronoun: one word.
    suffix: begins with its space, if there is one.
    query: the phrase asked about.
    label: whether the pronoun stands for it; None where that is not known.
  """
  id: str
  prefix: str
  pronoun: str
  suffix: str
  query: str
  label: bool | None

  @property
  def text(self) -> str:
    return self.prefix + self.pronoun + self.suffix


@dataclasses.dataclass(frozen=True)
class Read:
  """What `read` found.

  Attributes:
    sentences: in the file's order.
    moved: rows whose pronoun stands one word behind its index.
    elsewhere: rows whose query does not stand at its index. No harm: only its
      text is used (`Kamenev and Zinoviev` may stand apart).
  """
  sentences: list[PronounSentence]
  moved: int
  elsewhere: int


def read(folder: str, split: str, file: str = '') -> Read:
  """Reads a split.

  Args:
    folder: with train.jsonl, val.jsonl and test.jsonl.
    split: of SPLITS.
    file: read this one instead.

  Raises:
    InputError: a missing file; a line that is no such object, or whose pronoun
      is not at its index.
  """
  path = file or os.path.join(folder, f'{split}.jsonl')
  if not os.path.isfile(path):
    raise InputError(f'{path}: not there. SuperGLUE\'s WSC folder has '
                     f'{", ".join(s + ".jsonl" for s in SPLITS)}; data.dir '
                     'names that folder.')
  sentences, ids, moved, elsewhere = [], {}, 0, 0
  for number, line in lines(path, lambda _: None):
    if not line.strip():
      continue
    where = f'{path}:{number}'
    row = _row(line, where)
    sentence, here, there = _sentence(row, where)
    if sentence.id in ids:
      raise InputError(f'{where}: idx {sentence.id} is that of line '
                       f'{ids[sentence.id]} too.')
    ids[sentence.id] = number
    sentences.append(sentence)
    moved, elsewhere = moved + here, elsewhere + there
  if not sentences:
    raise InputError(f'{path}: no row in it.')
  return Read(sentences, moved, elsewhere)


def _row(line: bytes, where: str) -> dict:
  try:
    row = json.loads(line.decode('utf-8'))
  except (ValueError, RecursionError) as e:
    raise InputError(f'{where}: not JSON: {e}') from e
  target = row.get('target') if isinstance(row, dict) else None
  if not isinstance(target, dict):
    raise InputError(f'{where}: not an object with "text" and "target".')
  for name, value, kind in (
      ('text', row.get('text'), str), ('idx', row.get('idx'), int),
      *((f'target.span{n}_{key}', target.get(f'span{n}_{key}'), kind)
        for n in (1, 2) for key, kind in (('text', str), ('index', int)))):
    if not isinstance(value, kind) or isinstance(value, bool):
      raise InputError(f'{where}: "{name}" is {value!r}: '
                       f'{"a text" if kind is str else "a number"} is needed.')
  label = row.get('label')
  if label is not None and not isinstance(label, bool):
    raise InputError(f'{where}: "label" is {label!r}: true or false is needed.')
  return row


def _sentence(row, where) -> tuple[PronounSentence, bool, bool]:
  """(sentence, whether its pronoun was one word on, its query elsewhere)."""
  target, tokens = row['target'], row['text'].split()
  index, pronoun = target['span2_index'], target['span2_text']
  at = [i for i in (index, index + 1) if 0 <= i < len(tokens)
        and tokens[i].rstrip(_TRAILING) == pronoun.rstrip(_TRAILING)]
  pronoun = pronoun.rstrip(_TRAILING)
  if not at or not pronoun:
    here = tokens[index] if 0 <= index < len(tokens) else 'no word'
    raise InputError(
        f'{where}: span2_index is {index}, and there stands {here!r}, not the '
        f'span2_text {target["span2_text"]!r}: the index counts words between '
        'white space, from 0.')
  marks = tokens[at[0]][len(pronoun):]
  prefix = detokenized(tokens[:at[0]])
  # Both together: a mark may follow the pronoun with a space between.
  rest = detokenized([pronoun + marks, *tokens[at[0] + 1:]])
  query = ' '.join(target['span1_text'].split())
  if query.endswith(('.', ',')):
    query = query[:-1]
  if not query:
    raise InputError(f'{where}: "target.span1_text" is empty.')
  first = target['span1_index']
  words = tokens[max(first, 0):first + len(query.split())]
  sentence = PronounSentence(
      str(row['idx']), prefix + ' ' * bool(prefix), pronoun,
      rest[len(pronoun):], query, row.get('label'))
  found = ' '.join(words).lower().startswith(query.lower())
  return sentence, at[0] != index, not found


def detokenized(tokens: list[str]) -> str:
  """One text, without the spaces that a treebank has before marks.

  >>> detokenized(['Mr.', 'Singer', "'s", 'dog', ',', 'Rex'])
  "Mr. Singer's dog, Rex"
  """
  return _SPACED.sub('', ' '.join(tokens))


def labelled(sentences: list[PronounSentence], where: str
             ) -> Iterator[PronounSentence]:
  """All of them, once each has a label.

  Raises:
    InputError: one has none.
  """
  for sentence in sentences:
    if sentence.label is None:
      raise InputError(f'{where}: row {sentence.id} has no label, and is to be '
                       'learned or scored.')
    yield sentence
