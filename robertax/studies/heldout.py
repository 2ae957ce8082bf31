"""Models of any format, asked of the same held-out rows with the same masks."""

import dataclasses
from typing import Any

import jax

from robertax import corpus, data
from robertax.config import Config, DataConfig
from robertax.corpus import Manifest
from robertax.tasks import TASKS
from robertax.train.compiled import eval_step
from robertax.train.source import open_weights

BATCH = 64  # Rows asked at once.


def measure(workdir: str, config: Config, split: str = 'eval'
            ) -> dict[str, float]:
  """The held-out numbers of a pretrained model.

  Args:
    workdir: of its run.
    config: of what is asked: text, tokenizer, a format without pairs, and the
      model's shape.
    split: of the records that `config` prepares.

  Returns:
    loss (nats), perplexity, accuracy, bits_per_character (nats x masked tokens
    in proportion / characters / ln 2), loss/<corpus> for each.

  Raises:
    InputError: no weights there, or text that cannot be asked.
  """
  manifests = corpus.prepare(config.data, config.tokenizer,
                             progress=False).manifests
  task = TASKS[config.task].of(config, 1)
  with open_weights(workdir) as weights:
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    params = weights.read(jax.tree.map(lambda x: jax.ShapeDtypeStruct(
        x.shape, x.dtype, sharding=here), weights.shapes))
  return ask(plain(params), task, config, manifests, split)


def ask(params: Any, task: Any, config: Config, manifests: list[Manifest],
        split: str) -> dict[str, float]:
  """See `measure`; each target counts once, whatever corpus it is of.

  Args:
    params: of task.model.
    task: whose objective is asked.
    config: its `data` says what is masked.
    manifests: of the records.
    split: of them.
  """
  step = eval_step(task.objective)
  total, found = {}, {}
  for manifest in manifests:
    source = data.open_source([manifest], split, config.data.backend,
                              task.tokenizer.pad_id)
    sums: dict[str, float] = {}
    for batch in data.eval_batches(
        source, config.data, data.Masking.of(config.data, task.tokenizer),
        name=manifest.corpus, batch_size=BATCH):
      asked = step(params, {name: value[None] for name, value in batch.items()
                            if name != 'example_ids'})
      for key, value in jax.device_get(asked).items():
        sums[key] = sums.get(key, 0.0) + float(value)
        total[key] = total.get(key, 0.0) + float(value)
    found[f'loss/{manifest.corpus}'] = task.summarize(sums)['loss']
  summary = task.summarize(total)
  tokens = sum(m.splits[name].num_tokens for m in manifests
               for name in ('train', 'eval'))
  characters = sum(m.counts['characters'] for m in manifests)
  return {'loss': summary['loss'], 'perplexity': summary['perplexity'],
          'accuracy': summary['accuracy'],
          'bits_per_character': summary['bits'] * tokens / characters} | found


def plain(params: dict) -> dict:
  """A pair model's weights as a RoBERTa's: all is segment A, no NSP head."""
  params = {name: dict(part) for name, part in params.items()
            if name != 'nsp_head'}
  types = params['embeddings'].pop('types', None)
  if types is not None:
    positions = params['embeddings']['positions']
    params['embeddings']['positions'] = positions.at[2:].add(types[0])
  return params


def asked_of(config: Config, corpora: str) -> Config:
  """The config of what a model is asked: FULL-SENTENCES, plain masks.

  Args:
    config: of its run.
    corpora: data.corpora of the held-out text.
  """
  blank = DataConfig()
  return dataclasses.replace(
      config, seed=0, model=dataclasses.replace(
          config.model, num_types=0, nsp_head=False),
      data=dataclasses.replace(
          config.data, corpora=corpora, format=blank.format, masks=blank.masks,
          masking_law=blank.masking_law, specials=blank.specials,
          masking_unit=blank.masking_unit, mask_rate=blank.mask_rate,
          max_predictions=0, mixture='', first_sequence_length=0,
          first_sequence_steps=0))
