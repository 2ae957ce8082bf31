r"""show_batch(): any batch of any training step, before and after masking.

Marks say what masking did to a token. In plain text:

    [mask: cat]          ' cat' is hidden behind <mask>
    [random: xy<- cat]   ' xy' replaces ' cat'
    [kept: cat]          ' cat' stays, and is predicted too

A token keeps its leading space, and special tokens are written as their names.
Where the text itself spells a mark or a special token, a backslash comes before
it, and the text's own backslashes are doubled. Line ends and other control
characters are shown as \n, \x1b, \u2028, and bytes of an incomplete character,
at the end of a token or a row, as \xe4.

Text of a corpus is escaped everywhere: it is neither HTML nor rich's markup,
and cannot control a terminal.
"""

import codecs
from collections.abc import Collection, Iterator, Mapping, Sequence
import dataclasses
from html import escape
import importlib.util
import itertools
import os
import re
from typing import Any, NamedTuple

import numpy as np

from robertax import files, text
from robertax.config import Config, parse, with_values
from robertax.data.masking import Masking, word_begins
from robertax.data.rows import Rows
from robertax.errors import InputError, print_result, unknown
from robertax.tasks import TASKS, PretrainingTask
from robertax.text import Tokenizer
from robertax.train import workdir
from robertax.train.divergence import PassedOver
from robertax.train.initial import initial_config

KINDS = ('text', 'masked', 'random', 'kept')
TEXT = 0
SPECIAL = 'special'
_RECORD = (1 << 40) - 1  # Of an example id: corpus << 48 | record << 8 | slot.
_MOST = 1 << 62  # Rows that a run may read, since places are 64-bit numbers.


class Piece(NamedTuple):
  """A piece of text; stray bytes are surrogates (`surrogateescape`)."""
  kind: str  # One of KINDS, or SPECIAL.
  text: str
  was: str = ''  # The original token; '' if nothing is predicted.


class Marked(NamedTuple):
  """A segment before and after masking."""
  # A predicted token has the kind that it gets by masking. A character that
  # several tokens share is in one piece.
  before: list[Piece]
  after: list[Piece]  # Each predicted token is a piece of its own.
  plain_before: str  # As plain text, without marks.
  plain_after: str


@dataclasses.dataclass(frozen=True, repr=False)
class ShownBatch:
  """A batch to look at; print, rich and notebooks each have their own form.

  Attributes:
    rows: a dict for each example shown, as for `pandas.DataFrame(b.rows)`:
      row: in the global batch. example: in the row. record: in the corpus.
      corpus: its name. document: the index in the corpus of the document in
        which the example begins, from 0.
      epoch: of that corpus, from 0. length: in tokens.
      before, after: text; `after` has marks.
      ids, input_ids: before and after masking.
      marks: {place in the example: 'masked', 'random' or 'kept'} of predicted
        tokens. A random token that equals the original counts as kept.
      Pair formats also have first_length (tokens of `<s> A </s>`),
      second_document (of B), and random_next (whether B is random).
    statistics: of the whole batch, shown or not: step, train_steps, epoch
      (passes before this step), rows, sequence_length, examples, tokens
      (without padding), padding_fraction; countable_tokens (of which the mask
      rate is a share), predicted_tokens and predicted_share; how many of those
      are masked, random and kept, masked_share and so on; and asked, the shares
      that the config asks for. Whole words add words, predicted_words and
      predicted_words_share; spans add predicted_runs (of neighbours) and
      mean_run_length; pairs add pairs, random_pairs and random_pairs_share.
      corpora: {name: {rows, examples, tokens, token_share, epochs}}.
    marked: the texts of each example shown: one, or two for a pair.
    special_tokens: their names.
  """
  rows: list[dict[str, Any]]
  statistics: dict[str, Any]
  marked: list[list[Marked]]
  special_tokens: tuple[str, ...]

  def __str__(self) -> str:
    return plain_batch(self)

  __repr__ = __str__

  def __rich_console__(self, console, options) -> Iterator[Any]:
    if console.no_color or console.color_system is None:
      from rich.text import Text
      yield Text(str(self))  # Text is printed as it is.
    else:
      yield from rich_batch(self)

  def _repr_html_(self) -> str:
    return html_batch(self)


def show_batch(config: str | os.PathLike | Config | Mapping[str, Any],
               step: int = 0, rows: int = 8, cache_dir: str = '',
               named: Collection[str] = ()) -> ShownBatch:
  """The batch of a training step, as a run of this config reads it.

  A missing tokenizer and missing records are prepared first, as in any run.
  Step 400,000 takes no longer than step 0, since nothing before it is made.

  Args:
    config: the path of a config file (`configs/quickstart.py`, with arguments
      after a colon, if any) or of a workdir; or a ConfigDict, dict or
      config.Config.
    step: counted from 0.
    rows: how many of the batch's rows are shown, from the first; 0: all.
    cache_dir: replaces data.cache_dir.
    named: keys set on the command line; see train.initial.initial_config.
  """
  for name, value in (('step', step), ('rows', rows)):
    if not isinstance(value, int | np.integer) or value < 0:
      raise InputError(f'{name}={value!r}: a whole number, 0 or more.')
  path = os.fspath(config) if isinstance(config, str | os.PathLike) else ''
  config = _config_of(config, path, named)
  if cache_dir:
    config = with_values(config, {'data.cache_dir': cache_dir})
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
  if path and files.exists(saved) and (
      text.load(saved).fingerprint != task.tokenizer.fingerprint):
    raise InputError(
        f'{saved} is not the tokenizer that {config.data.corpora} gives now: '
        'the text has changed since that run, so its batches are gone.')
  # A config file has passed over no batches; only a workdir has.
  passed = PassedOver.read(path) if path else None
  return batch_of(config, task, int(step), int(rows), passed)


def _config_of(config: Config | Mapping[str, Any], path: str,
               named: Collection[str]) -> Config:
  if isinstance(config, Config):
    return initial_config(config, named)
  if not path:
    if not (isinstance(config, Mapping) or hasattr(config, 'items')):
      raise InputError(f'config={config!r}: a path, a ConfigDict or a dict.')
    return initial_config(parse(config), named)
  file, colon, arg = path.partition(':')
  if file.endswith('.py'):
    if not files.exists(file):
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
  return saved  # It includes init_from's values already.


def batch_of(config: Config, task: PretrainingTask, step: int, shown: int,
             passed: PassedOver | None = None) -> ShownBatch:
  """The batch that `show_batch` gives, for a task whose data is open."""
  batch = passed.batch(step) if passed else step
  pipeline = task.pipeline(batch)
  rows, _ = pipeline.read(batch)
  masked, epochs = pipeline.make_batch(batch), pipeline.locate(batch)[0]
  masking = Masking.of(config.data, task.tokenizer)
  kinds = _token_kinds(masked, masking.mask_id)
  statistics = {
      'step': step, 'train_steps': config.train.steps,
      'epoch': pipeline.epoch(batch),
      **_batch_statistics(config, masking, batch, rows, masked, kinds),
      'corpora': _corpus_statistics(task.corpora, rows, epochs)}
  marker = Marker(task.tokenizer)
  found, texts = [], []
  ends = np.cumsum(rows.lengths, -1)
  for row, slot in zip(*np.nonzero(rows.lengths[:shown or None])):
    which, length = (row, slot), int(rows.lengths[row, slot])
    at = row, slice(ends[which] - length, ends[which])
    example_id = int(rows.example_ids[which])
    facts = {
        'row': int(row), 'example': int(slot),
        'corpus': task.corpora[example_id >> 48],
        'document': int(rows.documents[which]),
        'record': example_id >> 8 & _RECORD, 'epoch': int(epochs[row]),
        'length': length}
    ids, input_ids, here = rows.ids[at], masked['input_ids'][at], kinds[at]
    borders = []
    if rows.first_lengths is not None:
      borders = [int(rows.first_lengths[which])]
      facts |= {'first_length': borders[0],
                'second_document': int(rows.second_documents[which]),
                'random_next': bool(masked['nsp_targets'][which])}
    segments = [marker(*segment) for segment in zip(*(
        np.split(x, borders) for x in (ids, input_ids, here)))]
    found.append({
        **facts, 'before': marker.text(ids),
        'after': ''.join(segment.plain_after for segment in segments),
        'ids': ids.tolist(), 'input_ids': input_ids.tolist(),
        'marks': {int(place): KINDS[here[place]]
                  for place in np.flatnonzero(here != TEXT)}})
    texts.append(segments)
  return ShownBatch(found, statistics, texts, marker.special_tokens)


def _token_kinds(masked: dict[str, np.ndarray], mask_id: int) -> np.ndarray:
  """int8[B,T]: the index in KINDS of what masking did to each token."""
  row, slot = np.nonzero(masked['mlm_weights'])
  at = row, masked['mlm_positions'][row, slot]
  now, was = masked['input_ids'][at], masked['mlm_targets'][row, slot]
  kinds = np.full(masked['input_ids'].shape, TEXT, np.int8)
  kinds[at] = np.where(
      now == mask_id, KINDS.index('masked'),
      np.where(now == was, KINDS.index('kept'), KINDS.index('random')))
  return kinds


def _batch_statistics(config: Config, masking: Masking, step: int,
                      rows: Rows, masked: dict[str, np.ndarray],
                      kinds: np.ndarray) -> dict[str, Any]:
  section, predicted = config.data, kinds != TEXT
  real, number = masked['segment_ids'] > 0, int(predicted.sum())
  maskable = real & ~(masking.is_special[rows.ids]
                      & (masking.specials == 'exclude'))
  # BERT never chooses special tokens but counts them; fairseq does not count
  # them if data.specials excludes them.
  countable = int((maskable if masking.law.masks_specials else real).sum())
  rate = float(masking.rate(step))
  found = {
      'rows': len(real), 'sequence_length': real.shape[1],
      'examples': int((rows.lengths > 0).sum()), 'tokens': int(real.sum()),
      'padding_fraction': 1 - float(real.mean()),
      'countable_tokens': countable, 'predicted_tokens': number,
      'predicted_share': _share(number, countable)}
  drawn, kept = section.replace_random_rate, section.replace_keep_rate
  asked = {'predicted_share': rate, 'masked_share': 1 - drawn - kept,
           'random_share': drawn, 'kept_share': kept}
  for index, kind in enumerate(KINDS[1:], 1):
    found[kind] = int((kinds == index).sum())
    found[f'{kind}_share'] = _share(found[kind], number)
  if masking.unit == 'whole_word':
    begins = word_begins(rows.ids, masked['segment_ids'], masking.word_starts,
                         masking.is_special)
    words, chosen = (begins & maskable).sum(), (begins & predicted).sum()
    found |= {'words': int(words), 'predicted_words': int(chosen),
              'predicted_words_share': _share(chosen, words)}
    if masking.law.counts_words:
      asked['predicted_words_share'] = rate
  elif masking.unit == 'span':
    before = np.pad(predicted, ((0, 0), (1, 0)))[:, :-1]
    same = np.diff(masked['segment_ids'], axis=1, prepend=0) == 0
    runs = int((predicted & ~(before & same)).sum())
    found |= {'predicted_runs': runs, 'mean_run_length': _share(number, runs)}
    asked['mean_run_length'] = section.span_length
  if 'nsp_weights' in masked:
    pairs = int(masked['nsp_weights'].sum())
    drawn = int((masked['nsp_targets'] * masked['nsp_weights']).sum())
    found |= {'pairs': pairs, 'random_pairs': drawn,
              'random_pairs_share': _share(drawn, pairs)}
    asked['random_pairs_share'] = 0.5
  return found | {'asked': asked}


def _corpus_statistics(names: tuple[str, ...], rows: Rows, epochs: np.ndarray
                       ) -> dict[str, dict[str, Any]]:
  corpus, found = rows.example_ids[:, 0] >> 48, {}
  for number, name in enumerate(names):
    its = rows.lengths[corpus == number]
    found[name] = {
        'rows': len(its), 'examples': int((its > 0).sum()),
        'tokens': int(its.sum()),
        'token_share': _share(its.sum(), rows.lengths.sum()),
        'epochs': np.unique(epochs[corpus == number]).tolist()}
  return found


def _share(part: int, whole: int) -> float:
  return float(part / whole) if whole else 0.0


# Text with marks.

_SURROGATES = 'utf-8', 'surrogateescape'
_SYNTAX = re.compile(r'\]|<-')
_SHORT = {'\n': '\\n', '\r': '\\r', '\t': '\\t'}
# Control characters, those that change a line's direction, and stray bytes.
_UNSEEN = re.compile('[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069'
                     '\ud800-\udfff]')


class Marker:
  """Turns ids before and after masking into text with marks."""

  def __init__(self, tokenizer: Tokenizer):
    self._tokenizer = tokenizer
    self._special = frozenset(tokenizer.special_ids)
    self.special_tokens = tuple(
        tokenizer.token_text(i).strip() for i in tokenizer.special_ids)
    names = '|'.join(map(re.escape, self.special_tokens))
    self._spelled = re.compile(rf'\[(?:mask|random|kept):|{names}')

  def __call__(self, ids: np.ndarray, input_ids: np.ndarray, kinds: np.ndarray
               ) -> Marked:
    """Marks a segment: ids before and after masking, and indices in KINDS."""
    plain = [SPECIAL if i in self._special else 'text' for i in ids.tolist()]
    names = [KINDS[kind] if kind != TEXT else name
             for name, kind in zip(plain, kinds.tolist())]
    after = list(self._after(ids, input_ids, names))
    return Marked(
        list(self._before(ids, names)), after,
        ''.join(map(self._plain, self._before(ids, plain))),
        ''.join(map(self._plain, after)))

  def text(self, ids: Sequence[int]) -> str:
    r"""The text of ids, with stray bytes as \xe4."""
    return self._bytes(ids).decode('utf-8', 'backslashreplace')

  def _plain(self, part: Piece) -> str:
    if part.kind == SPECIAL:
      return part.text
    if part.kind == 'text':
      return _escaped(part.text, self._spelled)
    was = _escaped(part.was, _SYNTAX)
    if part.kind == 'random':
      was = f'{_escaped(part.text, _SYNTAX)}<-{was}'
    return f'[{"mask" if part.kind == "masked" else part.kind}:{was}]'

  def _before(self, ids: np.ndarray, names: list[str]) -> Iterator[Piece]:
    wholes, raw, kind = [], b'', 'text'
    follows = [*names[1:], SPECIAL]
    for token, name, following in zip(ids, names, follows):
      raw += self._bytes([token])
      # A predicted token gives its kind to the character it is part of.
      kind = name if kind == 'text' else kind
      if following != SPECIAL and _unfinished(raw):
        continue
      wholes.append((kind, raw))
      raw, kind = b'', 'text'
    for kind, run in itertools.groupby(wholes, lambda whole: whole[0]):
      yield Piece(kind, b''.join(raw for _, raw in run).decode(*_SURROGATES))

  def _after(self, ids: np.ndarray, input_ids: np.ndarray, names: list[str]
             ) -> Iterator[Piece]:
    start = 0
    for end, name in enumerate([*names, SPECIAL]):
      if name == 'text':
        continue
      if start < end:
        yield Piece('text', self._text(ids[start:end]))
      start = end + 1
      if end < len(names):
        yield Piece(name, self._text(input_ids[end:start]),
                   '' if name == SPECIAL else self._text(ids[end:start]))

  def _text(self, ids: Sequence[int]) -> str:
    return self._bytes(ids).decode(*_SURROGATES)

  def _bytes(self, ids: Sequence[int]) -> bytes:
    return b''.join(self._tokenizer.token_bytes(i) for i in ids)


def visible(text: str) -> str:
  r"""Text without characters that control a terminal or are invisible.

  >>> visible('one\n\x1b[2J two\u202e \udce4')
  'one\\n\\x1b[2J two\\u202e \\xe4'
  """
  def code(found: re.Match) -> str:
    number = ord(found.group())
    if 0xdc80 <= number <= 0xdcff:
      return f'\\x{number - 0xdc00:02x}'
    return _SHORT.get(found.group()) or (
        f'\\x{number:02x}' if number < 0x80 else f'\\u{number:04x}')
  return _UNSEEN.sub(code, text)


def _escaped(text: str, special: re.Pattern) -> str:
  """Visible text with a backslash before whatever looks like a mark."""
  return special.sub(lambda found: f'\\{found.group()}',
                     visible(text.replace('\\', '\\\\')))


def _unfinished(raw: bytes) -> bool:
  """Whether it ends inside a character that more bytes may complete."""
  decoder = codecs.getincrementaldecoder('utf-8')('surrogateescape')
  decoder.decode(raw)
  return bool(decoder.getstate()[0])


# A batch as plain text, in a terminal's colours, and in a notebook.

# rich's style of each kind, and a notebook's tag and style. All kinds can be
# told apart without colours too.
_STYLES = {'masked': 'bold red', 'random': 'bold magenta underline',
           'kept': 'bold green italic', SPECIAL: 'cyan dim', 'text': ''}
_TAGS = {
    'masked': ('b', 'color:#b3261e;background:#fbe3e1'),
    'random': ('u', 'color:#7b1fa2;background:#f3e5f5'),
    'kept': ('i', 'color:#1b6e2e;background:#e2f3e5'),
    SPECIAL: ('span', 'color:#0b7285;opacity:.7')}
_SAYS = {'masked': 'hidden behind the mask token',
         'random': 'replaced by another token at random',
         'kept': 'stays, and is predicted too'}
_COLUMNS = ('row', 'example', 'corpus', 'document', 'record', 'epoch', 'length')
# Without these classes a notebook would typeset text between two $.
_TABLE = '<table class="tex2jax_ignore mathjax_ignore">'


def print_batch(batch: ShownBatch) -> None:
  """Prints a batch: in colours where stdout is a terminal that has them."""
  from rich.console import Console
  console, text = Console(), str(batch)
  if console.color_system and not console.no_color:
    with console.capture() as coloured:
      console.print(batch)
    text = coloured.get().removesuffix('\n')
  print_result(text, saved=False)


def plain_batch(batch: ShownBatch) -> str:
  """The batch as plain text, one line for each text."""
  lines = [
      batch_title(batch),
      '[mask:x] x is hidden; [random:y<-x] y replaces x; [kept:x] x stays, '
      'and is predicted too.',
      f'Special tokens: {" ".join(batch.special_tokens)}. Where the text '
      'itself spells one, a \\ comes before it.']
  for row, marked in zip(batch.rows, batch.marked):
    lines += ['', example_heading(row)]
    for label, segment in zip(_labels(marked), marked):
      lines += [f'  before{label}: {segment.plain_before}',
                f'  after{label}:  {segment.plain_after}']
  lines += ['', 'The whole batch:']
  table = statistics_rows(batch)
  widths = [max(map(len, column)) for column in zip(*table)]
  lines += [f'  {name:<{widths[0]}}  {value:>{widths[1]}}  {asked}'.rstrip()
            for name, value, asked in table]
  return '\n'.join(lines)


def rich_batch(batch: ShownBatch) -> Iterator[Any]:
  """Yields what rich prints."""
  from rich.table import Table
  from rich.text import Text

  def line(parts) -> Text:
    return Text.assemble(*((visible(part.text), _STYLES[part.kind])
                           for part in parts))

  def spaced(parts: list) -> list:
    return [x for part in parts for x in (part, ' ')][:-1]
  yield Text(batch_title(batch), 'bold')
  yield Text.assemble(
      'Predicted: ', *spaced([(kind, _STYLES[kind]) for kind in _SAYS]),
      '. Special tokens: ', *spaced([(name, _STYLES[SPECIAL])
                                     for name in batch.special_tokens]), '.')
  for row, marked in zip(batch.rows, batch.marked):
    yield Text(f'\n{example_heading(row)}', 'bold')
    texts = Table.grid(padding=(0, 1))
    texts.add_column(no_wrap=True, style='dim')
    texts.add_column(overflow='fold')
    for label, segment in zip(_labels(marked), marked):
      texts.add_row(f'before{label}', line(segment.before))
      texts.add_row(f'after{label}', line(segment.after))
    yield texts
  yield Text('\nThe whole batch:', 'bold')
  table = Table()
  for name, justify in (('', 'left'), ('here', 'right'), ('asked', 'right')):
    table.add_column(name, justify=justify)
  for cells in statistics_rows(batch):
    table.add_row(*map(Text, cells))
  yield table


def html_batch(batch: ShownBatch) -> str:
  """Tables for a notebook."""
  def cell(value) -> str:
    return f'<td style="vertical-align:top">{escape(visible(str(value)))}</td>'

  def words(lists: list[list[Piece]]) -> str:
    found = '<br>'.join(
        (f'<small>{label.strip()}</small> ' if label else '')
        + ''.join(map(html_part, parts))
        for label, parts in zip(_labels(lists), lists))
    return ('<td style="vertical-align:top;text-align:left;'
            f'white-space:pre-wrap" dir="auto">{found}</td>')

  def head(names) -> str:
    return f'<tr>{"".join(f"<th>{escape(name)}</th>" for name in names)}</tr>'
  pairs = any('random_next' in row for row in batch.rows)
  rows = [head([*_COLUMNS, *['next'] * pairs, 'before', 'after'])]
  for row, marked in zip(batch.rows, batch.marked):
    cells = [cell(row[name]) for name in _COLUMNS]
    if pairs:
      cells.append(cell(_next_label(row)))
    rows.append(f'<tr>{"".join(cells)}'
                f'{words([segment.before for segment in marked])}'
                f'{words([segment.after for segment in marked])}</tr>')
  table = [head(('', 'here', 'asked')), *(
      f'<tr>{"".join(map(cell, cells))}</tr>'
      for cells in statistics_rows(batch))]
  return (f'<p><b>{escape(batch_title(batch))}</b><br>{html_legend()}</p>'
          f'{_TABLE}{"".join(rows)}</table>{_TABLE}{"".join(table)}</table>')


def html_legend() -> str:
  """The meaning of the tags of `html_part`, as HTML."""
  return '; '.join(f'<{tag} style="{style}">{kind}</{tag}>: {_SAYS[kind]}'
                   for kind, (tag, style) in _TAGS.items() if kind in _SAYS)


def html_part(part: Piece) -> str:
  """A part of a text as HTML."""
  text = escape(visible(part.text))
  if part.kind not in _TAGS:
    return text
  tag, style = _TAGS[part.kind]
  was = f' title="was: {escape(visible(part.was))}"' if part.was else ''
  return f'<{tag} style="{style}"{was}>{text}</{tag}>'


def _labels(marked: list) -> tuple[str, ...]:
  return ('',) if len(marked) == 1 else (' A', ' B')


def batch_title(batch: ShownBatch) -> str:
  """The title line of a batch."""
  s = batch.statistics
  late = (f' (the run has {s["train_steps"]:,})'
          if s['step'] >= s['train_steps'] else '')
  shown = len({row['row'] for row in batch.rows})
  return (f'Step {s["step"]:,}{late}: {s["rows"]:,} rows of '
          f'{s["sequence_length"]} tokens, {shown:,} shown')


def example_heading(row: dict) -> str:
  """The title line of an example."""
  return ' | '.join([
      f'row {row["row"]}, example {row["example"]}',
      f'{visible(row["corpus"])}, document {row["document"]:,}',
      f'record {row["record"]:,}', f'epoch {row["epoch"]:,}',
      f'{row["length"]} tokens',
      *([_next_label(row)] if 'random_next' in row else [])])


def _next_label(row: dict) -> str:
  if row['random_next']:
    return f'B is random: document {row["second_document"]:,}'
  return 'B follows A'


def statistics_rows(batch: ShownBatch) -> list[tuple[str, str, str]]:
  """(name, value, what the config asks for), as text."""
  s, asked = batch.statistics, batch.statistics['asked']

  def share(name: str) -> tuple[str, str]:
    return (f'{s[name]:.2%}', f'{asked[name]:.2%}' if name in asked else '')
  lines = [(name, format(s[key], form), '') for name, key, form in (
      ('step', 'step', ','), ('epochs before it', 'epoch', '.4f'),
      ('rows', 'rows', ','), ('examples', 'examples', ','),
      ('tokens', 'tokens', ','), ('padding', 'padding_fraction', '.2%'),
      ('predicted tokens', 'predicted_tokens', ','))]
  of = ('tokens' if s['countable_tokens'] == s['tokens'] else
        'tokens but special ones')
  lines.append((f'  share of {of}', *share('predicted_share')))
  lines += [(f'  of them {kind}', *share(f'{kind}_share')) for kind in _SAYS]
  if 'words' in s:
    lines += [('predicted words', f'{s["predicted_words"]:,}', ''),
              ('  share of words', *share('predicted_words_share'))]
  if 'predicted_runs' in s:
    lines += [('predicted runs', f'{s["predicted_runs"]:,}', ''),
              ('  tokens a run', f'{s["mean_run_length"]:.2f}',
               f'{asked["mean_run_length"]} a span')]
  if 'pairs' in s:
    lines.append(('pairs whose B is random', *share('random_pairs_share')))
  for name, its in s['corpora'].items():
    epochs = its['epochs']
    when = '' if not epochs else f', epoch {epochs[0]:,}' + (
        f' to {epochs[-1]:,}' if len(epochs) > 1 else '')
    lines.append((f'tokens of {visible(name)}{when}',
                  f'{its["tokens"]:,} ({its["token_share"]:.1%})', ''))
  return lines
