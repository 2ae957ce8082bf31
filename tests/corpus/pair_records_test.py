"""Pair formats, from text to a whole run."""

import json
import os

import jax
import numpy as np
import pytest

from robertax.config import DataConfig, parse
from robertax.corpus import preparation, records
from robertax.corpus.formats import FORMATS
from robertax.corpus.sentences import SPLITTERS
from robertax.data.masking import Masking
from robertax.data.pipeline import Pipeline
from robertax.data.source import open_source
from robertax.errors import InputError
from robertax.train import loop

LENGTH = 64
PAIRS = [name for name, kind in FORMATS.items() if kind.pairs]
pytestmark = pytest.mark.parametrize('kind', PAIRS)


@pytest.fixture
def pairs(prepare, txt, small_blocks, kind):
  """The manifest of `txt` with 3 duplicates, in both forms."""
  return prepare(txt, format=kind, sequence_length=LENGTH, memmap=True,
                 pair_duplicates=3).manifests[0]


def examples(manifest, split):
  """(ids, document, first_length, second_document) of every example."""
  found = []
  for row in records.read_rows(manifest, split):
    parts = np.split(row.ids, np.cumsum(row.lengths)[:-1])
    assert len(parts) == len(row.lengths) == len(row.second_documents)
    found += zip(parts, row.documents, row.first_lengths, row.second_documents)
  return found


def test_pairs_are_of_their_documents(pairs, txt, tokenizer):
  """Whatever is said of a pair is true of the text."""
  said = [' '.join(SPLITTERS['prose'](d)).replace(' ', '')
          for d in txt.read_text().split('\n\n')]
  assert set(pairs.splits) == {'train', 'train_1', 'train_2', 'eval'}
  negative = total = 0
  for split in pairs.splits:
    for ids, first, length, second in examples(pairs, split):
      assert ids[0] == 0 and ids[length - 1] == ids[-1] == 2
      a, b = (tokenizer.decode(part).replace(' ', '')
              for part in (ids[1:length - 1], ids[length:-1]))
      assert a and b and a in said[first] and b in said[second]
      assert (first >= 119) == (second >= 119) == (split == 'eval')
      if split != 'eval':
        negative += first != second
        total += 1
  assert abs(negative - total / 2) < 3 * np.sqrt(total) / 2 + 3
  assert pairs.counts['negative_pairs'] == negative + sum(
      second != first for _, first, _, second in examples(pairs, 'eval'))
  assert ', pairs drawn 3 times, all counted' in preparation.describe_manifest(
      pairs)


def test_duplicates_differ_and_evaluation_is_there_once(pairs):
  drawn = [[(ids.tolist(), int(second))
            for ids, _, _, second in examples(pairs, split)]
           for split in pairs.split_names('train')]
  assert len(drawn) == 3
  assert drawn[0] != drawn[1] != drawn[2] != drawn[0]
  assert pairs.split_names('eval') == ('eval',)


def test_bytes_do_not_depend_on_workers_or_restarts(
    prepare, txt, pairs, small_blocks, kind):
  for cache, workers in (('two', 2), ('again', 1)):
    again = prepare(txt, cache, format=kind, sequence_length=LENGTH,
                    memmap=True, pair_duplicates=3, workers=workers
                    ).manifests[0]
    names = set(os.listdir(pairs.folder))
    assert set(os.listdir(again.folder)) == names
    for name in names - {records.MANIFEST}:
      with open(f'{pairs.folder}/{name}', 'rb') as one, open(
          f'{again.folder}/{name}', 'rb') as other:
        assert one.read() == other.read(), name


def test_another_law_is_another_folder(prepare, txt, pairs, small_blocks, kind):
  for change in ({'pair_duplicates': 2}, {'pair_negatives': 'bert'},
                 {'pair_short_rate': .1}):
    if kind == 'sentence_pair' and 'pair_short_rate' in change:
      with pytest.raises(InputError, match='sentence pairs have no target'):
        prepare(txt, 'none', format=kind, sequence_length=LENGTH, **change)
      continue
    other = prepare(txt, **{**dict(
        format=kind, sequence_length=LENGTH, pair_duplicates=3), **change})
    assert other.manifests[0].folder != pairs.folder
  # Of a format without pairs these keys change nothing.
  plain = {prepare(txt, pair_duplicates=n).manifests[0].folder for n in (2, 3)}
  assert len(plain) == 1


def test_tfds_opens_the_duplicates(pairs):
  tfds = pytest.importorskip('tensorflow_datasets')
  source = tfds.builder_from_directory(pairs.folder).as_data_source('train_2')
  (row, *_) = records.read_rows(pairs, 'train_2')
  assert len(source) == pairs.splits['train_2'].num_records
  assert source[0] == {
      name: getattr(row, name).tobytes() for name in row._fields}


def test_forms_give_the_same_batches(pairs, tokenizer):
  # Loaded, it makes the first batches too (data.pipeline).
  pytest.importorskip('tensorflow')
  found = []
  for backend in ('numpy', 'tf'):
    config = DataConfig(sequence_length=LENGTH, batch_size=8, backend=backend)
    batches = Pipeline(
        open_source([pairs], 'train', backend), config,
        Masking.of(config, tokenizer), seed=3).batches(5)
    found.append(next(batches))
    batches.close()
  for name in found[0]:
    np.testing.assert_array_equal(found[0][name], found[1][name], name)
  assert found[0]['type_ids'].any() and found[0]['nsp_targets'].any()


def test_a_whole_run(txt, tmp_path, tokenizer_path, monkeypatch, kind):
  devices = jax.devices()[:1]
  monkeypatch.setattr(jax, 'devices', lambda *_: devices)
  config = {
      'data': {'corpora': str(txt), 'format': kind, 'workers': 1,
               'sequence_length': LENGTH, 'batch_size': 8, 'backend': 'numpy',
               'first_sequence_length': 32, 'first_sequence_steps': 10,
               'cache_dir': str(tmp_path / 'cache')},
      'tokenizer': {'path': tokenizer_path},
      'model': {'hidden_size': 16, 'num_layers': 1, 'num_heads': 2,
                'mlp_size': 32, 'max_positions': LENGTH},
      'optim': {'learning_rate': 3e-3, 'warmup_steps': 4},
      'mesh': {'data': 1},
      'train': {'steps': 40, 'log_every': 1, 'eval_every': 40,
                'checkpoint_every': 20}}
  ended = loop.run(parse(config), str(tmp_path / 'run'))
  assert (ended.step, ended.trained) == (40, 40)
  with open(tmp_path / 'run' / 'metrics.jsonl') as f:
    lines = [json.loads(line) for line in f]
  assert lines[-1]['step'] == 40
  assert lines[-1]['eval/loss'] < lines[0]['eval/loss'] - .3
  for line in lines[1:]:
    assert np.isfinite(line['train/loss']) and np.isfinite(
        line['train/nsp_loss'])
    assert 0 <= line['train/nsp_accuracy'] <= 1
    assert 0 <= line['train/padding_fraction'] < 1
  assert 0 <= lines[-1]['eval/animals/nsp_accuracy'] <= 1
  # The short rows come first, half as many tokens a step.
  masked = [line['train/masked_tokens'] for line in lines[1:]]
  assert np.mean(masked[:10]) < .7 * np.mean(masked[10:])
  # A run of pairs is opened and gone on with like any other.
  assert loop.run(parse(config), str(tmp_path / 'run')).trained == 0
