"""Pairs of segments, drawn several times over: records -> batches."""

import doctest
import itertools

import numpy as np
import pytest

from robertax.corpus import records, shards
from robertax.corpus.records import Manifest, SplitCounts
from robertax.data import pipeline
from robertax.data.feed import host_rows
from robertax.data.pipeline import Pipeline, eval_batches
from robertax.data.source import open_source

LENGTH, SLOTS, DUPLICATES = 64, 4, 3
FIELDS = {'input_ids', 'segment_ids', 'mlm_positions', 'mlm_targets',
          'mlm_weights', 'example_ids', 'type_ids', 'nsp_positions',
          'nsp_targets', 'nsp_weights'}


def random_pairs(number, seed):
  """Rows of 1 .. SLOTS pairs; the ids of A are even, those of B odd."""
  rng = np.random.default_rng(seed)
  rows = []
  for _ in range(number):
    ids, examples = [], []
    for _ in range(rng.integers(1, SLOTS + 1)):
      a, b = rng.integers(1, 6, 2)
      ids += [0, *rng.integers(2, 400, a) * 2, 2]
      ids += [*rng.integers(2, 400, b) * 2 + 1, 2]
      document = rng.integers(50)
      second = document if rng.random() < 0.5 else document + 1
      examples.append((a + b + 3, document, a + 2, second))
    rows.append(records.RecordRow(np.array(ids, np.uint16),
                                  *np.array(examples, np.int32).T))
  return rows


def write_pairs(folder, seed, sizes):
  folder.mkdir()
  splits, written = {}, {}
  for number, (name, size) in enumerate(zip(
      (*records.split_names('train', DUPLICATES), 'eval'), sizes)):
    rows = written[name] = random_pairs(size, seed + number)
    shard = records.ShardWriter(records.shard_path(folder, name, 0, 1))
    mapped = shards.ArraysWriter(folder, name, 'uint16')
    for row in rows:
      shard.write(records.encode_record(row))
      mapped.write(row)
    shard.close()
    mapped.close()
    splits[name] = SplitCounts(
        num_records=size, num_examples=sum(len(r.lengths) for r in rows),
        num_tokens=sum(len(r.ids) for r in rows), shard_lengths=(size,))
  manifest = Manifest(
      folder=str(folder), version=records.VERSION, corpus=folder.name,
      format='segment_pair', sentences='prose', sequence_length=LENGTH,
      max_examples_per_row=SLOTS, dtype='uint16', vocab_size=1000,
      tokenizer='t0', forms=('array_record', 'memmap'), splits=splits,
      counts={}, seconds=0., pair_law={}, duplicates=DUPLICATES)
  manifest.write()
  assert Manifest.read(folder) == manifest
  return manifest, written


@pytest.fixture(scope='module')
def pairs(tmp_path_factory):
  """Two corpora of pairs: manifests, and what was written."""
  folder = tmp_path_factory.mktemp('pairs')
  return list(zip(write_pairs(folder / 'a', 10, (13, 15, 14, 6)),
                  write_pairs(folder / 'b', 20, (8, 7, 9, 5))))


@pytest.fixture(params=['tf', 'numpy'], name='backend')
def backend_fixture(request):
  if request.param == 'tf' and records.array_record_module() is None:
    pytest.skip('array_record is not installed')
  return request.param


def test_worked_examples():
  assert doctest.testmod(pipeline).failed == 0


def test_rows_count_through_duplicates_then_corpora(pairs, backend):
  (manifests, written) = pairs
  source = open_source(manifests, 'train', backend)
  assert source.records_DK.tolist() == [[13, 8], [15, 7], [14, 9]]
  assert source.num_records == 66 and source.pairs
  assert source.corpus_tokens[0] == sum(
      len(row.ids) for name in ('train', 'train_1', 'train_2')
      for row in written[0][name])
  number, seen = 0, set()
  got = source.gather(np.arange(66))
  for name in records.split_names('train', DUPLICATES):
    for corpus in (0, 1):
      for row in written[corpus][name]:
        n = len(row.lengths)
        assert got.ids[number, :len(row.ids)].tolist() == row.ids.tolist()
        for field, behind in (('lengths', 0), ('documents', -1),
                              ('first_lengths', 0), ('second_documents', -1)):
          assert getattr(got, field)[number].tolist() == (
              getattr(row, field).tolist() + [behind] * (SLOTS - n)), field
        ids = got.example_ids[number]
        assert (ids[:n] >> 48 == corpus).all() and (ids[n:] == -1).all()
        seen.update(ids[:n].tolist())
        number += 1
  assert len(seen) == source.num_examples  # No two have one name.
  held_out = open_source(manifests, 'eval', backend)
  assert held_out.num_records == 11 and held_out.records_DK.shape == (1, 2)


def test_fields_are_those_of_each_example_alone(pairs, config, law):
  source = open_source(pairs[0], 'train', 'numpy')
  rows = source.gather(np.arange(source.num_records))
  fields = pipeline.pair_fields(rows)
  segment_ids = pipeline.segment_ids(rows.lengths, LENGTH)
  for row in range(source.num_records):
    n = (rows.lengths[row] > 0).sum()
    types, positions, at = [], [], 0
    for length, first in zip(rows.lengths[row, :n],
                             rows.first_lengths[row, :n]):
      positions.append(at)
      types += [0] * first + [1] * (length - first)
      at += length
    filler = [0] * (SLOTS - n)
    assert fields['type_ids'][row].tolist() == types + [0] * (LENGTH - at)
    assert fields['nsp_positions'][row].tolist() == positions + filler
    assert fields['nsp_weights'][row].tolist() == [1] * n + filler
    assert fields['nsp_targets'][row].tolist() == [
        int(a != b) for a, b in zip(rows.documents[row, :n],
                                    rows.second_documents[row, :n])] + filler
    # The random rows have odd ids in B alone.
    odd = (rows.ids[row] % 2 == 1) & (segment_ids[row] > 0)
    assert (fields['type_ids'][row][odd] == 1).all()
    assert (rows.ids[row, positions] == 0).all()


def test_backends_give_the_same_bits(pairs, config, law):
  pytest.importorskip('tensorflow')
  batches = {}
  for backend in ('tf', 'numpy'):
    settings = config(sequence_length=LENGTH, backend=backend)
    iterator = Pipeline(open_source(pairs[0], 'train', backend), settings,
                        law(), seed=3).batches(5)
    batches[backend] = list(itertools.islice(iterator, 4))
    iterator.close()
  for ours, theirs in zip(batches['numpy'], batches['tf']):
    assert ours.keys() == theirs.keys() == FIELDS
    for name in FIELDS:
      assert ours[name].dtype == theirs[name].dtype, name
      np.testing.assert_array_equal(ours[name], theirs[name], name)


@pytest.mark.parametrize('mixture', ['', 'a=1,b=1'])
def test_each_epoch_reads_its_duplicate(pairs, config, law, mixture):
  """Epoch e has each record of duplicate e mod D, and no other."""
  source = open_source(pairs[0], 'train', 'numpy')
  pipeline = Pipeline(source, config(sequence_length=LENGTH, mixture=mixture),
                      law(), seed=1)
  epochs, numbers = pipeline._order.at(np.arange(6 * 66))
  example_ids = source.gather(numbers).example_ids[:, 0]
  corpus, record = example_ids >> 48, example_ids >> 8 & (1 << 40) - 1
  for k, sizes in enumerate(source.records_DK.T):
    starts = np.cumsum([0, *sizes])
    for epoch in range(6):
      number = epoch % DUPLICATES
      assert sorted(record[(corpus == k) & (epochs == epoch)]) == list(
          range(starts[number], starts[number + 1]))
  passes = pipeline.epochs(3)
  if not mixture:
    assert passes == dict.fromkeys('ab', 1 + 3 / 22)
  else:
    assert passes == {'a': 12 / 13, 'b': 1 + 4 / 7}


def test_static_masks_go_with_the_duplicates(pairs, config, law):
  """As BERT's duplicated data: with as many masks, an example keeps its own."""
  source = open_source(pairs[0], 'train', 'numpy')
  pipeline = Pipeline(
      source, config(sequence_length=LENGTH, batch_size=1, masks='static',
                     num_static_masks=DUPLICATES), law(), seed=1)
  masks = {}
  for step in range(3 * source.num_records):
    batch = pipeline.make_batch(step)
    masks.setdefault(batch['example_ids'][0, 0], []).append(
        batch['input_ids'].tolist())
  assert len(masks) == source.num_records
  for seen in masks.values():
    assert len(seen) == 3 and seen[0] == seen[1] == seen[2]


@pytest.mark.parametrize('hosts', [1, 2, 4])
@pytest.mark.parametrize('micro_batches', [1, 2])
def test_hosts_make_one_batch_and_may_change(pairs, config, law, backend,
                                             hosts, micro_batches):
  """Bit for bit the same global batch, restarted with other hosts too."""
  source = open_source(pairs[0], 'train', backend)
  settings = config(sequence_length=LENGTH, backend=backend)
  whole = Pipeline(source, settings, law(), seed=2)
  for step in (0, 7):  # Step 7: as if restarted there.
    expected = whole.make_batch(step)
    for host in range(hosts):
      rows = host_rows(8, micro_batches, host, hosts)
      iterator = Pipeline(source, settings, law(), seed=2,
                          rows=rows).batches(step)
      part = next(iterator)
      iterator.close()
      for name in FIELDS:
        np.testing.assert_array_equal(part[name], expected[name][rows], name)


def test_evaluation_has_fields_for_filler_rows(pairs, config, law):
  source = open_source(pairs[0][:1], 'eval', 'numpy')
  *_, last = eval_batches(source, config(sequence_length=LENGTH), law(),
                          name='a', batch_size=4)
  assert last.keys() == FIELDS
  assert (last['nsp_weights'].sum(1) > 0).tolist() == [True, True, False, False]
  for name in ('segment_ids', 'type_ids', 'nsp_targets', 'nsp_positions',
               'mlm_weights'):
    assert not last[name][2:].any()
