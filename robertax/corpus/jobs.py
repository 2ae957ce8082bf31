"""A job: all that is to be known to prepare one corpus, on any machine.

It can be pickled: a worker of Beam (corpus/beam.py) fills shards of it as the
local preparation does (corpus/filling.py), and both write the same bytes.
"""

import dataclasses
import hashlib
import json
import os
from typing import Any

from robertax.corpus import records, token_store
from robertax.corpus.blocks import Shard, shards_of
from robertax.corpus.formats import FORMATS
from robertax.corpus.packing import Recipe
from robertax.corpus.pairs import PairLaw
from robertax.corpus.records import SPLITS, split_names
from robertax.corpus.split_files import read_entry
from robertax.corpus.surveys import Surveyed
from robertax.corpus.token_store import TokenStore
from robertax.corpus.tokens import TextRecipe
from robertax.text import Tokenizer


@dataclasses.dataclass(frozen=True)
class Job:
  """One corpus and what its records are to be.

  Attributes:
    corpus: as `documents.resolve` gives it.
    survey: of it; None where the records are finished.
    folder, store_folder: of its records and of its tokens.
    text_recipe: what decides its tokens.
    recipe: what decides its records, given its tokens.
    facts: attributes of the manifest that follow from the config.
    forms: as in Manifest.
    vocab_size: of the tokenizer.
  """
  corpus: Any
  survey: Surveyed | None
  folder: str
  store_folder: str
  text_recipe: TextRecipe
  recipe: Recipe
  facts: dict[str, Any]
  forms: tuple[str, ...]
  vocab_size: int

  @property
  def store(self) -> TokenStore:
    return TokenStore(self.store_folder, self.recipe.dtype)

  @property
  def duplicates(self) -> int:
    """How often the training split is drawn."""
    return self.facts.get('duplicates', 1)

  @property
  def split_names(self) -> list[str]:
    """Of the manifest, duplicates and all."""
    return [name for split in SPLITS
            for name in split_names(split, self.duplicates)]

  def shards(self) -> list[Shard]:
    return shards_of(self.survey.blocks)

  def without_records(self) -> list[Shard]:
    """The shards whose records are not there."""
    return [shard for shard in self.shards()
            if read_entry(self.folder, shard, self.forms) is None]

  def without_tokens(self) -> list[Shard]:
    """Those of them whose tokens are not in the store, either."""
    store = self.store
    return [shard for shard in self.without_records()
            if store.places(shard) is None]


def jobs_of(data, corpora: list, tokenizer: Tokenizer, cache: str,
            forms: tuple[str, ...], surveys) -> list[Job]:
  """The jobs of a config, one a corpus.

  Args:
    data: a data.DataConfig.
    corpora: of `documents.resolve`.
    tokenizer: of the records.
    cache: the folder of folders.
    forms: as in Manifest.
    surveys: a `surveys.Surveys`. All corpora that are not prepared are read
      here, so that wrong text is named before the first is tokenized.
  """
  facts = dict(
      version=records.VERSION, format=data.format, sentences=data.sentences,
      sequence_length=data.sequence_length, tokenizer=tokenizer.fingerprint)
  law = None
  if FORMATS[data.format].pairs:
    law = PairLaw(data.pair_short_rate, data.pair_negatives)
    facts |= dict(pair_law=dataclasses.asdict(law),
                  duplicates=data.pair_duplicates)
  recipe = Recipe(
      data.format, data.sequence_length, tokenizer.dtype.__name__,
      tokenizer.bos_id, tokenizer.eos_id, law,
      encoded='array_record' in forms)
  text_recipe = TextRecipe(tokenizer.to_json(), data.sentences)
  jobs = []
  for corpus in corpora:
    fingerprint = corpus.fingerprint()
    folder = os.path.join(cache, 'records', _name(
        corpus, json.dumps([fingerprint, facts], sort_keys=True)))
    store = os.path.join(cache, 'tokens', _name(corpus, json.dumps(
        [token_store.VERSION, fingerprint, tokenizer.fingerprint,
         data.sentences])))
    survey = None if records.is_finished(folder) else surveys.of(corpus)
    jobs.append(Job(corpus, survey, folder, store, text_recipe, recipe, facts,
                    forms, tokenizer.vocab_size))
  return jobs


def _name(corpus, key: str) -> str:
  return f'{corpus.name}-{hashlib.sha256(key.encode()).hexdigest()[:16]}'
