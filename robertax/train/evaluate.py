"""Evaluation, the best weights of a run, and its results.

`Evaluation` sums a loss over held-out sets; `Scoring` collects the answers to
every example of a split, which an F1 or a rank correlation needs. The paper
reports the best epoch on the development set: `Best` keeps these weights in
`W/best/<step>/`, and `conclude` writes `results.json` and `predictions.*` with
them. Pretraining keeps those of the lowest `eval/loss`, with train.keep_best.

W/best and metrics.jsonl agree whatever happens to a run (see train.workdir). An
evaluation is the best if it is better than all whose weights are kept. Weights
are written before its line. Weights that would be the best after resuming from
an earlier checkpoint are kept too, and nothing is removed before newer weights
are there.
"""

from collections import Counter, deque
from collections.abc import Iterator
import functools
from typing import Any

import jax

from robertax import files
from robertax.config import Config, TrainConfig
from robertax.data import feed as feeds
from robertax.errors import InputError, TakenOver, writing
from robertax.parallel import processes
from robertax.parallel.mesh import batch_sharding, steps_ahead
from robertax.progress import say, say_once
from robertax.tasks import TASKS, FinetuningTask, PretrainingTask, Task
from robertax.tasks.task import RESULTS, Answers
from robertax.train import checkpoint
from robertax.train import workdir as workdirs
from robertax.train.checkpoint import Checkpoints
from robertax.train.facts import Damaged, read_facts
from robertax.train.step import eval_step, output_step


class Evaluation:
  """params -> metrics, in batches of a micro-batch's size, which fits."""

  def __init__(self, config: Config, task: PretrainingTask,
               mesh: jax.sharding.Mesh):
    self._task, self._mesh, self._depth = task, mesh, config.data.prefetch
    self._behind = steps_ahead(mesh, 1)
    self._step = eval_step(task.objective)
    self._shape = (config.data.batch_size // config.train.micro_batches,
                   config.train.eval_examples)

  @functools.cached_property
  def _constants(self) -> dict[str, dict[str, float]]:
    # All processes have the same, so one masks all of the held-out text.
    return processes.gather(processes.together(
        lambda: self._task.eval_constants(*self._shape)
        if processes.first() else None))[0]

  def __call__(self, params: Any) -> dict[str, float]:
    """Returns `eval/<set>/<metric>`, and `eval/<metric>` of all targets."""
    rows = feeds.local_rows(batch_sharding(
        self._mesh, micro_batches=True), self._shape[0], 1)
    metrics, total = {}, Counter()
    sets = self._task.eval_sets(*self._shape, rows)
    for name, begin in sets.items():
      # In the host's float64: a float32 sum over a large set loses bits.
      sums = Counter(self._constants.get(name, {}))
      for _, found in feeds.fetch_behind(
          self._on_devices(begin()), functools.partial(self._step, params),
          self._behind):
        sums.update({key: float(value) for key, value in found.items()})
      total.update(sums)
      if len(sets) > 1 and not sums['weight_sum']:
        say_once(f'{name}: so little text of it is held out that no token is '
                 'masked: it has no evaluation of its own.')
        continue
      try:
        summary = self._task.summarize(sums)
      except InputError as e:
        raise InputError(f'{name}: {e}') from e
      metrics.update({f'eval/{name}/{key}': value
                      for key, value in summary.items()})
    metrics |= {f'eval/{key}': value
                for key, value in self._task.summarize(total).items()}
    bad = self._task.eval_bad_records()
    metrics |= {f'eval/{name}/bad_records': n for name, n in bad.items()}
    return metrics | ({'eval/bad_records': sum(bad.values())} if bad else {})

  def _on_devices(self, batches: Iterator[Any]) -> Iterator[Any]:
    sharding = batch_sharding(self._mesh, micro_batches=True)
    with feeds.Feed((feeds.split_micro_batches(b, 1) for b in batches),
              sharding, self._depth) as feed:
      yield from feed


def evaluation_table(step: int, metrics: dict[str, float]) -> str:
  """Formats `eval/...`: a row for each set, a column for each metric."""
  head = f'eval, step {step}'
  names = [key.split('/')[1] for key in metrics if key.count('/') == 1]
  sets = list(dict.fromkeys(
      key.split('/')[1] for key in metrics if key.count('/') == 2))
  width = max(map(len, sets + [head]))
  lines = ['  '.join([head.ljust(width), *(n.rjust(12) for n in names)])]
  rows = [(s, f'eval/{s}/') for s in sets]
  for title, prefix in rows + [('all', 'eval/')] * (len(sets) > 1):
    # The perplexity of a diverged run has hundreds of digits.
    cells = [f'{value:12}' if isinstance(value, int) else
             f'{value:12.4f}' if abs(value) < 1e7 else f'{value:12.4g}'
             for value in (metrics[prefix + name] for name in names)]
    lines.append('  '.join([title.ljust(width), *cells]))
  return '\n'.join(lines)


class Scoring:
  """params -> metrics, as Evaluation; and params -> answers."""

  def __init__(self, config: Config, task: FinetuningTask,
               mesh: jax.sharding.Mesh):
    self._task, self._mesh, self._depth = task, mesh, config.data.prefetch
    self._behind = steps_ahead(mesh, 1)
    self._step = output_step(task.objective, mesh)
    self._last: tuple[Any, dict[str, Answers]] = None, {}

  def __call__(self, params: Any) -> dict[str, float]:
    """Returns percent: `eval/<split>/<metric>`; the first's `eval/<metric>`."""
    metrics, splits = {}, self._task.dev_splits
    answers = {name: self.answers(params, name) for name in splits}
    for name in splits:
      found = self._task.score(name, answers[name])
      metrics |= {f'eval/{name}/{key}': value for key, value in found.items()}
      if name == splits[0]:
        metrics |= {f'eval/{key}': value for key, value in found.items()}
    self._last = params, answers
    return metrics

  def answers(self, params: Any, split: str) -> Answers:
    """Returns collect_answers of a split, cached for the last weights."""
    if self._last[0] is params and split in self._last[1]:
      return self._last[1][split]
    # Only runs that fine-tune import it.
    from robertax.data.finetuning import collect_answers
    return collect_answers(
        self._task.batches(split).examples, self._outputs(params, split),
        self._task.objective.token_outputs)

  def _outputs(self, params: Any, split: str) -> Iterator[Any]:
    sharding = batch_sharding(self._mesh, micro_batches=True)
    rows = functools.partial(feeds.local_rows, sharding, micro_batches=1)
    batches, whole = self._task.batches(split), deque()
    def of_host() -> Iterator[Any]:
      for batch in self._task.eval_batches(split):
        whole.append(batch)
        yield feeds.split_micro_batches(batches.of_host(batch, rows), 1)

    with feeds.Feed(of_host(), sharding, self._depth) as feed:
      for _, found in feeds.fetch_behind(
          feed, functools.partial(self._step, params), self._behind):
        yield whole.popleft(), found


def is_concluded(workdir: str, task: str) -> bool:
  """Tells whether a run whose last step is saved has written its results."""
  return not TASKS[task].fine_tunes or files.exists(f'{workdir}/{RESULTS}')


class Best:
  """Keeps the best weights, if the task or the config wants that.

  `step` and `value` are those of the best evaluation whose weights are kept
  (the value of a loss is its negative); step -1: there is none yet.
  """

  def __init__(self, workdir: str, task: Task, restored_step: int | None,
               train: TrainConfig, checkpoints: Checkpoints, params: Any):
    """Finds what is kept, up to the restored step, whose weights are `params`.

    Before the first line of metrics is written, it hides weights of steps that
    will be taken again, or that have no line.
    """
    self._workdir, self._checkpoints = workdir, checkpoints
    self._folder = f'{workdir}/{workdirs.BEST_FOLDER}'
    self._keeps = task.fine_tunes or train.keep_best
    self._metric = f'eval/{task.metric}' if task.fine_tunes else 'eval/loss'
    self._sign = 1.0 if task.fine_tunes else -1.0
    self._goes_on = (not task.fine_tunes and jax.process_count() == 1
                     and train.on_write_error == 'go_on')
    # Step -> value of the evaluations so far, and the steps that are kept.
    known, kept = self._agree(restored_step)
    self._kept = {step: known[step] for step in kept}
    self.step, self.value = _largest_value(self._kept)
    self._largest = _largest_value(known)  # Kept or not.
    if task.fine_tunes and (restored_step or 0) < train.steps:
      path = f'{workdir}/{RESULTS}'  # With it a run passes for ended.
      checkpoint.by_first(
          path, lambda: files.remove(path) if files.exists(path) else None)
    if restored_step in known:  # The checkpoint has these weights.
      self._offer(restored_step, known[restored_step], params)
    if self._keeps and self._largest[0] not in (-1, self.step):
      say(f'{self._lost()}. Evaluations are compared with '
          + (f'that of step {self.step} from here on.' if self.step >= 0
             else 'none before them.'))

  def note(self, step: int, metrics: dict[str, float], params: Any):
    """Keeps `params` if this evaluation is the best; step 0 does not count.

    It is written later: after a kill in between, a resumed run hides them.
    """
    if step and workdirs.is_value(metrics.get(self._metric)):
      value = self._sign * metrics[self._metric]
      if self._largest[0] < 0 or value > self._largest[1]:
        self._largest = step, value
      self._offer(step, value, params)

  def check_held(self):
    """Raises TakenOver if another run has the workdir."""
    self._checkpoints.check_held()

  def params(self, last: Any, step: int) -> Any:
    """Returns the best weights that are kept and whole, and removes the others.

    If there are none, these are the `last` ones, of `step`. `self.step` is set.
    """
    self.check_held()
    found, checkpoints = None, self._open()
    try:
      while self._kept and found is None:
        self.step, self.value = _largest_value(self._kept)
        try:
          found = last if self.step == step else checkpoints.restore_params(
              self.step, jax.tree.map(lambda x: jax.ShapeDtypeStruct(
                  x.shape, x.dtype, sharding=x.sharding), last))
        except Damaged as e:
          checkpoints.set_aside(self.step, e)
          del self._kept[self.step]
      if found is None:
        found, self.step = last, step
        checkpoints.replace_params(step, last)
    finally:
      checkpoints.close()
    if self._largest[0] not in (-1, self.step):
      say(f'{self._lost()}. What the run ends with is of step {self.step}.')
    self._keep([self.step])
    return found

  def _agree(self, restored: int | None) -> tuple[dict[int, float], list[int]]:
    """Returns step -> value of the evaluations so far, and the steps kept."""
    def look():
      if not processes.first():
        return None
      known = {} if restored is None else workdirs.logged_evaluations(
          self._workdir, self._metric, restored)
      saved = checkpoint.saved_steps(self._folder)
      with writing(self._folder):
        for step in saved:
          if step not in known or self._is_stale(step):
            checkpoint.abandon_step(self._folder, step)
      return [list(known.items()), checkpoint.saved_steps(self._folder)]

    # One process looks, since others may see an older state of a shared disk.
    known, kept = processes.gather(processes.together(look))[0]
    return {step: self._sign * value for step, value in known}, kept

  def _is_stale(self, step: int) -> bool:
    """Tells whether its checkpoint has others, as earlier versions left."""
    try:
      kept, saved = (read_facts(folder, step) for folder in (
          self._folder, f'{self._workdir}/checkpoints'))
      return bool(kept and saved) and (
          kept['sums']['params'] != saved['sums']['params'])
    except (Damaged, KeyError):  # It is reported when it is read.
      return False

  def _offer(self, step: int, value: float, params: Any):
    """Keeps the weights of an evaluation if it is the best."""
    if not self._keeps or self.step >= 0 and not value > self.value:
      return
    try:
      self.check_held()
      checkpoints = self._open()
      checkpoints.replace_params(step, params)
      checkpoints.close()
      before, self.step, self.value = self.step, step, value
      self._kept[step] = value
      # The previous best stays: a kill may come before this evaluation's line,
      # and a later start may go on from an earlier checkpoint.
      self._keep([step, before, *(
          max((k for k in self._kept if k <= saved), default=-1)
          for saved in self._checkpoints.restorable())])
    except InputError as e:
      if not self._goes_on or isinstance(e, TakenOver):
        raise
      say(f'the weights of step {step}, the best so far, are not kept: {e}')

  def _keep(self, steps: list[int]):
    """Removes all other steps; process 0 decides which."""
    steps = processes.gather(steps)[0]
    checkpoint.by_first(
        self._folder, lambda: checkpoint.keep_steps(self._folder, steps))
    self._kept = {k: v for k, v in self._kept.items() if k in steps}

  def _open(self) -> Checkpoints:
    return Checkpoints(self._workdir, folder=workdirs.BEST_FOLDER)

  def _lost(self) -> str:
    step, value = self._largest
    return (f'{self._folder}: the weights of step {step}, the best evaluation '
            f'({self._metric} {self._sign * value:.6g}), are not kept')


def _largest_value(values: dict[int, float]) -> tuple[int, float]:
  """Returns (step, value) of the first largest value, or (-1, 0)."""
  step = max(sorted(values), key=values.get, default=-1)
  return step, values.get(step, 0.0)


def conclude(config: Config, task: Task, scoring: Evaluation | Scoring,
             best: Best, params: Any, workdir: str) -> dict[str, Any] | None:
  """Answers all splits with the best weights; returns and writes results."""
  if not task.fine_tunes:
    return None
  assert isinstance(scoring, Scoring)
  params = best.params(params, config.train.steps)
  splits = [*task.dev_splits]
  if config.finetune.predict_test:
    splits += task.test_splits
  answers = {name: scoring.answers(params, name) for name in splits}
  facts = {
      'seed': config.seed, 'best_step': best.step, 'steps': config.train.steps,
      'best_epoch': round(best.step / task.epoch_steps, 2),
      'learning_rate': config.optim.learning_rate,
      'batch_size': config.data.batch_size, 'init_from': config.init_from,
      'from_scratch': config.finetune.from_scratch,
      'init_step': workdirs.weights_step(config.init_from)
                   if config.init_from and not config.finetune.from_scratch
                   else None}
  best.check_held()
  # One process writes; all return what is written.
  return task.conclude('' if jax.process_index() else workdir, answers, facts)
