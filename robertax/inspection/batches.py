"""show_batch(): any batch of any training step, before and after masking."""

from collections.abc import Collection, Iterator, Mapping
import dataclasses
import importlib.util
import os
from typing import Any

import numpy as np

from robertax import data, paths, text
from robertax.config import Config, parse
from robertax.data.masking import word_begins
from robertax.data.rows import Rows
from robertax.errors import InputError, unknown
from robertax.inspection import batch_view
from robertax.inspection.marked_text import KINDS, TEXT, Marked, Marker
from robertax.tasks import TASKS
from robertax.train import workdir
from robertax.train.initial import initial_config
from robertax.train.passed_over import PassedOver

_RECORD = (1 << 40) - 1  # Of an example id: corpus << 48 | record << 8 | slot.
_MOST = 1 << 62  # Rows that a run may read: places are 64-bit numbers.


@dataclasses.dataclass(frozen=True, repr=False)
class Batch:
  """A batch to be looked at.

  `print` gives plain text, a terminal through rich colours, a notebook a table.

  Attributes:
    rows: a plain dict for each example shown, so `pandas.DataFrame(b.rows)`:
      row: in the global batch. example: in the row.
      corpus: its name. document: index in the corpus of the one that the
        example begins in, from 0. record: in the corpus's records.
      epoch: of that corpus, from 0. length: in tokens.
      before, after: text; `after` in the notation of marked_text.
      ids, input_ids: before and after masking.
      marks: {place in the example: 'masked', 'random' or 'kept'}, the places
        where a token is predicted. What the draw put there is not known, only
        what stands there: a random token that is the old one counts as kept.
      And of pair formats, first_length: tokens of `<s> A </s>`;
      second_document: of B; random_next: whether B is a random one.
    statistics: of the whole batch, shown or not: step, train_steps, epoch
      (passes before this step), rows, sequence_length, examples, tokens
      (without padding), padding_fraction; countable_tokens (what the mask rate
      is a share of), predicted_tokens and their predicted_share; how many
      predicted ones are masked, random and kept, and masked_share and so on;
      asked: what the config has for those shares. With whole words: words,
      predicted_words, predicted_words_share. With spans: predicted_runs (of
      neighbours) and mean_run_length. Of pair formats: pairs, random_pairs,
      random_pairs_share. corpora: {name: {rows, examples, tokens, token_share,
      epochs (that its rows are of)}}.
    marked: the texts of each example shown, one, or two of a pair.
    special_tokens: what they are called.
  """
  rows: list[dict[str, Any]]
  statistics: dict[str, Any]
  marked: list[list[Marked]]
  special_tokens: tuple[str, ...]

  def __str__(self) -> str:
    return batch_view.plain(self)

  __repr__ = __str__

  def __rich_console__(self, console, options) -> Iterator[Any]:
    if console.no_color or console.color_system is None:
      yield batch_view.literal(str(self))
    else:
      yield from batch_view.coloured(self)

  def _repr_html_(self) -> str:
    return batch_view.html(self)


def show_batch(config: Any, step: int = 0, rows: int = 8,
               cache_dir: str = '', named: Collection[str] = ()) -> Batch:
  """The batch of a training step, as a run of this config reads it.

  What is missing of tokenizer and records is prepared first, as in any run.
  Step 400,000 is there as soon as step 0: nothing before it is made.

  Args:
    config: a path of a config file (`configs/quickstart.py`, with arguments
      behind a colon, if any) or of a run's workdir; or a ConfigDict, dict or
      config.Config.
    step: 0 is the first.
    rows: how many of the batch's rows are shown, from the first; 0: all.
    cache_dir: instead of data.cache_dir.
    named: keys set on the command line; see train.initial.initial_config.

  Raises:
    InputError: a negative number, or what a run of the config would say.
  """
  for name, value in (('step', step), ('rows', rows)):
    if not isinstance(value, int | np.integer) or value < 0:
      raise InputError(f'{name}={value!r}: a whole number, 0 or more.')
  path = os.fspath(config) if isinstance(config, str | os.PathLike) else ''
  config = _config(config, path, named)
  if cache_dir:
    config = dataclasses.replace(config, data=dataclasses.replace(
        config.data, cache_dir=cache_dir))
  if int(step) * config.data.batch_size > _MOST:
    raise InputError(f'step={step}: with {config.data.batch_size} rows a step, '
                     f'at most {_MOST // config.data.batch_size}.')
  if config.task not in TASKS:
    raise unknown('task', config.task, TASKS)
  if not hasattr(TASKS[config.task], 'pipeline'):
    raise InputError(f'task={config.task!r}: only the batches of pretraining '
                     "are shown; set task='pretrain'.")
  task = TASKS[config.task](
      config.seed, config.data, config.tokenizer, config.model)
  saved = f'{path}/tokenizer.json'
  if path and paths.exists(saved) and (
      text.load(saved).fingerprint != task.tokenizer.fingerprint):
    raise InputError(
        f'{saved} is not the tokenizer that {config.data.corpora} gives now: '
        'the text has changed since that run, so its batches are gone.')
  # Of a config (which exists as a file, and not as a folder) there are none.
  passed = PassedOver.read(path) if path else None
  return batch_of(config, task, int(step), int(rows), passed)


def _config(config: Any, path: str, named: Collection[str]) -> Config:
  """The config of whatever `show_batch` was given."""
  if isinstance(config, Config):
    return initial_config(config, named)
  if not path:
    if not (isinstance(config, Mapping) or hasattr(config, 'items')):
      raise InputError(f'config={config!r}: a path, a ConfigDict or a dict.')
    return initial_config(parse(config), named)
  file, colon, arg = path.partition(':')
  if file.endswith('.py'):
    if not paths.exists(file):
      raise InputError(f'{file} does not exist: no config.')
    spec = importlib.util.spec_from_file_location('config', file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not hasattr(module, 'get_config'):
      raise InputError(f'{file} has no function get_config().')
    return initial_config(parse(module.get_config(*[arg] if colon else [])))
  saved = workdir.read_config(path)
  if saved is None:
    raise InputError(f'{path}: neither a config file (.py) nor a workdir with '
                     'a config.json.')
  return saved  # init_from has been followed already.


def batch_of(config: Config, task: Any, step: int, shown: int,
             passed: PassedOver | None = None) -> Batch:
  """As `show_batch`, of a task whose data is open.

  Args:
    config, task, step, shown: of the run, its task, the step, its rows.
    passed: batches that the run has passed over; None: none.
  """
  batch = passed.batch(step) if passed else step
  pipeline = task.pipeline(batch)
  rows, _ = pipeline.read(batch)
  masked, epochs = pipeline.make_batch(batch), pipeline.locate(batch)[0]
  law = data.Masking.of(config.data, task.tokenizer)
  kinds = _kinds(masked, law)
  statistics = {
      'step': step, 'train_steps': config.train.steps,
      'epoch': pipeline.epoch(batch),
      **_counts(config, law, batch, rows, masked, kinds),
      'corpora': _corpora(task.corpora, rows, epochs)}
  marker = Marker(task.tokenizer)
  found, texts = [], []
  starts = np.cumsum(rows.lengths, -1) - rows.lengths
  for row, slot in zip(*np.nonzero(rows.lengths[:shown or None])):
    at = slice(starts[row, slot], starts[row, slot] + rows.lengths[row, slot])
    example_id = int(rows.example_ids[row, slot])
    facts = {
        'row': int(row), 'example': int(slot),
        'corpus': task.corpora[example_id >> 48],
        'document': int(rows.documents[row, slot]),
        'record': example_id >> 8 & _RECORD, 'epoch': int(epochs[row]),
        'length': int(rows.lengths[row, slot])}
    ids, input_ids = rows.ids[row, at], masked['input_ids'][row, at]
    here, borders = kinds[row, at], []
    if rows.first_lengths is not None:
      borders = [int(rows.first_lengths[row, slot])]
      facts |= {'first_length': borders[0],
                'second_document': int(rows.second_documents[row, slot]),
                'random_next': bool(masked['nsp_targets'][row, slot])}
    segments = [marker(*segment) for segment in zip(*(
        np.split(x, borders) for x in (ids, input_ids, here)))]
    found.append({
        **facts, 'before': marker.text(ids),
        'after': ''.join(segment.plain_after for segment in segments),
        'ids': ids.tolist(), 'input_ids': input_ids.tolist(),
        'marks': {int(place): KINDS[here[place]]
                  for place in np.flatnonzero(here != TEXT)}})
    texts.append(segments)
  return Batch(found, statistics, texts, marker.special_tokens)


def _kinds(masked: dict[str, np.ndarray], law: data.Masking) -> np.ndarray:
  """int8[B,T]: index in KINDS of what became of each token."""
  row, slot = np.nonzero(masked['mlm_weights'])
  at = row, masked['mlm_positions'][row, slot]
  now, was = masked['input_ids'][at], masked['mlm_targets'][row, slot]
  kinds = np.full(masked['input_ids'].shape, TEXT, np.int8)
  kinds[at] = np.where(
      now == law.mask_id, KINDS.index('masked'),
      np.where(now == was, KINDS.index('kept'), KINDS.index('random')))
  return kinds


def _counts(config: Config, law: data.Masking, step: int, rows: Rows,
            masked: dict[str, np.ndarray], kinds: np.ndarray
            ) -> dict[str, Any]:
  """Statistics of a batch, but those of its corpora."""
  section, predicted = config.data, kinds != TEXT
  real, number = masked['segment_ids'] > 0, int(predicted.sum())
  maskable = real & ~(law.is_special[rows.ids] & (law.specials == 'exclude'))
  # BERT's law never chooses special tokens, and counts them; fairseq's, where
  # it is told to leave them out, does not.
  countable = int((maskable if law.law.masks_specials else real).sum())
  rate = float(law.rate(step))
  found = {
      'rows': len(real), 'sequence_length': real.shape[1],
      'examples': int((rows.lengths > 0).sum()), 'tokens': int(real.sum()),
      'padding_fraction': 1 - float(real.mean()),
      'countable_tokens': countable, 'predicted_tokens': number,
      'predicted_share': _share(number, countable)}
  asked = {
      'predicted_share': rate,
      'masked_share': (1 - section.replace_random_rate
                       - section.replace_keep_rate),
      'random_share': section.replace_random_rate,
      'kept_share': section.replace_keep_rate}
  for index, kind in enumerate(KINDS):
    if index != TEXT:
      found[kind] = int((kinds == index).sum())
      found[f'{kind}_share'] = _share(found[kind], number)
  if law.unit == 'whole_word':
    begins = word_begins(rows.ids, masked['segment_ids'], law.word_starts,
                         law.is_special)
    found['words'] = int((begins & maskable).sum())
    found['predicted_words'] = int((begins & predicted).sum())
    found['predicted_words_share'] = _share(
        found['predicted_words'], found['words'])
    if law.law.counts_words:
      asked['predicted_words_share'] = rate
  elif law.unit == 'span':
    before = np.pad(predicted, ((0, 0), (1, 0)))[:, :-1]
    same = np.diff(masked['segment_ids'], axis=1, prepend=0) == 0
    found['predicted_runs'] = int((predicted & ~(before & same)).sum())
    found['mean_run_length'] = _share(number, found['predicted_runs'])
    asked['mean_run_length'] = section.span_length
  if 'nsp_weights' in masked:
    found['pairs'] = int(masked['nsp_weights'].sum())
    found['random_pairs'] = int(
        (masked['nsp_targets'] * masked['nsp_weights']).sum())
    found['random_pairs_share'] = _share(found['random_pairs'], found['pairs'])
    asked['random_pairs_share'] = 0.5
  return found | {'asked': asked}


def _corpora(names: tuple[str, ...], rows: Rows, epochs: np.ndarray
             ) -> dict[str, dict[str, Any]]:
  """What each corpus has of a batch."""
  corpus = rows.example_ids[:, 0] >> 48
  tokens = rows.lengths.sum(1)
  return {name: {
      'rows': int((corpus == k).sum()),
      'examples': int((rows.lengths[corpus == k] > 0).sum()),
      'tokens': int(tokens[corpus == k].sum()),
      'token_share': _share(tokens[corpus == k].sum(), tokens.sum()),
      'epochs': np.unique(epochs[corpus == k]).tolist()}
          for k, name in enumerate(names)}


def _share(part: int, whole: int) -> float:
  return float(part / whole) if whole else 0.0
