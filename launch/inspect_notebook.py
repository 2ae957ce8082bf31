"""What lies where: parameters on a mesh, without any of its devices."""

from collections.abc import Sequence
import dataclasses
import math

import jax
from jax.sharding import AbstractMesh
import numpy as np

from robertax import model as modelling
from robertax import parallel
from robertax.config import AXES, ModelConfig
from robertax.inspection import pictures
from robertax.inspection.table import Table

# Of a picture: one of each way to lie.
SHOWN = ('embeddings/tokens', 'layers/attention/query/kernel',
         'layers/attention/output/kernel', 'layers/mlp_in/kernel',
         'layers/mlp_out/kernel', 'layers/mlp_norm/scale')
BATCH = 'a batch'


@dataclasses.dataclass(frozen=True)
class Placement:
  """How one array lies on a mesh.

  Attributes:
    path: 'embeddings/tokens'.
    shape: of the whole array.
    axes: for each dim the mesh axes that share it out.
    mesh: {'data': 1, 'fsdp': 16, 'model': 16}.
  """
  path: str
  shape: tuple[int, ...]
  axes: tuple[tuple[str, ...], ...]
  mesh: dict[str, int]

  @property
  def split(self) -> tuple[int, ...]:
    """Into how many parts each dim is cut."""
    return tuple(math.prod(self.mesh[a] for a in axes) for axes in self.axes)

  @property
  def part(self) -> tuple[int, ...]:
    """Shape of what one device holds."""
    return tuple(n // k for n, k in zip(self.shape, self.split))

  @property
  def parts(self) -> int:
    """How many different parts there are."""
    return math.prod(self.split)

  @property
  def copies(self) -> int:
    """How many devices hold the same part."""
    return math.prod(self.mesh.values()) // self.parts

  def places(self) -> np.ndarray:
    """int[dims, data, fsdp, model]: along each dim, which part each holds."""
    sizes = tuple(self.mesh[axis] for axis in AXES)
    along = dict(zip(AXES, np.indices(sizes)))
    found = np.zeros((len(self.shape), *sizes), int)
    for here, axes in zip(found, self.axes):
      for axis in axes:  # The first of several axes changes slowest.
        here[...] = here * self.mesh[axis] + along[axis]
    return found

  def numbers(self) -> np.ndarray:
    """int[data, fsdp, model]: which part, in row-major order, each holds."""
    number = np.zeros(tuple(self.mesh[axis] for axis in AXES), int)
    for here, cut in zip(self.places(), self.split):
      number = number * cut + here
    return number


def placements(config: ModelConfig, data: int = 1, fsdp: int = 1,
               model: int = 1) -> list[Placement]:
  """Of all parameters, vocabulary padded as it is in a run.

  Args:
    config: with vocab_size filled in.
    data, fsdp, model: devices along each axis of the mesh.

  Raises:
    InputError: a parameter that these numbers do not divide; names it.
  """
  mesh = AbstractMesh((data, fsdp, model), AXES)
  shapes = jax.eval_shape(lambda: modelling.pad_vocabulary(
      modelling.create(config, jax.random.key(0))))
  found = []
  for (path, leaf), (_, sharding) in zip(*map(
      jax.tree_util.tree_leaves_with_path,
      (shapes, parallel.param_shardings(mesh, shapes)))):
    found.append(_placement(
        jax.tree_util.keystr(path, simple=True, separator='/'), leaf.shape,
        sharding.spec, mesh))
  return found


def table(config: ModelConfig, data: int = 1, fsdp: int = 1, model: int = 1
          ) -> Table:
  """All parameters: shape, part, bytes in float32.

  Arguments and errors as of `placements`.
  """
  found = placements(config, data, fsdp, model)
  rows = [(p.path, list(p.shape), _said(p), list(p.part), p.copies,
           f'{4 * math.prod(p.part) / 2**20:,.3f}') for p in found]
  whole = sum(math.prod(p.shape) for p in found)
  each = sum(math.prod(p.part) for p in found)
  return Table(
      ('parameter', 'shape', 'shared out along', 'part', 'copies', 'MiB'),
      rows,
      f'{whole / 1e6:,.1f}M parameters, {4 * whole / 2**20:,.1f} MiB; on each '
      f'of {data * fsdp * model} devices {4 * each / 2**20:,.1f} MiB. Adam '
      'keeps twice as much again.')


def picture(config: ModelConfig, data: int = 1, fsdp: int = 1, model: int = 1,
            paths: Sequence[str] = SHOWN) -> pictures.Picture:
  """The mesh as a grid of devices, once for each array.

  Devices of one colour hold the same part. The grid is the mesh as it is named
  in a config, not how the chips are wired: rows are data and fsdp, columns are
  model; without a model axis rows are data, columns fsdp.

  Args:
    config: with vocab_size filled in.
    data, fsdp, model: devices along each axis of the mesh.
    paths: parameters that are drawn; a batch comes last.
  """
  found = {p.path: p for p in placements(config, data, fsdp, model)}
  drawn = [found[path] for path in paths if path in found]
  rows = data * fsdp
  drawn.append(_placement(
      BATCH, (8 * rows, config.max_positions), (parallel.BATCH,),
      AbstractMesh((data, fsdp, model), AXES)))
  columns = min(len(drawn), 4)
  lines = -(-len(drawn) // columns)
  figure = pictures.blank(3.1 * columns, 3.5 * lines)
  grid = figure.subplots(lines, columns, squeeze=False).ravel()
  shape = (rows, model) if model > 1 else (data, fsdp)
  names = (('fsdp' if data == 1 else 'data' if fsdp == 1 else 'data x fsdp',
            'model') if model > 1 else ('data', 'fsdp'))
  for axes in grid[len(drawn):]:
    axes.set_axis_off()
  for axes, one in zip(grid, drawn):
    axes.imshow(_colours(one).reshape(*shape, 3),
                extent=(0, shape[1], shape[0], 0))
    for line in range(1, max(shape)):
      if line < shape[1]:
        axes.axvline(line, color='white', linewidth=.5)
      if line < shape[0]:
        axes.axhline(line, color='white', linewidth=.5)
    axes.set(xlabel=names[1], ylabel=names[0])
    axes.set_title(f'{one.path}\n{list(one.shape)} -> {list(one.part)}\n'
                   f'{one.parts} different parts, each on {one.copies}',
                   fontsize=8)
  return pictures.Picture(figure)


def _colours(placement: Placement) -> np.ndarray:
  """float[data, fsdp, model, 3], of each part another.

  The first dim that is cut says the colour, the others how pale it is.
  """
  from matplotlib import colormaps
  first, paler = np.zeros((2, *placement.numbers().shape))
  cut = [(here, n) for here, n in zip(placement.places(), placement.split)
         if n > 1]
  if cut:
    first = cut[0][0] / (cut[0][1] - 1)
  for here, n in cut[1:]:
    paler = paler + here / (n - 1) / len(cut[1:])
  colour = colormaps['viridis'](first)[..., :3]
  return colour + (1 - colour) * .75 * paler[..., None]


def _placement(path, shape, spec, mesh) -> Placement:
  axes = [() if entry is None else entry if isinstance(entry, tuple) else
          (entry,) for entry in spec]
  axes += [()] * (len(shape) - len(axes))
  return Placement(path, tuple(shape), tuple(axes), dict(mesh.shape))


def _said(placement: Placement) -> str:
  return ', '.join(f'{"+".join(axes)} (dim {dim})'
                   for dim, axes in enumerate(placement.axes) if axes) or 'none'
