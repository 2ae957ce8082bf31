"""The paper's tables at a microscopic scale: text, tasks, one layer x 16."""

import dataclasses
import json

import numpy as np

from robertax.paper.scales import TINY, Recipe
from tests.tasks import tiny_glue

WORDS = ('the a of and to in is was it for on with as at by from river stone '
         'green house walks sings under over small great seven eight').split()


def text(rng, sentences):
  return '\n'.join(' '.join(rng.choice(WORDS, rng.integers(4, 12))) + '.'
                   for _ in range(sentences))


def write_data(folder):
  """DIR of the doors: Books, Wikipedia, news; SST-2, RTE, and of MNLI dev."""
  rng = np.random.default_rng(0)
  (folder / 'pretrain').mkdir(parents=True)
  for name in ('wiki', 'books', 'news'):
    (folder / 'pretrain' / f'{name}.jsonl').write_text(''.join(
        json.dumps({'text': text(rng, 8)}) + '\n' for _ in range(60)))
  tiny_glue.write_sst2(folder / 'glue', train=48, dev=24)
  write_pairs(rng, folder / 'glue')
  return folder


def write_pairs(rng, folder):
  """Labels without sense."""
  (folder / 'MNLI').mkdir()
  (folder / 'MNLI' / 'dev_matched.jsonl').write_text(''.join(json.dumps({
      'premise': text(rng, 1), 'hypothesis': text(rng, 1),
      'label': ('neutral', 'entailment', 'contradiction')[n % 3]}) + '\n'
                                                     for n in range(60)))
  (folder / 'RTE').mkdir()
  for split, count in (('train', 32), ('dev', 16)):
    (folder / 'RTE' / f'{split}.tsv').write_text(
        'index\tsentence1\tsentence2\tlabel\n' + ''.join(
            f'{n}\t{text(rng, 1)}\t{text(rng, 1)}\t'
            f'{"not_" * (n % 2)}entailment\n' for n in range(count)))


def scale(seeds=2, tokens=2_000):
  """As TINY, and a thousandth of it."""
  recipe = Recipe(4, 1e-3, tokens=tokens)
  return dataclasses.replace(
      TINY, name='microscopic', seeds=seeds,
      shapes=dict.fromkeys(('base', 'large'), dict(
          hidden_size=16, num_layers=1, num_heads=2, mlp_size=32,
          max_positions=32)),
      recipes=dict.fromkeys(TINY.recipes, recipe),
      changes=dict(TINY.changes) | {
          'data.sequence_length': 32, 'data.workers': 1, 'mesh.data': 1,
          'data.pair_duplicates': 2, 'train.checkpoint_every': 5,
          'train.log_every': 5},
      pieces={'byte_bpe': 300, 'wordpiece': 120},
      characters=dict.fromkeys(TINY.characters, 4_000),
      columns={'1': ('loss', 'squad2', 'sst2'),
               '5': ('mnli', 'mnli_mm', 'rte')},
      tuning=dict(TINY.tuning) | {
          'data.sequence_length': 32, 'data.batch_size': 16, 'mesh.data': 1,
          'finetune.epochs': 1, 'finetune.eval_tokens': 1024})
