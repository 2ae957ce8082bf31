"""Pictures of a run, drawn from its metrics.jsonl."""

import os

from robertax.errors import InputError, writing
from robertax.train.writer import read_lines


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
  if not os.path.exists(path):
    raise InputError(f'{path} does not exist: nothing to draw.')
  # Agg draws without a screen; imported here, since most never draw.
  import matplotlib
  from matplotlib.backends.backend_agg import FigureCanvasAgg
  from matplotlib.figure import Figure

  lines = [metrics for _, metrics in read_lines(path)]
  curves = [('train/loss', 'training batches', '#8fb3d9', 1.0),
            ('eval/loss', 'held-out text', '#c0392b', 2.2),
            ('eval/unigram_loss', 'unigram baseline', '#7f8c8d', 1.4)]
  with matplotlib.rc_context({'font.size': 11}):
    figure = Figure(figsize=(8, 4.5), dpi=130, layout='constrained')
    FigureCanvasAgg(figure)
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
    picture = f'{workdir}/learning_curve.png'
    with writing(picture):
      figure.savefig(picture)
  return picture
