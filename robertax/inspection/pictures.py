"""Pictures by matplotlib: a run's learning curve, and what notebooks show."""

import io
import os
import warnings

from robertax import paths
from robertax.errors import InputError, writing
from robertax.train.writer import read_lines


class Picture:
  """A figure that a notebook shows, whatever its backend, or that is saved."""

  def __init__(self, figure):
    self.figure = figure

  def _repr_png_(self) -> bytes:
    out = io.BytesIO()
    _save(self.figure, out)
    return out.getvalue()

  def save(self, path: str) -> str:
    """Writes a PNG.

    Raises:
      InputError: it cannot be written.
    """
    with writing(path):
      picture = io.BytesIO()
      _save(self.figure, picture)
      paths.write_bytes(path, picture.getvalue())
    return path


def blank(width: float, height: float):
  """An empty figure, in inches, drawn without a screen.

  A dollar in a label is a dollar: labels are text, and never mathematics.
  """
  # Imported here: who loads a model draws nothing.
  from matplotlib.backends.backend_agg import FigureCanvasAgg
  from matplotlib.figure import Figure
  figure = Figure(figsize=(width, height), dpi=110, layout='constrained')
  FigureCanvasAgg(figure)
  return figure


def learning_curve(workdir: str) -> str:
  """Draws loss by step: training, held-out text, and the unigram beside them.

  Args:
    workdir: W.

  Returns:
    Path of the picture, W/learning_curve.png.

  Raises:
    InputError: no metrics there, or the picture cannot be written.
  """
  path = f'{workdir}/metrics.jsonl'
  if not paths.exists(path):
    raise InputError(f'{path} does not exist: nothing to draw.')
  import matplotlib

  lines = [metrics for _, metrics in read_lines(path)]
  curves = [('train/loss', 'training batches', '#8fb3d9', 1.0),
            ('eval/loss', 'held-out text', '#c0392b', 2.2),
            ('eval/unigram_loss', 'unigram baseline', '#7f8c8d', 1.4)]
  with matplotlib.rc_context({'font.size': 11}):
    figure = blank(8, 4.5)
    figure.set_dpi(130)
    axes = figure.subplots()
    for key, label, color, width in curves:
      points = [(m['step'], m[key]) for m in lines if m.get(key) is not None]
      if points:
        axes.plot(*zip(*points), label=f'{label} ({points[-1][1]:.2f})',
                  color=color, linewidth=width,
                  linestyle='--' if 'unigram' in key else '-')
    axes.set(xlabel='step', ylabel='loss, nats per masked token')
    axes.set_title(os.path.basename(os.path.normpath(workdir)))
    axes.grid(alpha=0.25)
    axes.spines[['top', 'right']].set_visible(False)
    axes.legend(frameon=False)
    return Picture(figure).save(f'{workdir}/learning_curve.png')


def _save(figure, out):
  from matplotlib.text import Text
  for text in figure.findobj(Text):
    text.set_parse_math(False)
  with warnings.catch_warnings():
    # A script that the font lacks becomes boxes, with a warning a character.
    warnings.filterwarnings('ignore', message='Glyph .* missing')
    figure.savefig(out, format='png')
