"""Workers: the processes of this machine that share the work of a preparation.

A `Job` is everything that must be known to prepare one corpus on any machine:
the workers of Beam and the local preparation write the same bytes.
`fill_tokens` turns shards of text into shards of the store, and `fill_records`
turns those into records. A shard depends only on its documents, and exists only
when it is finished, so a kill costs the shard that was being made.

The processes are not those of `multiprocessing`. Its workers import the main
module again, and with it JAX, need a guard in every script and notebook, and
outlive a parent that is killed; these end when their pipe does. A worker runs
`serve`, and reads and writes pickles on its standard streams.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
import contextlib
import dataclasses
import os
import pickle
import signal
import subprocess
import sys
import time
from typing import Any

from robertax.config import DataConfig
from robertax.corpus import blocks as blocks_lib
from robertax.corpus import records, tokens
from robertax.corpus import shards as shards_lib
from robertax.corpus.blocks import Block, Shard, Surveyed, Surveys
from robertax.corpus.formats import FORMATS, PairLaw
from robertax.corpus.tokens import TextRecipe, Texts, TokenStore
from robertax.errors import InputError
from robertax.files import json_hash
from robertax.progress import progress_bar, say_once
from robertax.text import Tokenizer


def available_cores() -> int:
  """Returns the number of cores that this process may use."""
  if hasattr(os, 'sched_getaffinity'):
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1


class _Worker:
  """A process that runs `serve`; called with an item, it returns the result."""

  def __init__(self, function: Callable):
    # With its parent's sys.path the worker finds the same modules.
    code = (f'import sys; sys.path[:] = {sys.path!r}; '
            'from robertax.corpus.workers import serve; serve()')
    # Each worker has one core; libraries would start threads for all of them.
    environment = {**os.environ, 'TOKENIZERS_PARALLELISM': 'false',
                   'RAYON_NUM_THREADS': '1', 'OMP_NUM_THREADS': '1',
                   'OPENBLAS_NUM_THREADS': '1'}
    self._process = subprocess.Popen(
        [sys.executable, '-c', code], stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, env=environment)
    self._send(function)

  def _send(self, message) -> None:
    with contextlib.suppress(BrokenPipeError):  # Reading the answer fails too.
      pickle.dump(message, self._process.stdin, pickle.HIGHEST_PROTOCOL)
      self._process.stdin.flush()

  def __call__(self, item):
    self._send(item)
    try:
      result, error = pickle.load(self._process.stdout)
    except (EOFError, pickle.UnpicklingError) as e:
      code = self._process.wait()
      raise InputError(
          f'a worker of the preparation ended (exit code {code})'
          + (': it was killed, most likely because memory ran out. Fewer '
             'workers need less: data.workers=1.'
             if code == -signal.SIGKILL else '.')) from e
    if error is not None:
      raise error
    return result

  def end(self) -> None:
    self._process.kill()
    self._process.wait()
    self._process.stdout.close()
    with contextlib.suppress(BrokenPipeError):
      self._process.stdin.close()


def map_in_order(make: Callable[[Any], Callable], argument: Any,
                 items: Iterable, workers: int) -> Iterator:
  """Yields function(item) for each item, in order; function = make(argument).

  One worker is this process; more are new processes, each of which makes its
  own function from the pickled `make` and `argument`. Items are taken lazily,
  in this thread, and at most workers + 1 of them are in progress. Errors of the
  function are raised here, and an InputError if a worker died.
  """
  if workers <= 1:
    yield from map(make(argument), items)
    return
  processes = []
  threads = ThreadPoolExecutor(workers)
  try:
    for _ in range(workers):
      processes.append(_Worker((make, argument)))
    idle = deque(processes)

    def work(item):
      process = idle.popleft()  # There are as many processes as threads.
      try:
        return process(item)
      finally:
        idle.append(process)
    waiting = deque()
    for item in items:
      waiting.append(threads.submit(work, item))
      del item
      if len(waiting) > workers:
        yield waiting.popleft().result()
    while waiting:
      yield waiting.popleft().result()
  finally:
    for process in processes:
      process.end()
    threads.shutdown(cancel_futures=True)


def serve() -> None:
  """Runs a worker: reads the function, then items until the pipe ends."""
  # Ctrl-C reaches the whole process group, and the parent handles it.
  signal.signal(signal.SIGINT, signal.SIG_IGN)
  messages = os.fdopen(os.dup(0), 'rb')
  answers = os.fdopen(os.dup(1), 'wb')
  os.dup2(2, 1)  # A stray print must not end up among the answers.
  try:
    make, argument = pickle.load(messages)
    function = make(argument)
    while True:
      item = pickle.load(messages)
      try:
        answer = function(item), None
      except Exception as e:
        answer = None, e
      del item
      pickle.dump(answer, answers, pickle.HIGHEST_PROTOCOL)
      answers.flush()
      del answer
  except (EOFError, BrokenPipeError, pickle.UnpicklingError):
    os._exit(0)  # The parent has closed the pipe, or died.


@dataclasses.dataclass(frozen=True)
class Job:
  """One corpus, and how to make its records."""
  corpus: Any  # One of `documents.corpora_of`.
  survey: Surveyed | None  # None if the records are finished.
  folder: str  # The folder of its records.
  store_folder: str  # The folder of its tokens.
  text_recipe: TextRecipe  # Decides its tokens.
  recipe: shards_lib.RowRecipe  # Decides its records, given its tokens.
  facts: dict[str, Any]  # What the manifest has from the config.
  forms: tuple[str, ...]  # As in Manifest.
  vocab_size: int

  @property
  def store(self) -> TokenStore:
    return TokenStore(self.store_folder, self.recipe.dtype)

  @property
  def duplicates(self) -> int:
    """Returns how often the training split is drawn."""
    return self.facts.get('duplicates', 1)

  def shards(self) -> list[Shard]:
    return blocks_lib.shards_of(self.survey.blocks)

  def without_records(self) -> list[Shard]:
    """Returns the shards that have no records yet."""
    return [
        shard for shard in self.shards()
        if shards_lib.read_entry(self.folder, shard, self.forms) is None]

  def without_tokens(self) -> list[Shard]:
    """Returns the shards that have neither records nor tokens yet."""
    return [shard for shard in self.without_records()
            if self.store.places(shard) is None]


def jobs_of(data: DataConfig, corpora: list, tokenizer: Tokenizer, cache: str,
            forms: tuple[str, ...], surveys: Surveys) -> list[Job]:
  """Returns a job for each corpus of a config.

  It surveys all corpora that are not prepared, so that errors in the text are
  reported before the first one is tokenized. Those without text are left out.
  """
  facts = dict(
      version=records.VERSION, format=data.format, sentences=data.sentences,
      sequence_length=data.sequence_length, tokenizer=tokenizer.fingerprint)
  law = None
  if FORMATS[data.format].pairs:
    law = PairLaw(data.pair_short_rate, data.pair_negatives)
    facts |= dict(pair_law=dataclasses.asdict(law),
                  duplicates=data.pair_duplicates)
  recipe = shards_lib.RowRecipe(
      data.format, data.sequence_length, tokenizer.dtype.__name__,
      tokenizer.bos_id, tokenizer.eos_id, law, encoded='array_record' in forms)
  text_recipe = TextRecipe(tokenizer.to_json(), tokenizer.special_names(),
                           data.sentences)
  jobs = []
  for corpus in corpora:
    fingerprint = corpus.fingerprint()
    of_records = json_hash([fingerprint, facts], sort_keys=True)[:16]
    folder = os.path.join(cache, 'records', f'{corpus.name}-{of_records}')
    of_tokens = json_hash([tokens.STORE_VERSION, fingerprint,
                           tokenizer.fingerprint, data.sentences])[:16]
    store = os.path.join(cache, 'tokens', f'{corpus.name}-{of_tokens}')
    survey = None if records.is_finished(folder) else surveys.of(corpus)
    if survey is not None and not survey.blocks:
      say_once(f'{corpus.name} holds no text: '
               f'{", ".join(corpus.files[:3]) or "no files"}; it is left out.')
      continue
    jobs.append(Job(corpus, survey, folder, store, text_recipe, recipe, facts,
                    forms, tokenizer.vocab_size))
  return jobs


def fill_tokens(job: Job, shards: Sequence[Shard], workers: int,
                progress: bool) -> None:
  """Tokenizes the text of some of a job's shards, in order, into the store.

  Wrong or changed text, a full disk or too little memory are InputErrors.
  """
  blocks = [block for shard in shards for block in shard.blocks]
  if not blocks:
    return
  reader = _BlockReader(job, blocks)
  done = map_in_order(tokens.BlockTokenizer, job.text_recipe, reader,
                      min(workers, len(blocks)))
  # `closing` ends the processes after an error.
  with contextlib.closing(done), _bytes_bar(job, 'tokenizing', shards,
                                            progress) as shown:
    try:
      for number, shard in enumerate(shards):
        with tokens.TokenWriter(job.store.path(shard), shard) as writer:
          for block in shard.blocks:
            writer.write(next(done))
            shown.update(block.size)
          if number == len(shards) - 1:
            next(done, None)  # The reader checks that the text ends here.
          writer.close(reading=reader.seconds())
    except blocks_lib.Changed as e:
      raise InputError(f'{", ".join(job.corpus.files[:3])}: changed while it '
                       'was read: run the command again.') from e


def fill_records(job: Job, shards: Sequence[Shard], workers: int,
                 progress: bool) -> None:
  """Packs some of a job's shards from the store, and writes their records.

  A damaged store, a full disk or too little memory are InputErrors.
  """
  store = job.store
  number = sum(len(shard.blocks) for shard in shards)
  if not number:
    return

  def work():
    for shard in shards:
      duplicates = job.duplicates if shard.split == 'train' else 1
      for block, place in zip(shard.blocks, store.places(shard)):
        yield shards_lib.PackingJob(place, block.name, block.start, duplicates)
  done = map_in_order(shards_lib.Packer, job.recipe, work(),
                      min(workers, number))
  with contextlib.closing(done), _bytes_bar(job, 'packing', shards,
                                            progress) as shown:
    for shard in shards:
      with shards_lib.ShardFiles(job.folder, shard, job.recipe.dtype, job.forms,
                                 job.duplicates) as writer:
        for block in shard.blocks:
          writer.write(block, next(done))
          shown.update(block.size)
        writer.close()


class _BlockReader:
  """Iterates over the texts of blocks, and measures how long reading takes."""

  def __init__(self, job: Job, blocks: Sequence[Block]):
    start = blocks[0]
    documents, first = job.corpus.documents(), 0
    if start.mark is not None and start.start:
      documents, first = job.corpus.documents(start.mark), start.start
    self._blocks = blocks_lib.read_blocks(
        documents, blocks, first,
        to_the_end=blocks[-1] == job.survey.blocks[-1])
    self._seconds = 0.

  def __iter__(self):
    return self

  def __next__(self) -> Texts:
    started = time.monotonic()
    try:
      block, texts = next(self._blocks)
      return Texts(texts, block.part)
    finally:
      self._seconds += time.monotonic() - started

  def seconds(self) -> float:
    """Returns the seconds spent on reading since the last call."""
    seconds, self._seconds = self._seconds, 0.
    return seconds


def _bytes_bar(job: Job, what: str, shards: Sequence[Shard], progress: bool):
  """Makes a bar in bytes of the files, past those of finished shards."""
  whole = sum(block.size for block in job.survey.blocks)
  left = sum(shard.size for shard in shards)
  return progress_bar(whole, 'B', f'{job.corpus.name}: {what}', progress,
                      done=whole - left)
