"""The progress line: step, ETA, tokens a second, loss."""

import sys
import time

import tqdm


class Progress:
  """A bar on a terminal; elsewhere (a log) a line now and then."""

  def __init__(self, start: int, steps: int, every_seconds: float = 15.0):
    """Begins at step `start` of `steps`."""
    self._terminal = sys.stderr.isatty()
    self._start, self._steps, self._step = start, steps, start
    self._every, self._begun, self._said = every_seconds, None, 0.0
    self._bar = tqdm.tqdm(
        total=steps, initial=start, unit='step', dynamic_ncols=True,
        disable=not self._terminal, file=sys.stderr)

  def step(self, step: int):
    """Notes that a step is done."""
    if self._begun is None:
      # The clock starts behind the first step, which waits for the compiler.
      self._begun, self._start = time.time(), step
    self._bar.update(step - self._step)
    self._step = step

  def show(self, metrics: dict[str, float | None]):
    """Shows the newest numbers of a step."""
    words = [f"loss {metrics['train/loss']:.3f}",
             f"{metrics['train/tokens_per_second']:,.0f} tokens/s"]
    if self._terminal:
      self._bar.set_postfix_str(', '.join(words))
      return
    now = time.time()
    last = self._step == self._steps
    if now - self._said < self._every and not last:
      return
    self._said = now
    spent = now - self._begun
    left = spent / max(1, self._step - self._start) * (self._steps - self._step)
    clock = tqdm.tqdm.format_interval
    self.say(f'step {self._step}/{self._steps}, {", ".join(words)}, '
             f'{clock(spent)} gone, {clock(left)} left')

  def say(self, text: str):
    """Prints a line without tearing the bar."""
    tqdm.tqdm.write(text, file=sys.stderr)
    sys.stderr.flush()

  def close(self):
    """Leaves the bar as it stands."""
    self._bar.close()
