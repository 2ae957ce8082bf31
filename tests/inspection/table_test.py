"""A table as text and as HTML: all of it is data."""

import xml.etree.ElementTree as ET

from robertax.inspection.page import Table

TABLE = Table(('name', 'n', '$x$'), [
    ('<b>&"', 1234567, .000123456), ('b\x1b[2J', None, 123456.7)], 'a < b')


def test_text_is_aligned_and_cannot_steer_a_terminal():
  lines = str(TABLE).split('\n')
  assert [line.split() for line in lines] == [
      ['name', 'n', '$x$'], ['<b>&"', '1,234,567', '0.0001235'],
      ['b\\x1b[2J', '123,457'], ['a', '<', 'b']]
  assert len({len(line) for line in lines[:3]}) == 1


def test_html_is_well_formed_and_escaped():
  html = TABLE._repr_html_()
  page = ET.fromstring(f'<p>{html}</p>')
  assert [cell.text for cell in page.iter('td')] == [
      '<b>&"', '1,234,567', '0.0001235', 'b\\x1b[2J', None, '123,457']
  aligned = [cell.get('style')[:16] for cell in page.iter('th')]
  assert aligned == ['text-align:left;', 'text-align:right', 'text-align:right']
  assert 'mathjax_ignore' in html
  assert str(Table(('a',), [])) == 'a' and '<td' not in Table(
      ('a',), [])._repr_html_()
