"""A row of a table, at a scale -> the Config that pretrains it."""

from collections.abc import Mapping
import dataclasses
import hashlib
import json
from typing import Any

from robertax.config import (
    FREE_ON_RESUME,
    Config,
    TokenizerConfig,
    flatten,
    to_dict,
)
from robertax.errors import InputError, unknown
from robertax.paper.scales import SCALES, Recipe, Scale
from robertax.paper.tables import FIVE, PAIR, TABLES, Row


@dataclasses.dataclass(frozen=True)
class Text:
  """What models are trained on.

  Attributes:
    corpora: PAIR and FIVE -> data.corpora.
    cache_dir: of records.
    tokenizers: kind -> path; a kind that is not here is trained.
  """
  corpora: Mapping[str, str]
  cache_dir: str = ''
  tokenizers: Mapping[str, str] = dataclasses.field(default_factory=dict)


# Nothing is read of it: for what a config says before there is text.
NO_TEXT = Text({PAIR: 'wiki.jsonl.zst,books.jsonl.zst',
                FIVE: 'wiki.jsonl.zst,books.jsonl.zst,news.jsonl.zst,'
                      'web.jsonl.zst,stories.jsonl.zst'})


def changed(config: Config, values: Mapping[str, Any]) -> Config:
  """The config with other values: {'data.format': 'doc_sentences', 'seed': 3}.
  """
  sections: dict[str, dict[str, Any]] = {}
  for key, value in values.items():
    section, _, name = key.rpartition('.')
    sections.setdefault(section, {})[name] = value
  return dataclasses.replace(config, **sections.pop('', {}), **{
      section: dataclasses.replace(getattr(config, section), **found)
      for section, found in sections.items()})


def recipe_of(row: Row, scale: Scale) -> Recipe:
  """The row's recipe."""
  return scale.recipes[row.recipe]


def pretraining(row: Row, scale: Scale, text: Text = NO_TEXT, seed: int = 0
                ) -> Config:
  """The Config of a row.

  Where the recipe counts tokens, train.steps are still to be filled in
  (`with_tokens`): rows of some formats are fuller than others'.
  """
  recipe = recipe_of(row, scale)
  values = dict(scale.changes) | {
      'seed': seed, 'data.batch_size': recipe.batch_size,
      'data.corpora': text.corpora[row.corpora],
      'data.cache_dir': text.cache_dir,
      'optim.learning_rate': recipe.learning_rate}
  values |= {f'model.{key}': value
             for key, value in scale.shapes[row.shape].items()}
  if recipe.steps:
    values['train.steps'] = recipe.steps * row.length
  values |= dict(recipe.changes) | dict(row.changes)
  config = changed(Config(), values)
  return dataclasses.replace(
      config, tokenizer=tokenizer(config.tokenizer.kind, scale, text))


def tokenizer(kind: str, scale: Scale, text: Text) -> TokenizerConfig:
  """The tokenizer of that kind."""
  return TokenizerConfig(kind=kind, path=text.tokenizers.get(kind, ''),
                         vocab_size=scale.pieces[kind])


def with_tokens(config: Config, tokens: int, a_row: float) -> Config:
  """The config with steps that see so many tokens.

  Args:
    config: of a run.
    tokens: padding not counted.
    a_row: tokens of a row, in the mean.
  """
  steps = max(1, round(tokens / (a_row * config.data.batch_size)))
  return changed(config, {'train.steps': steps})


def folder(config: Config) -> str:
  """The name of a run's folder: two tables that need one model share it."""
  values = {key: value for key, value in flatten(to_dict(config)).items()
            if key not in FREE_ON_RESUME and key != 'seed'}
  name = hashlib.sha256(
      json.dumps(values, sort_keys=True).encode()).hexdigest()[:8]
  what = config.task.replace('/', '-')
  if what == 'pretrain':
    what = (f'{config.data.format}-{config.data.batch_size}x'
            f'{config.train.steps}')
  return f'{what}-{name}-{config.seed}'


def paper_row(table: str, name: str) -> Config:
  """The Config of a row at the paper's scale, for config files.

  Raises:
    InputError: no such row.
  """
  rows = {row.name: row for row in TABLES[table].made if row.recipe}
  if name not in rows:
    raise unknown(f'row of table {table}', name, rows)
  return pretraining(rows[name], SCALES['paper'])


def asked(numbers: str) -> list[str]:
  """Tables by name: '3', '1,2' or 'all'.

  Raises:
    InputError: there is none of that name.
  """
  names = list(TABLES) if numbers == 'all' else [
      name for name in numbers.split(',') if name]
  for name in names:
    if name not in TABLES:
      raise InputError(f'--table={numbers}: {", ".join(TABLES)}, several with '
                       f'commas between, or all; not {name!r}.')
  if not names:
    raise InputError(f'--table=N is needed, of {", ".join(TABLES)}, or all.')
  return names
