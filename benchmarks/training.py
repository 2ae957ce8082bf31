"""Trains a tiny model with the real command, and watches it from outside.

benchmarks.chaos and benchmarks.soak share this: text made from a seed, records
and compiled programs for the next start, and a run's processes and their
output.
"""

import json
import os
import pathlib
import random
import signal
import socket
import subprocess
import sys
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
# A process of a run of several.
PORT_HOST = '127.0.0.1'


def write_text(path: pathlib.Path, documents: int = 300, seed: int = 0):
  """Writes JSON lines of made-up sentences, in which few words follow a word.

  Args:
    path: the file.
    documents: number of documents, of about 90 words each.
    seed: equal seeds give equal text.
  """
  draw = random.Random(seed)
  syllables = [a + b for a in 'bdfgklmnprstv' for b in 'aeiou']
  words = [''.join(draw.choices(syllables, k=draw.randint(1, 3)))
           for _ in range(200)]
  follows = {word: draw.sample(words, 4) for word in words}
  with open(path, 'w') as f:
    for _ in range(documents):
      word, sentences = draw.choice(words), []
      for _ in range(10):
        sentence = []
        for _ in range(draw.randint(6, 12)):
          sentence.append(word)
          word = draw.choice(follows.get(word, words))
        sentences.append(' '.join(sentence).capitalize() + '.')
      f.write(json.dumps({'text': ' '.join(sentences)}) + '\n')


def flags(folder: pathlib.Path, **values) -> list[str]:
  """Gives flags of main for a tiny model on the text of a folder.

  Args:
    folder: folder that runs share: text, records, compiled programs.
    **values: more keys, with `__` for the dot, such as train__steps=100.
  """
  folder.mkdir(parents=True, exist_ok=True)
  text = folder / 'text.jsonl'
  if not text.exists():
    write_text(folder / 'text.partial')
    os.replace(folder / 'text.partial', text)
  values = dict(
      data__corpora=text, data__cache_dir=folder / 'cache', data__workers=1,
      data__sequence_length=32, data__batch_size=8, tokenizer__vocab_size=400,
      model__hidden_size=32, model__num_layers=2, model__num_heads=2,
      model__mlp_size=64, model__max_positions=32, model__dropout_rate=0.1,
      model__attention_dropout_rate=0.1, optim__warmup_steps=20,
      train__compile_cache=folder / 'compiled') | values
  return ['--config=configs/quickstart.py', *(
      f'--config.{key.replace("__", ".")}={value}'
      for key, value in values.items())]


def environment() -> dict[str, str]:
  """A run's environment: one CPU device per process, all programs cached."""
  return os.environ | {
      'JAX_PLATFORMS': 'cpu', 'XLA_FLAGS': '', 'PYTHONUNBUFFERED': '1',
      'TF_CPP_MIN_LOG_LEVEL': '2', 'PYTHONPATH': str(ROOT),
      'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
      'JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES': '-1'}


def last_step(workdir: pathlib.Path) -> int:
  """The step of the last whole line of metrics.jsonl; -1: there is none."""
  try:
    with open(workdir / 'metrics.jsonl', 'rb') as f:
      f.seek(max(0, f.seek(0, os.SEEK_END) - 8192))
      lines = f.read().split(b'\n')[:-1]
    return json.loads(lines[-1])['step']
  except (OSError, ValueError, IndexError, KeyError):
    return -1


class Running:
  """One start of a run: its processes and their output.

  Attributes:
    workers: the processes, in order.
    codes: exit codes, after `wait` or `kill`.
  """

  def __init__(self, arguments: list[str], workdir: pathlib.Path,
               processes: int = 1):
    """Starts the processes.

    Args:
      arguments: flags of main.
      workdir: W.
      processes: number of processes.
    """
    self.codes: list[int | None] = []
    self._said: list[str] = []
    self._more = threading.Condition()
    command = [sys.executable, '-m', 'robertax.main', *arguments,
               f'--workdir={workdir}']
    place = []
    if processes > 1:
      with socket.socket() as s:
        s.bind((PORT_HOST, 0))
        place = [f'--coordinator={PORT_HOST}:{s.getsockname()[1]}',
                 f'--num_processes={processes}']
    self.workers = [subprocess.Popen(
        [*command, *place, *([f'--process_id={i}'] if place else [])],
        cwd=ROOT, env=environment(), stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        errors='replace') for i in range(processes)]
    # The output is read, so no pipe is ever full, and needs no disk space.
    self._readers = [threading.Thread(
        target=self._listen, args=(worker,), daemon=True)
                     for worker in self.workers]
    for reader in self._readers:
      reader.start()

  def _listen(self, worker):
    for line in worker.stdout:
      with self._more:
        self._said.append(line.rstrip())
        self._more.notify_all()

  def said(self, *words: str) -> int:
    """The number of lines that contain one of the words."""
    return sum(any(word in line for word in words) for line in self.lines())

  def lines(self) -> list[str]:
    """The output so far."""
    with self._more:
      return list(self._said)

  def alive(self) -> bool:
    """Whether all processes are alive."""
    return all(worker.poll() is None for worker in self.workers)

  def until(self, happened, seconds: float) -> bool:
    """Waits until happened() is true, or a process has ended.

    Args:
      happened: the condition.
      seconds: time limit.

    Returns:
      Whether it happened.
    """
    end = time.monotonic() + seconds
    while not happened():
      if not self.alive() or time.monotonic() > end:
        return bool(happened())
      time.sleep(0.01)
    return True

  def signal(self, number: int, *which: int):
    """Sends a signal to these processes, by default to all."""
    for i in which or range(len(self.workers)):
      try:
        self.workers[i].send_signal(number)
      except ProcessLookupError:
        pass

  def wait(self, seconds: float, which: tuple[int, ...] = ()) -> bool:
    """Waits until the processes end.

    Args:
      seconds: time limit.
      which: the processes, by default all.

    Returns:
      Whether they have ended.
    """
    end = time.monotonic() + seconds
    for i in which or range(len(self.workers)):
      try:
        self.workers[i].wait(max(0.01, end - time.monotonic()))
      except subprocess.TimeoutExpired:
        return False
    return True

  def kill(self):
    """Kills all remaining processes, and collects exit codes."""
    left = [worker.poll() is None for worker in self.workers]
    self.signal(signal.SIGKILL)
    for worker, reader in zip(self.workers, self._readers):
      worker.wait()
      reader.join(10)
      worker.stdout.close()
    # None: it was killed here, so its code means nothing.
    self.codes = [None if was else worker.returncode
                  for was, worker in zip(left, self.workers)]
