"""Writes tests/model/golden/*.npz and tests/interop/golden/hf_names.json.

  python tests/oracle/make_golden.py

Each file holds weights under our names (float16 numbers, which float32 holds
exactly), batches, the logits of transformers' RobertaForMaskedLM for the first
batch, and the losses of 20 steps of torch's AdamW.
"""

import json
import pathlib
import sys

import interop_oracle_test as interop
import jax
import model_oracle_test as oracle
import numpy as np
import torch

from robertax.config import ModelConfig

sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))

FOLDER = pathlib.Path(__file__).parents[1] / 'model' / 'golden'
SHAPES = {
    'head_64': {'vocab_size': 64, 'hidden_size': 64, 'num_layers': 1,
                'num_heads': 1, 'mlp_size': 64, 'max_positions': 16},
    'three_layers': {'vocab_size': 80, 'hidden_size': 16, 'num_layers': 3,
                     'num_heads': 2, 'mlp_size': 40, 'max_positions': 12},
    'untied': {'vocab_size': 48, 'hidden_size': 24, 'num_layers': 1,
               'num_heads': 3, 'mlp_size': 24, 'max_positions': 10,
               'tie_embeddings': False},
}


def main():
  interop.NAMES.parent.mkdir(exist_ok=True)
  interop.NAMES.write_text(json.dumps(interop.all_names(), indent=0) + '\n')
  torch.set_num_threads(1)
  for name, shape in SHAPES.items():
    config = ModelConfig(**shape)
    half = jax.tree.map(lambda x: x.astype(np.float16),
                        oracle.random_params(config, seed=11))
    params = jax.tree.map(lambda x: x.astype(np.float32), half)
    batches = oracle.random_batches(config, seed=12)
    hf = oracle.hf_model(config, params)
    with torch.no_grad():
      logits = oracle.hf_logits(hf, batches[0]).numpy()
    arrays = {
        'config': np.array(json.dumps(shape)), 'logits': logits,
        'losses': np.array(oracle.hf_losses(hf, batches)),
        'learning_rate': np.array(oracle.LEARNING_RATE)}
    for path, leaf in jax.tree_util.tree_leaves_with_path(half):
      key = jax.tree_util.keystr(path, simple=True, separator='/')
      arrays[f'params/{key}'] = leaf
    for field in batches[0]:
      arrays[f'batches/{field}'] = np.stack(
          [batch[field] for batch in batches]).astype(np.int16)
    FOLDER.mkdir(exist_ok=True)
    np.savez_compressed(FOLDER / f'{name}.npz', **arrays)
    print(name, (FOLDER / f'{name}.npz').stat().st_size, 'bytes',
          arrays['losses'][[0, -1]])


if __name__ == '__main__':
  main()
