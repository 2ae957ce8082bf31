"""Text as it comes, through all of a preparation: nothing is lost in silence.

The oracle is the text itself: ids of the records, decoded, are the sentences
that the splitter finds in what was written, but for what counts say.
"""

import json
import resource
import time

import pytest

from robertax.corpus import records
from robertax.corpus.sentences import SPLITTERS
from robertax.errors import InputError

FAMILY = '\U0001f468\u200d\U0001f469\u200d\U0001f467'
ODD = {
    'nulls': 'a\0b\0\0c. \0D \x01\x02\x7f\x1b[0m end.',
    'no sentence end': 'word ' * 5000 + 'word',
    'no space': 'x' * 50_000,
    'one separator many times': 'a' + '.' * 20_000 + 'b',
    'emoji': f'A {FAMILY}, \U0001f1e9\U0001f1ea. \U0001f44d\U0001f3fd! Next.',
    'combining': 'e\u0301 Z' + '\u0351' * 500 + ' n\u0303. A\u030a.',
    'right to left': 'זה משפט. وهذه جملة أخرى! \u202eabc\u202c. שלום',
    'line separators': 'one\u2028two\u2029three\x85four\x0bfive\x0csix',
    'not characters': '\ufffe \uffff \U0010ffff \ufdd0 \ue000',
    'byte-order marks inside': 'a\ufeffb \ufeff c',
    'special tokens': '<s> a </s> <mask><pad> <unk>',
    'wide': '\u3000全角の空白\u3000がある。次の文。',
    'html': '&lt;p&gt; &#0; &amp;amp;',
    'spaces': 'a' + ' ' * 5000 + '.' + ' ' * 5000 + 'B' + '\t' * 100 + 'c',
}
PLAIN = 'A plain text.'


def wanted(texts, sentences):
  return [s for text in texts for s in SPLITTERS[sentences](text)]


def said(manifest, tokenizer):
  """The sentences in the records, in order."""
  found = []
  for split in records.SPLITS:
    for row in records.read_rows(manifest, split):
      found += row.ids.tolist()[1:]
  sentences, sentence = [], []
  for number in found:
    if number == tokenizer.eos_id:
      sentences.append(sentence)
      sentence = []
    else:
      sentence.append(number)
  return [tokenizer.decode(s) for s in [*sentences, sentence] if s]


def joined(sentences):
  """Without the space between sentences, which is what is dropped."""
  return ''.join(''.join(sentences).split())


@pytest.fixture(name='write')
def write_fixture(tmp_path):
  def write(kind, texts):
    path = tmp_path / f'odd.{kind}'
    path.write_bytes((
        '\n\n'.join(texts) if kind == 'txt' else
        '\n'.join(json.dumps({'text': t}) for t in texts)).encode())
    return path
  return write


@pytest.mark.parametrize('kind', ['txt', 'jsonl'])
@pytest.mark.parametrize('sentences', SPLITTERS)
def test_odd_text_is_in_the_records(prepare, write, tokenizer, kind, sentences):
  texts = [*ODD.values(), PLAIN, PLAIN]
  (manifest,) = prepare(write(kind, texts), sentences=sentences).manifests
  assert joined(said(manifest, tokenizer)) == joined(wanted(texts, sentences))
  assert joined(texts) == joined(wanted(texts, sentences))
  assert sum(manifest.splits[s].num_documents
             for s in records.SPLITS) == len(texts)
  assert manifest.counts['documents_naming_special_tokens'] == 1
  assert manifest.counts['utf8_bytes'] == sum(len(t.encode()) for t in texts)


@pytest.mark.parametrize('kind', ['txt', 'jsonl'])
@pytest.mark.parametrize('name', ODD)
def test_odd_text_alone(prepare, write, tokenizer, kind, name):
  """As the only document: its last sentences are held out."""
  path = write(kind, [ODD[name]])
  try:
    (manifest,) = prepare(path).manifests
  except InputError as e:
    assert 'too short to split' in str(e)
    assert len(SPLITTERS['prose'](ODD[name])) == 1
    return
  assert joined(said(manifest, tokenizer)) == joined([ODD[name]])


@pytest.mark.parametrize('kind', ['txt', 'jsonl'])
def test_only_separators(prepare, write, tmp_path, kind):
  blank = [' \u3000\t', '\u2028', '\x0b\x0c\x1c', '\xa0']
  path = write(kind, blank)
  with pytest.raises(InputError, match='odd holds no text'):
    prepare(path)
  (manifest,) = prepare(write(kind, [*blank, PLAIN, *blank, PLAIN])).manifests
  assert sum(manifest.splits[s].num_documents for s in records.SPLITS) == 2
  # In a .txt file such lines are the blank ones between documents.
  assert manifest.counts.get('empty_documents', 0) == (
      8 if kind == 'jsonl' else 0)


@pytest.mark.parametrize('ends, documents', [
    ('\r\n', 3), ('\n', 3), ('\r', 1)])
def test_line_ends_of_txt(prepare, tmp_path, tokenizer, ends, documents):
  path = tmp_path / 'a.txt'
  text = ends.join(['\ufeffOne line.', 'Two.', '', 'Three.', ' ', 'Four.'])
  path.write_bytes(text.encode())
  (manifest,) = prepare(path).manifests
  found = said(manifest, tokenizer)
  assert joined(found) == 'Oneline.Two.Three.Four.'
  held = 1 if documents == 1 else 0  # One document is in both splits.
  assert sum(manifest.splits[s].num_documents
             for s in records.SPLITS) == documents + held
  assert manifest.counts.get('carriage_returns', 0) == (5 if held else 0)


def test_mixed_line_ends(prepare, tmp_path, tokenizer):
  path = tmp_path / 'a.txt'
  path.write_bytes('One.\r\nTwo.\n\r\nThree.\rFour.\u2028Five.\n\nSix.'.encode())
  (manifest,) = prepare(path, sentences='lines').manifests
  assert said(manifest, tokenizer) == [
      'One.', 'Two.', 'Three.\rFour.\u2028Five.', 'Six.']
  assert manifest.counts['carriage_returns'] == 1


@pytest.mark.parametrize('kind', ['txt', 'jsonl'])
def test_half_characters(prepare, tmp_path, tokenizer, kind):
  path = tmp_path / f'a.{kind}'
  path.write_bytes(
      b'a \xed\xa0\x80 b.\n\nC.' if kind == 'txt' else
      b'{"text": "a \\ud800 b."}\n{"text": "C."}\n{"text": "\\ude42\\ud83d"}')
  with pytest.raises(InputError, match='line 1'):
    prepare(path)
  (manifest,) = prepare(path, invalid_utf8='replace').manifests
  assert said(manifest, tokenizer)[0].startswith('a \ufffd')
  assert manifest.counts['replaced_bytes' if kind == 'txt' else
                         'replaced_surrogates'] == 3


@pytest.mark.slow
@pytest.mark.parametrize('kind', ['txt', 'jsonl'])
@pytest.mark.parametrize('what', ['words', 'no space', 'no end', 'stops'])
def test_fifty_megabytes_on_one_line(prepare, write, kind, what):
  text = {'words': 'Some words of a text, and then its end. ',
          'no space': 'x', 'no end': 'words of ', 'stops': '. '}[what]
  text = (text * (50_000_000 // len(text)))[:50_000_000].strip()
  path = write(kind, [PLAIN, text, PLAIN, PLAIN])
  started = time.monotonic()
  (manifest,) = prepare(path, sequence_length=512).manifests
  seconds = time.monotonic() - started
  assert manifest.counts['characters'] == len(text) + 3 * len(PLAIN)
  peak = max(resource.getrusage(who).ru_maxrss for who in (
      resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) // 1024
  print(f'{kind}, {what}: {seconds:.0f} s, {peak:,} MiB')
  assert seconds < 240
