"""The notebook: every cell, in order, shown as a notebook would show it."""

import ast
import json
import pathlib
import re
import xml.etree.ElementTree as ET

import pytest

import robertax
from robertax.inspection import conversion

PATH = pathlib.Path(__file__).parents[2] / 'launch' / 'inspect.ipynb'


@pytest.fixture(scope='module')
def notebook():
  return json.loads(PATH.read_text())


def execute(cells, names):
  """Yields what each code cell shows: its last expression, displayed."""
  for number, cell in enumerate(cells):
    body = ast.parse(''.join(cell['source'])).body
    last = body.pop() if isinstance(body[-1], ast.Expr) else None
    place = f'cell {number}'
    exec(compile(ast.Module(body, []), place, 'exec'), names)
    if last is None:
      yield None
      continue
    value = eval(compile(ast.Expression(last.value), place, 'eval'), names)
    for form in ('_repr_png_', '_repr_html_'):
      if hasattr(value, form):
        yield getattr(value, form)()
        break
    else:
      yield value


def code(notebook):
  return [c for c in notebook['cells'] if c['cell_type'] == 'code']


def test_it_is_a_notebook_without_outputs(notebook):
  assert notebook['nbformat'] == 4
  assert len({c['id'] for c in notebook['cells']}) == len(notebook['cells'])
  for cell in code(notebook):
    assert cell['outputs'] == [] and cell['execution_count'] is None
  text = PATH.read_text()
  assert not re.search(r'/home|/root|/content', text)


def test_every_cell_of_a_workdir(notebook, run, monkeypatch):
  monkeypatch.chdir(PATH.parent)
  shown = list(execute(code(notebook), {
      'SOURCE': run.workdir, 'COMPARE': [run.workdir]}))
  assert len(shown) == len(code(notebook))
  assert shown[0] is None and None not in shown[1:]  # The first sets up.
  pictures = [x for x in shown if isinstance(x, bytes)]
  assert len(pictures) == 4
  assert all(x.startswith(b'\x89PNG\r\n\x1a\n') for x in pictures)
  pages = [x for x in shown if isinstance(x, str) and '<' in x]
  assert len(pages) >= 8 and any('Loss on held-out text' in x for x in pages)
  for svg in re.findall('<svg.*?</svg>', ''.join(pages), re.S):
    ET.fromstring(svg)


def test_every_cell_of_a_hugging_face_folder(
    notebook, run, tmp_path, monkeypatch):
  """Which has no text, batches or curves of its own."""
  conversion.convert(run.workdir, f'hf:{tmp_path}/hf')
  monkeypatch.chdir(PATH.parent)
  shown = list(execute(code(notebook), {'SOURCE': f'{tmp_path}/hf'}))
  assert len(shown) == len(code(notebook))
  assert [n for n, x in enumerate(shown) if x is None] == [0, 2, 3, 4, 5, 6]
  assert robertax.load(run.workdir).fill_mask('one <mask> three.')
