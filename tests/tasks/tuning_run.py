"""Tiny fine-tuning runs from a random body, for tests of the tasks."""

import json
from unittest import mock

import jax

from robertax.config import (
    Config,
    DataConfig,
    FinetuneConfig,
    ModelConfig,
    OptimConfig,
    TokenizerConfig,
    TrainConfig,
)
from robertax.text import train_byte_bpe
from robertax.train import loop

LENGTH = 64


def tokenizer(folder, words) -> str:
  """A tokenizer.json whose pieces are most of these words."""
  path = str(folder / 'tokenizer.json')
  train_byte_bpe([' ' + ' '.join(words)] * 8, 300).save(path)
  return path


def config(task, folder, tokenizer_path, *, steps, batch_size=8,
           learning_rate=2e-3, finetune=None, **train) -> Config:
  """Two layers x 32, no dropout, one evaluation at the end."""
  return Config(
      task=task,
      data=DataConfig(dir=str(folder), batch_size=batch_size,
                      sequence_length=LENGTH),
      tokenizer=TokenizerConfig(path=tokenizer_path),
      model=ModelConfig(
          hidden_size=32, num_layers=2, num_heads=4, mlp_size=64,
          max_positions=LENGTH, dropout_rate=0.0, attention_dropout_rate=0.0),
      optim=OptimConfig(learning_rate=learning_rate, warmup_steps=5,
                        weight_decay=0.0),
      train=TrainConfig(**dict(
          steps=steps, log_every=10, eval_every=steps, checkpoint_every=steps)
                        | train),
      finetune=FinetuneConfig(**dict(from_scratch=True, eval_tokens=1024)
                              | (finetune or {})))


def run(config, workdir) -> dict:
  """Runs it to its end on one device; what results.json says."""
  with mock.patch.object(jax, 'devices', return_value=jax.devices()[:1]):
    loop.run(config, str(workdir))
  return json.loads((workdir / 'results.json').read_text())


def lines(path) -> list[dict]:
  return [json.loads(line) for line in path.read_text().splitlines()]
