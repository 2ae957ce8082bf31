"""robertax's side of benchmarks.step: the train step of a run."""

import json
import sys
from typing import Any

import jax
import numpy as np

from benchmarks import step_worker
from benchmarks.step_case import Case, batch, weights
from robertax import model
from robertax.config import MeshConfig, ModelConfig, OptimConfig
from robertax.data.feed import split_micro_batches
from robertax.kernels.dropout import seed_words
from robertax.parallel import chips
from robertax.parallel.mesh import batch_sharding, make_mesh
from robertax.tasks.objectives import MaskedLM
from robertax.train import optimizer, step

NAME = 'robertax'


class Ours:
  """The state and the compiled step that replaces it.

  Attributes:
    case: as given.
  """

  def __init__(self, case: Case, settings: dict[str, Any] | None = None):
    """Args:
      case: model and batch.
      settings: of the model section: attention, remat, layers_unrolled.
    """
    self.case = case
    self._config = ModelConfig(
        vocab_size=case.vocab_size, hidden_size=case.hidden_size,
        num_layers=case.num_layers, num_heads=case.num_heads,
        mlp_size=case.mlp_size, max_positions=case.max_positions,
        dropout_rate=case.dropout, attention_dropout_rate=case.dropout,
        dtype=case.dtype, **(settings or {}))
    tx, _ = optimizer.create(OptimConfig(
        learning_rate=case.learning_rate, schedule='constant', warmup_steps=0,
        b1=case.b1, b2=case.b2, eps=case.eps, weight_decay=case.weight_decay),
                             1_000)
    self._seed, self._rate = seed_words(0), np.float32(case.learning_rate)
    task = MaskedLM(self._config)
    # One device, because the sides are compared and not the mesh.
    self._mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    own = weights(case)
    make = step.state_maker(lambda key: own, tx)
    # Like torch, compute true float32, not TF32, in comparisons.
    precise = jax.default_matmul_precision(
        'highest' if case.dtype == 'float32' else None)
    with jax.set_mesh(self._mesh), precise:
      abstract = step.abstract_state(make, self._mesh)
      shardings = jax.tree.map(lambda x: x.sharding, abstract)
      expected = jax.eval_shape(
          lambda: model.create(self._config, jax.random.key(0)))
      assert jax.tree.map(np.shape, own) == jax.tree.map(
          np.shape, expected), 'the weights are not of this model'
      self._state = jax.device_put(make(jax.random.key(0)), shardings)
      self._batch = self.prepare(batch(case))
      self._step = jax.jit(
          step.make_train_step(task.loss, task.totals, tx),
          donate_argnums=0, out_shardings=(shardings, None)
      ).lower(self._state, self._batch, self._seed, self._rate).compile()

  def prepare(self, given: dict[str, np.ndarray]) -> dict[str, jax.Array]:
    """Puts a batch on the device, like a run."""
    whole = given | {
        'segment_ids': np.ones_like(given['input_ids']),
        'mlm_weights': np.ones(given['mlm_targets'].shape, np.float32)}
    return jax.device_put(
        split_micro_batches(whole, 1),
        batch_sharding(self._mesh, micro_batches=True))

  def step(self, prepared: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """Makes one update; its result may not be ready yet (see `read`)."""
    with jax.set_mesh(self._mesh):
      self._state, sums = self._step(self._state, prepared, self._seed,
                                     self._rate)
    return sums

  def read(self, sums: dict[str, jax.Array]) -> float:
    """Waits, and returns the mean loss of masked tokens, in nats."""
    jax.block_until_ready(self._state)
    return float(sums['loss_sum']) / float(sums['weight_sum'])

  def logits(self, given: dict[str, np.ndarray]) -> np.ndarray:
    """Logits float32[B, M, V] at the masked tokens, without dropout."""
    @jax.jit
    def run(params, ids, positions):
      encoder = model.bind(self._config, params)
      return encoder.mlm_logits(
          encoder.encode(ids, jax.numpy.ones_like(ids)), positions)
    with jax.set_mesh(self._mesh), jax.default_matmul_precision('highest'):
      found = run(self._state.params, given['input_ids'],
                  given['mlm_positions'])
    return np.asarray(found)[..., :self.case.vocab_size]


def device() -> dict[str, Any]:
  """The device's name, nominal peak (None: unknown) and versions."""
  kind = jax.devices()[0].device_kind
  chip = chips.chip_of(kind)
  return {'device': kind, 'platform': jax.default_backend(),
          'peak': chip.flops if chip else None, 'jax': jax.__version__}


def ceilings(size: int) -> dict[str, float]:
  """Measures the device's best rates: FLOP/s of products, bytes/s of a copy.

  Args:
    size: side of the square product, 8192 on a GPU.
  """
  key = jax.random.key(0)

  def product(m, k, n):
    x, y = (jax.random.normal(key, shape, 'bfloat16')
            for shape in ((m, k), (k, n)))
    seconds = step_worker.shortest(
        jax.jit(lambda x, y: x @ y), jax.block_until_ready, x, y)
    return 2 * m * k * n / seconds

  x = jax.random.normal(key, (size, size), 'float32')
  seconds = step_worker.shortest(jax.jit(lambda x: x + 1),
                                 jax.block_until_ready, x)
  return {f'square_{size}_flops': product(size, size, size),
          'mlp_flops': product(size * 4, size // 8, size // 2),
          'copy_bytes': 2 * x.nbytes / seconds}


if __name__ == '__main__':
  step_worker.serve(Ours, device, ceilings, json.loads(sys.argv[1]))
