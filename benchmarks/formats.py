"""Repeats the paper's study of masks and formats, small, at equal tokens.

  python -m benchmarks.formats --corpora='DIR/*.jsonl.zst' --out=runs/formats

Trains the quickstart's model (rows of 128 tokens) on a slice of each corpus
with static and with dynamic masks, and in all four formats, with several seeds,
and prints one table. Every run sees the same text and equally many tokens,
without padding. All are measured on other documents of the same corpora:

  own      held-out loss in the training format, in nats
  common   held-out loss on the same FULL-SENTENCES rows for all; a pair model
           sees only segment A there, and its NSP head is removed
  NSP      accuracy on held-out pairs of its own format

The same command resumes. Results do not extend to larger models or longer runs:
the paper's Tables 1 and 2 have fine-tuned scores of RoBERTa base.
"""

import argparse
from collections import Counter
import dataclasses
import itertools
import json
import os
import statistics
import sys
from typing import Any

LENGTH, ROWS = 128, 8
VOCAB_SIZE = 2048
VARIANTS = {
    'static': {'format': 'full_sentences', 'masks': 'static'},
    'full_sentences': {'format': 'full_sentences'},
    'doc_sentences': {'format': 'doc_sentences'},
    'segment_pair': {'format': 'segment_pair'},
    'sentence_pair': {'format': 'sentence_pair'},
}
SHOWN = {'static': 'FULL-SENTENCES, static masks',
         'full_sentences': 'FULL-SENTENCES, dynamic masks',
         'doc_sentences': 'DOC-SENTENCES', 'segment_pair': 'SEGMENT-PAIR+NSP',
         'sentence_pair': 'SENTENCE-PAIR+NSP'}


def make_config(folder: str, part: str, variant: str, seed: int) -> Any:
  """The Config of a run; train.steps is set when its rows are known."""
  from robertax.config import parse
  return parse({
      'seed': seed,
      'data': {'corpora': f'{folder}/{part}/*.jsonl', 'batch_size': ROWS,
               'sequence_length': LENGTH, 'cache_dir': f'{folder}/cache',
               **VARIANTS[variant],
               **({'pair_duplicates': 1} if part == 'heldout' else {})},
      'tokenizer': ({'vocab_size': VOCAB_SIZE} if part == 'train' else
                    {'path': f'{folder}/tokenizer.json'}),
      'model': {'hidden_size': 128, 'num_layers': 2, 'num_heads': 2,
                'mlp_size': 512, 'max_positions': LENGTH,
                'layers_unrolled': 2},
      'optim': {'learning_rate': 2e-3, 'warmup_steps': 200},
      'train': {'log_every': 50, 'eval_every': 1 << 30,
                'eval_examples': 64, 'checkpoint_every': 500,
                'keep_checkpoints': 1}})


def pretrain(config: Any) -> Any:
  """The task of a config, with prepared records."""
  from robertax.tasks import TASKS
  return TASKS[config.task](
      config.seed, config.data, config.tokenizer, config.model)


def train(folder: str, variant: str, seed: int, tokens: int) -> str:
  """Makes or resumes one run; returns its workdir."""
  from robertax import corpus
  from robertax.train import loop
  config = make_config(folder, 'train', variant, seed)
  manifests = corpus.prepare(config.data, config.tokenizer).manifests
  rows = sum(m.splits['train'].num_records for m in manifests)
  full = sum(m.splits['train'].num_tokens for m in manifests) / rows
  steps = round(tokens / (full * ROWS))
  workdir = f'{folder}/runs/{variant}-{seed}'
  ended = loop.run(dataclasses.replace(config, train=dataclasses.replace(
      config.train, steps=steps)), workdir)
  if ended.signal:
    raise SystemExit(128 + ended.signal)
  return workdir


def ask(params: Any, task: Any, config: Any) -> dict[str, float]:
  """Metrics over all held-out corpora, in which each target counts once."""
  from robertax import corpus
  from robertax.paper.inputs import heldout_sums
  sums = Counter()
  for manifest in corpus.prepare(config.data, config.tokenizer).manifests:
    for counted in heldout_sums(params, task, config, manifest, 'train'):
      sums.update(counted)
  return task.summarize(sums)


def measure(folder: str, variant: str, seed: int, tokens: int
            ) -> dict[str, float]:
  """Trains and measures, and keeps the results in the workdir."""
  workdir = f'{folder}/runs/{variant}-{seed}'
  path = f'{workdir}/asked.json'
  if os.path.exists(path):
    with open(path) as f:
      return json.load(f)
  import robertax
  from robertax.paper.inputs import plain_params
  print(f'{variant}, seed {seed}', file=sys.stderr)
  train(folder, variant, seed, tokens)
  model = robertax.load(workdir)
  if not os.path.exists(f'{folder}/tokenizer.json'):
    model.tokenizer.save(f'{folder}/tokenizer.json')
  own = make_config(folder, 'heldout', variant, 0)
  common = make_config(folder, 'heldout', 'full_sentences', 0)
  found = ask(model.params, pretrain(own), own)
  result = {'own': found['loss'], 'steps': model.step,
            'common': ask(plain_params(model.params), pretrain(common), common)[
                'loss']}
  if 'nsp_accuracy' in found:
    result['nsp'] = found['nsp_accuracy']
  with open(path, 'w') as f:
    json.dump(result, f)
  return result


def table(results: dict[str, list[dict[str, float]]]) -> str:
  """A markdown table of means, with the range over seeds in brackets."""
  def cell(runs, key):
    values = [run[key] for run in runs if key in run]
    return (f'{statistics.mean(values):.3f} ({min(values):.3f} to '
            f'{max(values):.3f})' if values else '')

  lines = ['| input | steps | own | common | NSP |', '|---|---|---|---|---|']
  for variant, runs in results.items():
    lines.append(f'| {SHOWN[variant]} | {runs[0]["steps"]} | '
                 f'{cell(runs, "own")} | {cell(runs, "common")} | '
                 f'{cell(runs, "nsp")} |')
  return '\n'.join(lines)


def main(arguments: list[str] | None = None) -> None:
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  parser.add_argument('--corpora', required=True, help='like data.corpora')
  parser.add_argument('--out', required=True, help='folder for everything')
  parser.add_argument('--characters', type=int, default=40_000,
                      help='per corpus, to train on; as many are held out')
  parser.add_argument('--tokens', type=int, default=1_200_000,
                      help='tokens that each run trains on')
  parser.add_argument('--seeds', type=int, default=3)
  parser.add_argument('--variants', default=','.join(VARIANTS))
  given = parser.parse_args(arguments)
  from robertax.errors import InputError
  from robertax.paper.inputs import write_slices
  try:
    write_slices(given.corpora, given.out, given.characters)
  except InputError as e:
    sys.exit(f'robertax: error: {e}')
  results = {}
  for seed, variant in itertools.product(
      range(given.seeds), given.variants.split(',')):
    results.setdefault(variant, []).append(
        measure(given.out, variant, seed, given.tokens))
  print(table(results))
  print(json.dumps(results))


if __name__ == '__main__':
  main()
