r"""Copies a run's figures into a small folder, without weights or text.

  python -m benchmarks.keep_run --workdir=runs/reference \
      --records=CACHE/records --downstream=runs/downstream/downstream.json \
      --device='2 CPU cores' --command='python -m robertax.main ...' \
      --out=benchmarks/reference

OUT is a workdir without checkpoints: `python -m robertax.report
--workdir=YOURS,OUT` draws its curves over yours. It has config.json (whose
folders are cut to their last part), metrics.jsonl, clock.jsonl, tokenizer.json,
learning_curve.png and `facts.json`: date, device, command, seed, steps,
held-out loss and perplexity of each corpus, the sha256 of each shard of its
records (the same text, tokenizer and length give the same), and the results of
benchmarks.downstream.
"""

import argparse
from datetime import UTC, datetime
import glob
import json
import os
import shutil
import sys
from typing import Any

from robertax.errors import InputError

_COPIED = ('metrics.jsonl', 'clock.jsonl', 'tokenizer.json',
           'learning_curve.png')
# Keys of a sweep's results.json; the others contain folders.
_SCORES = ('task', 'metric', 'split', 'rows', 'train_rows', 'settings')


def corpora(folder: str, run: Any) -> dict[str, Any]:
  """Describes the records of a run, by corpus and by tokens per row.

  Args:
    folder: folder of the folders of records.
    run: inspection.run_log.RunLog, which says what the run has read.

  Raises:
    InputError: no records have its tokenizer, format and lengths, or two have.
  """
  found: dict[str, Any] = {}
  data = run.config.data
  lengths = {data.sequence_length,
             data.first_sequence_length or data.sequence_length}
  for path in sorted(glob.glob(f'{folder}/*/manifest.json')):
    with open(path, encoding='utf-8') as f:
      made = json.load(f)
    length = made['sequence_length']
    if (made['tokenizer'], made['format']) == (run.tokenizer, data.format) and (
        length in lengths):
      of_corpus = found.setdefault(made['corpus'], {})
      if str(length) in of_corpus:
        raise InputError(f'{folder}: {made["corpus"]} is there twice in rows '
                         f'of {length}: name a folder with those alone that '
                         'the run has read.')
      of_corpus[str(length)] = {
          'tokens': made['splits']['train']['num_tokens'],
          'eval_tokens': made['splits']['eval']['num_tokens'],
          'characters': made['counts']['characters'],
          'sha256': {name: check['sha256']
                     for name, check in made['checksums'].items()
                     if 'array_record' in name}}
  if not found:
    raise InputError(f'{folder}: no records of the tokenizer {run.tokenizer} '
                     f'in {data.format} of {sorted(lengths)} tokens.')
  return found


def scores(path: str) -> dict[str, Any]:
  """Reads downstream.json without its folders."""
  with open(path, encoding='utf-8') as f:
    found = json.load(f)
  return {shown: {name: {key: one[key] for key in _SCORES}
                  for name, one in both.items()}
          for shown, both in found.items()}


def keep(options: argparse.Namespace):
  """Writes the folder OUT.

  Raises:
    InputError: a part is missing.
  """
  from robertax.inspection import run_log
  run = run_log.read_run(options.workdir)
  if run.step < run.config.train.steps:
    raise InputError(f'{options.workdir} is not at its end: step {run.step} of '
                     f'{run.config.train.steps}.')
  for name in _COPIED:
    if not os.path.exists(f'{options.workdir}/{name}'):
      raise InputError(f'{options.workdir} has no {name}.')
  times = run.times()
  if times is None:
    raise InputError(f'{options.workdir}/clock.jsonl cannot be read.')
  began, ended, _ = times
  facts: dict[str, Any] = {
      'date': datetime.fromtimestamp(ended, UTC).date().isoformat(),
      'device': options.device, 'command': options.command,
      'seed': run.config.seed, 'steps': run.step,
      'minutes': round((ended - began) / 60, 1),
      'held_out': {key.removeprefix('eval/'): run.last(key)
                   for key in run.metrics
                   if key.startswith('eval/') and run.last(key) is not None},
      'tokenizer': run.tokenizer,
      'corpora': corpora(options.records, run)}
  if options.downstream:
    facts['downstream'] = scores(options.downstream)
  with open(f'{options.workdir}/config.json', encoding='utf-8') as f:
    config = json.load(f)
  for key in ('corpora', 'cache_dir'):
    config['data'][key] = ','.join(
        os.path.basename(part) for part in config['data'][key].split(','))
  os.makedirs(options.out, exist_ok=True)
  for name in _COPIED:
    shutil.copyfile(f'{options.workdir}/{name}', f'{options.out}/{name}')
  for name, values in (('config.json', config), ('facts.json', facts)):
    with open(f'{options.out}/{name}', 'w', encoding='utf-8') as f:
      f.write(json.dumps(values, indent=2) + '\n')


def main():
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  parser.add_argument('--workdir', required=True)
  parser.add_argument('--records', required=True,
                      help='the parent folder of the records')
  parser.add_argument('--out', required=True)
  parser.add_argument('--device', required=True, help='a description')
  parser.add_argument('--command', required=True, help='the command of the run')
  parser.add_argument('--downstream', default='', help='its downstream.json')
  options = parser.parse_args()
  try:
    keep(options)
  except InputError as e:
    sys.exit(f'robertax: error: {e}')


if __name__ == '__main__':
  main()
