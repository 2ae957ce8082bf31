"""The text that a table's models are trained on and asked of, made ready."""

from collections.abc import Mapping
import dataclasses
import hashlib
import json

from robertax import corpus
from robertax.config import Config
from robertax.corpus.documents import resolve
from robertax.paper import inputs
from robertax.paper.scales import Scale
from robertax.paper.tables import Row, Table
from robertax.studies.heldout import asked_of
from robertax.studies.paper_rows import Text, pretraining, with_tokens
from robertax.studies.slices import PARTS, VERSION, write_slices


@dataclasses.dataclass(frozen=True)
class TableText:
  """Of one table.

  Attributes:
    text: what models are trained on, tokenizers too.
    heldout: data.corpora of what they are asked.
    split: of its records.
    said: what stands in for what.
  """
  text: Text
  heldout: str
  split: str
  said: str


def ready(name: str, table: Table, scale: Scale, folder: str, models: str
          ) -> TableText:
  """Takes slices where the scale has them, and makes the tokenizers.

  All rows of a table have one vocabulary, made of all the text that some row
  has, as GPT-2's is one for all rows of the paper: else their losses would be
  of other tokens.

  Args:
    name: of the table.
    table: which.
    scale: how large.
    folder: --data.
    models: where slices and records are kept.

  Raises:
    InputError: missing, damaged or too little text.
  """
  corpora, said = inputs.corpora(folder)
  rows = [row for row in table.made if row.recipe]
  wanted = max((row.corpora for row in rows),
               key=lambda kind: len(resolve(corpora[kind])))
  heldout, split = corpora[wanted], 'eval'
  if scale.characters:
    slices = _slices(corpora[wanted], models, scale.characters[name])
    train, asked = (
        {kind: ','.join(f'{slices}/{part}/{c.name}.jsonl'
                        for c in resolve(corpora[kind]))
         for kind in {row.corpora for row in rows}} for part in PARTS)
    corpora, heldout, split = train, asked[wanted], 'train'
  text = Text(corpora, f'{models}/cache', inputs.pieces(folder, scale))
  tokenizers: dict[str, str] = {}
  for row in rows:
    config = asked_of(pretraining(row, scale, text), corpora[wanted])
    if (kind := config.tokenizer.kind) not in tokenizers:
      tokenizers[kind] = corpus.prepare(
          config.data, config.tokenizer).tokenizer_path
  return TableText(dataclasses.replace(text, tokenizers=tokenizers),
                   heldout, split, said)


def _slices(corpora: str, models: str, characters: int) -> str:
  """The folder of slices of this text."""
  facts = [VERSION, characters,
           [(c.name, c.fingerprint()) for c in resolve(corpora)]]
  name = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:8]
  folder = f'{models}/text/{characters}-{name}'
  write_slices(corpora, folder, characters)
  return folder


@dataclasses.dataclass(frozen=True)
class Budget:
  """What a run sees.

  Attributes:
    config: with its steps.
    tokens: of all its steps, padding not counted (records' mean x rows).
    passes: over its records.
  """
  config: Config
  tokens: int
  passes: float

  def facts(self) -> Mapping[str, str | float]:
    """For the table."""
    model = self.config.model
    return {'shape': f'{model.num_layers} x {model.hidden_size}',
            'steps': self.config.train.steps,
            'batch_size': self.config.data.batch_size,
            'tokens': self.tokens, 'passes': round(self.passes, 2)}


def budget(row: Row, scale: Scale, text: Text, seed: int) -> Budget:
  """A row's config; of a recipe of tokens with the steps that see them.

  Formats with padding, or with shorter rows, have more steps: equal tokens.

  Raises:
    InputError: wrong text.
  """
  config = pretraining(row, scale, text, seed)
  splits = [m.splits['train'] for m in corpus.prepare(
      config.data, config.tokenizer, progress=False).manifests]
  records = sum(split.num_records for split in splits)
  a_row = sum(split.num_tokens for split in splits) / records
  if tokens := scale.recipes[row.recipe].tokens:
    config = with_tokens(config, tokens * row.length, a_row)
  rows = config.train.steps * config.data.batch_size
  return Budget(config, round(rows * a_row), rows / records)
