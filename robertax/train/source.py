"""What `init_from` may name: workdirs, and other people's models."""

from collections.abc import Callable, Iterator
import contextlib
from typing import Any, NamedTuple

import jax

from robertax import files, interop
from robertax.config import ModelConfig, TokenizerConfig
from robertax.errors import InputError
from robertax.model import pad_vocabulary
from robertax.parallel import processes
from robertax.train import best_steps, workdir
from robertax.train.best_steps import FOLDER as BEST
from robertax.train.checkpoint import Checkpoints


class Weights(NamedTuple):
  """Weights that can be read.

  Attributes:
    said: a line on which they are.
    shapes: nested dict of what is there, leaves with `.shape` and `.dtype`; the
      vocabulary padded (model.vocabulary).
    read: from a nested dict of ShapeDtypeStructs with shardings, for all that
      is there, to arrays laid out so.
  """
  said: str
  shapes: Any
  read: Callable[[Any], Any]


def describe(spec: str) -> tuple[ModelConfig, TokenizerConfig]:
  """The `model` and `tokenizer` sections of what lies there.

  Args:
    spec: W, hf:DIR or fairseq:FILE.

  Raises:
    InputError: nothing of the kind is there.
  """
  if interop.is_foreign(spec):
    return interop.open_source(spec).config, interop.source_tokenizer(spec)
  saved = workdir.read_config(spec)
  # Of a sweep's run that answers with others the best weights alone are kept.
  if saved is None or not any(
      files.isdir(f'{spec}/{folder}') for folder in ('checkpoints', BEST)):
    raise InputError(
        f'init_from={spec!r}: no workdir of robertax is there (no config.json '
        'with checkpoints beside it), and it does not begin with hf: or '
        'fairseq:.')
  return saved.model, TokenizerConfig(path=f'{spec}/tokenizer.json')


@contextlib.contextmanager
def open_weights(spec: str) -> Iterator[Weights]:
  """The weights there; of a run that keeps its best, those.

  Args:
    spec: as for `describe`.

  Raises:
    InputError: none are saved yet, or they are damaged.
  """
  if interop.is_foreign(spec):
    yield _foreign(spec)
    return
  # One process looks: a run that is alive may save the next one meanwhile.
  folder, step = processes.gather(processes.together(
      lambda: best_steps.weights(spec) if processes.first() else None))[0]
  if step is None:
    raise InputError(f'init_from={spec!r}: that run has saved no checkpoint '
                     'yet.')
  checkpoints = Checkpoints(spec, read_only=True, folder=folder)
  try:
    yield Weights(
        f'weights of {"the best " if folder == BEST else ""}step {step} of '
        f'{spec}', checkpoints.shapes(step),
        lambda wanted: checkpoints.restore_params(step, wanted))
  finally:
    checkpoints.close()


def _foreign(spec: str) -> Weights:
  """Read into each host's memory, of which its devices take their parts."""
  pretrained = interop.open_source(spec).read()
  params = jax.device_get(pad_vocabulary(pretrained.params))
  return Weights(
      '; '.join([f'weights of {spec}', *pretrained.lines]),
      jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), params),
      lambda wanted: jax.tree.map(
          lambda x, like: jax.make_array_from_callback(
              like.shape, like.sharding, lambda index: x[index]),
          params, wanted))
