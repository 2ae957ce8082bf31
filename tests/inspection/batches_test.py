"""show_batch(): what is shown is the batch, recounted in plain Python."""

import dataclasses
import math
import sys

from ml_collections import ConfigDict
import numpy as np
import pytest

import robertax
from robertax import corpus, text
from robertax.config import parse, to_dict
from robertax.corpus import records, shards
from robertax.corpus.preparation import Prepared
from robertax.corpus.records import Manifest, SplitCounts
from robertax.errors import InputError
from robertax.inspection.batches import show_batch
from robertax.tasks.pretrain import Pretrain
from robertax.train import workdir

LENGTH, ROWS, STEP = 64, 8, 700


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """Two corpora; sentences are told apart by their numbers."""
  folder = tmp_path_factory.mktemp('show')
  for name, documents in (('first', 90), ('second', 60)):
    (folder / f'{name}.txt').write_text('\n\n'.join(
        '\n'.join(f'[bold]{name}[/bold] <b>text</b> {d} holds s{d}x{i}, 中文.'
                  for i in range(1 + d % 7)) for d in range(documents)))
  return folder


def config(folder, **changes):
  return parse({
      'seed': 5,
      'data': {'corpora': f'{folder}/first.txt,{folder}/second.txt',
               'sequence_length': LENGTH, 'batch_size': ROWS, 'workers': 1,
               'backend': 'numpy', 'format': 'doc_sentences',
               'cache_dir': str(folder / 'cache'), **changes},
      'tokenizer': {'vocab_size': 330},
      'model': {'hidden_size': 16, 'num_layers': 1, 'num_heads': 2,
                'mlp_size': 32, 'max_positions': LENGTH}})


def task_of(settings):
  return Pretrain(settings.seed, settings.data, settings.tokenizer,
                  settings.model)


CASES = [{}, {'masking_unit': 'whole_word', 'specials': 'exclude'},
         {'masking_unit': 'span', 'span_length': 3},
         {'masking_law': 'bert', 'masking_unit': 'whole_word'},
         {'mixture': 'first=1,second=3', 'format': 'full_sentences'},
         {'mask_rate_end': 0.4, 'mask_rate_steps': 1000}]


@pytest.fixture(scope='module', params=CASES, ids=str)
def shown(request, folder):
  """(what is shown, the pipeline it is of, its config)"""
  settings = config(folder, **request.param)
  return (show_batch(settings, STEP, 0), task_of(settings).pipeline(STEP),
          settings)


def by_row(batch):
  rows = {}
  for example in batch.rows:
    rows.setdefault(example['row'], []).append(example)
  return rows


def test_the_ids_are_the_rows_before_and_after(shown):
  batch, pipeline, _ = shown
  rows, _ = pipeline.read(STEP)
  masked = pipeline.make_batch(STEP)
  found = by_row(batch)
  assert sorted(found) == list(range(ROWS))
  for number, examples in found.items():
    size = rows.lengths[number].sum()
    for key, expected in (('ids', rows.ids), ('input_ids',
                                              masked['input_ids'])):
      assert sum((e[key] for e in examples), []) == (
          expected[number, :size].tolist())
    ids = rows.example_ids[number]
    assert [(e['corpus'], e['record'], e['example']) for e in examples] == [
        (('first', 'second')[i >> 48], i >> 8 & (1 << 40) - 1, i & 255)
        for i in ids[ids >= 0].tolist()]


def test_it_is_what_a_run_reads(shown):
  batch, _, settings = shown
  batches = task_of(settings).train_batches(STEP, lambda _: np.arange(ROWS))
  expected = next(batches)
  batches.close()
  for number, examples in by_row(batch).items():
    ids = sum((e['input_ids'] for e in examples), [])
    assert expected['input_ids'][number, :len(ids)].tolist() == ids


def test_marks_are_the_fields_of_the_batch(shown):
  batch, pipeline, settings = shown
  masked = pipeline.make_batch(STEP)
  mask_id = 329
  for number, examples in by_row(batch).items():
    real = masked['mlm_weights'][number] > 0
    positions, targets, start = [], [], 0
    for e in examples:
      for place, kind in e['marks'].items():
        positions.append(start + place)
        targets.append(e['ids'][place])
        now = e['input_ids'][place]
        assert kind == ('masked' if now == mask_id else
                        'kept' if now == targets[-1] else 'random')
      unmarked = set(range(e['length'])) - set(e['marks'])
      assert all(e['ids'][i] == e['input_ids'][i] for i in unmarked)
      assert e['after'].count('[mask:') == list(e['marks'].values()).count(
          'masked')
      start += e['length']
    assert positions == masked['mlm_positions'][number, real].tolist()
    assert targets == masked['mlm_targets'][number, real].tolist()


def test_the_document_is_where_the_text_comes_from(shown, folder):
  batch, _, settings = shown
  documents = {name: (folder / f'{name}.txt').read_text().split('\n\n')
               for name in ('first', 'second')}
  assert batch.rows
  for e in batch.rows:
    sentences = [s for s in e['before'].removeprefix('<s>').split('</s>') if s]
    if settings.data.format == 'full_sentences':
      sentences = sentences[:1]  # Others may be the next document's.
      if e['before'].startswith('<s></s>'):
        continue  # It begins with the border.
    for sentence in sentences:
      assert sentence in documents[e['corpus']][e['document']].split('\n')


def test_epochs_are_passes_over_the_records(shown):
  batch, _, settings = shown
  task = task_of(settings)
  sizes = dict(zip(task.corpora, task._train[0][0].records_DK[0].tolist()))
  if not settings.data.mixture:
    for e in batch.rows:
      assert e['epoch'] == (STEP * ROWS + e['row']) // sum(sizes.values())
    assert batch.statistics['epoch'] == STEP * ROWS / sum(sizes.values())
  else:
    for name, share in (('first', 0.25), ('second', 0.75)):
      passes = STEP * ROWS * share / sizes[name]
      for epoch in batch.statistics['corpora'][name]['epochs']:
        assert abs(epoch - passes) <= 1.5


def test_statistics_are_recounted(shown):
  batch, _, settings = shown
  s, data = batch.statistics, settings.data
  tokens = sum(e['length'] for e in batch.rows)
  assert (s['rows'], s['sequence_length'], s['step']) == (ROWS, LENGTH, STEP)
  assert (s['examples'], s['tokens']) == (len(batch.rows), tokens)
  assert s['padding_fraction'] == pytest.approx(1 - tokens / ROWS / LENGTH)
  marks = [kind for e in batch.rows for kind in e['marks'].values()]
  assert s['predicted_tokens'] == len(marks) > 0
  for kind in ('masked', 'random', 'kept'):
    assert s[kind] == marks.count(kind)
    assert s[f'{kind}_share'] == s[kind] / len(marks)
  specials = {0, 1, 2, 3, 329}
  countable = tokens
  if data.specials == 'exclude':
    countable = sum(i not in specials for e in batch.rows for i in e['ids'])
  assert s['countable_tokens'] == countable
  assert s['predicted_share'] == len(marks) / countable
  rate = 0.15 if data.mask_rate_steps == 0 else 0.15 + 0.25 * 0.7
  assert s['asked']['predicted_share'] == pytest.approx(rate)
  assert [s['asked'][f'{kind}_share'] for kind in
          ('masked', 'random', 'kept')] == [0.8, 0.1, 0.1]
  for name in ('first', 'second'):
    mine = [e for e in batch.rows if e['corpus'] == name]
    assert s['corpora'][name] == {
        'rows': len({e['row'] for e in mine}), 'examples': len(mine),
        'tokens': sum(e['length'] for e in mine),
        'token_share': sum(e['length'] for e in mine) / tokens,
        'epochs': sorted({e['epoch'] for e in mine})}
  assert ('words' in s) == (data.masking_unit == 'whole_word')
  assert ('predicted_runs' in s) == (data.masking_unit == 'span')


@pytest.mark.parametrize('law', ['fairseq', 'bert'])
def test_whole_words_are_recounted(folder, law):
  settings = config(folder, masking_unit='whole_word', masking_law=law)
  batch, tok = show_batch(settings, 3, 0), task_of(settings).tokenizer
  words = predicted = 0
  for e in batch.rows:
    begins = [i for i, token in enumerate(e['ids'])
              if token in tok.special_ids or tok.word_starts[token]
              or e['ids'][i - 1] in tok.special_ids]
    for start, stop in zip(begins, [*begins[1:], e['length']]):
      pieces = {i in e['marks'] for i in range(start, stop)}
      assert len(pieces) == 1, 'half a word is predicted'
      words += law == 'fairseq' or e['ids'][start] not in tok.special_ids
      predicted += pieces.pop()
  s = batch.statistics
  assert (s['words'], s['predicted_words']) == (words, predicted)
  assert s['predicted_words_share'] == predicted / words
  assert ('predicted_words_share' in s['asked']) == (law == 'fairseq')


def test_spans_are_recounted(folder):
  batch = show_batch(config(folder, masking_unit='span', span_length=3), 3, 0)
  runs = sum(place - 1 not in e['marks'] for e in batch.rows
             for place in e['marks'])
  s = batch.statistics
  assert s['predicted_runs'] == runs
  assert s['mean_run_length'] == s['predicted_tokens'] / runs
  assert s['asked']['mean_run_length'] == 3


def test_fewer_rows_are_the_first_ones(folder):
  settings = config(folder)
  whole, some = show_batch(settings, 9, 0), show_batch(settings, 9, 2)
  assert some.statistics == whole.statistics
  assert some.rows == [e for e in whole.rows if e['row'] < 2]
  assert show_batch(settings, 9, 99).rows == whole.rows


def test_a_config_may_come_in_any_form(folder, tmp_path):
  settings = config(folder)
  expected = show_batch(settings, 4)
  values = to_dict(settings)
  file = tmp_path / 'some.py'
  file.write_text(
      'from robertax.config import defaults, with_arg\n'
      'def get_config(arg=None):\n  config = defaults()\n'
      f'  config.update({ {**values, "seed": 1}!r})\n'
      '  return with_arg(config, arg)\n')
  task = task_of(settings)
  workdir.write_workdir(str(tmp_path / 'w'), dataclasses.replace(
      settings, model=task.model), task.tokenizer)
  for form in (values, ConfigDict(values), f'{file}:seed=5', tmp_path / 'w'):
    assert robertax.show_batch(form, 4).rows == expected.rows
  assert robertax.show_batch(file, 4).rows != expected.rows
  text.train_byte_bpe(['other text'] * 9, 300).save(
      tmp_path / 'w' / 'tokenizer.json')
  with pytest.raises(InputError, match='has changed since that run'):
    robertax.show_batch(str(tmp_path / 'w'), 4)


@pytest.mark.parametrize('arguments, message', [
    ({'step': -1}, 'step=-1'), ({'rows': -2}, 'rows=-2'),
    ({'step': 1.5}, 'step=1.5'), ({'step': 1 << 62}, 'at most 576460'),
    ({'config': 'none.py'}, 'none.py does not exist'),
    ({'config': 'none'}, 'neither a config file'), ({'config': 3}, 'config=3'),
    ({'config': {'task': 'x'}}, 'unknown task')])
def test_wrong_input_is_said(folder, arguments, message):
  with pytest.raises(InputError, match=message):
    show_batch(**{'config': config(folder), **arguments})


def test_neither_tensorflow_nor_array_record_is_needed(
    folder, tmp_path, monkeypatch):
  expected = show_batch(config(folder), 2)
  for name in ('tensorflow', 'array_record', 'tensorflow_datasets'):
    monkeypatch.setitem(sys.modules, name, None)
    for module in [m for m in sys.modules if m.startswith(f'{name}.')]:
      monkeypatch.delitem(sys.modules, module)
  again = show_batch(config(folder), 2, cache_dir=str(tmp_path))
  assert again.rows == expected.rows


def test_pairs(tmp_path, monkeypatch):
  """A and B, both documents, and which B is a random one."""
  tok = text.train_byte_bpe(['alpha beta gamma delta'] * 9, 290)
  rng = np.random.default_rng(0)
  splits = {}
  for name, size in (('train', 12), ('train_1', 12), ('eval', 2)):
    mapped = shards.ArraysWriter(str(tmp_path), name, 'uint16')
    examples = tokens = 0
    for _ in range(size):
      ids, facts = [], []
      for _ in range(rng.integers(1, 3)):
        document, second = rng.integers(50), rng.integers(50)
        second = document if rng.random() < .5 else second
        a, b = (tok.encode(f'{side} {d}').tolist() for side, d in
                (('alpha', document), ('beta', second)))
        one = [tok.bos_id, *a, tok.eos_id, *b, tok.eos_id]
        ids += one
        facts.append((len(one), document, len(a) + 2, second))
      examples, tokens = examples + len(facts), tokens + len(ids)
      mapped.write(records.RecordRow(np.array(ids, np.uint16),
                                     *np.array(facts, np.int32).T))
    mapped.close()
    splits[name] = SplitCounts(num_records=size, num_examples=examples,
                               num_tokens=tokens, shard_lengths=(size,))
  manifest = Manifest(
      folder=str(tmp_path), version=records.VERSION, corpus='p',
      format='segment_pair', sentences='prose', sequence_length=LENGTH,
      max_examples_per_row=2, dtype='uint16', vocab_size=tok.vocab_size,
      tokenizer=tok.fingerprint, forms=('memmap',), splits=splits, counts={},
      seconds=0., pair_law={}, duplicates=2)
  monkeypatch.setattr(corpus, 'prepare', lambda *_, **__: Prepared(
      tok, [manifest], ''))
  batch = show_batch(config(tmp_path, format='segment_pair'), STEP, 0)
  assert batch.rows
  for e in batch.rows:
    first, second = e['ids'][:e['first_length']], e['ids'][e['first_length']:]
    assert tok.decode(first) == f'<s>alpha {e["document"]}</s>'
    assert tok.decode(second) == f'beta {e["second_document"]}</s>'
    assert e['random_next'] == (e['document'] != e['second_document'])
  random = sum(e['random_next'] for e in batch.rows)
  s = batch.statistics
  assert (s['pairs'], s['random_pairs']) == (len(batch.rows), random)
  assert 0 < random < len(batch.rows)
  assert math.isclose(s['random_pairs_share'], random / len(batch.rows))
  plain = str(batch)
  assert plain.count('B follows A') == len(batch.rows) - random
  assert plain.count('before B: beta') == len(batch.rows)
  for e in batch.rows:
    if e['random_next']:
      assert f'B is random: document {e["second_document"]}\n' in plain
