"""The text and tasks of a table: what --data has, and what replaces the rest.

  DIR/pretrain/   text: files whose names begin with wiki or book are Books +
                  Wikipedia; all files together are the five corpora
  DIR/glue/       CoLA, SST-2, MRPC, STS-B, QQP, MNLI, QNLI, RTE, WNLI, each
                  with the official files
  DIR/squad/      train-v1.1.json, dev-v1.1.json, train-v2.0.json, dev-v2.0.json
  DIR/race/       the official folders, or {train,dev,test}-{middle,high}.jsonl
                  (.zst, .gz)
  DIR/bpe/        optional: GPT-2's encoder.json and vocab.bpe with fairseq's
                  dict.txt, and BERT's vocab.txt; without them tokenizers are
                  trained

Without DIR, text and GLUE come from TFDS, as far as it has them. Small scales
train on slices of the corpora.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
import dataclasses
import json
from typing import Any, NamedTuple
import zlib

import jax

from robertax import corpus, files
from robertax.config import Config, DataConfig, with_values
from robertax.corpus import readers
from robertax.corpus.documents import Corpus, resolve
from robertax.corpus.folders import ABOUT, READERS, reader_of
from robertax.corpus.sentences import prose
from robertax.data.feed import HOST_ONLY, fetch_behind
from robertax.data.masking import Masking
from robertax.data.pipeline import eval_batches
from robertax.data.source import open_source
from robertax.errors import InputError, writing
from robertax.paper import scales
from robertax.paper.scales import Scale, pretraining_config
from robertax.paper.tables import FIVE, PAIR, PaperTable, Row
from robertax.tasks import TASKS, squad_files
from robertax.tasks.glue_files import GLUE as GLUE_TASKS
from robertax.tasks.race import ALL_PARTS, SPLITS
from robertax.tasks.squad_files import Question, normalize
from robertax.train.initial import open_weights
from robertax.train.step import eval_step

BOOKS_AND_WIKIPEDIA = ('wiki', 'book')  # Their files' names begin with these.
# TFDS has no BookCorpus, OpenWebText or Stories; parts of C4 are the closest.
TFDS = {PAIR: 'tfds:wikipedia/20230601.en',
        FIVE: 'tfds:wikipedia/20230601.en,tfds:c4/realnewslike,'
              'tfds:c4/webtextlike'}
TFDS_STAND_IN = (
    'Wikipedia alone stands in for Books + Wikipedia (TFDS); Wikipedia and the '
    'news and web parts of C4 stand in for the five corpora (TFDS)')


def paper_corpora(folder: str) -> tuple[dict[str, str], str]:
  """Finds data.corpora of PAIR and FIVE, and says which stand-ins are used."""
  if not folder:
    return TFDS, TFDS_STAND_IN
  folder = f'{folder}/pretrain'
  names = [name for name in (
      files.listdir(folder) if files.isdir(folder) else ())
           if reader_of(name) and not name.startswith('.')
           and not ABOUT.fullmatch(name)]
  pair = [name for name in names
          if name.lower().startswith(BOOKS_AND_WIKIPEDIA)]
  if not pair:
    raise InputError(
        f'{folder}: no text file whose name begins with '
        f'{" or ".join(BOOKS_AND_WIKIPEDIA)}, as Books + Wikipedia do, is '
        f'there (found: {", ".join(names[:8]) or "none"}). It may end in '
        f'{", ".join(READERS)}.')
  found = {kind: ','.join(f'{folder}/{name}' for name in some)
           for kind, some in ((PAIR, pair), (FIVE, names))}
  return found, '' if len(pair) < len(names) else (
      f'{folder} has nothing but {", ".join(pair)}: FIVE corpora are these')


def paper_tokenizers(folder: str, scale: Scale) -> dict[str, str]:
  """Finds the tokenizers in DIR/bpe by kind, if the scale uses them."""
  if not folder or not scale.official_pieces:
    return {}
  folder = f'{folder}/bpe'
  names, found = files.listdir(folder) if files.isdir(folder) else (), {}
  if 'encoder.json' in names:
    found['byte_bpe'] = folder
  vocab = [name for name in names if name.endswith('vocab.txt')]
  if vocab:
    found['wordpiece'] = f'{folder}/{vocab[0]}'
  return found


# Each corpus has two slices of different documents, one of them held out.
SLICE_PARTS = ('train', 'heldout')
# A slice takes this many characters of each document, to have many documents;
# this is doubled until there is enough text in a corpus of few long books.
SLICE_LONGEST = 4_000
SLICES_VERSION = 1  # Raised whenever slices would change.


def write_slices(corpora: str, folder: str, characters: int) -> None:
  """Writes train/<corpus>.jsonl and heldout/<corpus>.jsonl, unless they exist.

  Each has this many characters; its last document stays whole.

  Raises:
    InputError: a corpus has too little text, or a slice cannot be written.
  """
  for one in resolve(corpora):
    paths = [f'{folder}/{part}/{one.name}.jsonl' for part in SLICE_PARTS]
    if all(map(files.exists, paths)):
      continue
    documents = _beginnings(one, _longest(one, characters))
    for path in paths:
      lines = [json.dumps({'text': text}) + '\n'
               for text in _take(documents, characters)]
      _write_new(path, ''.join(lines))


def _beginnings(corpus: Corpus, longest: int) -> Iterator[str]:
  for text in corpus.documents():
    if len(text) > longest:  # Cut at the last whole line.
      text = text[:longest].rpartition('\n')[0] or text[:longest]
    yield text


def _longest(corpus: Corpus, characters: int) -> int:
  """The smallest SLICE_LONGEST x 2**n that gives two full slices."""
  longest = SLICE_LONGEST
  while True:
    documents = _beginnings(corpus, longest)
    slices = [sum(map(len, _take(documents, characters))) for _ in SLICE_PARTS]
    if min(slices) >= characters:
      return longest
    if max(map(len, corpus.documents()), default=0) <= longest:
      raise InputError(
          f'the corpus {corpus.name}: two slices of {characters:,} characters '
          'from different documents do not fit: more text is needed.')
    longest *= 2


def _take(documents: Iterator[str], characters: int) -> Iterator[str]:
  """Yields documents until they have this many characters, or end."""
  taken = 0
  while taken < characters and (text := next(documents, None)) is not None:
    taken += len(text)
    yield text


@dataclasses.dataclass(frozen=True)
class TaskData:
  """Where a task's data are, as keys of its config."""
  values: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  stand_in: str = ''  # What replaces official data; '': nothing does.
  missing: str = ''  # Why the task cannot run; '': it can.


def task_data(name: str, folder: str, made: str, scale: Scale) -> TaskData:
  """Finds a task's data, and writes stand-ins for missing ones into `made`."""
  task = scales.PAPER_TASKS[name]
  if not folder:
    if task.folder == scales.GLUE:
      return TaskData({'data.dir': 'tfds:'})
    return TaskData(missing=f'no --data with {task.folder}/')
  where = f'{folder}/{task.folder}'
  if task.folder == scales.GLUE:
    return _glue(name, where, folder, made)
  if not files.isdir(where):
    return TaskData(missing=f'no {where}')
  if task.folder == scales.RACE:
    return _race(where, made, scale.scored.get(name, 0))
  return _squad(where, '1.1' if name == 'squad1' else '2.0')


def _squad(where: str, version: str) -> TaskData:
  values = {'data.dir': where}
  train, dev, other = (
      f'train-v{version}.json', f'dev-v{version}.json', 'train-v1.1.json')
  lacks = [x for x in (train, dev) if not files.exists(f'{where}/{x}')]
  if not lacks:
    return TaskData(values)
  if lacks != [train] or version == '1.1' or not files.exists(
      f'{where}/{other}'):
    return TaskData(missing=f'no {lacks[0]} in {where}')
  # Articles for training and for scoring are different.
  return TaskData(
      values | {'data.train_files': f'{other}[::12],{dev}[::2]',
                'data.eval_files': f'{dev}[1::2]'},
      'there is no train-v2.0.json: trained on every 12th article of '
      'train-v1.1 and every other one of dev-v2.0, scored on articles of the '
      'other half')


def _glue(name: str, where: str, folder: str, made: str) -> TaskData:
  official = GLUE_TASKS[name]
  inside = f'{where}/{official.folder}'
  def find(split: str) -> str:
    return next((path for ending in ('tsv', 'jsonl') if files.exists(
        path := f'{inside}/{split}.{ending}')), '')
  train, dev = find('train'), find(official.dev[0])
  if train and dev:
    return TaskData({'data.dir': where})
  if name == 'mnli' and dev:
    made = f'{made}/MNLI-{_files_mark(dev)}'
    _cut_in_two(dev, made)
    return TaskData({'data.dir': made},
                    'there is no MNLI train: dev-matched is cut in two, four '
                    'fifths of its premises to train, the others to score')
  squad = f'{folder}/squad/train-v1.1.json'
  if name == 'qnli' and dev and files.exists(squad):
    made = f'{made}/QNLI-{_files_mark(squad, dev)}'
    _pairs_of(squad, dev, made)
    return TaskData({'data.dir': made}, 'there is no QNLI train: pairs made of '
                    'every fifth question of SQuAD train, scored on the '
                    'official dev')
  return TaskData(missing=f'no {"dev" if train else "train"} file in {inside}')


def _cut_in_two(dev: str, folder: str) -> None:
  """Splits rows by premise, of JSON lines or TSV; GLUE's reader checks them."""
  ending = dev.rpartition('.')[2]
  sides, header = {'train': [], 'dev_matched': []}, []
  with files.open(dev) as f:
    for line in (line.rstrip('\n') for line in f if line.strip()):
      if ending == 'tsv' and not header:
        header = line.removeprefix('\ufeff').split('\t')
        sides = {side: [line] for side in sides}
        continue
      row = dict(zip(header, line.split('\t'))) if header else _json_line(line)
      premise = str(row.get('premise', row.get('sentence1', '')))
      scored = zlib.crc32(premise.encode()) % 5 == 0
      sides['dev_matched' if scored else 'train'].append(line)
  for side, rows in sides.items():
    _write_new(f'{folder}/{side}.{ending}', '\n'.join(rows) + '\n')


def _json_line(line: str) -> dict[str, Any]:
  try:
    row = json.loads(line)
  except (ValueError, RecursionError):
    return {}
  return row if isinstance(row, dict) else {}


def _pairs_of(squad: str, dev: str, folder: str) -> None:
  """Writes QNLI-like training pairs, with the official dev beside them."""
  if not files.exists(f'{folder}/train.tsv'):
    files.makedirs(folder)
    pairs, _ = qnli_pairs(squad_files.read_questions(squad, '1.1')[::5])
    write_qnli(pairs, f'{folder}/train.tsv')
  with files.open(dev) as f:
    _write_new(f'{folder}/dev.{dev.rpartition(".")[2]}',
               f.read().rstrip('\n') + '\n')


def _race(where: str, made: str, scored: int) -> TaskData:
  """Takes all of RACE, or the first questions of dev and test."""
  packed = {(split, part): path for split in SPLITS for part in ALL_PARTS
            for ending in ('', '.zst', '.gz') if files.exists(
                path := f'{where}/{split}-{part}.jsonl{ending}')}
  if not scored or len(packed) < len(SPLITS) * len(ALL_PARTS):
    return TaskData({'data.dir': where})
  made = f'{made}/race-{scored}-{_files_mark(*packed.values())}'
  for (split, part), path in packed.items():
    kept, count = [], 0
    for _, line in readers.unpacked_lines(path, lambda _: None):
      if split == 'train' or count < scored:
        kept.append(line.decode())
        count += len(json.loads(line)['questions'])
    _write_new(f'{made}/{split}-{part}.jsonl', '\n'.join(kept) + '\n')
  return TaskData({'data.dir': made},
                  f'of dev and test the first {scored} questions of each part')


def _files_mark(*sources: str) -> str:
  """A hash of paths, sizes and dates, for the name of a derived folder."""
  return files.json_hash([
      (files.absolute(path), *files.stat(path)) for path in sources])[:8]


def _write_new(path: str, text: str) -> None:
  """Writes a file unless it exists, because its date identifies records."""
  if not files.exists(path):
    with writing(path):
      files.makedirs(path.rpartition('/')[0])
      files.write_text(path, text)


# QNLI was made from SQuAD (Wang et al. 2019, section 2.3): it pairs a question
# with each sentence of its paragraph, and drops pairs with little in common.
# The exact filter is unpublished. Here a question is paired with its answer's
# sentence and the other sentence with the most common words, which balances the
# classes.


class QnliPair(NamedTuple):
  """A row of QNLI; label is `entailment` or `not_entailment`."""
  question: str
  sentence: str
  label: str


def paragraph_sentences(context: str) -> list[tuple[int, str]]:
  """The (offset, sentence) of each sentence of a paragraph."""
  found, at = [], 0
  for sentence in prose(context):
    at = context.index(sentence, at)
    found.append((at, sentence))
    at += len(sentence)
  return found


def qnli_pairs(questions: Iterable[Question]) -> tuple[list[QnliPair], int]:
  """Pairs each question with its first answer's sentence and another one.

  The other sentence is the first of those that share the most words with the
  question, ignoring articles, punctuation and case.

  Returns:
    (the pairs in the questions' order, entailment first; the number of dropped
    questions, which have no answer, an answer across two sentences, or a
    paragraph of one sentence).
  """
  pairs, left_out, sentences = [], 0, {}
  for question in questions:
    split = sentences.setdefault(question.context,
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
    closest = max(others, key=lambda s: len(words & set(normalize(s).split())))
    for sentence, label in ((split[where[0]][1], 'entailment'),
                            (closest, 'not_entailment')):
      pairs.append(QnliPair(question.question.strip(), sentence, label))
  return pairs, left_out


def write_qnli(pairs: Sequence[QnliPair], path: str) -> None:
  """Writes pairs as a train.tsv or dev.tsv of GLUE's QNLI."""
  lines = ['index\tquestion\tsentence\tlabel']
  for index, pair in enumerate(pairs):  # Without tabs and line ends.
    lines.append('\t'.join([str(index), *(
        ' '.join(text.split()) for text in pair)]))
  with writing(path):
    files.write_text(path, '\n'.join(lines) + '\n')


# Models of any format are measured on the same held-out rows and masks.
HELDOUT_BATCH = 64  # Rows.
_PLAIN = ('format', 'masks', 'masking_law', 'specials', 'masking_unit',
          'mask_rate', 'max_predictions', 'mixture', 'first_sequence_length',
          'first_sequence_steps')


def heldout_config(config: Config, corpora: str) -> Config:
  """A run's config for held-out corpora: FULL-SENTENCES with default masks."""
  plain = {f'data.{name}': getattr(DataConfig(), name) for name in _PLAIN}
  return with_values(config, plain | {
      'seed': 0, 'data.corpora': corpora, 'model.num_types': 0,
      'model.nsp_head': False})


def measure_heldout(workdir: str, config: Config, split: str = 'eval'
                    ) -> dict[str, float]:
  """Measures a pretrained model on held-out text.

  Args:
    config: from `heldout_config`.
    split: split of the records that `config` prepares.

  Returns:
    loss (nats, the mean over masked tokens), perplexity, accuracy,
    bits_per_character (loss / ln 2 x tokens / characters), and loss/<corpus>.
  """
  manifests = corpus.prepare(config.data, config.tokenizer,
                             progress=False).manifests
  task = TASKS[config.task].of(config, 1)
  with open_weights(workdir) as weights:
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    params = plain_params(weights.read(jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here),
        weights.shapes)))
  total, found = Counter(), {}
  for manifest in manifests:
    sums = Counter()
    for counted in heldout_sums(params, task, config, manifest, split):
      sums.update(counted)
      total.update(counted)
    found[f'loss/{manifest.corpus}'] = task.summarize(sums)['loss']
  summary = task.summarize(total)
  tokens = sum(m.splits[name].num_tokens for m in manifests
               for name in ('train', 'eval'))
  characters = sum(m.counts['characters'] for m in manifests)
  return {'loss': summary['loss'], 'perplexity': summary['perplexity'],
          'accuracy': summary['accuracy'],
          'bits_per_character': summary['bits'] * tokens / characters} | found


def heldout_sums(params: Any, task: Any, config: Config,
                 manifest: corpus.Manifest, split: str
                 ) -> Iterator[dict[str, float]]:
  """Yields the sums of a task's loss for each batch of a corpus's split."""
  step = eval_step(task.objective)
  source = open_source([manifest], split, config.data.backend,
                       task.tokenizer.pad_id)
  batches = eval_batches(
      source, config.data, Masking.of(config.data, task.tokenizer),
      name=manifest.corpus, batch_size=HELDOUT_BATCH)
  for _, counted in fetch_behind(batches, lambda batch: step(
      params, {name: value[None] for name, value in batch.items()
               if name not in HOST_ONLY}), 1):
    yield {key: float(value) for key, value in counted.items()}


def plain_params(params: dict[str, Any]) -> dict[str, Any]:
  """Makes RoBERTa's weights of a pair model's: segment A only, no NSP head."""
  params = {name: dict(part) for name, part in params.items()
            if name != 'nsp_head'}
  types = params['embeddings'].pop('types', None)
  if types is not None:
    positions = params['embeddings']['positions']
    params['embeddings']['positions'] = positions.at[2:].add(types[0])
  return params


@dataclasses.dataclass(frozen=True)
class TableText:
  """The text of one table."""
  text: scales.TrainingText  # With tokenizers.
  heldout: str  # data.corpora of the held-out text.
  split: str  # The split of its records that is held out.
  stand_in: str  # Which text replaces which, in words.


def make_ready(name: str, table: PaperTable, scale: Scale, folder: str,
               models: str) -> TableText:
  """Makes slices, if the scale has them, and tokenizers.

  All rows of a table share one vocabulary, trained on the text of all rows, as
  the paper's rows share GPT-2's. Otherwise their losses could not be compared.
  """
  corpora, stand_in = paper_corpora(folder)
  rows = [row for row in table.made if row.recipe]
  wanted = max((row.corpora for row in rows),
               key=lambda kind: len(resolve(corpora[kind])))
  heldout, split = corpora[wanted], 'eval'
  if scale.characters:
    characters = scale.characters[name]
    mark = files.json_hash([SLICES_VERSION, characters, [
        (c.name, c.fingerprint()) for c in resolve(corpora[wanted])]])[:8]
    slices = f'{models}/text/{characters}-{mark}'
    write_slices(corpora[wanted], slices, characters)
    train, held = (
        {kind: ','.join(f'{slices}/{part}/{c.name}.jsonl'
                        for c in resolve(corpora[kind]))
         for kind in {row.corpora for row in rows}} for part in SLICE_PARTS)
    corpora, heldout, split = train, held[wanted], 'train'
  text = scales.TrainingText(corpora, f'{models}/cache',
                             paper_tokenizers(folder, scale))
  tokenizers: dict[str, str] = {}
  for row in rows:
    config = heldout_config(pretraining_config(row, scale, text),
                            corpora[wanted])
    if (kind := config.tokenizer.kind) not in tokenizers:
      tokenizers[kind] = corpus.prepare(
          config.data, config.tokenizer).tokenizer_path
  return TableText(dataclasses.replace(text, tokenizers=tokenizers),
                   heldout, split, stand_in)


@dataclasses.dataclass(frozen=True)
class RunBudget:
  """How long a row is trained."""
  config: Config  # With its steps.
  tokens: int  # In all steps, without padding: mean of a record x rows.
  passes: float  # Over its records.

  def facts(self) -> dict[str, str | float]:
    """The entries of results.json."""
    model = self.config.model
    return {'shape': f'{model.num_layers} x {model.hidden_size}',
            'steps': self.config.train.steps,
            'batch_size': self.config.data.batch_size,
            'tokens': self.tokens, 'passes': round(self.passes, 2)}


def run_budget(row: Row, scale: Scale, text: scales.TrainingText,
               seed: int) -> RunBudget:
  """A row's config, with steps from its recipe's tokens if it counts these.

  Formats with padding or shorter rows then train for more steps.
  """
  config = pretraining_config(row, scale, text, seed)
  splits = [m.splits['train'] for m in corpus.prepare(
      config.data, config.tokenizer, progress=False).manifests]
  records = sum(split.num_records for split in splits)
  mean_tokens = sum(split.num_tokens for split in splits) / records
  if tokens := scale.recipes[row.recipe].tokens:
    steps = tokens * row.length / (mean_tokens * config.data.batch_size)
    config = with_values(config, {'train.steps': max(1, round(steps))})
  rows = config.train.steps * config.data.batch_size
  return RunBudget(config, round(rows * mean_tokens), rows / records)
