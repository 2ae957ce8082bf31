"""Where the paper's text and tasks lie, and what stands in for what does not.

  DIR/pretrain/   text: files whose names begin with wiki or book are Books +
                  Wikipedia, all together the five corpora
  DIR/glue/       CoLA, SST-2, MRPC, STS-B, QQP, MNLI, QNLI, RTE, WNLI, each
                  with the official files
  DIR/squad/      train-v1.1.json, dev-v1.1.json, train-v2.0.json, dev-v2.0.json
  DIR/race/       the official folders, or {train,dev,test}-{middle,high}.jsonl
                  (.zst, .gz)
  DIR/bpe/        if it is there, GPT-2's encoder.json and vocab.bpe with
                  fairseq's dict.txt, and BERT's vocab in a .txt; else the
                  tokenizers are trained

Without DIR, text and GLUE are TFDS's, as far as it has them.
"""

from collections.abc import Mapping
import dataclasses
import hashlib
import json
from typing import Any
import zlib

from robertax import paths
from robertax.corpus import readers
from robertax.corpus.documents import READERS, reader_of
from robertax.errors import InputError, writing
from robertax.paper.scales import Scale
from robertax.paper.tables import FIVE, PAIR
from robertax.studies.paper_tasks import GLUE, RACE, TASKS
from robertax.tasks import qnli_pairs, squad_files
from robertax.tasks.glue_files import GLUE as GLUE_TASKS
from robertax.tasks.race import ALL_PARTS, SPLITS

# The pair's names begin so.
BOOKS_AND_WIKIPEDIA = ('wiki', 'book')
# TFDS has no BookCorpus, OpenWebText or Stories; C4's parts are the nearest.
TFDS = {PAIR: 'tfds:wikipedia/20230601.en',
        FIVE: 'tfds:wikipedia/20230601.en,tfds:c4/realnewslike,'
              'tfds:c4/webtextlike'}
TFDS_SAYS = {PAIR: 'Wikipedia alone stands in for Books + Wikipedia (TFDS)',
             FIVE: 'Wikipedia and the news and web parts of C4 stand in for '
                   'the five corpora (TFDS)'}


@dataclasses.dataclass(frozen=True)
class Place:
  """Where a task's data lies.

  Attributes:
    values: keys of its config.
    stand_in: what stands in for the official data; '': nothing does.
    missing: why the task cannot be run; '': it can.
  """
  values: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  stand_in: str = ''
  missing: str = ''


def corpora(folder: str) -> tuple[dict[str, str], str]:
  """({PAIR: data.corpora, FIVE: likewise}, what stands in for what).

  Args:
    folder: DIR; '': TFDS.

  Raises:
    InputError: no text there, or no file that is called as Books or Wikipedia.
  """
  if not folder:
    return TFDS, '; '.join(TFDS_SAYS.values())
  place = f'{folder}/pretrain'
  names = [name for name in (
      paths.listdir(place) if paths.isdir(place) else ())
           if reader_of(name) and not name.startswith('.')]
  pair = [name for name in names
          if name.lower().startswith(BOOKS_AND_WIKIPEDIA)]
  if not pair:
    raise InputError(
        f'{place}: no text file whose name begins with '
        f'{" or ".join(BOOKS_AND_WIKIPEDIA)}, as Books + Wikipedia do, is '
        f'there (found: {", ".join(names[:8]) or "none"}). It may end in '
        f'{", ".join(READERS)}.')
  found = {kind: ','.join(f'{place}/{name}' for name in some)
           for kind, some in ((PAIR, pair), (FIVE, names))}
  said = ''
  if len(pair) == len(names):
    said = f'{place} has nothing but {", ".join(pair)}: FIVE corpora are these'
  return found, said


def pieces(folder: str, scale: Scale) -> dict[str, str]:
  """kind -> the tokenizer that lies below DIR/bpe, at the paper's scale."""
  place = f'{folder}/bpe'
  if not folder or not scale.official_pieces or not paths.isdir(place):
    return {}
  names, found = paths.listdir(place), {}
  if 'encoder.json' in names:
    found['byte_bpe'] = place
  vocab = [name for name in names if name.endswith('vocab.txt')]
  if vocab:
    found['wordpiece'] = f'{place}/{vocab[0]}'
  return found


def place(name: str, folder: str, made: str, scale: Scale) -> Place:
  """Where the data of a task lies; writes what stands in for it.

  Args:
    name: of paper_tasks.TASKS.
    folder: DIR; '': TFDS.
    made: a folder for what is written.
    scale: says how much is scored.

  Raises:
    InputError: damaged data, or `made` cannot be written.
  """
  task = TASKS[name]
  if not folder:
    if task.folder == GLUE:
      return Place({'data.dir': 'tfds:'})
    return Place(missing=f'no --data with {task.folder}/')
  where = f'{folder}/{task.folder}'
  if task.folder == GLUE:
    return _glue(name, where, folder, made)
  if not paths.isdir(where):
    return Place(missing=f'no {where}')
  if task.folder == RACE:
    return _race(where, made, scale.scored.get(name, 0))
  return _squad(where, '1.1' if name == 'squad1' else '2.0')


def _squad(where: str, version: str) -> Place:
  values = {'data.dir': where}
  needed = [f'train-v{version}.json', f'dev-v{version}.json']
  lacks = [x for x in needed if not paths.exists(f'{where}/{x}')]
  if not lacks:
    return Place(values)
  parts = ('train-v1.1.json', 'dev-v2.0.json')
  if lacks != [needed[0]] or version == '1.1' or not paths.exists(
      f'{where}/{parts[0]}'):
    return Place(missing=f'no {lacks[0]} in {where}')
  # A slice whose questions are of articles that the other half has not.
  return Place(
      values | {'data.train_files': f'{parts[0]}[::12],{parts[1]}[::2]',
                'data.eval_files': f'{parts[1]}[1::2]'},
      'there is no train-v2.0.json: trained on every 12th article of '
      'train-v1.1 and every other one of dev-v2.0, scored on articles of the '
      'other half')


def _glue(name: str, where: str, folder: str, made: str) -> Place:
  official = GLUE_TASKS[name]
  inside = f'{where}/{official.folder}'

  def there(split: str) -> str:
    return next((path for ending in ('tsv', 'jsonl') if paths.exists(
        path := f'{inside}/{split}.{ending}')), '')

  train, dev = there('train'), there(official.dev[0])
  if train and dev:
    return Place({'data.dir': where})
  if name == 'mnli' and dev:
    made = f'{made}/MNLI-{_mark(dev)}'
    _cut_in_two(dev, made)
    return Place({'data.dir': made},
                 'there is no MNLI train: dev-matched is cut in two, four '
                 'fifths of its premises to train, the others to score')
  squad = f'{folder}/squad/train-v1.1.json'
  if name == 'qnli' and dev and paths.exists(squad):
    made = f'{made}/QNLI-{_mark(squad, dev)}'
    _pairs_of(squad, dev, made)
    return Place({'data.dir': made},
                 'there is no QNLI train: pairs made of every fifth question '
                 'of SQuAD train, scored on the official dev')
  return Place(missing=f'no {"dev" if train else "train"} file in {inside}')


def _cut_in_two(dev: str, folder: str) -> None:
  """By premise, so that none is on both sides; JSON lines or the official TSV.

  Rows go over as they are: what is wrong in one is said by who reads it.
  """
  ending = dev.rpartition('.')[2]
  sides, header = {'train': [], 'dev_matched': []}, []
  with paths.open(dev) as f:
    for line in (line.rstrip('\n') for line in f if line.strip()):
      if ending == 'tsv' and not header:
        header = line.removeprefix('\ufeff').split('\t')
        for rows in sides.values():
          rows.append(line)
        continue
      row = (dict(zip(header, line.split('\t'))) if header
             else _object(line))
      premise = str(row.get('premise', row.get('sentence1', '')))
      scored = zlib.crc32(premise.encode()) % 5 == 0
      sides['dev_matched' if scored else 'train'].append(line)
  for side, rows in sides.items():
    _write(f'{folder}/{side}.{ending}', rows)


def _object(line: str) -> dict[str, Any]:
  try:
    row = json.loads(line)
  except (ValueError, RecursionError):
    return {}
  return row if isinstance(row, dict) else {}


def _pairs_of(squad: str, dev: str, folder: str) -> None:
  """QNLI-like pairs to train, and the official dev beside them."""
  if not paths.exists(f'{folder}/train.tsv'):
    paths.makedirs(folder)
    made, _ = qnli_pairs.pairs(squad_files.read_questions(squad, '1.1')[::5])
    qnli_pairs.write(made, f'{folder}/train.tsv')
  with paths.open(dev) as f:
    _write(f'{folder}/dev.{dev.rpartition(".")[2]}',
           f.read().rstrip('\n').split('\n'))


def _race(where: str, made: str, scored: int) -> Place:
  """All of it, or the first questions of dev and test."""
  packed = {(split, part): path for split in SPLITS for part in ALL_PARTS
            for ending in ('', '.zst', '.gz') if paths.exists(
                path := f'{where}/{split}-{part}.jsonl{ending}')}
  if not scored or len(packed) < len(SPLITS) * len(ALL_PARTS):
    return Place({'data.dir': where})
  made = f'{made}/race-{scored}-{_mark(*packed.values())}'
  for (split, part), path in packed.items():
    kept, count = [], 0
    for _, line in readers.unpacked_lines(path, lambda _: None):
      if split == 'train' or count < scored:
        kept.append(line.decode())
        count += len(json.loads(line)['questions'])
    _write(f'{made}/{split}-{part}.jsonl', kept)
  return Place({'data.dir': made},
               f'of dev and test the first {scored} questions of each part')


def _mark(*sources: str) -> str:
  """Of these files, so that what is made of others lies elsewhere."""
  facts = [(paths.absolute(path), *paths.stat(path)) for path in sources]
  return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:8]


def _write(path: str, rows: list[str]) -> None:
  if paths.exists(path):
    return
  with writing(path):
    paths.makedirs(path.rpartition('/')[0])
    with paths.open(f'{path}.partial', 'w') as f:
      f.write('\n'.join(rows) + '\n')
    paths.replace(f'{path}.partial', path)
