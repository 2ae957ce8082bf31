"""The end of a run: guesses, a picture, a report, and what to do next."""

from collections.abc import Sequence
import signal

import numpy as np

from robertax import files
from robertax.errors import beside
from robertax.inspection import opening, page, report
from robertax.inspection.model import MASK, Filled, Model
from robertax.tasks.task import RESULTS, describe_results
from robertax.train import workdir
from robertax.train.loop import Run


def last_words(run: Run, command: str) -> str:
  """Writes an ended run's pictures and report; returns the text to print.

  If one of these cannot be made, a line on stderr says so: the run is saved.
  `command` is what the user typed and may type again.
  """
  folder = run.workdir
  if run.signal:
    return (f'Stopped by {signal.Signals(run.signal).name} at step {run.step}, '
            f'which is saved. To go on:\n  {command}')
  made = {
      report.SAMPLES: lambda: _guesses(run),
      'learning_curve.png': lambda: (
          f'Learning curve: {page.learning_curve(folder)}'),
      report.REPORT: lambda: f'Report: {report.write_report(folder)}'}
  following = (
      'Next, from a Python prompt:\n'
      f'  import robertax; model = robertax.load({folder!r})\n'
      "  model.fill_mask('This function returns the <mask> of a list.')")
  lines = []
  if run.results:
    lines, following = [describe_results(run.results)], ''
    made = {report.REPORT: made[report.REPORT]}
  elif files.exists(path := f'{folder}/{RESULTS}'):
    lines, following = [f'{folder} is done, nothing was changed.'], ''
    made = {f'what {path} says': lambda: describe_results(
        files.read_json(path))}
  elif not run.trained:
    lines, made = [f'{folder} is done: all {run.step} steps are there, nothing '
                   'was changed.'], {}
  for name, make in made.items():
    with beside(f'the run is done and saved, but without {name}'):
      lines.append(make())
  return '\n'.join(filter(None, [*lines, following]))


def _guesses(run: Run) -> str:
  filled = fill_examples(opening.load(run.workdir), run.task.heldout_ids(3))
  lines = ['Words guessed in text held out from training:']
  for text, word, guesses in filled:
    said = ', '.join(f'{g.token.strip()!r} {g.probability:.0%}'
                     for g in guesses)
    lines += [f'  {" ".join(text.split())}',
              f'    guessed {said}; it was {word!r}']
  report.save_samples(run.workdir, report.gather_samples(
      workdir.read_config(run.workdir), run.task, run.step, filled))
  return '\n'.join(lines)


def fill_examples(model: Model, rows: Sequence[np.ndarray]
                  ) -> list[tuple[str, str, list[Filled]]]:
  """Masks one word in each row of held-out ids and guesses it.

  It takes the sentence whose length is nearest to 16 tokens, and the middle one
  of its tokens that are whole words. The result is (sentence with <mask>, the
  masked word, guesses) for each row that has such a sentence.
  """
  tok, examples = model.tokenizer, []
  for row in rows:
    ends = np.flatnonzero(np.isin(row, (tok.bos_id, tok.eos_id)))
    sentences = [s for s in np.split(row, ends + 1) if len(s) >= 8]
    for ids in sorted(sentences, key=lambda s: abs(len(s) - 16)):
      ids = ids[~np.isin(ids, tok.special_ids)][:model.config.max_positions - 2]
      pieces = [tok.token_text(i) for i in ids]
      words = [i for i in range(1, len(ids) - 1)
               if pieces[i].startswith(' ') and pieces[i].strip().isalpha()
               and len(pieces[i]) > 3 and not pieces[i + 1][:1].isalpha()]
      if words:
        place = words[len(words) // 2]
        tail = tok.decode(ids[place + 1:])
        if tok.word_starts[ids[place + 1]] and not tail.startswith(' '):
          tail = f' {tail}'
        sentence = f'{tok.decode(ids[:place])} {MASK}{tail}'
        examples.append((sentence, pieces[place].strip(),
                         model.fill_mask(sentence, 3)))
        break
  return examples
