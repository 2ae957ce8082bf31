"""Workers: the passes of a preparation, shared by processes of this machine.

A `Job` is all that must be known to prepare one corpus, on any machine: a
worker of Beam fills shards of it as the local preparation does, and both write
the same bytes. `fill_tokens` turns shards of text into shards of the store,
`fill_records` those into records. A shard is finished or not there, and depends
on nothing but its documents, so a kill costs the shard that was under way.

The processes are not those of `multiprocessing`, whose workers import the
program's main module again, and with it JAX, need a guard in every script and
notebook, and outlive a parent that is killed, while these end when their pipe
does. A worker runs `serve`, and reads and writes pickles on its standard
streams.
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
from robertax.corpus import records, tokens
from robertax.corpus.blocks import (
    Block,
    Changed,
    Shard,
    Surveyed,
    Surveys,
    read_blocks,
    shards_of,
)
from robertax.corpus.formats import FORMATS, PairLaw
from robertax.corpus.shards import (
    Packer,
    PackingJob,
    RowRecipe,
    ShardFiles,
    read_entry,
)
from robertax.corpus.tokens import (
    BlockTokenizer,
    TextRecipe,
    Texts,
    TokenStore,
    TokenWriter,
)
from robertax.errors import InputError
from robertax.files import json_hash
from robertax.progress import progress_bar
from robertax.text import Tokenizer


def available_cores() -> int:
  """Cores that this process may use."""
  if hasattr(os, 'sched_getaffinity'):
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1


class _Worker:
  """A process that runs `serve`; called with an item, it gives the result."""

  def __init__(self, function: Callable):
    # sys.path goes along, so the worker finds what its parent found.
    code = (f'import sys; sys.path[:] = {sys.path!r}; '
            'from robertax.corpus.workers import serve; serve()')
    # Each takes one core: the tokenizers library would start its own threads.
    environment = {**os.environ, 'TOKENIZERS_PARALLELISM': 'false',
                   'OMP_NUM_THREADS': '1', 'OPENBLAS_NUM_THREADS': '1'}
    self._process = subprocess.Popen(
        [sys.executable, '-c', code], stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, env=environment)
    self._send(function)

  def _send(self, message) -> None:
    with contextlib.suppress(BrokenPipeError):  # The answer will say so.
      pickle.dump(message, self._process.stdin, pickle.HIGHEST_PROTOCOL)
      self._process.stdin.flush()

  def __call__(self, item):
    self._send(item)
    try:
      result, error = pickle.load(self._process.stdout)
    except (EOFError, pickle.UnpicklingError) as e:
      code = self._process.wait()
      raise InputError(
          f'a preparing process ended (exit code {code})'
          + (': killed, most likely for want of memory. Fewer would take '
             'less: data.workers=1.' if code == -signal.SIGKILL else '.')
      ) from e
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

  With one worker all is done here; otherwise each process makes its own
  function from `make` and `argument`, which are pickled. At most workers + 1
  items are taken, lazily and in this thread, and not yet given back.

  Raises:
    InputError: a worker died. What the function raises is raised here.
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
      process = idle.popleft()  # As many threads as processes: never empty.
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
  """A worker's life: reads the function, then items until the pipe ends."""
  # Ctrl-C reaches the whole group; the parent decides what it means.
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
    os._exit(0)  # The parent is done, or gone.


@dataclasses.dataclass(frozen=True)
class Job:
  """One corpus and what its records are to be.

  Attributes:
    corpus: one of `documents.corpora_of`.
    survey: the corpus's; None where the records are finished.
    folder, store_folder: of its records and of its tokens.
    text_recipe: what decides its tokens.
    recipe: what decides its records, given its tokens.
    facts: attributes of the manifest that follow from the config.
    forms: as in Manifest.
    vocab_size: the tokenizer's.
  """
  corpus: Any
  survey: Surveyed | None
  folder: str
  store_folder: str
  text_recipe: TextRecipe
  recipe: RowRecipe
  facts: dict[str, Any]
  forms: tuple[str, ...]
  vocab_size: int

  @property
  def store(self) -> TokenStore:
    return TokenStore(self.store_folder, self.recipe.dtype)

  @property
  def duplicates(self) -> int:
    """How often the training split is drawn."""
    return self.facts.get('duplicates', 1)

  def shards(self) -> list[Shard]:
    return shards_of(self.survey.blocks)

  def without_records(self) -> list[Shard]:
    """The shards that have no records yet."""
    return [shard for shard in self.shards()
            if read_entry(self.folder, shard, self.forms) is None]

  def without_tokens(self) -> list[Shard]:
    """Those of them that have no tokens in the store, either."""
    store = self.store
    return [shard for shard in self.without_records()
            if store.places(shard) is None]


def jobs_of(data: DataConfig, corpora: list, tokenizer: Tokenizer, cache: str,
            forms: tuple[str, ...], surveys: Surveys) -> list[Job]:
  """The jobs of a config, one a corpus.

  All corpora that are not prepared are surveyed here, so that wrong text is
  named before the first one is tokenized.
  """
  facts = dict(
      version=records.VERSION, format=data.format, sentences=data.sentences,
      sequence_length=data.sequence_length, tokenizer=tokenizer.fingerprint)
  law = None
  if FORMATS[data.format].pairs:
    law = PairLaw(data.pair_short_rate, data.pair_negatives)
    facts |= dict(pair_law=dataclasses.asdict(law),
                  duplicates=data.pair_duplicates)
  recipe = RowRecipe(
      data.format, data.sequence_length, tokenizer.dtype.__name__,
      tokenizer.bos_id, tokenizer.eos_id, law,
      encoded='array_record' in forms)
  text_recipe = TextRecipe(tokenizer.to_json(), data.sentences)
  jobs = []
  for corpus in corpora:
    fingerprint = corpus.fingerprint()
    of_records = json_hash([fingerprint, facts], sort_keys=True)[:16]
    folder = os.path.join(cache, 'records', f'{corpus.name}-{of_records}')
    of_tokens = json_hash([tokens.STORE_VERSION, fingerprint,
                           tokenizer.fingerprint, data.sentences])[:16]
    store = os.path.join(cache, 'tokens', f'{corpus.name}-{of_tokens}')
    survey = None if records.is_finished(folder) else surveys.of(corpus)
    jobs.append(Job(corpus, survey, folder, store, text_recipe, recipe, facts,
                    forms, tokenizer.vocab_size))
  return jobs


def fill_tokens(job: Job, shards: Sequence[Shard], workers: int,
                progress: bool) -> None:
  """Reads the text of shards, tokenizes it, and writes them to the store.

  `shards` are some of the job's, in order.

  Raises:
    InputError: wrong or changed text, a full disk, too little memory.
  """
  blocks = [block for shard in shards for block in shard.blocks]
  if not blocks:
    return
  reader = _BlockReader(job, blocks)
  done = map_in_order(BlockTokenizer, job.text_recipe, reader,
                      min(workers, len(blocks)))
  # Closed on the way out of an error: its processes end before this one.
  with contextlib.closing(done), _bytes_bar(job, 'tokenizing', shards,
                                            progress) as shown:
    try:
      for number, shard in enumerate(shards):
        with TokenWriter(job.store.path(shard), shard) as writer:
          for block in shard.blocks:
            writer.write(next(done))
            shown.update(block.size)
          if number == len(shards) - 1:
            # The reader is asked once more than there are blocks: it sees
            # whether the text ends where it should.
            next(done, None)
          writer.close(reading=reader.seconds())
    except Changed as e:
      raise InputError(f'{", ".join(job.corpus.files[:3])}: changed while it '
                       'was read: run the command again.') from e


def fill_records(job: Job, shards: Sequence[Shard], workers: int,
                 progress: bool) -> None:
  """Packs shards of the store, some of the job's, and writes their records.

  Raises:
    InputError: a damaged store, a full disk, too little memory.
  """
  store = job.store
  number = sum(len(shard.blocks) for shard in shards)
  if not number:
    return

  def work():
    for shard in shards:
      duplicates = job.duplicates if shard.split == 'train' else 1
      for block, place in zip(shard.blocks, store.places(shard)):
        yield PackingJob(place, block.name, block.start, duplicates)

  done = map_in_order(Packer, job.recipe, work(), min(workers, number))
  with contextlib.closing(done), _bytes_bar(job, 'packing', shards,
                                            progress) as shown:
    for shard in shards:
      with ShardFiles(job.folder, shard, job.recipe.dtype, job.forms,
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
    self._blocks = read_blocks(
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
    """Seconds of reading since the last call."""
    seconds, self._seconds = self._seconds, 0.
    return seconds


def _bytes_bar(job: Job, what: str, shards: Sequence[Shard], progress: bool):
  """A bar in bytes of the corpus's files; those of finished shards are done."""
  whole = sum(block.size for block in job.survey.blocks)
  left = sum(shard.size for shard in shards)
  return progress_bar(whole, 'B', f'{job.corpus.name}: {what}', progress,
                      done=whole - left)
