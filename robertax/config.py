"""Every section and key of a config: one frozen dataclass a section.

Floor 0, beside the rooms: each room is given its section, and what is refused
here no room checks again. A config is written by people as a
`ml_collections.ConfigDict` (`defaults`, `with_arg`), read by `parse`, and kept
in W/config.json (`to_dict`). The docstring of a section has the meaning and
unit of its keys.
"""

from collections.abc import Iterable, Mapping
import dataclasses
import math
from typing import TYPE_CHECKING, Any, TypeVar

from robertax.errors import InputError, unknown
from robertax.progress import say

if TYPE_CHECKING:
  from ml_collections import ConfigDict

T = TypeVar('T')


def typed(value: Any, like: Any, key: str) -> Any:
  """`value` as the type of `like`.

  >>> typed('3', 1, 'train.steps'), typed(1, 1.0, 'x'), typed('no', True, 'x')
  (3, 1.0, False)
  """
  kind = type(like)
  words = {'true': True, '1': True, 'yes': True,
           'false': False, '0': False, 'no': False}
  try:
    if kind is bool:
      return (value if isinstance(value, bool)
              else words[str(value).lower()])
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
  """One config section, as a dataclass whose fields all have defaults."""
  fields = {f.name: f.default for f in dataclasses.fields(cls)}
  for key in values:
    if key not in fields:
      raise unknown('config key', f'{name}.{key}',
                    [f'{name}.{k}' for k in fields])
  return cls(**{key: typed(value, fields[key], f'{name}.{key}')
                for key, value in values.items()})


def parse_arg(arg: str | None, **defaults: Any) -> dict[str, Any]:
  """Reads the text behind the colon of `--config=configs/x.py:a=1,b=text`.

  >>> parse_arg('batch_size=64,dry', batch_size=256, dry=False)
  {'batch_size': 64, 'dry': True}
  """
  values = dict(defaults)
  for pair in filter(None, (arg or '').split(',')):
    key, equals, value = pair.partition('=')
    if key not in defaults:
      raise unknown('config argument', key, defaults)
    values[key] = typed(value if equals else True, defaults[key], key)
  return values


def take_arg(arg: str | None, key: str, default: str) -> tuple[str, str]:
  """One key of the text behind the colon, and the rest of that text.

  For a config file that must know one value, such as its task, before the
  others can be read. If the key is given several times, the last one counts.

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
  """{'train': {'steps': 3}} -> {'train.steps': 3}."""
  flat = {}
  for key, value in config.items():
    if hasattr(value, 'items'):  # A ConfigDict is not a Mapping.
      flat.update(flatten(value, f'{prefix}{key}.'))
    else:
      flat[prefix + key] = value
  return flat


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
  """Lines `key: old -> new` for each key whose value differs."""
  old, new = flatten(old), flatten(new)
  absent = '(absent)'
  return [f'{key}: {old.get(key, absent)!r} -> {new.get(key, absent)!r}'
          for key in sorted(old.keys() | new.keys())
          if old.get(key, absent) != new.get(key, absent)]


def _in_range(section: str, values: Any, names: Iterable[str], words: str, *,
              least: float = -math.inf, above: float = -math.inf,
              most: float = math.inf, below: float = math.inf) -> None:
  """Refuses keys outside a range, to which `least` and `most` belong, `above`
  and `below` do not; NaN and infinity are in none.
  """
  for name in names:
    value = getattr(values, name)
    if not (least <= value <= most and value < below and (
        value > above or above == -math.inf)):
      raise InputError(f'{section}.{name}={value}: {words}')


def _one_of(section: str, values: Any, **known: Iterable[str]) -> None:
  """Refuses a word that is none of the known ones."""
  for name, words in known.items():
    if getattr(values, name) not in words:
      raise unknown(f'{section}.{name}', getattr(values, name), words)


# Values that a key may have; tests compare them with the tables of the rooms.
BACKENDS = ('tf', 'numpy')
SPECIALS = ('fairseq', 'exclude')
MASKS = ('dynamic', 'static')
MASKING_LAWS = ('fairseq', 'bert')
MASKING_UNITS = ('token', 'whole_word', 'span')
MASKING_OPS = ('numpy', 'tensorflow')
PAIR_NEGATIVES = ('half', 'bert')
BAD_RECORDS = ('stop', 'skip')
ATTENTION = ('auto', 'cudnn', 'fused', 'splash', 'xla')
REMAT = ('attention', 'full', 'none', 'products')
RANKING_LOSSES = ('margin', 'cross_entropy')
ON_DIVERGENCE = ('stop', 'skip', 'roll_back', 'go_on')
AXES = ('data', 'fsdp', 'model')  # of the mesh
MASKED_LM = 'pretrain'  # The task that has steps, and no epochs.
# A token's random numbers are told apart behind 16 bits of position.
MAX_LENGTH = 1 << 16


@dataclasses.dataclass(frozen=True)
class DataConfig:
  """What is read, how it is cut, shuffled and masked.

  Attributes:
    corpora: paths, globs and names with commas between; `python` is the text
      that comes with Python, `tfds:NAME` or `tfds:FOLDER` a data set of TFDS.
      Each file is a corpus, a folder is one corpus.
    text_field: the field of a JSON line, the column or the TFDS feature that
      holds the text.
    split: of TFDS and of Hugging Face's folders with splits.
    tfds_dir: the folder of TFDS's prepared data sets; empty: TFDS's own default
      or TFDS_DATA_DIR.
    invalid_utf8: 'error', or 'replace' (each bad byte becomes U+FFFD, counted).
    drop_duplicates: leave out exact repetitions of earlier documents (about 16
      bytes of memory a document).
    min_document_chars: leave out shorter documents.
    document_filter: `module:function` of a document's text: True or a text
      keeps it (as that text), False or None leaves it out. For some corpora
      only: `CORPUS=module:function`, with commas between. Filter, length and
      duplicates are applied in this order, and counted for each corpus.
    sentences: a row of corpus.sentences.SPLITTERS.
    format: a row of corpus.formats.FORMATS.
    sequence_length: tokens a row, T.
    first_sequence_length, first_sequence_steps: tokens a row of the first
      steps, and how many these are (BERT: 128, for 90 % of all); 0: none.
    pair_duplicates: how often training pairs are drawn anew; epoch e reads
      duplicate e mod this (BERT's dupe_factor).
    pair_short_rate: share of the documents whose pairs are shorter, of a random
      length (BERT's short_seq_prob is 0.1; the paper's 0).
    pair_negatives: 'half' (the paper: every second pair, wherever the text
      allows it) or 'bert' (a lone sentence adds one more), see corpus.formats.
    cache_dir: the folder of prepared records; empty: the user's cache folder.
    keep_tokens: keep the tokens (2 bytes each) after packing, so that for
      another format or length the text is not read and tokenized again.
    workers: processes that prepare records; 0: one a core.
    batch_size: sequences a step, over all devices, hosts and micro-batches.
    backend: 'tf' (tf.data and array_record) or 'numpy' (memory-mapped records;
      needs neither tensorflow nor array_record).
    prefetch: batches that are made ahead of the step.
    shuffle_block: records that are read together, a contiguous range.
    shuffle_window: such ranges whose records are mixed.
    shuffle_lanes: parts of the records, each read for its own row group of a
      batch (data.order). With a multiple of hosts x micro-batches each host
      reads only its own part of remote records.
    remote_cache_dir: local folder for chunks of remote records; empty: the
      user's cache folder.
    remote_cache_gib: its largest size, for each process.
    remote_threads: such chunks that are read at once.
    bad_records: a damaged record ends the run ('stop'), or becomes a row of
      padding, counted in train/bad_records and eval/bad_records ('skip').
    mixture: shares of the rows of a batch. Empty: corpora as they are, each
      record once an epoch. Or weights, in the order of the corpora (`4,12`) or
      by name (`news=4,web=12`); or `alpha=0.5`: tokens of the corpus to that
      power. Each corpus then has its own epochs.
    mask_rate: share of the tokens that is predicted.
    replace_random_rate, replace_keep_rate: of the chosen tokens, the shares
      that become a random token, or stay; the rest becomes <mask>.
    mask_rate_end, mask_rate_steps: the rate changes linearly to this in so many
      steps; -1: it does not change. Evaluation keeps mask_rate.
    masks, num_static_masks: 'dynamic' (new ones in every epoch), or 'static':
      epoch e has those of e mod num_static_masks (BERT's duplicates).
    masking_law: 'fairseq' or 'bert', see data.masking.
    max_predictions: most predicted tokens of an example, by BERT's law; 0: no
      limit.
    masking_unit: what is chosen as a whole: 'token', 'whole_word', or 'span'.
    span_length, span_stdev: of a span's tokens, which are drawn from a normal
      distribution and rounded.
    masking_ops: 'numpy', or 'tensorflow' (backend 'tf', unit 'token'): the same
      bits, more slowly.
    specials: 'fairseq' (<s> and </s> are maskable, as any token) or 'exclude';
      BERT's law always excludes them.
    dir: a task's official folder (fine-tuning only).
    train_files, eval_files: SQuAD: other files than the official ones, with
      commas between, each with an optional slice of its articles, as in
      `dev-v2.0.json[::2]`. Relative ones are in `dir`, if that is given.
    doc_stride: SQuAD: tokens of a context that two windows share.
    question_length: SQuAD: tokens of a question that are read.
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


def check_data(config: DataConfig) -> None:
  """Refuses wrong values of a `data` section that a task has filled in.

  Raises:
    InputError: with the key, its value, and what would do.
  """
  _one_of('data', config, backend=BACKENDS, specials=SPECIALS, masks=MASKS,
          masking_law=MASKING_LAWS, masking_unit=MASKING_UNITS,
          masking_ops=MASKING_OPS, pair_negatives=PAIR_NEGATIVES,
          bad_records=BAD_RECORDS)
  _in_range('data', config, (
      'sequence_length', 'batch_size', 'prefetch', 'shuffle_block',
      'shuffle_window', 'shuffle_lanes', 'num_static_masks', 'span_length',
      'pair_duplicates', 'remote_threads'), 'at least 1.', least=1)
  _in_range('data', config, ['remote_cache_gib'], 'GiB, more than 0.', above=0)
  if '://' in config.remote_cache_dir:
    raise InputError(f'data.remote_cache_dir={config.remote_cache_dir}: a '
                     'folder of this machine.')
  _in_range('data', config, ['min_document_chars'],
            '0 (none is too short) or more.', least=0)
  if (config.first_sequence_length > 0) != (
      config.first_sequence_steps > 0) or (
          min(config.first_sequence_length, config.first_sequence_steps) < 0):
    raise InputError(
        f'data.first_sequence_length={config.first_sequence_length} with '
        f'data.first_sequence_steps={config.first_sequence_steps}: tokens a '
        'row and for how many steps, both above 0; or both 0 for rows of one '
        'length.')
  _in_range('data', config, ['sequence_length'], f'at most {MAX_LENGTH}.',
            most=MAX_LENGTH)
  _in_range('data', config, ('mask_rate', 'replace_random_rate',
                             'replace_keep_rate', 'pair_short_rate'),
            'a share, from 0 to 1.', least=0, most=1)
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
  _in_range('data', config, ['max_predictions'], '0 (no limit) or more.',
            least=0)
  if config.max_predictions and config.masking_law != 'bert':
    raise InputError(
        f'data.max_predictions={config.max_predictions}: a limit of BERT\'s '
        f'law, and data.masking_law={config.masking_law!r} has none. Leave it '
        "at 0, or set data.masking_law='bert'.")
  _in_range('data', config, ['span_stdev'], 'tokens, 0 or more.', least=0,
            below=MAX_LENGTH)
  if config.masking_ops == 'tensorflow' and (
      config.backend != 'tf' or config.masking_unit != 'token'):
    raise InputError(
        "data.masking_ops='tensorflow' needs data.backend='tf' and "
        "data.masking_unit='token'; 'numpy' gives the same masks anywhere.")
  if config.mask_rate_end == -1:
    return
  _in_range('data', config, ['mask_rate_end'],
            'a share, above 0 and at most 1; -1: the rate does not change.',
            above=0, most=1)
  if config.mask_rate_steps < 1:
    raise InputError(
        f'data.mask_rate_steps={config.mask_rate_steps}: at least 1 step, from '
        f'data.mask_rate to data.mask_rate_end={config.mask_rate_end}.')
  if config.masks == 'static':
    raise InputError(
        f"data.mask_rate_end={config.mask_rate_end} with data.masks='static': "
        "masks that are made once have one rate; set data.masks='dynamic'.")


@dataclasses.dataclass(frozen=True)
class TokenizerConfig:
  """The `tokenizer` section of a config.

  Attributes:
    path: a `tokenizer.json`; a folder with `encoder.json`, `vocab.bpe` and
      `dict.txt`; or BERT's `vocab.txt`. Empty: one is trained on the corpora.
    vocab_size: ids of a trained tokenizer, special tokens included.
    kind: of a trained tokenizer: 'byte_bpe' or 'wordpiece'.
    lowercase: a WordPiece that is trained, or read from a vocab.txt, makes text
      lower case and drops accents.
  """
  path: str = ''
  vocab_size: int = 50265
  kind: str = 'byte_bpe'
  lowercase: bool = True


@dataclasses.dataclass(frozen=True)
class ModelConfig:
  """The encoder's shape. Defaults are RoBERTa base (paper, appendix A).

  Attributes:
    vocab_size: 0 takes the tokenizer's.
    hidden_size, num_layers, num_heads, mlp_size: D, N, H, F.
    max_positions: longest sequence, T (the table has two rows more: positions
      start at 2, fairseq utils.py:256).
    dropout_rate: after embeddings, attention and MLP.
    attention_dropout_rate: on attention probabilities.
    layer_norm_eps: fairseq modules/layer_norm.py:28.
    initializer_std: of all matrices and tables, not truncated.
    tie_embeddings: the decoder is the token table.
    num_types: rows of the table of token types (BERT: 2, for A and B); 0: there
      is none, as in RoBERTa. A task whose format has pairs fills it in.
    nsp_head: BERT's head for next-sentence prediction; filled in likewise.
    lm_head: the masked-LM head; a task that predicts no tokens has none.
    num_classes: C of the classifier on <s> (1: a score); 0: there is none. Of
      this and the next, a fine-tuning task fills in what it needs.
    span_head: a head for the start and end of a span.
    classifier_dropout_rate: in the classifier (fairseq's pooler_dropout).
    dtype: of activations; parameters, softmax and LayerNorm stay float32.
    attention: an implementation of kernels.attention; `auto` takes `fused` on a
      TPU and `xla` on a CPU, and says which.
    remat: what the backward pass computes again to save memory, a row of
      model.encoder.POLICIES. The numbers are the same.
    layers_unrolled: layers in one iteration of the scan: more compile slower
      and may run faster. The numbers are the same.
  """
  vocab_size: int = 0
  hidden_size: int = 768
  num_layers: int = 12
  num_heads: int = 12
  mlp_size: int = 3072
  max_positions: int = 512
  dropout_rate: float = 0.1
  attention_dropout_rate: float = 0.1
  layer_norm_eps: float = 1e-5
  initializer_std: float = 0.02
  tie_embeddings: bool = True
  num_types: int = 0
  nsp_head: bool = False
  lm_head: bool = True
  num_classes: int = 0
  span_head: bool = False
  classifier_dropout_rate: float = 0.0
  dtype: str = 'float32'
  attention: str = 'auto'
  remat: str = 'none'
  layers_unrolled: int = 1

  def __post_init__(self):
    _in_range('model', self, (
        'hidden_size', 'num_layers', 'num_heads', 'mlp_size', 'max_positions',
        'layers_unrolled'), 'at least 1.', least=1)
    _in_range('model', self, ['num_types'], 'rows of a table, or 0 for none.',
              least=0)
    _in_range('model', self, ['num_classes'],
              'classes, 1 for a score, or 0 for no classifier.', least=0)
    if self.hidden_size % self.num_heads:
      raise InputError(
          f'model.hidden_size={self.hidden_size} is not a multiple of '
          f'model.num_heads={self.num_heads}.')
    _in_range('model', self, ('dropout_rate', 'attention_dropout_rate',
                              'classifier_dropout_rate'),
              'a share from 0 up to, not including, 1.', least=0, below=1)
    _in_range('model', self, ('layer_norm_eps', 'initializer_std'),
              'more than 0.', above=0)
    _one_of('model', self, attention=ATTENTION, remat=REMAT)
    if self.dtype not in ('float32', 'bfloat16'):
      raise InputError(f'model.dtype={self.dtype!r}: float32 or bfloat16.')

  @property
  def pair_types(self) -> bool:
    """Whether A and B of a pair differ in type: a single type says nothing."""
    return self.num_types > 1

  @property
  def pair_separators(self) -> int:
    """How many `</s>` stand between A and B: 1 in BERT, 2 in RoBERTa."""
    return 1 if self.pair_types else 2


@dataclasses.dataclass(frozen=True)
class OptimConfig:
  """The update. Defaults are the paper's for base (appendix, Table 9).

  Attributes:
    name: a row of train.optimizer.OPTIMIZERS.
    learning_rate: the peak.
    schedule: a row of train.optimizer.SCHEDULES.
    warmup_steps: from 0 to the peak, linearly.
    warmup_rate: if more than 0, the warm-up as a share of the steps instead.
    end_learning_rate: at which the schedules that decay end.
    power: of schedule='polynomial'.
    b1, b2, eps: Adam's.
    first_moment_dtype: 'float32', or 'bfloat16', which saves two bytes a
      parameter.
    weight_decay: decoupled, times the learning rate.
    layer_decay: the learning rate of a layer is this times that of the layer
      above; heads have the whole rate, embeddings the smallest.
    weight_decay_on: 'all' parameters (fairseq: trainer.py:305 has one group),
      or 'matrices' (no LayerNorm and no bias: BERT, Hugging Face).
    clip_norm: largest global norm of the gradient; 0: no clipping (the paper).
    on_divergence: if the loss or the gradient's norm is not finite, or spikes:
      'stop' (fairseq), 'skip' the update, 'roll_back' to the last checkpoint
      and pass over the batches that led there, or 'go_on'.
    spike_loss: a loss so many nats above the mean of the last 128 good updates
      is a spike; 0: none is.
    spike_gradient_norm: a norm of more than so many times the median of these
      updates is a spike; 0: none is.
    roll_back_batches: most batches that a 'roll_back' passes over, the bad one
      the last of them; none of them lies before the checkpoint.
  """
  name: str = 'adamw'
  learning_rate: float = 6e-4
  schedule: str = 'linear'
  warmup_steps: int = 24_000
  warmup_rate: float = 0.0
  end_learning_rate: float = 0.0
  power: float = 1.0
  b1: float = 0.9
  b2: float = 0.98
  eps: float = 1e-6
  first_moment_dtype: str = 'float32'
  weight_decay: float = 0.01
  weight_decay_on: str = 'all'
  layer_decay: float = 1.0
  clip_norm: float = 0.0
  on_divergence: str = 'stop'
  spike_loss: float = 0.0
  spike_gradient_norm: float = 0.0
  roll_back_batches: int = 100

  def __post_init__(self):
    if self.first_moment_dtype not in ('float32', 'bfloat16'):
      raise InputError(f'optim.first_moment_dtype={self.first_moment_dtype!r}: '
                       'float32 or bfloat16.')
    _in_range('optim', self, (
        'learning_rate', 'warmup_steps', 'end_learning_rate', 'power', 'eps',
        'weight_decay', 'clip_norm', 'spike_loss', 'spike_gradient_norm'),
              'a number, at least 0.', least=0)
    _one_of('optim', self, on_divergence=ON_DIVERGENCE)
    _in_range('optim', self, ['roll_back_batches'], 'at least 1.', least=1)
    _in_range('optim', self, ['layer_decay'], 'more than 0, at most 1.',
              above=0, most=1)
    _in_range('optim', self, ('b1', 'b2', 'warmup_rate'),
              'from 0 up to, not including, 1.', least=0, below=1)


@dataclasses.dataclass(frozen=True)
class MeshConfig:
  """The `mesh` section of a config: devices along each axis.

  Attributes:
    data: batch rows are shared out, parameters copied.
    fsdp: batch rows are shared out, parameters too.
    model: each layer's work is shared out.
    zero1: the optimizer's state is shared out along `data` too (Rajbhandari et
      al. 2020, stage 1). The numbers are the same.
  One axis may be -1: what the others leave. Slices of TPUs, which a data-center
  network connects, are parts of `data`; the other axes stay inside a slice.
  """
  data: int = -1
  fsdp: int = 1
  model: int = 1
  zero1: bool = False

  def __post_init__(self):
    for axis in AXES:
      if getattr(self, axis) < 1 and getattr(self, axis) != -1:
        raise InputError(f'mesh.{axis}={getattr(self, axis)}: at least 1, or '
                         '-1 for what the other axes leave.')
    rest = [f'mesh.{axis}' for axis in AXES if getattr(self, axis) == -1]
    if len(rest) > 1:
      raise InputError(f'{" and ".join(rest)} are -1: only one axis can take '
                       'what the others leave.')


@dataclasses.dataclass(frozen=True)
class TrainConfig:
  """How long, and what is written when. All `_every` count steps.

  Attributes:
    steps: updates in all; 0: those of finetune.epochs.
    micro_batches: equal parts that a batch is cut into, one after another, to
      save memory. The update is the same.
    log_every: between lines of metrics.jsonl.
    eval_every: between evaluations; 0: an epoch of fine-tuning.
    eval_examples: most examples of an evaluation set; 0: all of them.
    checkpoint_every: between checkpoints; 0: an epoch of fine-tuning.
    keep_checkpoints: newest checkpoints that are kept; 0: all.
    keep_every: checkpoints at multiples of this are kept too; 0: none.
    keep_best: the weights of the lowest `eval/loss` are kept in W/best too; in
      fine-tuning those of the best score always are.
    save_in_background: steps go on while a checkpoint is being written, and a
      kill meanwhile costs these steps too. False: they wait for it.
    on_write_error: a checkpoint or line that cannot be written is reported and
      tried again ('go_on'; three checkpoints in a row, or the run's last, end
      it), or ends the run ('stop').
    allow_changed: what may differ from what a checkpoint belongs to: of data,
      tokenizer, code, with commas (train.facts).
    profile_steps: FIRST-LAST, such as '100-105': the steps of an xprof trace.
    watchdog_seconds: that a step, or waiting for a batch, may take before the
      run says where it stands and ends (train.clock.PATIENCE has the limits of
      the rest); 0: there is no watchdog.
    on_stall: 'exit' then, with exit code 76, or 'report' and wait on.
    peer_timeout_seconds: after which the processes of a run notice that one is
      dead or stopped, say which, and end, with exit code 75.
    compile_cache: folder in which compiled programs are kept for the next
      start; 'auto': `compiled` in data.cache_dir, on TPUs and GPUs; 'off'.
  """
  steps: int = 500_000
  micro_batches: int = 1
  log_every: int = 100
  eval_every: int = 5_000
  eval_examples: int = 0
  checkpoint_every: int = 1_000
  keep_checkpoints: int = 3
  keep_every: int = 0
  keep_best: bool = False
  save_in_background: bool = True
  on_write_error: str = 'go_on'
  allow_changed: str = ''
  profile_steps: str = ''
  watchdog_seconds: float = 600.0
  on_stall: str = 'exit'
  peer_timeout_seconds: float = 60.0
  compile_cache: str = 'auto'

  def __post_init__(self):
    _in_range('train', self, ('micro_batches', 'log_every'), 'at least 1.',
              least=1)
    _in_range('train', self, ('steps', 'eval_every', 'checkpoint_every'),
              'at least 1, or 0 for what the epochs of fine-tuning are.',
              least=0)
    _in_range('train', self, ['keep_every'],
              'a number of steps, or 0 for none.', least=0)
    if self.on_write_error not in ('go_on', 'stop'):
      raise InputError(f'train.on_write_error={self.on_write_error!r}: go_on '
                       'or stop.')
    _in_range('train', self, ('eval_examples', 'keep_checkpoints'),
              'at least 1, or 0 for all.', least=0)
    _in_range('train', self, ['watchdog_seconds'],
              'some seconds, or 0 for no watchdog.', least=0)
    if self.on_stall not in ('exit', 'report'):
      raise InputError(f'train.on_stall={self.on_stall!r}: exit or report.')
    _in_range('train', self, ['peer_timeout_seconds'], 'at least 3 seconds.',
              least=3)


@dataclasses.dataclass(frozen=True)
class FinetuneConfig:
  """What only fine-tuning has.

  Attributes:
    epochs: passes over the training split, where train.steps is 0.
    max_train_examples, subset_seed: of the split, the first so many of the
      permutation of that seed; 0: all of it.
    from_scratch: random weights are meant; from `init_from`, if given, come
      model and tokenizer alone. Without it `init_from` must be given.
    new_parameters: parts of the model that begin anew; what `init_from` has of
      them is dropped. Empty: the task's head must be there, and of its size.
    unused_parameters: parts that `init_from` may have and this model has not.
    eval_tokens: about how many tokens (padding included) a batch of evaluation
      has, on all devices.
    labels: names of the classes, in their order, with commas between; the task
      fills it in. For text_classification it may be given; else it is made from
      the training labels, the most frequent first.
    text_columns, label_column: text_classification: the column of the text, or
      of two with a comma between, and of the label.
    predict_test: whether test splits are answered too; their files must exist.
    n_best: SQuAD: spans that are kept of each question.
    max_answer_length: SQuAD: most tokens of an answer.
    max_option_length: RACE: most tokens of `<s> question+option </s>`.
    chunker: WSC: a row of tasks.wsc.CHUNKERS: who finds noun phrases.
    ranking_loss: WSC: 'margin' (the paper) or 'cross_entropy' (fairseq's later
      and better one).
    margin_alpha, margin_beta: of the margin loss.
    wsc_dir: wnli_spans: the WSC folder that is trained on; empty: WNLI's rows.
  """
  epochs: int = 10
  max_train_examples: int = 0
  subset_seed: int = 0
  from_scratch: bool = False
  new_parameters: str = 'classifier,span_head'
  unused_parameters: str = 'lm_head,nsp_head'
  eval_tokens: int = 8192
  predict_test: bool = False
  n_best: int = 20
  max_answer_length: int = 30
  max_option_length: int = 128
  chunker: str = 'rules'
  ranking_loss: str = 'margin'
  margin_alpha: float = 1.0
  margin_beta: float = 0.0
  wsc_dir: str = ''
  labels: str = ''
  text_columns: str = 'text'
  label_column: str = 'label'

  def __post_init__(self):
    for least, names in (
        (0, ('max_train_examples', 'subset_seed', 'margin_alpha',
             'margin_beta')),
        (1, ('epochs', 'eval_tokens', 'n_best', 'max_answer_length')),
        (3, ('max_option_length',))):
      _in_range('finetune', self, names, f'at least {least}.', least=least)
    _one_of('finetune', self, ranking_loss=RANKING_LOSSES)


@dataclasses.dataclass(frozen=True)
class Config:
  """Everything a run depends on.

  Attributes:
    seed: of parameters, order, masks and dropout.
    init_from: whose weights (not their optimizer or step) it begins with: a
      workdir, hf:DIR or fairseq:FILE; empty: random weights.
    task: a row of tasks.TASKS.
  """
  seed: int = 0
  init_from: str = ''
  task: str = 'pretrain'
  data: DataConfig = DataConfig()
  tokenizer: TokenizerConfig = TokenizerConfig()
  model: ModelConfig = ModelConfig()
  optim: OptimConfig = OptimConfig()
  mesh: MeshConfig = MeshConfig()
  train: TrainConfig = TrainConfig()
  finetune: FinetuneConfig = FinetuneConfig()

  def __post_init__(self):
    # jax.random.key keeps 32 bits: beyond, two seeds would share parameters.
    if not 0 <= self.seed < 1 << 32:
      raise InputError(f'seed={self.seed}: from 0 to {(1 << 32) - 1}.')
    for name in ('steps', 'eval_every', 'checkpoint_every'):
      if self.task == MASKED_LM and not getattr(self.train, name):
        raise InputError(f'train.{name}=0: at least 1 step; 0 is for '
                         f'fine-tuning, and this is task={self.task!r}.')


# Keys that change neither what is learned nor the batches: a run may go on with
# other values. Mesh, micro-batches and attention change sums in their last
# bits.
FREE_ON_RESUME = frozenset({
    'data.backend', 'data.bad_records', 'data.cache_dir', 'data.keep_tokens',
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
    # A run that has diverged may go on with other values.
    'optim.on_divergence', 'optim.roll_back_batches',
    'finetune.eval_tokens', 'finetune.predict_test'})

# Keys of the machine: the processes of a run may differ in them.
FREE_PER_PROCESS = frozenset({
    'data.cache_dir', 'data.keep_tokens', 'data.tfds_dir', 'data.workers',
    'data.prefetch', 'data.backend', 'data.remote_cache_dir',
    'data.remote_cache_gib', 'data.remote_threads', 'train.compile_cache',
    'train.watchdog_seconds', 'train.on_stall'})


# Keys that are gone (`section.key`), with the default that they had, for the
# config.json of older runs.
RETIRED: dict[str, Any] = {}


def _is_retired(key: str, value: Any) -> bool:
  """Whether a key is to be left out; if so, says it on stderr."""
  if key not in RETIRED:
    return False
  default = RETIRED[key]
  if typed(value, default, key) != default:
    raise InputError(f'{key}={value!r}: this key is retired, and only its '
                     f'default {default!r} would do. Leave it out.')
  say(f'{key}={value!r}: this key is retired and has no effect.')
  return True


def parse(values: Mapping[str, Any]) -> Config:
  """A ConfigDict or nested dict as a Config.

  Raises:
    InputError: an unknown key, a wrong value, or a retired key that is not at
      its default.
  """
  known = {f.name: f.default for f in dataclasses.fields(Config)}
  scalars, sections = {}, {}
  for key, value in values.items():
    if _is_retired(key, value):
      continue
    if key not in known:
      raise unknown('config key', key, known)
    if dataclasses.is_dataclass(known[key]):
      if not hasattr(value, 'items'):  # A ConfigDict is not a Mapping.
        raise InputError(f'{key}={value!r}: a section, set {key}.<key>.')
      sections[key] = section(type(known[key]), {
          name: v for name, v in value.items()
          if not _is_retired(f'{key}.{name}', v)}, key)
    else:
      scalars[key] = value
  return dataclasses.replace(
      section(Config, scalars, 'config'), **sections)


def to_dict(config: Config) -> dict[str, Any]:
  """A nested dict of plain values, as config.json holds it."""
  return dataclasses.asdict(config)


def common_values(config: Config) -> dict[str, Any]:
  """Key -> value, of all that the processes of a run must agree on."""
  return {key: value for key, value in flatten(to_dict(config)).items()
          if key not in FREE_PER_PROCESS}


def defaults() -> 'ConfigDict':
  """A ConfigDict with every key; a config file changes what it must."""
  import ml_collections  # Doors only: the core runs where this is missing.
  return ml_collections.ConfigDict(to_dict(Config()))


def with_arg(config: 'ConfigDict', arg: str | None) -> 'ConfigDict':
  """Applies `--config=file.py:key=value,...` to a config, and returns it.

  Args:
    config: from `defaults()`, changed in place.
    arg: text behind the colon. A key is written whole (`train.steps=10`) or,
      where just one section has it, bare (`steps=10`).

  Raises:
    InputError: an unknown key or a value of the wrong type.
  """
  flat = flatten(config)
  names = _key_names(flat)
  values = parse_arg(arg, **{name: flat[key] for name, key in names.items()})
  for name, value in values.items():
    if value != flat[names[name]]:
      config.update_from_flattened_dict({names[name]: value})
  return config


def arg_keys(arg: str | None) -> frozenset[str]:
  """The keys that the text behind a config's colon sets, written whole."""
  names = _key_names(flatten(to_dict(Config())))
  given = [pair.partition('=')[0] for pair in (arg or '').split(',')]
  return frozenset(names[name] for name in given if name in names)


def _key_names(keys: Iterable[str]) -> dict[str, str]:
  """{what a key may be written as: the key}."""
  bare: dict[str, list[str]] = {}
  for key in keys:
    bare.setdefault(key.rpartition('.')[2], []).append(key)
  return {key: key for key in keys} | {
      name: found[0] for name, found in bare.items() if len(found) == 1}


class UnevenBatch(InputError):
  """A batch cannot be shared out evenly."""


def check_batch(config: Config, shares: int):
  """Raises UnevenBatch where a batch cannot be shared out.

  Args:
    config: with data.batch_size and train.micro_batches.
    shares: devices that share a micro-batch.
  """
  size, parts = config.data.batch_size, config.train.micro_batches
  if size < 1 or size % (parts * shares):
    raise UnevenBatch(
        f'data.batch_size={size} is not a multiple of {parts * shares}: '
        f'train.micro_batches={parts} times the {shares} devices that share '
        'a batch.')
