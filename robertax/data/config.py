"""The `data` section of a config."""

import dataclasses
import math

from robertax.errors import InputError
from robertax.sections import unknown

# What a key may say; tests hold these against the tables that act on them.
BACKENDS = ('tf', 'numpy')
SPECIALS = ('fairseq', 'exclude')
MASKS = ('dynamic', 'static')
MASKING_LAWS = ('fairseq', 'bert')
MASKING_UNITS = ('token', 'whole_word', 'span')
MASKING_OPS = ('numpy', 'tensorflow')
PAIR_NEGATIVES = ('half', 'bert')
BAD_RECORDS = ('stop', 'skip')
# A token's random numbers are told apart behind 16 bits of position.
MAX_LENGTH = 1 << 16


@dataclasses.dataclass(frozen=True)
class DataConfig:
  """What is read, how it is cut, shuffled and masked.

  Attributes:
    corpora: paths, globs and names with commas between; `python` is the
      embedded text, `tfds:NAME` or `tfds:FOLDER` one of TFDS. Each file is a
      corpus, a folder is one corpus.
    text_field: the field of a JSON line, the column or the TFDS feature that
      holds the text.
    split: of TFDS and of Hugging Face's folders with splits.
    tfds_dir: where TFDS's prepared data sets lie; empty: its own place, which
      TFDS_DATA_DIR names.
    invalid_utf8: 'error', or 'replace' (each bad byte becomes U+FFFD, counted).
    drop_duplicates: leave out documents that were there before, to the letter;
      the first one stays. Takes about 16 bytes of memory a document.
    min_document_chars: leave out shorter documents.
    document_filter: `module:function` of a document's text: True or a text
      keeps it (as that text), False or None leaves it out. Or, of some corpora
      only, `CORPUS=module:function`, with commas between. Of a corpus these
      three, in the order filter, length, duplicates, are counted.
    sentences: name of a splitter in corpus.sentences.SPLITTERS.
    format: name of an input format in corpus.formats.FORMATS.
    sequence_length: tokens a row, T.
    first_sequence_length: tokens a row of the first steps (BERT: 128); 0: all
      steps have sequence_length.
    first_sequence_steps: how many steps those are (BERT: 90 % of them).
    pair_duplicates: pair formats: how often the training pairs are drawn anew;
      epoch e reads duplicate e mod this (BERT's dupe_factor).
    pair_short_rate: pair formats: share of the documents whose pairs are
      shorter, of a random length (BERT's short_seq_prob is 0.1; the paper's 0).
    pair_negatives: pair formats: 'half' (the paper: every second pair, wherever
      the text allows it) or 'bert' (a lone sentence adds one more), see
      corpus/pairs.py.
    cache_dir: where records are kept; empty: the user's cache folder.
    keep_tokens: keep the store of tokens (2 bytes a token) after packing, so
      that another format or length need not read and tokenize the text.
    workers: processes that prepare records; 0: one a core.
    batch_size: sequences a step, over all devices, hosts and micro-batches.
    backend: 'tf' (tf.data and array_record) or 'numpy' (memory-mapped records;
      needs neither tensorflow nor array_record).
    prefetch: batches that are made ahead of the step.
    shuffle_block: records that are read together, a contiguous range.
    shuffle_window: blocks whose records are mixed.
    shuffle_lanes: parts of the records that are read apart, each for its own
      run of a batch's rows (data.order); 1: none. A multiple of hosts x
      micro-batches lets each host of remote records read its own ones alone.
    remote_cache_dir: local folder for blocks of remote records; empty: the
      user's cache folder.
    remote_cache_gib: most that lies there, for each process.
    remote_threads: blocks of remote records that are read at once.
    bad_records: a damaged record (data.damage) ends the run ('stop'), or its
      row is one of padding, and counted in train/bad_records ('skip').
    mixture: shares of the rows of a batch. Empty: corpora as they are, each
      record once an epoch. Or weights, in the order of the corpora (`4,12`) or
      by name (`news=4,web=12`); or `alpha=0.5`: tokens of the corpus to that
      power. Each corpus then has its own epochs.
    mask_rate: share of the tokens that is predicted.
    replace_random_rate, replace_keep_rate: of the chosen tokens, the shares
      that become a random token, or stay; the rest becomes <mask>.
    mask_rate_end: the rate changes linearly to this; -1: it does not change.
      Evaluation keeps mask_rate.
    mask_rate_steps: steps after which it is reached.
    masks: 'dynamic' (others in every epoch) or 'static' (num_static_masks of
      them, epoch e has those of e mod num_static_masks, as BERT's duplicates).
    num_static_masks: see there.
    masking_law: 'fairseq' or 'bert', see masking_laws.py.
    max_predictions: most predicted tokens of an example, by BERT's law; 0: no
      limit.
    masking_unit: what is chosen as one: 'token', 'whole_word', or 'span'.
    span_length, span_stdev: a span's tokens are normal, then rounded.
    masking_ops: 'numpy', or 'tensorflow' (backend 'tf', unit 'token'): the same
      bits, more slowly.
    specials: 'fairseq' (<s> and </s> are maskable, as any token) or 'exclude';
      BERT's law always excludes them.
    dir: a task's official folder (fine-tuning only).
    train_files, eval_files: of SQuAD, other files than the official ones, with
      commas between; of each a slice of its articles may be taken, as in
      `dev-v2.0.json[::2]`. Relative ones are in `dir`, if that is given.
    doc_stride: of SQuAD, tokens of a context that two windows share.
    question_length: of SQuAD, tokens of a question that are read.
  """
  corpora: str = 'python'
  text_field: str = 'text'
  split: str = 'train'
  tfds_dir: str = ''
  invalid_utf8: str = 'error'
  drop_duplicates: bool = False
  min_document_chars: int = 0
  document_filter: str = ''
  sentences: str = 'prose'
  format: str = 'full_sentences'
  sequence_length: int = 512
  first_sequence_length: int = 0
  first_sequence_steps: int = 0
  pair_duplicates: int = 10
  pair_short_rate: float = 0.0
  pair_negatives: str = 'half'
  cache_dir: str = ''
  keep_tokens: bool = True
  workers: int = 0
  batch_size: int = 256
  backend: str = 'tf'
  prefetch: int = 2
  shuffle_block: int = 64
  shuffle_window: int = 128
  shuffle_lanes: int = 1
  remote_cache_dir: str = ''
  remote_cache_gib: float = 8.0
  remote_threads: int = 32
  bad_records: str = 'stop'
  mixture: str = ''
  mask_rate: float = 0.15
  mask_rate_end: float = -1.0
  mask_rate_steps: int = 0
  masks: str = 'dynamic'
  num_static_masks: int = 10
  masking_law: str = 'fairseq'
  max_predictions: int = 0
  masking_unit: str = 'token'
  span_length: int = 10
  span_stdev: float = 0.0
  # Twice as fast: `python -m benchmarks.input`, and with `--ops=tensorflow`.
  masking_ops: str = 'numpy'
  replace_random_rate: float = 0.1
  replace_keep_rate: float = 0.1
  specials: str = 'fairseq'
  dir: str = ''
  train_files: str = ''
  eval_files: str = ''
  doc_stride: int = 128
  question_length: int = 64


def check(config: DataConfig) -> None:
  """Says what cannot be, before anything is prepared or read.

  Raises:
    InputError: with the key, its value, and what would do.
  """
  for key, known in (
      ('backend', BACKENDS), ('specials', SPECIALS), ('masks', MASKS),
      ('masking_law', MASKING_LAWS), ('masking_unit', MASKING_UNITS),
      ('masking_ops', MASKING_OPS), ('pair_negatives', PAIR_NEGATIVES),
      ('bad_records', BAD_RECORDS)):
    if getattr(config, key) not in known:
      raise unknown(f'data.{key}', getattr(config, key), known)
  for key in ('sequence_length', 'batch_size', 'prefetch', 'shuffle_block',
              'shuffle_window', 'shuffle_lanes', 'num_static_masks',
              'span_length', 'pair_duplicates', 'remote_threads'):
    value = getattr(config, key)
    if value < 1:
      raise InputError(f'data.{key}={value}: at least 1.')
  if not 0 < config.remote_cache_gib < math.inf:
    raise InputError(f'data.remote_cache_gib={config.remote_cache_gib}: GiB, '
                     'more than 0.')
  if '://' in config.remote_cache_dir:
    raise InputError(f'data.remote_cache_dir={config.remote_cache_dir}: a '
                     'folder of this machine.')
  if config.min_document_chars < 0:
    raise InputError(f'data.min_document_chars={config.min_document_chars}: '
                     '0 (none is too short) or more.')
  if (config.first_sequence_length > 0) != (
      config.first_sequence_steps > 0) or (
          min(config.first_sequence_length, config.first_sequence_steps) < 0):
    raise InputError(
        f'data.first_sequence_length={config.first_sequence_length} with '
        f'data.first_sequence_steps={config.first_sequence_steps}: tokens a '
        'row and for how many steps, both above 0; or both 0 for rows of one '
        'length.')
  if config.sequence_length > MAX_LENGTH:
    raise InputError(f'data.sequence_length={config.sequence_length}: at most '
                     f'{MAX_LENGTH}.')
  for key in ('mask_rate', 'replace_random_rate', 'replace_keep_rate',
              'pair_short_rate'):
    value = getattr(config, key)
    if not 0 <= value <= 1:
      raise InputError(f'data.{key}={value}: a share, from 0 to 1.')
  if config.mask_rate == 0:
    raise InputError('data.mask_rate=0: nothing would be predicted. The paper '
                     'has 0.15.')
  total = config.replace_random_rate + config.replace_keep_rate
  if total > 1:
    raise InputError(
        f'data.replace_random_rate + data.replace_keep_rate = {total:g}: '
        'shares of the same tokens, at most 1 together.')
  if config.format == 'sentence_pair' and config.pair_short_rate:
    raise InputError(f'data.pair_short_rate={config.pair_short_rate}: sentence '
                     'pairs have no length to aim at; only 0 would do.')
  _check_masking(config)


def _check_masking(config: DataConfig) -> None:
  """Masking keys that do not go together."""
  if config.masking_law == 'bert' and config.masking_unit == 'span':
    raise InputError("data.masking_unit='span' with data.masking_law='bert': "
                     "BERT has no spans; set data.masking_law='fairseq'.")
  if config.max_predictions < 0:
    raise InputError(f'data.max_predictions={config.max_predictions}: 0 (no '
                     'limit) or more.')
  if config.max_predictions and config.masking_law != 'bert':
    raise InputError(
        f'data.max_predictions={config.max_predictions}: a limit of BERT\'s '
        f'law, and data.masking_law={config.masking_law!r} has none. Leave it '
        "at 0, or set data.masking_law='bert'.")
  if not 0 <= config.span_stdev < MAX_LENGTH:
    raise InputError(f'data.span_stdev={config.span_stdev}: tokens, 0 or more.')
  if config.masking_ops == 'tensorflow' and (
      config.backend != 'tf' or config.masking_unit != 'token'):
    raise InputError(
        "data.masking_ops='tensorflow' needs data.backend='tf' and "
        "data.masking_unit='token'; 'numpy' gives the same masks anywhere.")
  if config.mask_rate_end == -1:
    return
  if not 0 < config.mask_rate_end <= 1:
    raise InputError(f'data.mask_rate_end={config.mask_rate_end}: a share, '
                     'above 0 and at most 1; -1: the rate does not change.')
  if config.mask_rate_steps < 1:
    raise InputError(
        f'data.mask_rate_steps={config.mask_rate_steps}: at least 1 step, from '
        f'data.mask_rate to data.mask_rate_end={config.mask_rate_end}.')
  if config.masks == 'static':
    raise InputError(
        f"data.mask_rate_end={config.mask_rate_end} with data.masks='static': "
        "masks that are made once have one rate; set data.masks='dynamic'.")
