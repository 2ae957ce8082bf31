"""SuperGLUE's WSC rows, and what is said of wrong ones."""

import json
import os
import pathlib

import pytest

from robertax.errors import InputError
from robertax.tasks import wsc


def row(text, query, index, pronoun, at, idx=0, label=True, **more):
  return {'text': text, 'idx': idx, 'label': label, 'target': {
      'span1_text': query, 'span1_index': index, 'span2_text': pronoun,
      'span2_index': at}} | more


PLAIN = row("Ann 's dog saw Bob , and he ran .", 'Bob', 4, 'he', 7)


def write(folder, *rows, split='train'):
  path = folder / f'{split}.jsonl'
  path.write_text(''.join(
      (r if isinstance(r, str) else json.dumps(r)) + '\n' for r in rows))
  return path


def test_a_row(tmp_path):
  write(tmp_path, PLAIN, '', row(
      'It fell.', 'The cup.', 0, 'It', 0, idx=3, label=None))
  found = wsc.read_sentences(str(tmp_path), 'train')
  assert found == wsc.ReadSentences([
      wsc.PronounSentence('0', "Ann's dog saw Bob, and ", 'he', ' ran.',
                          'Bob', True),
      wsc.PronounSentence('3', '', 'It', ' fell.', 'The cup', None)],
      moved=0, elsewhere=1)
  assert found.sentences[0].text == "Ann's dog saw Bob, and he ran."


@pytest.mark.parametrize('text, pronoun, at, before, after', [
    ('Ask him," said Bob .', 'him', 1, 'Ask ', '," said Bob.'),
    ("I can not use it .", 'it,', 4, 'I can not use ', '.'),
    ('Bob saw him', 'him', 2, 'Bob saw ', ''),
    ('Bob saw him , then left', 'him', 2, 'Bob saw ', ', then left'),
])
def test_marks_behind_the_pronoun_stay(tmp_path, text, pronoun, at, before,
                                       after):
  write(tmp_path, row(text, 'Bob', 0, pronoun, at))
  (found,) = wsc.read_sentences(str(tmp_path), 'train').sentences
  assert (found.prefix, found.suffix) == (before, after)
  assert found.pronoun == pronoun.rstrip(',')


def test_an_index_one_too_low_is_moved_and_counted(tmp_path):
  write(tmp_path, row('Bob could use it .', 'Bob', 0, 'it', 2))
  found = wsc.read_sentences(str(tmp_path), 'train')
  assert found.moved == 1
  assert found.sentences[0].prefix == 'Bob could use '


@pytest.mark.parametrize('wrong, message', [
    ('{"text": ', 'not JSON'), ('[1]', 'not an object'),
    ({'text': 'x', 'idx': 1}, 'not an object with "text" and "target"'),
    (PLAIN | {'text': None}, '"text" is None: a text'),
    (PLAIN | {'idx': 'a'}, '"idx" is \'a\': a number'),
    (PLAIN | {'label': 1}, '"label" is 1: true or false'),
    (row('He ran .', 'Bob', 0, 'he', '0'), '"target.span2_index" is \'0\''),
    (row('Then ran he .', 'Bob', 0, 'he', 0),
     "span2_index is 0, where 'Then' is, not the span2_text 'he'"),
    (row('he ran .', 'Bob', 0, 'he', 9), "where 'no word' is"),
    (row('he ran .', 'Bob', 0, 'he', -3), "where 'no word' is"),
    (row('he ran .', ' .', 0, 'he', 0), '"target.span1_text" is empty'),
    (PLAIN, 'idx 0 is that of line 1 too'),
])
def test_what_is_wrong_is_named_with_its_line(tmp_path, wrong, message):
  path = write(tmp_path, PLAIN, wrong)
  with pytest.raises(InputError) as error:
    wsc.read_sentences(str(tmp_path), 'train')
  assert str(error.value).startswith(f'{path}:2: ')
  assert message in str(error.value)


def test_a_missing_or_empty_file(tmp_path):
  with pytest.raises(InputError, match=r'val\.jsonl: not there.*data\.dir'):
    wsc.read_sentences(str(tmp_path), 'val')
  write(tmp_path, '')
  with pytest.raises(InputError, match='no row'):
    wsc.read_sentences(str(tmp_path), 'train')


def test_rows_without_a_label(tmp_path):
  write(tmp_path, row('He ran.', 'Bob', 0, 'He', 0, idx=7, label=None))
  found = wsc.read_sentences(str(tmp_path), 'train').sentences
  with pytest.raises(InputError, match='train.jsonl: row 7 has no label'):
    list(wsc.require_labels(found, 'train.jsonl'))


@pytest.mark.parametrize('split, rows, positive, moved', [
    ('train', 554, 259, 0), ('val', 104, 38, 1), ('test', 146, 0, 0)])
def test_the_official_numbers(split, rows, positive, moved):
  data = os.environ.get('ROBERTAX_TEST_DATA')
  folder = pathlib.Path(data or '') / 'superglue' / 'WSC'
  if not data or not folder.is_dir():
    pytest.skip('ROBERTAX_TEST_DATA names no folder with superglue/WSC in it')
  found = wsc.read_sentences(str(folder), split)
  assert len(found.sentences) == rows and found.moved == moved
  assert sum(s.label is True for s in found.sentences) == positive
  for sentence, line in zip(found.sentences,
                            (folder / f'{split}.jsonl').open()):
    # No letter is lost.
    assert (''.join(sentence.text.split())
            == ''.join(json.loads(line)['text'].split()))
