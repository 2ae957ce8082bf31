"""What a run says at its end: guesses, picture, report, what to do next."""

import json
import signal

from robertax import paths
from robertax.inspection import heldout, opening, pictures, report, samples
from robertax.tasks.task import RESULTS, describe_results
from robertax.train import workdir
from robertax.train.loop import Run


def after(run: Run, command: str) -> str:
  """The text for a run that has ended.

  Args:
    run: from train.loop.run.
    command: what was typed, to be typed again.
  """
  if run.signal:
    return (f'Stopped by {signal.Signals(run.signal).name} at step {run.step}, '
            f'which is saved. To go on:\n  {command}')
  if run.results:
    return (f'{describe_results(run.results)}\n'
            f'Report: {report.write(run.workdir)}')
  if paths.exists(path := f'{run.workdir}/{RESULTS}'):
    with paths.open(path) as f:
      return (f'{run.workdir} is done, nothing was changed.\n'
              f'{describe_results(json.load(f))}')
  if not run.trained:
    return (f'{run.workdir} is done: all {run.step} steps are there, nothing '
            f'was changed.\n{_next(run.workdir)}')
  lines = ['Words guessed in text held out from training:']
  trained = opening.load(run.workdir)
  filled = heldout.fill_examples(trained, run.task.heldout_ids(3))
  for text, word, guesses in filled:
    said = ', '.join(f'{g.token.strip()!r} {g.probability:.0%}'
                     for g in guesses)
    lines += [f'  {" ".join(text.split())}',
              f'    guessed {said}; it was {word!r}']
  samples.save(run.workdir, samples.gather(
      workdir.read_config(run.workdir), run.task, run.step, filled))
  lines += [f'Learning curve: {pictures.learning_curve(run.workdir)}',
            f'Report: {report.write(run.workdir)}', _next(run.workdir)]
  return '\n'.join(lines)


def _next(workdir: str) -> str:
  return ('Next, from a Python prompt:\n'
          f'  import robertax; model = robertax.load({workdir!r})\n'
          "  model.fill_mask('This function returns the <mask> of a list.')")
