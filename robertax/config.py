"""Every section and key of a config; a section is a frozen dataclass.

Floor 0, beside the rooms: each room gets its section, and need not check again
what is checked here. A config file builds a `ml_collections.ConfigDict`
(`defaults`, `with_arg`); `parse` reads it, and W/config.json keeps it
(`to_dict`). A comment gives the meaning and unit of each key.
"""

from collections.abc import Iterable, Mapping
import dataclasses
import difflib
import math
from typing import TYPE_CHECKING, Any, TypeVar

from robertax.errors import InputError, unknown

if TYPE_CHECKING:
  from ml_collections import ConfigDict

T = TypeVar('T')


def typed(value: Any, like: Any, key: str) -> Any:
  """Converts `value` to the type of `like`.

  >>> typed('3', 1, 'train.steps'), typed(1, 1.0, 'x'), typed('no', True, 'x')
  (3, 1.0, False)
  """
  kind = type(like)
  words = {'true': True, '1': True, 'yes': True,
           'false': False, '0': False, 'no': False}
  try:
    if kind is bool:
      return value if isinstance(value, bool) else words[str(value).lower()]
    if kind in (int, float) and isinstance(value, bool):
      raise ValueError
    if kind is int:
      number = int(value)
      if not isinstance(value, str) and number != value:
        raise ValueError
      return number
    if kind is float:
      return float(value)
    if kind is str and isinstance(value, str):
      return value
  except (KeyError, ValueError, TypeError, OverflowError):
    pass
  raise InputError(f'{key}={value!r}: expected {kind.__name__}, '
                   f'such as {like!r}.')


def section(cls: type[T], values: Mapping[str, Any], name: str) -> T:
  """Builds a config section, a dataclass whose fields all have defaults."""
  fields = {f.name: f.default for f in dataclasses.fields(cls)}
  for key in values:
    if key not in fields:
      raise unknown('config key', f'{name}.{key}',
                    [f'{name}.{k}' for k in fields])
  return cls(**{key: typed(value, fields[key], f'{name}.{key}')
                for key, value in values.items()})


def key_hint(name: str) -> str:
  """Guesses which key a flag such as --steps or --config.steps means, or ''.

  >>> key_hint('config.steps'), key_hint('verbose')
  (' Did you mean --config.train.steps?', '')
  """
  known = list(flatten(to_dict(Config())))
  name = name.removeprefix('config.')
  found = [key for key in known if f'.{key}'.endswith(f'.{name}')] or (
      difflib.get_close_matches(name, known, n=1, cutoff=.8)
      or [key for part in difflib.get_close_matches(
          name, [key.rpartition('.')[2] for key in known], n=1, cutoff=.8)
          for key in known if key.rpartition('.')[2] == part])
  return ' Did you mean {}?'.format(
      ' or '.join(f'--config.{key}' for key in found)) if found else ''


def parse_arg(arg: str | None, **defaults: Any) -> dict[str, Any]:
  """Reads the text behind the colon of `--config=configs/x.py:a=1,b=text`.

  >>> parse_arg('batch_size=64,dry', batch_size=256, dry=False)
  {'batch_size': 64, 'dry': True}
  """
  values = dict(defaults)
  for pair in filter(None, (arg or '').split(',')):
    key, equals, value = pair.partition('=')
    if key not in defaults:
      if not equals:
        raise InputError(f'config argument {key!r}: keys behind the colon have '
                         'values, such as task=rte or steps=1000.')
      raise unknown('config argument', key, defaults)
    values[key] = typed(value if equals else True, defaults[key], key)
  return values


def take_arg(arg: str | None, key: str, default: str) -> tuple[str, str]:
  """Splits the text behind the colon into one key's value and the rest.

  A config file may need one value, such as its task, before it can read the
  others. If the key is given several times, the last one counts.

  >>> take_arg('task=rte,seed=4', 'task', 'mnli')
  ('rte', 'seed=4')
  """
  value, rest = default, []
  for pair in filter(None, (arg or '').split(',')):
    if pair.startswith(f'{key}='):
      value = pair.partition('=')[2]
    else:
      rest.append(pair)
  return value, ','.join(rest)


def flatten(config: Mapping[str, Any], prefix: str = '') -> dict[str, Any]:
  """Turns {'train': {'steps': 3}} into {'train.steps': 3}."""
  flat = {}
  for key, value in config.items():
    if hasattr(value, 'items'):  # A ConfigDict is not a Mapping.
      flat.update(flatten(value, f'{prefix}{key}.'))
    else:
      flat[prefix + key] = value
  return flat


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
  """Gives a line `key: old -> new` for each key whose value differs."""
  old, new = flatten(old), flatten(new)
  absent = '(absent)'
  return [f'{key}: {old.get(key, absent)!r} -> {new.get(key, absent)!r}'
          for key in sorted(old.keys() | new.keys())
          if old.get(key, absent) != new.get(key, absent)]


def _name(values: Any) -> str:
  """The name of a section, such as 'data' of a DataConfig."""
  return type(values).__name__.removesuffix('Config').lower()


def _in_range(values: Any, words: str, *names: str, least: float = -math.inf,
              above: float = -math.inf, most: float = math.inf,
              below: float = math.inf) -> None:
  """Refuses NaN and values outside a range; `above`, `below` are outside."""
  for name in names:
    value = getattr(values, name)
    if not (least <= value <= most and value < below and (
        value > above or above == -math.inf)):
      raise InputError(f'{_name(values)}.{name}={value}: {words}')


def _one_of(values: Any, **known: Iterable[str]) -> None:
  for name, words in known.items():
    if getattr(values, name) not in words:
      raise unknown(f'{_name(values)}.{name}', getattr(values, name), words)


# The values of some keys. Tests compare them with the tables of the rooms.
BACKENDS = ('tf', 'numpy')
SPECIALS = ('fairseq', 'exclude')
MASKS = ('dynamic', 'static')
MASKING_LAWS = ('fairseq', 'bert')
MASKING_UNITS = ('token', 'whole_word', 'span')
MASKING_OPS = ('numpy', 'tensorflow')
PAIR_NEGATIVES = ('half', 'bert')
DOCUMENTS = ('blank_lines', 'lines', 'file')
BAD_RECORDS = ('stop', 'skip')
ATTENTION = ('auto', 'cudnn', 'fused', 'splash', 'xla')
REMAT = ('attention', 'full', 'none', 'products')
RANKING_LOSSES = ('margin', 'cross_entropy')
ON_DIVERGENCE = ('stop', 'skip', 'roll_back', 'go_on')
DTYPES = ('float32', 'bfloat16')
ENCODERS = ('auto', 'tokenizers', 'fastokens')
PROBLEM_TYPES = ('single_label_classification', 'multi_label_classification',
                 'regression')
PAIR_LAYOUTS = ('auto', 'tokenizer', 'types')
AXES = ('data', 'fsdp', 'model')  # The axes of the mesh.
INIT_VOCABULARIES = ('error', 'transfer')
MASKED_LM = 'pretrain'  # The only task whose length is given in steps.
MAX_LENGTH = 1 << 16  # Random numbers depend on 16 bits of a position.


@dataclasses.dataclass(frozen=True)
class DataConfig:
  """Which data a run reads, and how it packs, shuffles and masks them."""
  # Paths, globs and names, separated by commas; `python` is the text that comes
  # with Python, `tfds:NAME` or `tfds:FOLDER` a TFDS data set. Each file is a
  # corpus; a folder is one corpus. `FOLDER@test`, `tfds:NAME@test`: that split.
  corpora: str = ''
  # Text to evaluate on, named likewise; then nothing is held out of `corpora`.
  # Empty: the end of each corpus (corpus.blocks.num_held_out).
  eval_corpora: str = ''
  text_field: str = 'text'  # JSON field, column or TFDS feature with the text.
  split: str = 'train'  # The split to read of TFDS and Hugging Face data sets.
  # Folder of prepared TFDS data sets; empty: TFDS_DATA_DIR or TFDS's default.
  tfds_dir: str = ''
  # 'error', or 'replace' (each bad byte becomes U+FFFD, counted).
  invalid_utf8: str = 'error'
  # What ends a document of a .txt or another plain text file: 'blank_lines',
  # 'lines' (each is a document), or 'file' (it is one).
  documents: str = 'blank_lines'
  # Cut longer documents into several, at a line or else a space, before any
  # cleaning (not those of `python`); 0: nowhere.
  max_document_chars: int = 0
  # Drop exact copies of earlier documents (this takes about 16 bytes of memory
  # per document).
  drop_duplicates: bool = False
  min_document_chars: int = 0  # Drop documents with fewer characters.
  # `module:function`, called with a document's text. It keeps the document for
  # True, replaces its text for a string, and drops it for False or None.
  # `CORPUS=module:function`, separated by commas, filters single corpora.
  # Filter, length and duplicates apply in this order; each corpus counts what
  # they drop.
  document_filter: str = ''
  sentences: str = 'prose'  # A row of corpus.sentences.SPLITTERS.
  format: str = 'full_sentences'  # A row of corpus.formats.FORMATS.
  sequence_length: int = 512  # Tokens per row, T.
  # first_sequence_length, first_sequence_steps: tokens per row in the first
  # steps, and the number of these steps (BERT: 128, for 90 % of all); 0: none.
  first_sequence_length: int = 0
  first_sequence_steps: int = 0
  # How many times training pairs are drawn; epoch e reads duplicate e mod this
  # (BERT's dupe_factor).
  pair_duplicates: int = 10
  # Share of the documents whose pairs get a shorter, random length (BERT's
  # short_seq_prob is 0.1, the paper's 0).
  pair_short_rate: float = 0.0
  # 'half' (the paper: every second pair, where the text allows it) or 'bert' (a
  # lone sentence adds one more); see corpus.formats.
  pair_negatives: str = 'half'
  cache_dir: str = ''  # For prepared records; empty: the user's cache folder.
  # Keep the tokens (2 bytes each) after packing; another format or length then
  # needs no second reading and tokenization.
  keep_tokens: bool = True
  workers: int = 0  # Processes that prepare records; 0: one per core.
  # What turns text into ids: 'tokenizers' (the library), 'fastokens' (the same
  # ids of a byte-level BPE some ten times faster), or 'auto', the fastest that
  # is installed and gives the library's ids where it is tried at each start.
  encoder: str = 'auto'
  batch_size: int = 256  # Sequences per step, over devices and micro-batches.
  # 'tf' (tf.data and array_record) or 'numpy' (memory-mapped records; needs
  # neither tensorflow nor array_record).
  backend: str = 'tf'
  prefetch: int = 2  # Batches that are made ahead of the step.
  shuffle_block: int = 64  # Length of ranges of records that are read.
  shuffle_window: int = 128  # Number of ranges whose records are mixed.
  # Parts of the records, each read for its own row group of a batch
  # (data.order). With a multiple of hosts x micro-batches each host reads only
  # its own part of remote records.
  shuffle_lanes: int = 1
  # Local folder for chunks of remote records; empty: the user's cache folder.
  remote_cache_dir: str = ''
  remote_cache_gib: float = 8.0  # Size limit of that cache, in GiB per process.
  remote_threads: int = 32  # Chunks that are read at once.
  # A damaged record ends the run ('stop') or becomes a row of padding, counted
  # in train/bad_records and eval/bad_records ('skip').
  bad_records: str = 'stop'
  # Shares of a batch's rows. Empty: each record is read once per epoch. Else
  # weights in the order of the corpora (`4,12`), by name (`news=4,web=12`), or
  # `alpha=0.5`: the corpus's number of tokens to that power. Each corpus then
  # has its own epochs.
  mixture: str = ''
  mask_rate: float = 0.15  # Share of the tokens that are predicted.
  # mask_rate_end, mask_rate_steps: the rate changes linearly to this within
  # these steps; -1: it does not change. Evaluation always uses mask_rate.
  mask_rate_end: float = -1.0
  mask_rate_steps: int = 0
  # masks, num_static_masks: 'dynamic' (each epoch has new masks), or 'static':
  # epoch e has the masks of e mod num_static_masks (BERT's duplicates).
  masks: str = 'dynamic'
  num_static_masks: int = 10
  masking_law: str = 'fairseq'  # 'fairseq' or 'bert'; see data.masking.
  # Most predicted tokens per example, for 'bert' only; 0: no limit.
  max_predictions: int = 0
  masking_unit: str = 'token'  # Or 'whole_word', 'span': masked as a whole.
  # span_length, span_stdev: mean and standard deviation of a span's tokens,
  # which are drawn from a normal distribution and rounded.
  span_length: int = 10
  span_stdev: float = 0.0
  masking_ops: str = 'numpy'  # NumPy masks with 'tensorflow', too: same bits.
  # replace_random_rate, replace_keep_rate: shares of the predicted tokens that
  # become a random token, or stay; the rest become <mask>.
  replace_random_rate: float = 0.1
  replace_keep_rate: float = 0.1
  # 'fairseq' (<s> and </s> may be masked like any token) or 'exclude';
  # masking_law='bert' always excludes them.
  specials: str = 'fairseq'
  dir: str = ''  # A task's official folder (fine-tuning only).
  # train_files, eval_files: SQuAD: files instead of the official ones,
  # separated by commas, each with an optional slice of its articles, as in
  # `dev-v2.0.json[::2]`. Relative paths start at `dir`, if that is given.
  train_files: str = ''
  eval_files: str = ''
  doc_stride: int = 128  # SQuAD: tokens of the context that two windows share.
  question_length: int = 64  # SQuAD: tokens of a question that are read.


def check_data(config: DataConfig) -> None:
  """Raises an InputError for a wrong value in a completed `data` section."""
  _one_of(config, backend=BACKENDS, specials=SPECIALS, masks=MASKS,
          masking_law=MASKING_LAWS, masking_unit=MASKING_UNITS,
          masking_ops=MASKING_OPS, pair_negatives=PAIR_NEGATIVES,
          documents=DOCUMENTS, encoder=ENCODERS, bad_records=BAD_RECORDS)
  _in_range(config, 'at least 1.', 'sequence_length', 'batch_size', 'prefetch',
            'shuffle_block', 'shuffle_window', 'shuffle_lanes',
            'num_static_masks', 'span_length', 'pair_duplicates',
            'remote_threads', least=1)
  _in_range(config, 'GiB, more than 0.', 'remote_cache_gib', above=0)
  if '://' in config.remote_cache_dir:
    raise InputError(f'data.remote_cache_dir={config.remote_cache_dir}: it '
                     'must be a folder on this machine.')
  _in_range(config, '0 (none is too short) or more.', 'min_document_chars',
            least=0)
  _in_range(config, 'characters, 0 (no document is cut) or more.',
            'max_document_chars', least=0)
  most = config.max_document_chars
  if 0 < most < config.min_document_chars:
    raise InputError(f'data.max_document_chars={most} is less than '
                     f'data.min_document_chars={config.min_document_chars}: '
                     'no document would remain.')
  length, steps = config.first_sequence_length, config.first_sequence_steps
  if (length > 0) != (steps > 0) or min(length, steps) < 0:
    raise InputError(
        f'data.first_sequence_length={length} with '
        f'data.first_sequence_steps={steps}: set tokens per row and the number '
        'of steps, both above 0; or both 0 for rows of one length.')
  _in_range(config, f'at most {MAX_LENGTH}.', 'sequence_length',
            most=MAX_LENGTH)
  _in_range(config, 'a share, from 0 to 1.', 'mask_rate', 'replace_random_rate',
            'replace_keep_rate', 'pair_short_rate', least=0, most=1)
  if config.mask_rate == 0:
    raise InputError('data.mask_rate=0: nothing would be predicted. The paper '
                     'has 0.15.')
  total = config.replace_random_rate + config.replace_keep_rate
  if total > 1:
    raise InputError(
        f'data.replace_random_rate + data.replace_keep_rate = {total:g}: '
        'these are shares of the same tokens, at most 1 together.')
  if config.format == 'sentence_pair' and config.pair_short_rate:
    raise InputError(f'data.pair_short_rate={config.pair_short_rate}: sentence '
                     'pairs have no target length. Set it to 0.')
  _check_masking(config)


def _check_masking(config: DataConfig) -> None:
  if config.masking_law == 'bert' and config.masking_unit == 'span':
    raise InputError("data.masking_unit='span' with data.masking_law='bert': "
                     "BERT has no spans; set data.masking_law='fairseq'.")
  _in_range(config, '0 (no limit) or more.', 'max_predictions', least=0)
  if config.max_predictions and config.masking_law != 'bert':
    raise InputError(
        f'data.max_predictions={config.max_predictions}: '
        f'data.masking_law={config.masking_law!r} has no such limit. Leave it '
        "at 0, or set data.masking_law='bert'.")
  _in_range(config, 'tokens, 0 or more.', 'span_stdev', least=0,
            below=MAX_LENGTH)
  if config.mask_rate_end == -1:
    return
  _in_range(config, 'a share, above 0 and at most 1; -1: the rate does not '
            'change.', 'mask_rate_end', above=0, most=1)
  if config.mask_rate_steps < 1:
    raise InputError(
        f'data.mask_rate_steps={config.mask_rate_steps}: at least 1 step, from '
        f'data.mask_rate to data.mask_rate_end={config.mask_rate_end}.')
  if config.masks == 'static':
    raise InputError(
        f"data.mask_rate_end={config.mask_rate_end} with data.masks='static': "
        "static masks have one rate; set data.masks='dynamic'.")


@dataclasses.dataclass(frozen=True)
class TokenizerConfig:
  """Which tokenizer is read or trained."""
  # A `tokenizer.json` of any kind, a folder that has one, BERT's `vocab.txt`,
  # or a folder of other files (docs/alphabet.md). Empty: one is trained on the
  # corpora.
  path: str = ''
  vocab_size: int = 50265  # Ids of a trained tokenizer, with special tokens.
  # Of a trained tokenizer: 'byte_bpe', 'wordpiece', 'unigram' or 'char'.
  kind: str = 'byte_bpe'
  # A WordPiece tokenizer that is trained, or read from a vocab.txt, makes text
  # lower case and drops accents.
  lowercase: bool = True
  # The largest share of a text's tokens that may be unknown ([UNK], <unk>); 1
  # allows any.
  max_unknown_share: float = 0.03
  # Where a tokenizer that is trained cuts text before it learns pieces:
  # 'default', GPT-2's regex or BERT's rules; 'marks', the same with combining
  # marks (vowel signs, tones, accents) kept with their letters.
  pre_tokenizer: str = 'default'
  # The most characters that a trained 'wordpiece', 'unigram' or 'char' keeps;
  # the rarest become unknown (1,000: Hugging Face's trainer of BERT).
  alphabet_limit: int = 1000
  # Characters of text that a tokenizer is trained on, spread evenly over it.
  sample_chars: int = 256_000_000

  def __post_init__(self):
    _in_range(self, 'a share, from 0 to 1.', 'max_unknown_share', least=0,
              most=1)
    _in_range(self, 'at least 1.', 'alphabet_limit', 'sample_chars', least=1)


@dataclasses.dataclass(frozen=True)
class ModelConfig:
  """The encoder's shape. Defaults are RoBERTa base (paper, appendix A)."""
  vocab_size: int = 0  # 0 takes the tokenizer's.
  hidden_size: int = 768  # D.
  num_layers: int = 12  # N.
  num_heads: int = 12  # H.
  mlp_size: int = 3072  # F.
  # Longest sequence, T (the table has two rows more: positions start at 2,
  # fairseq utils.py:256).
  max_positions: int = 512
  dropout_rate: float = 0.1  # After embeddings, attention and MLP.
  attention_dropout_rate: float = 0.1  # Of attention probabilities.
  layer_norm_eps: float = 1e-5  # As in fairseq modules/layer_norm.py:28.
  # Standard deviation of all initial matrices and tables, not truncated.
  initializer_std: float = 0.02
  tie_embeddings: bool = True  # The decoder shares the token table.
  # Rows of the token-type table (BERT: 2, for A and B); 0: no table, as in
  # RoBERTa. A task whose format has pairs fills it in.
  num_types: int = 0
  # How tasks lay two texts out. 'tokenizer': as its post-processor does, whose
  # layout a model of Hugging Face brings. 'auto': so without types; with
  # num_types > 1 as in our formats of pairs, <s> A </s> B </s> with types 0 and
  # 1. 'types': like 'auto', but without types always RoBERTa's <s> A </s></s>
  # B </s>: the law of older versions, which their workdirs keep.
  pair_layout: str = 'auto'
  nsp_head: bool = False  # BERT's next-sentence head; such a task sets it too.
  lm_head: bool = True  # The masked-LM head; off in tasks that need none.
  # C of the classifier on <s> (1: a score); 0: no classifier. A fine-tuning
  # task fills in this and the next key.
  num_classes: int = 0
  span_head: bool = False  # A head for the start and end of a span.
  # Dropout in the classifier (fairseq's pooler_dropout).
  classifier_dropout_rate: float = 0.0
  # The type of activations; parameters, softmax and LayerNorm stay float32.
  dtype: str = 'float32'
  # An implementation of kernels.attention; `auto` takes `fused` on a TPU and
  # `xla` on a CPU, and says which.
  attention: str = 'auto'
  # What the backward pass recomputes to save memory, a row of
  # model.encoder.POLICIES. The numbers are the same.
  remat: str = 'none'
  # Layers per iteration of the scan: more compile more slowly and may run
  # faster. The numbers are the same.
  layers_unrolled: int = 1

  def __post_init__(self):
    _in_range(self, 'at least 1.', 'hidden_size', 'num_layers', 'num_heads',
              'mlp_size', 'max_positions', 'layers_unrolled', least=1)
    _in_range(self, 'rows of a table, or 0 for none.', 'num_types', least=0)
    _in_range(self, 'classes, 1 for a score, or 0 for no classifier.',
              'num_classes', least=0)
    if self.hidden_size % self.num_heads:
      raise InputError(
          f'model.hidden_size={self.hidden_size} is not a multiple of '
          f'model.num_heads={self.num_heads}.')
    _in_range(self, 'a share from 0 up to, not including, 1.', 'dropout_rate',
              'attention_dropout_rate', 'classifier_dropout_rate', least=0,
              below=1)
    _in_range(self, 'more than 0.', 'layer_norm_eps', 'initializer_std',
              above=0)
    _one_of(self, attention=ATTENTION, remat=REMAT, dtype=DTYPES,
            pair_layout=PAIR_LAYOUTS)

  @property
  def pair_types(self) -> bool:
    """Whether the model can tell the two texts of a pair apart by types."""
    return self.num_types > 1


@dataclasses.dataclass(frozen=True)
class OptimConfig:
  """The optimizer. Defaults are the paper's for base (appendix, Table 9)."""
  name: str = 'adamw'  # A row of train.optimizer.OPTIMIZERS.
  learning_rate: float = 6e-4  # The peak.
  schedule: str = 'linear'  # A row of train.optimizer.SCHEDULES.
  warmup_steps: int = 24_000  # Steps of the linear warm-up from 0 to the peak.
  warmup_rate: float = 0.0  # If above 0, the warm-up's share of all steps.
  end_learning_rate: float = 0.0  # The rate at the end of a decay.
  power: float = 1.0  # The exponent of schedule='polynomial'.
  b1: float = 0.9  # This and the next two are Adam's.
  b2: float = 0.98
  eps: float = 1e-6
  # 'float32', or 'bfloat16', which saves two bytes per parameter.
  first_moment_dtype: str = 'float32'
  weight_decay: float = 0.01  # Decoupled, times the learning rate.
  # 'all' parameters (fairseq: trainer.py:305 has one group), or 'matrices' (no
  # LayerNorm and no bias: BERT, Hugging Face).
  weight_decay_on: str = 'all'
  # A layer's learning rate is this times that of the layer above; heads have
  # the whole rate, embeddings the smallest.
  layer_decay: float = 1.0
  clip_norm: float = 0.0  # Largest norm of the gradient; 0: any (the paper).
  # What happens when the loss or the gradient norm is not finite or spikes:
  # 'stop' (fairseq), 'skip' the update, 'roll_back' to the last checkpoint and
  # pass over the batches that led there, or 'go_on'.
  on_divergence: str = 'stop'
  # Nats above the mean loss of the last 128 good updates that count as a spike;
  # 0: none do.
  spike_loss: float = 0.0
  # Multiple of the median norm of these updates above which a norm is a spike;
  # 0: none is.
  spike_gradient_norm: float = 0.0
  # Most batches that 'roll_back' passes over. The bad batch is the last of
  # them, and none is from before the checkpoint.
  roll_back_batches: int = 100

  def __post_init__(self):
    _in_range(self, 'a number, at least 0.', 'learning_rate', 'warmup_steps',
              'end_learning_rate', 'power', 'eps', 'weight_decay', 'clip_norm',
              'spike_loss', 'spike_gradient_norm', least=0)
    _one_of(self, on_divergence=ON_DIVERGENCE, first_moment_dtype=DTYPES)
    _in_range(self, 'at least 1.', 'roll_back_batches', least=1)
    _in_range(self, 'more than 0, at most 1.', 'layer_decay', above=0, most=1)
    _in_range(self, 'from 0 up to, not including, 1.', 'b1', 'b2',
              'warmup_rate', least=0, below=1)


@dataclasses.dataclass(frozen=True)
class MeshConfig:
  """The number of devices along each mesh axis.

  One axis may be -1: it takes the devices that the others leave. TPU slices,
  which a data-center network connects, are parts of `data`; the other axes stay
  inside a slice.
  """
  data: int = -1  # Splits the rows of a batch and copies the parameters.
  fsdp: int = 1  # Splits the rows of a batch and the parameters.
  model: int = 1  # Splits the work of each layer.
  # Whether `data` splits the optimizer state too (Rajbhandari et al. 2020,
  # stage 1). The numbers are the same.
  zero1: bool = False

  def __post_init__(self):
    for axis in AXES:
      if getattr(self, axis) < 1 and getattr(self, axis) != -1:
        raise InputError(f'mesh.{axis}={getattr(self, axis)}: at least 1, or '
                         '-1 for the devices that the other axes leave.')
    rest = [f'mesh.{axis}' for axis in AXES if getattr(self, axis) == -1]
    if len(rest) > 1:
      raise InputError(f'{" and ".join(rest)} are -1: only one axis can take '
                       'the devices that the others leave.')


@dataclasses.dataclass(frozen=True)
class TrainConfig:
  """How long a run trains, and when it writes what."""
  steps: int = 500_000  # Updates in all; 0: those of finetune.epochs.
  # Equal parts of a batch that are computed one after another, to save memory.
  # The update is the same.
  micro_batches: int = 1
  log_every: int = 100  # Steps between lines of metrics.jsonl.
  eval_every: int = 5_000  # Steps; 0: an epoch of fine-tuning.
  eval_examples: int = 0  # Most examples of an evaluation set; 0: all of them.
  checkpoint_every: int = 1_000  # Steps; 0: an epoch of fine-tuning.
  keep_checkpoints: int = 3  # Newest checkpoints that are kept; 0: all.
  keep_every: int = 0  # Keep checkpoints at multiples of this too; 0: none.
  # Also keep the weights with the lowest `eval/loss`, in W/best; fine-tuning
  # always keeps those with the best score.
  keep_best: bool = False
  # Training continues while a checkpoint is being written; a kill in that time
  # loses these steps too. False: it waits.
  save_in_background: bool = True
  # A checkpoint or line that cannot be written is reported and retried
  # ('go_on'; three failed checkpoints in a row, or the last one, end the run),
  # or ends the run ('stop').
  on_write_error: str = 'go_on'
  # What may differ from the checkpoint that a run resumes from: data,
  # tokenizer, code, separated by commas (train.facts).
  allow_changed: str = ''
  profile_steps: str = ''  # Steps of an xprof trace, such as '100-105'.
  # The longest that a step, or waiting for a batch, may take before the run
  # reports where it is and ends (train.clock.PATIENCE has the other limits); 0:
  # no watchdog.
  watchdog_seconds: float = 600.0
  on_stall: str = 'exit'  # 'exit' (exit code 76), or 'report' and wait on.
  # Time after which the processes of a run notice that one is dead or stopped,
  # report which, and end with exit code 75.
  peer_timeout_seconds: float = 60.0
  # Folder that keeps compiled programs for the next start; 'auto': `compiled`
  # in data.cache_dir, on TPUs and GPUs; or 'off'.
  compile_cache: str = 'auto'

  def __post_init__(self):
    _in_range(self, 'at least 1.', 'micro_batches', 'log_every', least=1)
    _in_range(self, 'at least 1, or 0 to count in epochs of fine-tuning.',
              'steps', 'eval_every', 'checkpoint_every', least=0)
    _in_range(self, 'a number of steps, or 0 for none.', 'keep_every', least=0)
    _in_range(self, 'at least 1, or 0 for all.', 'eval_examples',
              'keep_checkpoints', least=0)
    _in_range(self, 'some seconds, or 0 for no watchdog.', 'watchdog_seconds',
              least=0)
    _one_of(self, on_write_error=('go_on', 'stop'), on_stall=('exit', 'report'))
    _in_range(self, 'at least 3 seconds.', 'peer_timeout_seconds', least=3)


@dataclasses.dataclass(frozen=True)
class FinetuneConfig:
  """The keys of fine-tuning; pretraining has new_ and unused_parameters too."""
  epochs: int = 10  # Passes over the training split, where train.steps is 0.
  # max_train_examples, subset_seed: train only on this many examples, the first
  # of the permutation with that seed; 0: all of them.
  max_train_examples: int = 0
  subset_seed: int = 0
  # Start from random weights; `init_from`, if given, then gives model and
  # tokenizer alone. Without it `init_from` must be given.
  from_scratch: bool = False
  # Parts of the model that start from random weights, whatever `init_from` has.
  # Without `classifier`: it must have one of the same classes, in any order.
  new_parameters: str = 'classifier,span_head'
  # Parts that `init_from` may have and this model lacks; of other people's
  # weights also how the names of tensors begin, up to a dot.
  unused_parameters: str = 'lm_head,nsp_head'
  # About how many tokens (padding included) an evaluation batch has, over all
  # devices.
  eval_tokens: int = 8192
  # Whether test splits are answered too; their files must exist.
  predict_test: bool = False
  n_best: int = 20  # SQuAD: spans that are kept of each question.
  max_answer_length: int = 30  # SQuAD: most tokens of an answer.
  max_option_length: int = 128  # RACE: of `<s> question+option </s>`.
  chunker: str = 'rules'  # WSC: finds noun phrases; a row of wsc.CHUNKERS.
  # WSC: 'margin' (the paper) or 'cross_entropy' (fairseq's later and better
  # one).
  ranking_loss: str = 'margin'
  margin_alpha: float = 1.0  # This and the next shape the margin loss.
  margin_beta: float = 0.0
  wsc_dir: str = ''  # wnli_spans: the WSC folder to train on; '': WNLI's rows.
  # Names of the classes in their order, separated by commas; the task fills it
  # in. It may be given for text_classification; else it is made from the
  # training labels, the most frequent first.
  labels: str = ''
  # text_columns, label_column: text_classification: the column of the text (or
  # two, separated by a comma), and of the label.
  text_columns: str = 'text'
  label_column: str = 'label'
  # text_classification: what the labels are, in transformers' words; '' or
  # 'single_label_classification': one class a row; 'regression': a number;
  # 'multi_label_classification': any classes, each by a sigmoid.
  problem_type: str = ''

  def __post_init__(self):
    for least, names in (
        (0, ('max_train_examples', 'subset_seed', 'margin_alpha',
             'margin_beta')),
        (1, ('epochs', 'eval_tokens', 'n_best', 'max_answer_length')),
        (3, ('max_option_length',))):
      _in_range(self, f'at least {least}.', *names, least=least)
    _one_of(self, ranking_loss=RANKING_LOSSES,
            problem_type=('', *PROBLEM_TYPES))


@dataclasses.dataclass(frozen=True)
class Config:
  """Everything a run depends on."""
  seed: int = 0  # The seed of parameters, order, masks and dropout.
  # A workdir, hf:DIR or fairseq:FILE whose weights (not optimizer or step) the
  # run starts from; empty: random weights.
  init_from: str = ''
  # What happens if the tokenizer of `init_from` is not the run's: 'error', or
  # 'transfer' (the body is kept, and each new id begins with the vectors of the
  # old ids of its text; an empty tokenizer.path trains a tokenizer).
  init_from_vocabulary: str = 'error'
  task: str = 'pretrain'  # A row of tasks.TASKS.
  data: DataConfig = DataConfig()
  tokenizer: TokenizerConfig = TokenizerConfig()
  model: ModelConfig = ModelConfig()
  optim: OptimConfig = OptimConfig()
  mesh: MeshConfig = MeshConfig()
  train: TrainConfig = TrainConfig()
  finetune: FinetuneConfig = FinetuneConfig()

  def __post_init__(self):
    # jax.random.key keeps 32 bits: two larger seeds could share parameters.
    if not 0 <= self.seed < 1 << 32:
      raise InputError(f'seed={self.seed}: from 0 to {(1 << 32) - 1}.')
    if self.init_from_vocabulary not in INIT_VOCABULARIES:
      raise unknown('init_from_vocabulary', self.init_from_vocabulary,
                    INIT_VOCABULARIES)
    for name in ('steps', 'eval_every', 'checkpoint_every'):
      if self.task == MASKED_LM and not getattr(self.train, name):
        raise InputError(f'train.{name}=0: at least 1 step; 0 is for '
                         f'fine-tuning, and this is task={self.task!r}.')


# Keys that change neither what is learned nor the batches: a run may resume
# with other values. Mesh, micro-batches and attention change the last bits of
# sums.
FREE_ON_RESUME = frozenset({
    'data.backend', 'data.bad_records', 'data.cache_dir', 'data.encoder',
    'data.keep_tokens',
    'data.masking_ops', 'data.prefetch', 'data.remote_cache_dir',
    'data.remote_cache_gib', 'data.remote_threads', 'data.tfds_dir',
    'data.workers', 'mesh.data', 'mesh.fsdp', 'mesh.model', 'mesh.zero1',
    'model.attention', 'model.layers_unrolled', 'model.remat',
    'train.allow_changed', 'train.checkpoint_every', 'train.compile_cache',
    'train.eval_every', 'train.eval_examples', 'train.keep_best',
    'train.keep_checkpoints', 'train.keep_every', 'train.log_every',
    'train.micro_batches', 'train.on_stall', 'train.on_write_error',
    'train.peer_timeout_seconds', 'train.profile_steps',
    'train.save_in_background', 'train.watchdog_seconds',
    # A run that has diverged may resume with other values.
    'optim.on_divergence', 'optim.roll_back_batches',
    'tokenizer.max_unknown_share',  # Judged before the first step.
    'finetune.eval_tokens', 'finetune.predict_test'})

# Keys that depend on the machine: they may differ between processes of a run.
FREE_PER_PROCESS = frozenset({
    'data.cache_dir', 'data.encoder', 'data.keep_tokens', 'data.tfds_dir',
    'data.workers',
    'data.prefetch', 'data.backend', 'data.remote_cache_dir',
    'data.remote_cache_gib', 'data.remote_threads', 'train.compile_cache',
    'train.watchdog_seconds', 'train.on_stall'})


def parse(values: Mapping[str, Any]) -> Config:
  """Reads a ConfigDict or nested dict as a Config.

  Raises:
    InputError: a key is unknown, or a value is wrong.
  """
  known = {f.name: f.default for f in dataclasses.fields(Config)}
  scalars, sections = {}, {}
  for key, value in values.items():
    if key not in known:
      raise unknown('config key', key, known)
    if dataclasses.is_dataclass(known[key]):
      if not hasattr(value, 'items'):  # A ConfigDict is not a Mapping.
        raise InputError(f'{key}={value!r}: this is a section; set '
                         f'{key}.<key>.')
      sections[key] = section(type(known[key]), value, key)
    else:
      scalars[key] = value
  return dataclasses.replace(section(Config, scalars, 'config'), **sections)


def to_dict(config: Config) -> dict[str, Any]:
  """The config as a nested dict of plain values, as in config.json."""
  return dataclasses.asdict(config)


def with_values(config: Config, values: Mapping[str, Any]) -> Config:
  """Replaces values, such as {'data.format': 'doc_sentences', 'seed': 3}."""
  sections: dict[str, dict[str, Any]] = {}
  for key, value in values.items():
    part, _, name = key.rpartition('.')
    sections.setdefault(part, {})[name] = value
  return dataclasses.replace(config, **sections.pop('', {}), **{
      part: dataclasses.replace(getattr(config, part), **found)
      for part, found in sections.items()})


def common_values(config: Config) -> dict[str, Any]:
  """The values on which the processes of a run must agree, by key."""
  return {key: value for key, value in flatten(to_dict(config)).items()
          if key not in FREE_PER_PROCESS}


def defaults() -> 'ConfigDict':
  """A ConfigDict with every key at its default, for config files to change."""
  import ml_collections  # Training itself runs where this is not installed.
  return ml_collections.ConfigDict(to_dict(Config()))


def with_arg(config: 'ConfigDict', arg: str | None) -> 'ConfigDict':
  """Applies `--config=file.py:key=value,...` to a config, and returns it.

  It changes the config in place. `arg` is the text behind the colon, where a
  key is written whole (`train.steps=10`) or, if only one section has it, bare
  (`steps=10`).

  Raises:
    InputError: a key is unknown, or a value has the wrong type.
  """
  flat = flatten(config)
  names = _key_names(flat)
  values = parse_arg(arg, **{name: flat[key] for name, key in names.items()})
  for name, value in values.items():
    if value != flat[names[name]]:
      config.update_from_flattened_dict({names[name]: value})
  return config


def arg_keys(arg: str | None) -> frozenset[str]:
  """The whole names of the keys that the text behind the colon sets."""
  names = _key_names(flatten(to_dict(Config())))
  given = [pair.partition('=')[0] for pair in (arg or '').split(',')]
  return frozenset(names[name] for name in given if name in names)


def _key_names(keys: Iterable[str]) -> dict[str, str]:
  """Maps each name that a person may write to the whole key."""
  bare: dict[str, list[str]] = {}
  for key in keys:
    bare.setdefault(key.rpartition('.')[2], []).append(key)
  return {key: key for key in keys} | {
      name: found[0] for name, found in bare.items() if len(found) == 1}


class UnevenBatch(InputError):
  """A batch cannot be split evenly."""


def check_batch(config: Config, shares: int):
  """Raises UnevenBatch unless `shares` devices can split each micro-batch."""
  size, parts = config.data.batch_size, config.train.micro_batches
  if size < 1 or size % (parts * shares):
    raise UnevenBatch(
        f'data.batch_size={size} is not a multiple of {parts * shares}: '
        f'train.micro_batches={parts} times the {shares} devices that share '
        'a batch.')
