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

from collections.abc import Iterable, Iterator, Mapping, Sequence
import dataclasses
import hashlib
import json
import os
from typing import Any
import zlib

import jax

from robertax import corpus, errors, files
from robertax.config import Config, DataConfig
from robertax.corpus import Manifest, readers
from robertax.corpus.documents import READERS, Corpus, reader_of, resolve
from robertax.corpus.sentences import prose
from robertax.data.masking import Masking
from robertax.data.pipeline import eval_batches
from robertax.data.source import open_source
from robertax.errors import InputError, writing
from robertax.paper.scales import (
    GLUE,
    PAPER_TASKS,
    RACE,
    Scale,
    TrainingText,
    pretraining_config,
    with_tokens,
)
from robertax.paper.tables import FIVE, PAIR, Row, Table
from robertax.tasks import TASKS, squad_files
from robertax.tasks.glue_files import GLUE as GLUE_TASKS
from robertax.tasks.race import ALL_PARTS, SPLITS
from robertax.tasks.squad_files import Question, normalize
from robertax.train.initial import open_weights
from robertax.train.step import eval_step

# QNLI-like pairs out of SQuAD: does the sentence hold the answer?
#
# QNLI was made from SQuAD so (Wang et al. 2019, section 2.3): a question beside
# each sentence of its paragraph, pairs with little in common left out. The
# exact filter was not published; here each question has its answer's sentence
# and the other one that shares the most words with it, so classes are even.
#
#   questions = squad_files.read('train-v1.1.json', '1.1')
#   made, left_out = qnli_pairs.pairs(questions)
#   qnli_pairs.write(made, 'QNLI/train.tsv')


QNLI_HEADER = ('index', 'question', 'sentence', 'label')


@dataclasses.dataclass(frozen=True)
class QnliPair:
  """A row of QNLI; label is `entailment` or `not_entailment`."""
  question: str
  sentence: str
  label: str


def paragraph_sentences(context: str) -> list[tuple[int, str]]:
  """(place of its first character, sentence) of a paragraph, in order."""
  found, at = [], 0
  for sentence in prose(context):
    at = context.index(sentence, at)
    found.append((at, sentence))
    at += len(sentence)
  return found


def qnli_pairs(questions: Iterable[Question]) -> tuple[list[QnliPair], int]:
  """Two pairs a question: its answer's sentence, and the one most like it.

  Most like it: shares the most words with the question, articles, punctuation
  and case aside; of equal ones, the first. By the first gold answer.

  Args:
    questions: with answers and their places; `squad_files.read`.

  Returns:
    (the pairs in the questions' order, entailment first; questions left out:
    without an answer, with an answer across two sentences, or on a paragraph
    of one sentence).
  """
  made, left_out, of = [], 0, {}
  for question in questions:
    split = of.setdefault(question.context,
                          paragraph_sentences(question.context))
    where = [i for i, (at, sentence) in enumerate(split)
             for answer in question.answers[:1]
             if at <= answer.start and answer.end <= at + len(sentence)]
    if not where or len(split) < 2:
      left_out += 1
      continue
    words = set(normalize(question.question).split())
    others = [sentence for i, (_, sentence) in enumerate(split)
              if i != where[0]]
    likest = max(others, key=lambda s: len(words & set(normalize(s).split())))
    for sentence, label in ((split[where[0]][1], 'entailment'),
                            (likest, 'not_entailment')):
      made.append(QnliPair(question.question.strip(), sentence, label))
  return made, left_out


def write_qnli(made: Sequence[QnliPair], path: str) -> None:
  """Writes pairs as GLUE's QNLI has them: a train.tsv or dev.tsv.

  Raises:
    InputError: it cannot be written.
  """
  partial = f'{path}.{os.getpid()}.partial'
  with errors.writing(path):
    with open(partial, 'w', encoding='utf-8', newline='\n') as f:
      f.write('\t'.join(QNLI_HEADER) + '\n')
      for index, pair in enumerate(made):
        # A tab or a line's end would be another column or row.
        f.write('\t'.join([str(index), *(
            ' '.join(text.split()) for text in dataclasses.astuple(pair))])
                + '\n')
    os.replace(partial, path)


# A slice of each corpus, and another that is held out: for small studies.


SLICE_PARTS = ('train', 'heldout')
# Characters of a document that a slice takes, so that it has many documents;
# of a corpus of few long ones (books) twice as many, or four times, ...
SLICE_LONGEST = 4_000
SLICES_VERSION = 1  # Raised whenever a slice would be another.


def write_slices(corpora: str, folder: str, characters: int) -> None:
  """Two slices of each corpus, of different documents: to train, to ask.

  Args:
    corpora: as data.corpora.
    folder: gets train/<corpus>.jsonl and heldout/<corpus>.jsonl; what is there
      already stays.
    characters: about as many in each.

  Raises:
    InputError: a corpus has less than twice as many; it cannot be written.
  """
  for one in resolve(corpora):
    places = {part: f'{folder}/{part}/{one.name}.jsonl' for part in SLICE_PARTS}
    if all(map(files.exists, places.values())):
      continue
    documents = _beginnings(one, _longest(one, characters))
    for part, path in places.items():
      taken = _until(documents, characters)
      if files.exists(path):
        for _ in taken:
          pass
        continue
      with writing(path):
        files.makedirs(f'{folder}/{part}')
        with files.open(f'{path}.partial', 'w') as f:
          for text in taken:
            f.write(json.dumps({'text': text}) + '\n')
        files.replace(f'{path}.partial', path)


def _beginnings(corpus: Corpus, longest: int) -> Iterator[str]:
  for text in corpus.documents():
    if len(text) > longest:  # Down to its last whole line.
      text = text[:longest].rpartition('\n')[0] or text[:longest]
    yield text


def _longest(corpus: Corpus, characters: int) -> int:
  """The least of LONGEST, 2 LONGEST, ... of which two slices can be made."""
  longest = SLICE_LONGEST
  while True:
    documents = _beginnings(corpus, longest)
    slices = [sum(map(len, _until(documents, characters))) for _ in SLICE_PARTS]
    if min(slices) >= characters:
      return longest
    if max(map(len, corpus.documents()), default=0) <= longest:
      raise InputError(
          f'the corpus {corpus.name}: two slices of {characters:,} characters, '
          'of different documents, are more than it has: more text is needed.')
    longest *= 2


def _until(documents: Iterator[str], characters: int) -> Iterator[str]:
  """Documents until there are so many characters of them, or no more."""
  taken = 0
  while taken < characters and (text := next(documents, None)) is not None:
    taken += len(text)
    yield text


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
class TaskPlace:
  """Where a task's data lies.

  Attributes:
    values: keys of its config.
    stand_in: what stands in for the official data; '': nothing does.
    missing: why the task cannot be run; '': it can.
  """
  values: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  stand_in: str = ''
  missing: str = ''


def paper_corpora(folder: str) -> tuple[dict[str, str], str]:
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
      files.listdir(place) if files.isdir(place) else ())
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


def paper_tokenizers(folder: str, scale: Scale) -> dict[str, str]:
  """kind -> the tokenizer that lies below DIR/bpe, at the paper's scale."""
  place = f'{folder}/bpe'
  if not folder or not scale.official_pieces or not files.isdir(place):
    return {}
  names, found = files.listdir(place), {}
  if 'encoder.json' in names:
    found['byte_bpe'] = place
  vocab = [name for name in names if name.endswith('vocab.txt')]
  if vocab:
    found['wordpiece'] = f'{place}/{vocab[0]}'
  return found


def task_place(name: str, folder: str, made: str, scale: Scale) -> TaskPlace:
  """Where the data of a task lies; writes what stands in for it.

  Args:
    name: of paper_tasks.TASKS.
    folder: DIR; '': TFDS.
    made: a folder for what is written.
    scale: says how much is scored.

  Raises:
    InputError: damaged data, or `made` cannot be written.
  """
  task = PAPER_TASKS[name]
  if not folder:
    if task.folder == GLUE:
      return TaskPlace({'data.dir': 'tfds:'})
    return TaskPlace(missing=f'no --data with {task.folder}/')
  where = f'{folder}/{task.folder}'
  if task.folder == GLUE:
    return _glue(name, where, folder, made)
  if not files.isdir(where):
    return TaskPlace(missing=f'no {where}')
  if task.folder == RACE:
    return _race(where, made, scale.scored.get(name, 0))
  return _squad(where, '1.1' if name == 'squad1' else '2.0')


def _squad(where: str, version: str) -> TaskPlace:
  values = {'data.dir': where}
  needed = [f'train-v{version}.json', f'dev-v{version}.json']
  lacks = [x for x in needed if not files.exists(f'{where}/{x}')]
  if not lacks:
    return TaskPlace(values)
  parts = ('train-v1.1.json', 'dev-v2.0.json')
  if lacks != [needed[0]] or version == '1.1' or not files.exists(
      f'{where}/{parts[0]}'):
    return TaskPlace(missing=f'no {lacks[0]} in {where}')
  # A slice whose questions are of articles that the other half has not.
  return TaskPlace(
      values | {'data.train_files': f'{parts[0]}[::12],{parts[1]}[::2]',
                'data.eval_files': f'{parts[1]}[1::2]'},
      'there is no train-v2.0.json: trained on every 12th article of '
      'train-v1.1 and every other one of dev-v2.0, scored on articles of the '
      'other half')


def _glue(name: str, where: str, folder: str, made: str) -> TaskPlace:
  official = GLUE_TASKS[name]
  inside = f'{where}/{official.folder}'

  def there(split: str) -> str:
    return next((path for ending in ('tsv', 'jsonl') if files.exists(
        path := f'{inside}/{split}.{ending}')), '')

  train, dev = there('train'), there(official.dev[0])
  if train and dev:
    return TaskPlace({'data.dir': where})
  if name == 'mnli' and dev:
    made = f'{made}/MNLI-{_files_mark(dev)}'
    _cut_in_two(dev, made)
    return TaskPlace({'data.dir': made},
                     'there is no MNLI train: dev-matched is cut in two, four '
                     'fifths of its premises to train, the others to score')
  squad = f'{folder}/squad/train-v1.1.json'
  if name == 'qnli' and dev and files.exists(squad):
    made = f'{made}/QNLI-{_files_mark(squad, dev)}'
    _pairs_of(squad, dev, made)
    return TaskPlace(
        {'data.dir': made},
        'there is no QNLI train: pairs made of every fifth question '
        'of SQuAD train, scored on the official dev')
  return TaskPlace(missing=f'no {"dev" if train else "train"} file in {inside}')


def _cut_in_two(dev: str, folder: str) -> None:
  """By premise, so that none is on both sides; JSON lines or the official TSV.

  Rows go over as they are: what is wrong in one is said by who reads it.
  """
  ending = dev.rpartition('.')[2]
  sides, header = {'train': [], 'dev_matched': []}, []
  with files.open(dev) as f:
    for line in (line.rstrip('\n') for line in f if line.strip()):
      if ending == 'tsv' and not header:
        header = line.removeprefix('\ufeff').split('\t')
        for rows in sides.values():
          rows.append(line)
        continue
      row = (dict(zip(header, line.split('\t'))) if header
             else _json_line(line))
      premise = str(row.get('premise', row.get('sentence1', '')))
      scored = zlib.crc32(premise.encode()) % 5 == 0
      sides['dev_matched' if scored else 'train'].append(line)
  for side, rows in sides.items():
    _write_rows(f'{folder}/{side}.{ending}', rows)


def _json_line(line: str) -> dict[str, Any]:
  try:
    row = json.loads(line)
  except (ValueError, RecursionError):
    return {}
  return row if isinstance(row, dict) else {}


def _pairs_of(squad: str, dev: str, folder: str) -> None:
  """QNLI-like pairs to train, and the official dev beside them."""
  if not files.exists(f'{folder}/train.tsv'):
    files.makedirs(folder)
    made, _ = qnli_pairs(squad_files.read_questions(squad, '1.1')[::5])
    write_qnli(made, f'{folder}/train.tsv')
  with files.open(dev) as f:
    _write_rows(f'{folder}/dev.{dev.rpartition(".")[2]}',
                f.read().rstrip('\n').split('\n'))


def _race(where: str, made: str, scored: int) -> TaskPlace:
  """All of it, or the first questions of dev and test."""
  packed = {(split, part): path for split in SPLITS for part in ALL_PARTS
            for ending in ('', '.zst', '.gz') if files.exists(
                path := f'{where}/{split}-{part}.jsonl{ending}')}
  if not scored or len(packed) < len(SPLITS) * len(ALL_PARTS):
    return TaskPlace({'data.dir': where})
  made = f'{made}/race-{scored}-{_files_mark(*packed.values())}'
  for (split, part), path in packed.items():
    kept, count = [], 0
    for _, line in readers.unpacked_lines(path, lambda _: None):
      if split == 'train' or count < scored:
        kept.append(line.decode())
        count += len(json.loads(line)['questions'])
    _write_rows(f'{made}/{split}-{part}.jsonl', kept)
  return TaskPlace({'data.dir': made},
                   f'of dev and test the first {scored} questions of each part')


def _files_mark(*sources: str) -> str:
  """Of these files, so that what is made of others lies elsewhere."""
  facts = [(files.absolute(path), *files.stat(path)) for path in sources]
  return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:8]


def _write_rows(path: str, rows: list[str]) -> None:
  if files.exists(path):
    return
  with writing(path):
    files.makedirs(path.rpartition('/')[0])
    with files.open(f'{path}.partial', 'w') as f:
      f.write('\n'.join(rows) + '\n')
    files.replace(f'{path}.partial', path)


# Models of any format, asked of the same held-out rows with the same masks.


HELDOUT_BATCH = 64  # Rows asked at once.


def measure_heldout(workdir: str, config: Config, split: str = 'eval'
                    ) -> dict[str, float]:
  """The held-out numbers of a pretrained model.

  Args:
    workdir: of its run.
    config: of what is asked: text, tokenizer, a format without pairs, and the
      model's shape.
    split: of the records that `config` prepares.

  Returns:
    loss (nats), perplexity, accuracy, bits_per_character (nats x masked tokens
    in proportion / characters / ln 2), loss/<corpus> for each.

  Raises:
    InputError: no weights there, or text that cannot be asked.
  """
  manifests = corpus.prepare(config.data, config.tokenizer,
                             progress=False).manifests
  task = TASKS[config.task].of(config, 1)
  with open_weights(workdir) as weights:
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    params = weights.read(jax.tree.map(lambda x: jax.ShapeDtypeStruct(
        x.shape, x.dtype, sharding=here), weights.shapes))
  return heldout_numbers(plain_params(params), task, config, manifests, split)


def heldout_numbers(params: Any, task: Any, config: Config,
                    manifests: list[Manifest], split: str) -> dict[str, float]:
  """See `measure`; each target counts once, whatever corpus it is of.

  Args:
    params: of task.model.
    task: whose objective is asked.
    config: its `data` says what is masked.
    manifests: of the records.
    split: of them.
  """
  step = eval_step(task.objective)
  total, found = {}, {}
  for manifest in manifests:
    source = open_source([manifest], split, config.data.backend,
                         task.tokenizer.pad_id)
    sums: dict[str, float] = {}
    for batch in eval_batches(
        source, config.data, Masking.of(config.data, task.tokenizer),
        name=manifest.corpus, batch_size=HELDOUT_BATCH):
      asked = step(params, {name: value[None] for name, value in batch.items()
                            if name != 'example_ids'})
      for key, value in jax.device_get(asked).items():
        sums[key] = sums.get(key, 0.0) + float(value)
        total[key] = total.get(key, 0.0) + float(value)
    found[f'loss/{manifest.corpus}'] = task.summarize(sums)['loss']
  summary = task.summarize(total)
  tokens = sum(m.splits[name].num_tokens for m in manifests
               for name in ('train', 'eval'))
  characters = sum(m.counts['characters'] for m in manifests)
  return {'loss': summary['loss'], 'perplexity': summary['perplexity'],
          'accuracy': summary['accuracy'],
          'bits_per_character': summary['bits'] * tokens / characters} | found


def plain_params(params: dict) -> dict:
  """A pair model's weights as a RoBERTa's: all is segment A, no NSP head."""
  params = {name: dict(part) for name, part in params.items()
            if name != 'nsp_head'}
  types = params['embeddings'].pop('types', None)
  if types is not None:
    positions = params['embeddings']['positions']
    params['embeddings']['positions'] = positions.at[2:].add(types[0])
  return params


def asked_config(config: Config, corpora: str) -> Config:
  """The config of what a model is asked: FULL-SENTENCES, plain masks.

  Args:
    config: of its run.
    corpora: data.corpora of the held-out text.
  """
  blank = DataConfig()
  return dataclasses.replace(
      config, seed=0, model=dataclasses.replace(
          config.model, num_types=0, nsp_head=False),
      data=dataclasses.replace(
          config.data, corpora=corpora, format=blank.format, masks=blank.masks,
          masking_law=blank.masking_law, specials=blank.specials,
          masking_unit=blank.masking_unit, mask_rate=blank.mask_rate,
          max_predictions=0, mixture='', first_sequence_length=0,
          first_sequence_steps=0))


# The text that a table's models are trained on and asked of, made ready.


@dataclasses.dataclass(frozen=True)
class TableText:
  """Of one table.

  Attributes:
    text: what models are trained on, tokenizers too.
    heldout: data.corpora of what they are asked.
    split: of its records.
    said: what stands in for what.
  """
  text: TrainingText
  heldout: str
  split: str
  said: str


def make_ready(name: str, table: Table, scale: Scale, folder: str, models: str
               ) -> TableText:
  """Takes slices where the scale has them, and makes the tokenizers.

  All rows of a table have one vocabulary, made of all the text that some row
  has, as GPT-2's is one for all rows of the paper: else their losses would be
  of other tokens.

  Args:
    name: of the table.
    table: which.
    scale: how large.
    folder: --data.
    models: where slices and records are kept.

  Raises:
    InputError: missing, damaged or too little text.
  """
  corpora, said = paper_corpora(folder)
  rows = [row for row in table.made if row.recipe]
  wanted = max((row.corpora for row in rows),
               key=lambda kind: len(resolve(corpora[kind])))
  heldout, split = corpora[wanted], 'eval'
  if scale.characters:
    slices = _make_slices(corpora[wanted], models, scale.characters[name])
    train, asked = (
        {kind: ','.join(f'{slices}/{part}/{c.name}.jsonl'
                        for c in resolve(corpora[kind]))
         for kind in {row.corpora for row in rows}} for part in SLICE_PARTS)
    corpora, heldout, split = train, asked[wanted], 'train'
  text = TrainingText(corpora, f'{models}/cache',
                      paper_tokenizers(folder, scale))
  tokenizers: dict[str, str] = {}
  for row in rows:
    config = asked_config(pretraining_config(row, scale, text), corpora[wanted])
    if (kind := config.tokenizer.kind) not in tokenizers:
      tokenizers[kind] = corpus.prepare(
          config.data, config.tokenizer).tokenizer_path
  return TableText(dataclasses.replace(text, tokenizers=tokenizers),
                   heldout, split, said)


def _make_slices(corpora: str, models: str, characters: int) -> str:
  """The folder of slices of this text."""
  facts = [SLICES_VERSION, characters,
           [(c.name, c.fingerprint()) for c in resolve(corpora)]]
  name = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:8]
  folder = f'{models}/text/{characters}-{name}'
  write_slices(corpora, folder, characters)
  return folder


@dataclasses.dataclass(frozen=True)
class RunBudget:
  """What a run sees.

  Attributes:
    config: with its steps.
    tokens: of all its steps, padding not counted (records' mean x rows).
    passes: over its records.
  """
  config: Config
  tokens: int
  passes: float

  def facts(self) -> Mapping[str, str | float]:
    """For the table."""
    model = self.config.model
    return {'shape': f'{model.num_layers} x {model.hidden_size}',
            'steps': self.config.train.steps,
            'batch_size': self.config.data.batch_size,
            'tokens': self.tokens, 'passes': round(self.passes, 2)}


def run_budget(row: Row, scale: Scale, text: TrainingText,
               seed: int) -> RunBudget:
  """A row's config; of a recipe of tokens with the steps that see them.

  Formats with padding, or with shorter rows, have more steps: equal tokens.

  Raises:
    InputError: wrong text.
  """
  config = pretraining_config(row, scale, text, seed)
  splits = [m.splits['train'] for m in corpus.prepare(
      config.data, config.tokenizer, progress=False).manifests]
  records = sum(split.num_records for split in splits)
  a_row = sum(split.num_tokens for split in splits) / records
  if tokens := scale.recipes[row.recipe].tokens:
    config = with_tokens(config, tokens * row.length, a_row)
  rows = config.train.steps * config.data.batch_size
  return RunBudget(config, round(rows * a_row), rows / records)
