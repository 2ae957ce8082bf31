"""Several examples a row, from text to a whole run."""

import json
import os

import jax
import numpy as np
import pytest

from robertax import model
from robertax.config import DataConfig, ModelConfig, parse
from robertax.corpus import preparation, records
from robertax.corpus.formats import FORMATS
from robertax.corpus.sentences import SPLITTERS
from robertax.data.masking import Masking
from robertax.data.pipeline import Pipeline
from robertax.data.source import open_source
from robertax.train import loop

LENGTH, MOST = 64, FORMATS['doc_sentences'].examples_per_row(64)


@pytest.fixture
def txt(tmp_path, documents):
  """A corpus of 150 documents, most of them shorter than a row, some longer."""
  path = tmp_path / 'short.txt'
  path.write_text('\n\n'.join(
      documents(90, 1, sentences=1) + documents(60, 2, sentences=5)))
  return path


@pytest.fixture
def packed(prepare, txt, small_blocks):
  """The manifest of `txt` as doc_sentences, in both forms."""
  return prepare(txt, format='doc_sentences', sequence_length=LENGTH,
                 memmap=True).manifests[0]


def test_examples_are_the_documents(packed, txt, tokenizer):
  """Each sentence stands in one example, and no example in two documents."""
  said = [SPLITTERS['prose'](d) for d in txt.read_text().split('\n\n')]
  assert packed.max_examples_per_row == MOST
  found, tokens, num_rows, shared = [], 0, 0, 0
  for split in records.SPLITS:
    first = -1
    for ids, lengths, documents, *_ in records.read_rows(packed, split):
      assert lengths.sum() == len(ids) <= LENGTH
      assert 1 <= len(lengths) <= MOST and lengths.min() > 2
      assert first <= documents[0]  # Rows stand in the documents' order.
      assert sorted(documents) == documents.tolist()
      first = documents[0]
      found += [part.tolist() for part in np.split(
          ids, np.cumsum(lengths)[:-1])]
      tokens += len(ids)
      num_rows += 1
      shared += len(lengths) > 1
  assert shared > num_rows / 4
  assert sum(s.num_records for s in packed.splits.values()) == num_rows
  assert sum(s.num_examples for s in packed.splits.values()) == len(found)
  padding = num_rows * LENGTH - tokens
  assert packed.counts['padding_tokens'] == padding
  share = packed.counts['padding_fraction']
  assert share == pytest.approx(padding / num_rows / LENGTH, abs=1e-4)
  assert f' {share:.2%} padding' in preparation.describe_manifest(
      packed)
  assert all(part[0] == 0 for part in found)
  heard = [tokenizer.decode(part[1:]) for part in found]
  assert 'over_long_sentences' not in packed.counts
  assert sorted(s for text in heard for s in text.split('</s>') if s) == (
      sorted(s for d in said for s in d))
  runs = [''.join(s + '</s>' for s in d) for d in said]
  assert all(any(text in run for run in runs) for text in heard)


def test_rows_and_bytes_do_not_depend_on_workers(prepare, txt, packed,
                                                 small_blocks):
  again = prepare(txt, 'two', format='doc_sentences', sequence_length=LENGTH,
                  memmap=True, workers=2).manifests[0]
  assert os.path.basename(again.folder) == os.path.basename(packed.folder)
  for name in os.listdir(packed.folder):
    if name != records.MANIFEST:
      with open(f'{packed.folder}/{name}', 'rb') as one, open(
          f'{again.folder}/{name}', 'rb') as other:
        assert one.read() == other.read(), name


def batches(manifest, tokenizer, backend, count=3):
  config = DataConfig(sequence_length=LENGTH, batch_size=8, backend=backend,
                      shuffle_block=4, shuffle_window=3)
  source = open_source([manifest], 'train', backend)
  made = Pipeline(
      source, config, Masking.of(config, tokenizer), seed=3).batches(5)
  found = [next(made) for _ in range(count)]
  made.close()
  return found


def test_backends_give_the_same_batches(packed, tokenizer):
  # Loaded, it makes the first batches too (data.pipeline).
  pytest.importorskip('tensorflow')
  one, other = (batches(packed, tokenizer, b) for b in ('numpy', 'tf'))
  most = int(.15 * LENGTH) + MOST
  for a, b in zip(one, other):
    assert a.keys() == b.keys()
    for name in a:
      assert a[name].dtype == b[name].dtype
      np.testing.assert_array_equal(a[name], b[name], name)
    assert a['mlm_weights'].shape == (8, most)
    assert a['example_ids'].shape == (8, MOST)
    np.testing.assert_array_equal(
        (a['example_ids'] >= 0).sum(1), a['segment_ids'].max(1))
  assert max(batch['segment_ids'].max() for batch in one) > 2


def test_a_batch_has_the_loss_of_its_examples_alone(packed, tokenizer):
  batch = batches(packed, tokenizer, 'numpy', 1)[0]
  config = ModelConfig(
      vocab_size=tokenizer.vocab_size, hidden_size=16, num_layers=1,
      num_heads=2, mlp_size=32, max_positions=LENGTH)
  random = np.random.default_rng(0)  # Far from 0, so that attention matters.
  params = jax.tree.map(
      lambda x: x + .2 * random.normal(size=x.shape).astype(np.float32),
      model.create(config, jax.random.key(0)))

  @jax.jit
  def loss(ids, segments, positions, targets, weights):
    module = model.bind(config, params)
    x_BTD = module.encode(ids, segments)
    sums = model.mlm_loss(
        module.mlm_logits(x_BTD, positions), targets, weights)
    return sums['loss_sum'], sums['weight_sum']

  names = ('input_ids', 'segment_ids', 'mlm_positions', 'mlm_targets',
           'mlm_weights')
  rows = {name: [] for name in names}
  for row in range(8):
    segments, positions = batch['segment_ids'][row], batch['mlm_positions'][row]
    for number in range(1, segments.max() + 1):
      (where,) = np.nonzero(segments == number)
      mine = segments[positions] == number
      rows['input_ids'].append(np.roll(batch['input_ids'][row], -where[0]))
      rows['segment_ids'].append(np.int32(np.arange(LENGTH) < len(where)))
      rows['mlm_positions'].append(np.where(mine, positions - where[0], 0))
      rows['mlm_targets'].append(batch['mlm_targets'][row])
      rows['mlm_weights'].append(np.where(mine, batch['mlm_weights'][row], 0))
  alone = [np.stack(rows[name]) for name in names]
  found, same = loss(*alone)
  # Rows of padding behind it: one shape, compiled once.
  expected, masked = loss(*(
      np.concatenate([batch[name], np.zeros_like(x[8:], batch[name].dtype)])
      for name, x in zip(names, alone)))
  assert len(alone[0]) > 16
  assert same == masked == batch['mlm_weights'].sum() > 20
  assert float(found) == pytest.approx(float(expected), rel=1e-5)


def test_a_whole_run(txt, tmp_path, tokenizer_path, monkeypatch):
  devices = jax.devices()[:1]
  monkeypatch.setattr(jax, 'devices', lambda *_: devices)
  ended = loop.run(parse({
      'data': {'corpora': str(txt), 'format': 'doc_sentences',
               'sequence_length': LENGTH, 'batch_size': 8, 'workers': 1,
               'backend': 'numpy', 'cache_dir': str(tmp_path / 'cache')},
      'tokenizer': {'path': tokenizer_path},
      'model': {'hidden_size': 16, 'num_layers': 1, 'num_heads': 2,
                'mlp_size': 32, 'max_positions': LENGTH},
      'optim': {'learning_rate': 3e-3, 'warmup_steps': 4},
      'mesh': {'data': 1},
      'train': {'steps': 40, 'log_every': 1, 'eval_every': 40,
                'checkpoint_every': 40}}), str(tmp_path / 'run'))
  assert (ended.step, ended.trained) == (40, 40)
  with open(tmp_path / 'run' / 'metrics.jsonl') as f:
    lines = [json.loads(line) for line in f]
  assert lines[-1]['step'] == 40
  assert lines[-1]['eval/loss'] < lines[0]['eval/loss'] - .3
  assert all(np.isfinite(line['train/loss']) for line in lines[1:])
