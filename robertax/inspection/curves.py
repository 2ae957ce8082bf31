"""The curves of one run, or of several laid over each other."""

from collections.abc import Sequence

import numpy as np

from robertax.inspection import chart
from robertax.inspection.chart import Line
from robertax.inspection.run_log import OTHER_TASK, RunLog, incomparable, read


class Curves:
  """Figures to be looked at: a notebook shows them, `figures` are HTML."""

  def __init__(self, figures: Sequence[str]):
    self.figures = tuple(filter(None, figures))

  def _repr_html_(self) -> str:
    return ('<div style="display:grid;gap:14px;grid-template-columns:'
            'repeat(auto-fit,minmax(min(100%,400px),1fr))">'
            f'{"".join(self.figures)}</div>')


def learning_curves(*workdirs: str) -> Curves:
  """What runs have logged, to be compared.

  >>> learning_curves('runs/a', 'runs/b')

  Args:
    *workdirs: one or more; several are laid over each other.

  Raises:
    InputError: one is no workdir with logged steps.
  """
  runs = [read(path) for path in workdirs]
  return Curves(of_run(runs[0]) if len(runs) == 1 else over_each_other(runs))


def of_run(run: RunLog) -> list[str]:
  """The figures of one run; those without numbers are ''."""
  return [*_losses(run), *_scores(run), *_health(run)]


def over_each_other(runs: Sequence[RunLog]) -> list[str]:
  """The figures of several runs, one colour each.

  A loss that is of something else than the first run's is dotted, and says why.
  """
  names = distinct_names(runs)
  # The first two are losses; all are of the task.
  scored = ['eval/loss', 'train/loss', *(
      key for key in runs[0].metrics if runs[0].results
      and key.startswith('eval/') and key.count('/') == 1
      and key != 'eval/loss')]
  unit = 'nats' if runs[0].results else 'nats per masked token'
  whys = [''] + [incomparable(runs[0], run) for run in runs[1:]]
  note = ' '.join(
      f'{name} {"is not drawn" if why == OTHER_TASK else "(dotted)"}: {why}.'
      for name, why in zip(names, whys) if why)

  def of(key: str, wide: bool = False, **style) -> list[Line]:
    lines = []
    for number, (run, name, why) in enumerate(zip(runs, names, whys)):
      if why == OTHER_TASK and key in scored:
        continue
      steps, values = run.series(key)
      if wide:
        values = chart.smooth(values, _width(values))
      lines.append(Line(name, steps, values, number,
                        'dotted' if why else 'solid', **style))
    return lines

  figures = [
      chart.figure('Loss on held-out text', unit,
                   of('eval/loss', dots=True), note=note),
      chart.figure('Loss of training batches',
                   f'{unit}, smoothed', of(
                       'train/loss', wide=True), note=note)]
  figures += [chart.figure(f'Held-out {key.removeprefix("eval/")}', 'percent',
                           of(key, dots=True), note=note)
              for key in scored[2:]]
  figures += [chart.figure('Learning rate', '', of('train/learning_rate')),
              chart.figure('Throughput', 'tokens a second, smoothed',
                           of('train/tokens_per_second', wide=True), zero=True)]
  return figures


def distinct_names(runs: Sequence[RunLog]) -> list[str]:
  """Last parts of the paths; whole paths where these are alike."""
  names = [run.name for run in runs]
  return [run.path if names.count(run.name) > 1 else run.name for run in runs]


def _losses(run: RunLog) -> list[str]:
  unit = 'nats per masked token' if not run.results else 'nats'
  figures = [chart.figure('Loss', unit, [
      *_noisy(run, 'train/loss', 'training batches', 0),
      _line(run, 'eval/unigram_loss', 'unigram', None, style='dashed'),
      _line(run, 'eval/loss', 'held-out text', 1, dots=True)])]
  if len(run.eval_sets) > 1:
    lines = []
    for number, name in enumerate(run.eval_sets):
      lines += [_line(run, f'eval/{name}/unigram_loss', '', number,
                      style='dashed'),
                _line(run, f'eval/{name}/loss', name, number, dots=True)]
    figures.append(chart.figure('Held-out loss of each corpus', unit, lines,
                                note='Dashed: the unigram of each.'))
  if 'train/nsp_loss' in run.metrics:
    figures.append(chart.figure('Next-sentence prediction', 'nats', [
        *_noisy(run, 'train/nsp_loss', 'training batches', 0),
        _line(run, 'eval/nsp_loss', 'held-out text', 1, dots=True)]))
  return figures


def _scores(run: RunLog) -> list[str]:
  if run.config.task == 'pretrain':
    return [chart.figure('Masked tokens guessed right', 'share', [
        *_noisy(run, 'train/accuracy', 'training batches', 0),
        _line(run, 'eval/accuracy', 'held-out text', 1, dots=True)])]
  keys = [key for key in run.metrics if key.startswith('eval/')
          and not key.endswith('loss') and key.count('/') == 2]
  return [chart.figure('Scores on held-out rows', 'percent', [
      _line(run, key, key.removeprefix('eval/'), number, dots=True)
      for number, key in enumerate(keys)])]


def _health(run: RunLog) -> list[str]:
  corpora = [key for key in run.metrics if key.startswith('train/epoch/')]
  return [
      chart.figure('Learning rate', '', [
          _line(run, 'train/learning_rate', '', 0)], zero=True),
      chart.figure('Gradient norm', '', [
          *_noisy(run, 'train/gradient_norm', 'before clipping', 0)]),
      chart.figure('Throughput', 'tokens a second, without padding', [
          *_noisy(run, 'train/tokens_per_second', 'each logged window', 0)],
                   zero=True),
      chart.figure('Model FLOP utilization', 'share of the peak', [
          *_noisy(run, 'train/mfu', 'each logged window', 0)], zero=True),
      chart.figure('Passes over the training data', 'epochs', [
          _line(run, key, key.removeprefix('train/epoch').lstrip('/'), number)
          for number, key in enumerate(corpora or ['train/epoch'])], zero=True)]


def _line(run: RunLog, key: str, label: str, colour: int | None, **style
          ) -> Line:
  return Line(label, *run.series(key), colour, **style)


def _noisy(run: RunLog, key: str, label: str, colour: int) -> list[Line]:
  """Each step's own value, faint, and the mean of neighbours over it."""
  steps, values = run.series(key)
  width = _width(values)
  if width < 3:
    return [Line(label, steps, values, colour)]
  return [Line('', steps, values, colour, 'faint'),
          Line(f'{label}, mean of {width}', steps, chart.smooth(values, width),
               colour)]


def _width(values: np.ndarray) -> int:
  """How many values a mean is of: odd, a fifteenth of them at most."""
  return max(1, min(len(values) // 15, 201)) | 1
