"""README and docs: links, anchors, config keys and modules that exist."""

import importlib.util
import pathlib
import re

import pytest

from robertax.config import Config, flatten, to_dict

ROOT = pathlib.Path(__file__).parents[1]
PAGES = sorted(page for pattern in ('*.md', 'docs/*.md', 'launch/**/*.md',
                                    'benchmarks/*.md')
               for page in ROOT.glob(pattern))
KEYS = flatten(to_dict(Config()))
pages = pytest.mark.parametrize(
    'page', PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])


def anchors(page: pathlib.Path) -> set[str]:
  """What GitHub calls a page's headings in links."""
  headings = re.findall(r'^#+ (.+)$', page.read_text(), re.M)
  return {re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-')
          for heading in headings}


@pages
def test_links_and_footnotes_resolve(page):
  text = page.read_text()
  for link in re.findall(r'\]\((?!https?:)([^)\s]+)\)', text):
    path, _, anchor = link.partition('#')
    target = page.parent / path if path else page
    assert target.exists(), link
    assert not anchor or anchor in anchors(target), link
  assert set(re.findall(r'(\[\^\w+\])(?!:)', text)) == set(
      re.findall(r'^(\[\^\w+\]):', text, re.M))


@pages
def test_config_keys_and_modules_exist(page):
  text = page.read_text()
  keys = re.findall(r'--config\.([\w.]+)=', text) + re.findall(
      r'`((?:data|tokenizer|optim|mesh|train|finetune)\.\w+)[`=]', text)
  assert [key for key in keys if key not in KEYS
          and not key.endswith(('.json', '.facts'))] == []
  for name in set(re.findall(r'python -m ((?:robertax|benchmarks|launch|tests)'
                             r'[\w.]*)', text)):
    assert importlib.util.find_spec(name), name
