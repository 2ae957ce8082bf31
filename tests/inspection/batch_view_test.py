"""Three views of one batch: all of its text, and nothing that it could do."""

from html.parser import HTMLParser
import io
import re

import numpy as np
import pytest
from rich.console import Console

from robertax import text
from robertax.inspection import batches
from robertax.inspection.batches import Marker, ShownBatch, visible

NASTY = ('<script>alert(1)</script> & "it\'s" [bold]rich[/bold] [/red] :smile: '
         '\x1b[2J\x1b]0;title\x07 $x^2$ <mask> 中文 end')


@pytest.fixture(scope='module')
def batch():
  """One example of nasty text, each fifth token predicted."""
  tok = text.train_byte_bpe([NASTY] * 3, 280)
  ids = np.array([tok.bos_id, *tok.encode(NASTY), tok.eos_id], np.int32)
  kinds = np.zeros(len(ids), np.int8)
  kinds[1::5] = np.arange(len(kinds[1::5])) % 3 + 1
  now = np.where(kinds == 1, tok.mask_id, np.where(
      kinds == 2, tok.encode('\x1b')[0], ids)).astype(np.int32)
  marker = Marker(tok)
  marked = marker(ids, now, kinds)
  row = {'row': 0, 'example': 0, 'corpus': '[bold]<i>', 'document': 7,
         'record': 3, 'epoch': 2, 'length': len(ids)}
  shares = {'predicted_share': .2, 'masked_share': .5, 'random_share': .3,
            'kept_share': .2}
  statistics = {
      'step': 1234, 'train_steps': 1000, 'epoch': 2.5, 'rows': 1,
      'sequence_length': 99, 'examples': 1, 'tokens': len(ids),
      'padding_fraction': .1, 'countable_tokens': len(ids),
      'predicted_tokens': 9, 'masked': 3, 'random': 3, 'kept': 3, **shares,
      'asked': shares, 'corpora': {'[bold]<i>': {
          'rows': 1, 'examples': 1, 'tokens': len(ids), 'token_share': 1.,
          'epochs': [2, 3]}}}
  return ShownBatch([row], statistics, [[marked]], marker.special_tokens)


def printed(batch, **options):
  out = io.StringIO()
  Console(**{'file': out, 'width': 100, **options}).print(batch)
  return out.getvalue()


def uncoloured(shown):
  return re.sub(r'\x1b\[[\d;]*m', '', shown)


def squeezed(shown):
  """Without what wrapping adds."""
  return re.sub(r'\s', '', shown)


def test_colours_are_of_a_terminal_alone(batch, monkeypatch):
  for name in ('FORCE_COLOR', 'NO_COLOR', 'TTY_COMPATIBLE'):
    monkeypatch.delenv(name, raising=False)
  monkeypatch.setenv('TERM', 'xterm-256color')
  assert '\x1b' in printed(batch, force_terminal=True)
  for plain in (printed(batch), printed(batch, force_terminal=True,
                                        no_color=True)):
    assert '\x1b' not in uncoloured(plain) and '\x1b[3' not in plain
    assert squeezed(uncoloured(plain)) == squeezed(str(batch))
    assert '[mask:' in plain and '[random:' in plain and '[kept:' in plain
  assert '\x1b' not in str(batch) and repr(batch) == str(batch)


def test_a_terminal_shows_the_texts_and_obeys_none(batch, monkeypatch):
  monkeypatch.delenv('NO_COLOR', raising=False)
  shown = printed(batch, force_terminal=True, color_system='standard')
  marked = batch.marked[0][0]
  words = squeezed(uncoloured(shown))
  for parts in (marked.before, marked.after):
    assert squeezed(visible(''.join(part.text for part in parts))) in words
  assert '[bold]<i>' in words and squeezed(visible(NASTY)) in words
  # No control but colours, and not a character of the text in its place.
  assert not re.search('[\x00-\x09\x0b-\x1f\x7f]', uncoloured(shown))


def test_each_kind_has_its_own_colour(batch, monkeypatch):
  monkeypatch.delenv('NO_COLOR', raising=False)
  shown = printed(batch, force_terminal=True, color_system='standard',
                  width=999)
  marked = batch.marked[0][0]
  styles = {}
  for label, parts in (('before', marked.before), ('after', marked.after)):
    (line,) = [x for x in shown.split('\n') if uncoloured(x).startswith(label)]
    # Behind the label.
    styled = re.findall(r'\x1b\[([\d;]+)m(.*?)\x1b\[0m', line)[1:]
    expected = [part for part in parts if part.kind != 'text']
    assert [text.strip() for _, text in styled if text.strip()] == [
        visible(part.text).strip() for part in expected]
    for (style, _), part in zip(
        [x for x in styled if x[1].strip()], expected):
      assert styles.setdefault(part.kind, style) == style
  assert len(styles) == len(set(styles.values())) == 4


class Cells(HTMLParser):
  """The tags of a page, and the text of its cells."""

  def __init__(self):
    super().__init__()
    self.tags, self.cells, self.attributes = set(), [], set()
    self.inside = False

  def handle_starttag(self, tag, attrs):
    self.tags.add(tag)
    self.attributes |= {name for name, _ in attrs}
    if tag == 'td':
      self.cells.append('')
      self.inside = True

  def handle_endtag(self, tag):
    self.inside = self.inside and tag != 'td'

  def handle_data(self, data):
    if self.inside:
      self.cells[-1] += data


def test_html_has_the_texts_and_no_markup_of_theirs(batch):
  page = Cells()
  page.feed(batch._repr_html_())
  assert page.tags == {'p', 'br', 'table', 'tr', 'th', 'td', 'b', 'u', 'i',
                       'span'}
  assert page.attributes == {'class', 'style', 'dir', 'title'}
  marked = batch.marked[0][0]
  assert page.cells[:7] == ['0', '0', '[bold]<i>', '7', '3', '2',
                            str(batch.rows[0]['length'])]
  assert page.cells[7] == visible(f'<s>{NASTY}</s>')
  assert page.cells[8] == visible(''.join(p.text for p in marked.after))
  # Formulae stay text: notebooks set what is between dollars otherwise.
  assert batch._repr_html_().count('<table class="tex2jax_ignore '
                                   'mathjax_ignore">') == 2


def test_all_views_have_the_statistics(batch, monkeypatch):
  monkeypatch.delenv('NO_COLOR', raising=False)
  page = Cells()
  page.feed(batch._repr_html_())
  views = [str(batch), '|'.join(page.cells), uncoloured(printed(
      batch, force_terminal=True, color_system='standard'))]
  for name, value, asked in batches.statistics_rows(batch):
    for view in views:
      assert name.strip() in view and value in view and asked in view
  assert ('of them masked', '50.00%', '50.00%') in {
      tuple(x.strip() for x in line) for line in batches.statistics_rows(batch)}
  assert 'epoch 2 to 3' in views[0]
  assert 'Step 1,234 (the run has 1,000)' in views[0]


def test_write_prints_plainly_where_no_terminal_is(batch, capsys, monkeypatch):
  for name in ('FORCE_COLOR', 'TTY_COMPATIBLE'):
    monkeypatch.delenv(name, raising=False)
  batches.print_batch(batch)
  assert capsys.readouterr().out == f'{batch}\n'
  monkeypatch.setenv('FORCE_COLOR', '1')
  monkeypatch.setenv('TERM', 'xterm')
  batches.print_batch(batch)
  assert '\x1b[1' in capsys.readouterr().out
  monkeypatch.setenv('NO_COLOR', '1')
  batches.print_batch(batch)
  assert capsys.readouterr().out == f'{batch}\n'
