
from collections import Counter
import contextlib
import dataclasses
import glob
import hashlib
import importlib.util
import json
import os
import re

import numpy as np
import pytest

from robertax import files
from robertax.config import TokenizerConfig
from robertax.corpus import blocks, preparation, records, shards
from robertax.corpus.records import Manifest
from robertax.corpus.sentences import SPLITTERS
from robertax.errors import InputError
from robertax.text import encoders


def rows(manifest, split):
  return list(records.read_rows(manifest, split))


def digests(folder):
  """Every file that is not a manifest: {name: hash of its bytes}."""
  return {os.path.basename(path): hashlib.sha256(
      open(path, 'rb').read()).hexdigest()
          for path in glob.glob(f'{folder}/*') if 'manifest' not in path}


@pytest.mark.parametrize('sentences', SPLITTERS)
def test_records_are_the_corpus(prepare, txt, tokenizer, small_blocks,
                                sentences):
  """Nothing is lost: the rows, read back, are the text's sentences in order."""
  prepared = prepare(txt, sentences=sentences)
  (manifest,) = prepared.manifests
  documents = txt.read_text().split('\n\n')
  expected = [SPLITTERS[sentences](document) for document in documents]
  found = []
  for split in records.SPLITS:
    for ids, lengths, *_ in rows(manifest, split):
      assert ids[0] == 0 and lengths.tolist() == [len(ids)] and len(ids) <= 32
      found += ids[1:].tolist()
  # Sentences end with </s>; what is empty between two is a border.
  said = tokenizer.decode(found).split('</s>')
  assert [s for s in said if s] == [s for d in expected for s in d]
  assert manifest.splits['train'].num_documents == 119
  assert manifest.splits['eval'].num_documents == 1
  assert prepared.tokenizer.fingerprint == manifest.tokenizer


def test_counts_are_what_lies_there(prepare, txt, small_blocks):
  (manifest,) = prepare(txt).manifests
  padding = 0
  for split in records.SPLITS:
    info, found = manifest.splits[split], rows(manifest, split)
    assert info.num_records == info.num_examples == len(found)
    assert info['num_tokens'] == sum(len(row.ids) for row in found)
    assert sum(info.shard_lengths) == len(found)
    padding += 32 * len(found) - info.num_tokens
    for row in found:
      assert (row.documents >= 119).all() == (split == 'eval')
  assert len(manifest.splits['train'].shard_lengths) > 2
  assert manifest.counts['padding_tokens'] == padding
  assert 0 < manifest.counts['block_end_waste_tokens'] < padding
  said = preparation.describe_manifest(manifest)
  assert 'sentences' in said and 'waste' not in said and 'bytes' not in said


def test_bytes_do_not_depend_on_workers(prepare, txt, small_blocks):
  found = []
  for workers in (1, 2, 3):
    (manifest,) = prepare(txt, f'cache{workers}', workers=workers,
                          memmap=True).manifests
    found.append(digests(manifest.folder))
  assert found[0] == found[1] == found[2]


def test_bytes_do_not_depend_on_the_encoder(prepare, txt, monkeypatch):
  (plain,) = prepare(txt, cache='plain', encoder='tokenizers').manifests
  used = []
  if importlib.util.find_spec('fastokens'):
    real = encoders.ENCODERS['fastokens']
    monkeypatch.setitem(encoders.ENCODERS, 'fastokens', lambda made: (
        used.append(made) or real(made)))
  (auto,) = prepare(txt, cache='auto').manifests
  assert auto.checksums == plain.checksums
  assert len(used) in (0, 2)  # It was tried, and then used.

  def wrong(made):
    def encode(texts):
      ids, lengths = encoders.reference(made)(texts)
      return ids + 1, lengths
    return encode
  # `json` stands for a package that is installed.
  monkeypatch.setattr(encoders, 'ENCODERS', {
      'tokenizers': encoders.reference, 'json': wrong})
  (other,) = prepare(txt, cache='other').manifests
  assert other.checksums == plain.checksums


def test_the_second_time_nothing_is_done(prepare, txt, monkeypatch):
  first = prepare(txt)
  monkeypatch.setattr(preparation, '_fill_corpus', None)
  monkeypatch.setattr(blocks.Survey, 'add', None)
  again = prepare(txt)
  assert again.manifests == first.manifests


@pytest.mark.parametrize('change', [
    dict(sequence_length=16), dict(sentences='lines'),
    dict(invalid_utf8='replace'), dict(text_field='body')])
def test_other_choices_go_elsewhere(prepare, txt, change):
  a, b = prepare(txt), prepare(txt, **change)
  assert a.manifests[0].folder != b.manifests[0].folder


@pytest.mark.parametrize('stop', [KeyboardInterrupt, MemoryError])
def test_an_interruption_leaves_nothing_finished(
    prepare, txt, small_blocks, monkeypatch, stop):
  (whole,) = prepare(txt, 'undisturbed', memmap=True).manifests
  write, calls = shards.ShardFiles.write, []

  def interrupted(*args):
    calls.append(1)
    if len(calls) == 4:
      raise stop
    write(*args)

  with monkeypatch.context() as patch:
    patch.setattr(shards.ShardFiles, 'write', interrupted)
    with pytest.raises(stop):
      prepare(txt, memmap=True)
  folder = os.path.join(os.path.dirname(whole.folder).replace(
      'undisturbed', 'cache'), os.path.basename(whole.folder))
  assert not glob.glob(f'{folder}/*.partial')
  assert not glob.glob(f'{folder}/manifest.json')
  with pytest.raises(InputError, match='no finished records'):
    Manifest.read(folder)
  # As a kill leaves it, too.
  open(f'{folder}/robertax-train.array_record-00009-of-00010', 'w').close()
  open(f'{folder}/train.ids.bin.partial', 'w').close()
  (again,) = prepare(txt, memmap=True).manifests
  assert digests(again.folder) == digests(whole.folder)
  assert set(again.checksums) == set(digests(whole.folder)) - {'.lock'}


def test_memmap_form_has_the_same_rows(prepare, txt, small_blocks):
  (made_later,) = prepare(txt).manifests
  assert made_later.forms == ('array_record',)
  (made_later,) = prepare(txt, memmap=True).manifests
  (made_at_once,) = prepare(txt, 'other', backend='numpy').manifests
  assert made_later.forms == made_at_once.forms == ('array_record', 'memmap')
  assert Manifest.read(made_later.folder) == made_later
  assert digests(made_later.folder) == digests(made_at_once.folder)
  for split in records.SPLITS:
    arrays = shards.open_arrays(made_later, split)
    for i, row in enumerate(rows(made_later, split)):
      a, b = arrays.row_starts[i:i + 2]
      np.testing.assert_array_equal(arrays.ids[a:b], row.ids)
      a, b = arrays.example_starts[i:i + 2]
      np.testing.assert_array_equal(arrays.lengths[a:b], row.lengths)
      np.testing.assert_array_equal(arrays.documents[a:b], row.documents)


def test_without_array_record_there_is_the_memmap_form(
    prepare, txt, monkeypatch):
  (whole,) = prepare(txt, 'whole', memmap=True).manifests
  monkeypatch.setattr(records, 'array_record_module', lambda: None)
  (manifest,) = prepare(txt).manifests
  assert manifest.forms == ('memmap',)
  for name, digest in digests(manifest.folder).items():
    assert digest == digests(whole.folder)[name]


def test_tfds_opens_them(prepare, txt, small_blocks):
  tfds = pytest.importorskip('tensorflow_datasets')
  (manifest,) = prepare(txt).manifests
  builder = tfds.builder_from_directory(manifest.folder)
  for split in records.SPLITS:
    source = builder.as_data_source(split)
    expected = rows(manifest, split)
    assert len(source) == len(expected)
    for i in (0, len(expected) // 2, len(expected) - 1):
      assert source[i] == {name: getattr(expected[i], name).tobytes()
                           for name in ('ids', 'lengths', 'documents')}


def test_one_document_is_split_by_sentences(prepare, tmp_path, tokenizer):
  path = tmp_path / 'one.txt'
  path.write_text('\n'.join(f'Sentence {i}.' for i in range(100)))
  (manifest,) = prepare(path).manifests
  said = {split: tokenizer.decode(np.concatenate(
      [row.ids[1:] for row in rows(manifest, split)])).split('</s>')[:-1]
          for split in records.SPLITS}
  assert said['train'][-1] == 'Sentence 94.'
  assert said['eval'] == [f'Sentence {i}.' for i in range(95, 100)]


def test_literal_specials_stay_text_and_are_counted(prepare, tmp_path,
                                                    tokenizer):
  path = tmp_path / 'a.txt'
  path.write_text('\n\n'.join(['a <mask> b', 'c </s> d', 'plain', '<s> e']))
  (manifest,) = prepare(path).manifests
  ids = [i for split in records.SPLITS
         for row in rows(manifest, split) for i in row.ids.tolist()]
  counts = Counter(ids)
  assert manifest.counts['documents_naming_special_tokens'] == 3
  assert counts[tokenizer.mask_id] == counts[1] == counts[3] == 0
  assert counts[0] == len(rows(manifest, 'train')) + 1
  assert counts[2] == 4 + 2  # Four sentences, two borders within training.


def test_several_corpora_and_a_trained_tokenizer(prepare, tmp_path, documents):
  for i, name in enumerate('ab'):
    (tmp_path / f'{name}.jsonl').write_text('\n'.join(
        json.dumps({'text': text}) for text in documents(30, seed=i)))
  config = TokenizerConfig(vocab_size=300)
  prepared = prepare(tmp_path / '*.jsonl', tokenizer_config=config)
  assert [m.corpus for m in prepared.manifests] == ['a', 'b']
  assert prepared.tokenizer.vocab_size == 300
  assert os.path.exists(prepared.tokenizer_path)
  again = prepare(tmp_path / '*.jsonl', tokenizer_config=config)
  assert again.tokenizer_path == prepared.tokenizer_path
  assert again.manifests == prepared.manifests


@pytest.mark.parametrize('change, says', [
    (dict(format='nonsense'), 'full_sentences'),
    (dict(sentences='proze'), "Did you mean 'prose'"),
    (dict(invalid_utf8='x'), 'replace'),
    (dict(sequence_length=4), 'sequence_length=4'),
    (dict(workers=-1), 'workers=-1'),
    (dict(vocab_size=50265), 'model.vocab_size=50265'),
    (dict(corpora='/nowhere/a.txt'), '/nowhere/a.txt does not exist'),
])
def test_wrong_choices_are_named(prepare, txt, change, says):
  with pytest.raises(InputError, match=re.escape(says)):
    prepare(**{'corpora': txt, **change})


@pytest.mark.parametrize('content, says', [
    ('', 'holds no text'), (' \n\n', 'holds no text'),
    ('Only one sentence', 'too short to split')])
def test_too_little_text_is_named(prepare, tmp_path, content, says):
  path = tmp_path / 'a.txt'
  path.write_text(content)
  with pytest.raises(InputError, match=says):
    prepare(path)
  with pytest.raises(InputError, match=says):
    prepare(path, memmap=True)


def test_all_text_is_checked_before_any_work(prepare, tmp_path, documents):
  (tmp_path / 'a.txt').write_text('\n\n'.join(documents(9)))
  (tmp_path / 'b.jsonl').write_text('{"text": "x"}\nnonsense\n')
  with pytest.raises(InputError, match='line 2: not JSON'):
    prepare(f'{tmp_path}/a.txt,{tmp_path}/b.jsonl')
  assert not os.path.exists(tmp_path / 'cache' / 'records')


def test_text_that_changes_meanwhile_is_seen(prepare, txt, monkeypatch):
  real = blocks.Survey.blocks

  def changed(survey):
    txt.write_text('something else\n\nof another length')
    return real(survey)

  monkeypatch.setattr(blocks.Survey, 'blocks', changed)
  with pytest.raises(InputError, match='animals.txt: changed while'):
    prepare(txt)


def test_records_made_otherwise_are_refused(prepare, txt):
  (manifest,) = prepare(txt).manifests
  dataclasses.replace(manifest, tokenizer='abc', sequence_length=99,
                      corpus='b', vocab_size=300, dtype='float64').write()
  with pytest.raises(InputError, match='Rename the folder') as e:
    prepare(txt)
  for words in ("tokenizer is 'abc'", 'sequence_length is 99, wanted 32',
                "corpus is 'b'", 'vocab_size is 300', "dtype is 'float64'"):
    assert words in str(e.value)


@pytest.mark.parametrize('place', ['os.replace', 'os.makedirs', 'open'])
def test_a_full_disk_is_one_line(prepare, txt, monkeypatch, place):
  opened = files.open

  def full(path, mode='r', *args, **kwargs):
    if place == 'open' and 'r' in mode:
      return opened(path, mode)
    raise OSError(28, 'No space left on device')

  with contextlib.suppress(AttributeError):
    monkeypatch.setattr(
        *{'os.replace': (os, 'replace'), 'os.makedirs': (os, 'makedirs'),
          'open': (files, 'open')}[place], full, raising=False)
  with pytest.raises(InputError, match='the disk is full'):
    prepare(txt)
