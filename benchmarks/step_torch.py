"""The reference of benchmarks.step: Hugging Face's RobertaForMaskedLM."""

import contextlib
import json
import sys
from typing import Any

import numpy as np
import torch
from torch.nn import attention as sdpa
from torch.nn import functional
import transformers

from benchmarks import step_worker
from benchmarks.step_case import Case, batch, weights  # noqa: F401

BACKENDS = {'flash': 'FLASH_ATTENTION', 'cudnn': 'CUDNN_ATTENTION',
            'efficient': 'EFFICIENT_ATTENTION'}
# As shipped, for R1: the defaults of Hugging Face and torch.
SHIPPED = {'attention': 'sdpa', 'backend': '', 'head': 'all', 'fused': False,
           'compiled': False}


def candidates(on_gpu: bool) -> list[dict[str, Any]]:
  """The settings for R2, each with a head that runs on masked tokens only."""
  attentions = ([('sdpa', backend) for backend in ('', *BACKENDS)] if on_gpu
                else [('sdpa', ''), ('eager', '')])
  return [{'attention': name, 'backend': backend, 'head': 'masked',
           'fused': True, 'compiled': compiled}
          for compiled in (False, True) for name, backend in attentions]


class Reference:
  """A RobertaForMaskedLM with its torch.optim.AdamW.

  Attributes:
    case: as given.
  """

  def __init__(self, case: Case, settings: dict[str, Any] | None = None):
    """Args:
      case: model and batch. bfloat16 is by autocast: weights stay float32.
      settings: what differs from SHIPPED.
    """
    self.case, chosen = case, SHIPPED | (settings or {})
    self._where = 'cuda' if torch.cuda.is_available() else 'cpu'
    torch.manual_seed(0)
    self._model = _model(case, weights(case), chosen['attention']).to(
        self._where).train()
    self._masked = chosen['head'] == 'masked'
    self._backend = BACKENDS.get(chosen['backend'])
    self._optimizer = torch.optim.AdamW(
        [p for p in self._model.parameters() if p.requires_grad],
        lr=case.learning_rate, betas=(case.b1, case.b2), eps=case.eps,
        weight_decay=case.weight_decay,
        **({'fused': True} if chosen['fused'] else {}))
    self._loss = (torch.compile(self._forward) if chosen['compiled']
                  else self._forward)

  def prepare(self, given: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    """Puts a batch on the device; full rows need no attention_mask."""
    ids, positions, targets = (
        torch.tensor(given[name], dtype=torch.long)
        for name in ('input_ids', 'mlm_positions', 'mlm_targets'))
    labels = torch.full_like(ids, -100).scatter(1, positions, targets)
    rows = torch.arange(len(ids))[:, None] * ids.shape[1]
    return {'ids': ids.to(self._where), 'labels': labels.to(self._where),
            'flat': (rows + positions).flatten().to(self._where),
            'targets': targets.flatten().to(self._where)}

  def _forward(self, ids, labels, flat, targets):
    if not self._masked:
      return self._model(input_ids=ids, labels=labels).loss
    return functional.cross_entropy(self._head(ids, flat).float(), targets)

  def _head(self, ids, flat):
    """Patches the head: only masked tokens go through the V-wide product."""
    states = self._model.roberta(input_ids=ids)[0]
    return self._model.lm_head(states.flatten(0, 1)[flat])

  @contextlib.contextmanager
  def _entered(self):
    with contextlib.ExitStack() as stack:
      if self.case.dtype == 'bfloat16':
        stack.enter_context(torch.autocast(self._where, torch.bfloat16))
      if self._backend:
        stack.enter_context(sdpa.sdpa_kernel(
            getattr(sdpa.SDPBackend, self._backend)))
      yield

  def step(self, prepared: dict[str, torch.Tensor]) -> torch.Tensor:
    """Makes one update; its result may not be ready yet (see `read`)."""
    with self._entered():
      loss = self._loss(**prepared)
      loss.backward()
    self._optimizer.step()
    self._optimizer.zero_grad(set_to_none=True)
    return loss.detach()

  def read(self, loss: torch.Tensor) -> float:
    """Waits, and returns the mean loss of masked tokens, in nats."""
    if self._where == 'cuda':
      torch.cuda.synchronize()
    return loss.item()

  def logits(self, given: dict[str, np.ndarray]) -> np.ndarray:
    """Logits float32[B, M, V] at the masked tokens, without dropout."""
    prepared = self.prepare(given)
    self._model.eval()
    with torch.no_grad(), self._entered():
      if self._masked:
        found = self._head(prepared['ids'], prepared['flat'])
      else:
        found = self._model(input_ids=prepared['ids']).logits.flatten(0, 1)[
            prepared['flat']]
    self._model.train()
    return found.float().cpu().numpy().reshape(
        *given['mlm_positions'].shape, -1)


def _model(case, params, attention):
  """Our weights under their names; token types are and stay zero."""
  with torch.device('meta'):
    model = transformers.RobertaForMaskedLM(transformers.RobertaConfig(
        vocab_size=case.vocab_size, hidden_size=case.hidden_size,
        num_hidden_layers=case.num_layers,
        num_attention_heads=case.num_heads, intermediate_size=case.mlp_size,
        max_position_embeddings=case.max_positions + 2, type_vocab_size=1,
        layer_norm_eps=1e-5, pad_token_id=1, bos_token_id=0, eos_token_id=2,
        hidden_dropout_prob=case.dropout,
        attention_probs_dropout_prob=case.dropout,
        attn_implementation=attention))
  own = {}

  def dense(name, ours, n=...):
    kernel, bias = ours['kernel'][n], ours['bias'][n].reshape(-1)
    own[f'{name}.weight'] = kernel.reshape(-1, bias.size).T
    own[f'{name}.bias'] = bias

  def norm(name, ours, n=...):
    own[f'{name}.weight'], own[f'{name}.bias'] = ours['scale'][n], ours[
        'bias'][n]

  embeddings, layers, head = (
      params['embeddings'], params['layers'], params['lm_head'])
  prefix = 'roberta.embeddings'
  own[f'{prefix}.word_embeddings.weight'] = embeddings['tokens']
  own[f'{prefix}.position_embeddings.weight'] = embeddings['positions']
  own[f'{prefix}.token_type_embeddings.weight'] = np.zeros(
      (1, case.hidden_size), np.float32)
  norm(f'{prefix}.LayerNorm', embeddings['norm'])
  for n in range(case.num_layers):
    name = f'roberta.encoder.layer.{n}'
    for part in ('query', 'key', 'value'):
      dense(f'{name}.attention.self.{part}', layers['attention'][part], n)
    dense(f'{name}.attention.output.dense', layers['attention']['output'], n)
    norm(f'{name}.attention.output.LayerNorm', layers['attention_norm'], n)
    dense(f'{name}.intermediate.dense', layers['mlp_in'], n)
    dense(f'{name}.output.dense', layers['mlp_out'], n)
    norm(f'{name}.output.LayerNorm', layers['mlp_norm'], n)
  dense('lm_head.dense', head['dense'])
  norm('lm_head.layer_norm', head['norm'])
  own['lm_head.bias'] = head['bias']
  model = model.to_empty(device='cpu')
  # Buffers were empty too.
  for module in model.modules():
    if hasattr(module, 'position_ids'):
      module.position_ids.copy_(torch.arange(case.max_positions + 2))
    if hasattr(module, 'token_type_ids'):
      module.token_type_ids.zero_()
  model.tie_weights()
  with torch.no_grad():
    for name, parameter in model.named_parameters():
      value = torch.tensor(np.ascontiguousarray(own.pop(name)))
      assert value.shape == parameter.shape, name
      parameter.copy_(value)
  assert not own, f'not in the model: {sorted(own)}'
  model.roberta.embeddings.token_type_embeddings.weight.requires_grad_(False)
  return model


def device() -> dict[str, Any]:
  """The device's name and the versions."""
  name = (torch.cuda.get_device_name() if torch.cuda.is_available() else 'cpu')
  return {'device': name, 'torch': torch.__version__,
          'transformers': transformers.__version__}


def ceilings(size: int) -> dict[str, float]:
  """Does nothing: benchmarks.step_ours.ceilings measures them."""
  del size
  return {}


if __name__ == '__main__':
  step_worker.serve(Reference, device, ceilings, json.loads(sys.argv[1]))
