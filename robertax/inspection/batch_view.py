"""How a batch looks: as plain text, in a terminal's colours, in a notebook.

What comes from a corpus is data in all three: it is escaped for HTML, never
read as rich's markup, and cannot steer a terminal.
"""

from collections.abc import Iterator
from html import escape
import os
import sys

from robertax.inspection.marked_text import SPECIAL, visible

# Of each kind: how rich has it, and the tag and style of a notebook. Each is
# told apart without its colour, too.
_STYLES = {'masked': 'bold red', 'random': 'bold magenta underline',
           'kept': 'bold green italic', SPECIAL: 'cyan dim', 'text': ''}
_TAGS = {
    'masked': ('b', 'color:#b3261e;background:#fbe3e1'),
    'random': ('u', 'color:#7b1fa2;background:#f3e5f5'),
    'kept': ('i', 'color:#1b6e2e;background:#e2f3e5'),
    SPECIAL: ('span', 'color:#0b7285;opacity:.7')}
_SAYS = {'masked': 'hidden behind the mask token',
         'random': 'another token, at random, stands in its place',
         'kept': 'stays, and is predicted too'}
_COLUMNS = ('row', 'example', 'corpus', 'document', 'record', 'epoch', 'length')
# Nobody's mathematics: a notebook would set what stands between two $.
_TABLE = '<table class="tex2jax_ignore mathjax_ignore">'


def write(batch) -> None:
  """Prints a batch: in colours where stdout is a terminal that has them."""
  from rich.console import Console
  if hasattr(sys.stdout, 'reconfigure'):  # Not every terminal has UTF-8.
    sys.stdout.reconfigure(errors='backslashreplace')
  try:
    console = Console()
    if console.no_color or console.color_system is None:
      print(batch)
    else:
      console.print(batch)
    sys.stdout.flush()
  except BrokenPipeError:  # `... | head`. Python would complain once more.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def plain(batch) -> str:
  """All of it, one line a text."""
  lines = [title(batch), *_legend(batch)]
  for row, marked in zip(batch.rows, batch.marked):
    lines += ['', heading(row)]
    for label, segment in zip(_labels(marked), marked):
      lines += [f'  before{label}: {segment.plain_before}',
                f'  after{label}:  {segment.plain_after}']
  lines += ['', 'The whole batch:']
  table = statistics(batch)
  widths = [max(map(len, column)) for column in zip(*table)]
  lines += [f'  {name:<{widths[0]}}  {value:>{widths[1]}}  {asked}'.rstrip()
            for name, value, asked in table]
  return '\n'.join(lines)


def literal(text: str):
  """Text that rich prints as it is."""
  from rich.text import Text
  return Text(text)


def coloured(batch) -> Iterator:
  """What rich prints, in order."""
  from rich.table import Table
  from rich.text import Text

  def line(parts) -> Text:
    return Text.assemble(*((visible(part.text), _STYLES[part.kind])
                           for part in parts))

  yield Text(title(batch), 'bold')
  yield Text.assemble('Predicted: ', *_joined(
      [(kind, _STYLES[kind]) for kind in _SAYS]), '. Special tokens: ',
                      *_joined([(name, _STYLES[SPECIAL])
                                for name in batch.special_tokens]), '.')
  for row, marked in zip(batch.rows, batch.marked):
    yield Text(f'\n{heading(row)}', 'bold')
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
  for cells in statistics(batch):
    table.add_row(*map(Text, cells))
  yield table


def html(batch) -> str:
  """Tables for a notebook."""
  def cell(value) -> str:
    return f'<td style="vertical-align:top">{escape(visible(str(value)))}</td>'

  def words(labels, lists) -> str:
    found = '<br>'.join(
        f'<small>{label.strip()}</small> {"".join(map(tagged, parts))}'
        if label else ''.join(map(tagged, parts))
        for label, parts in zip(labels, lists))
    return ('<td style="vertical-align:top;text-align:left;'
            f'white-space:pre-wrap" dir="auto">{found}</td>')

  def head(names) -> str:
    return f'<tr>{"".join(f"<th>{escape(name)}</th>" for name in names)}</tr>'

  pairs = any('random_next' in row for row in batch.rows)
  rows = [head([*_COLUMNS, *['next'] * pairs, 'before', 'after'])]
  for row, marked in zip(batch.rows, batch.marked):
    cells = [cell(row[name]) for name in _COLUMNS]
    if pairs:
      cells.append(cell(_next(row)))
    labels = _labels(marked)
    rows.append(f'<tr>{"".join(cells)}'
                f'{words(labels, [segment.before for segment in marked])}'
                f'{words(labels, [segment.after for segment in marked])}</tr>')
  table = [head(('', 'here', 'asked'))] + [
      f'<tr>{"".join(map(cell, cells))}</tr>' for cells in statistics(batch)]
  return (f'<p><b>{escape(title(batch))}</b><br>{legend()}</p>'
          f'{_TABLE}{"".join(rows)}</table>{_TABLE}{"".join(table)}</table>')


def legend() -> str:
  """What the tags of `tagged` mean, as HTML."""
  return '; '.join(f'<{tag} style="{style}">{kind}</{tag}>: {_SAYS[kind]}'
                   for kind, (tag, style) in _TAGS.items() if kind in _SAYS)


def tagged(part) -> str:
  """A part of a text as HTML."""
  text = escape(visible(part.text))
  if part.kind not in _TAGS:
    return text
  tag, style = _TAGS[part.kind]
  was = f' title="was: {escape(visible(part.was))}"' if part.was else ''
  return f'<{tag} style="{style}"{was}>{text}</{tag}>'


def _joined(parts: list) -> list:
  """Parts with a space between."""
  return [x for part in parts for x in (part, ' ')][:-1]


def _labels(marked: list) -> tuple[str, ...]:
  return ('',) if len(marked) == 1 else (' A', ' B')


def title(batch) -> str:
  """What a batch is, in a line."""
  s = batch.statistics
  late = ('' if s['step'] < s['train_steps'] else
          f' (the run has {s["train_steps"]:,})')
  shown = len({row['row'] for row in batch.rows})
  return (f'Step {s["step"]:,}{late}: {s["rows"]:,} rows of '
          f'{s["sequence_length"]} tokens, {shown:,} shown')


def _legend(batch) -> list[str]:
  return ['[mask:x] x is hidden; [random:y<-x] y stands where x was; [kept:x] '
          'x stays, and is predicted too.',
          f'Special tokens: {" ".join(batch.special_tokens)}. What the text '
          'itself spells so has a \\ before it.']


def heading(row: dict) -> str:
  """What an example is, in a line."""
  words = [f'row {row["row"]}, example {row["example"]}',
           f'{visible(row["corpus"])}, document {row["document"]:,}',
           f'record {row["record"]:,}', f'epoch {row["epoch"]:,}',
           f'{row["length"]} tokens']
  if 'random_next' in row:
    words.append(_next(row))
  return ' | '.join(words)


def _next(row: dict) -> str:
  if row['random_next']:
    return f'B is random: document {row["second_document"]:,}'
  return 'B follows A'


def statistics(batch) -> list[tuple[str, str, str]]:
  """(name, value, what the config asks for), as text."""
  s, asked = batch.statistics, batch.statistics['asked']

  def share(name: str) -> tuple[str, str]:
    wanted = f'{asked[name]:.2%}' if name in asked else ''
    return f'{s[name]:.2%}', wanted

  lines = [
      ('step', f'{s["step"]:,}', ''),
      ('epochs before it', f'{s["epoch"]:.4f}', ''),
      ('rows', f'{s["rows"]:,}', ''),
      ('examples', f'{s["examples"]:,}', ''),
      ('tokens', f'{s["tokens"]:,}', ''),
      ('padding', f'{s["padding_fraction"]:.2%}', ''),
      ('predicted tokens', f'{s["predicted_tokens"]:,}', '')]
  of = ('tokens' if s['countable_tokens'] == s['tokens'] else
        'tokens but special ones')
  lines.append((f'  share of {of}', *share('predicted_share')))
  for kind in _SAYS:
    lines.append((f'  of them {kind}', *share(f'{kind}_share')))
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
