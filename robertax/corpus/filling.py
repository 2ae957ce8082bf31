"""Filling: shards of text become shards of tokens, and those of records.

Each shard is finished or not there, so whoever is killed loses the shard that
was under way. What comes of a shard depends on nothing but its documents.
"""

from collections.abc import Sequence
import contextlib
import time

from robertax.corpus.blocks import Changed, Shard, read_blocks
from robertax.corpus.jobs import Job
from robertax.corpus.packing import Packer, Work
from robertax.corpus.progress import bar
from robertax.corpus.split_files import ShardFiles
from robertax.corpus.tokens import Texts, Tokenizing
from robertax.corpus.workers import map_in_order
from robertax.errors import InputError


def fill_tokens(job: Job, shards: Sequence[Shard], workers: int,
                progress: bool) -> None:
  """Reads the text of shards, tokenizes it, and writes them to the store.

  Args:
    job: says what and where.
    shards: some of the job's, in order.
    workers: processes; with 1 all is done here.
    progress: show a bar.

  Raises:
    InputError: text, disk or memory.
  """
  blocks = [block for shard in shards for block in shard.blocks]
  if not blocks:
    return
  reader = _Reader(job, blocks)
  done = map_in_order(Tokenizing, job.text_recipe, reader,
                      min(workers, len(blocks)))
  # Closed on the way out of an error: its processes end before this one.
  with contextlib.closing(done), _bar(job, 'tokenizing', shards,
                                      progress) as shown:
    try:
      for number, shard in enumerate(shards):
        with job.store.writer(shard) as writer:
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
  """Packs shards of the store and writes their records.

  Args:
    job, shards, workers, progress: as in `fill_tokens`.

  Raises:
    InputError: a damaged store, disk or memory.
  """
  store = job.store
  number = sum(len(shard.blocks) for shard in shards)
  if not number:
    return

  def work():
    for shard in shards:
      duplicates = job.duplicates if shard.split == 'train' else 1
      for block, place in zip(shard.blocks, store.places(shard)):
        yield Work(place, block.name, block.start, duplicates)

  done = map_in_order(Packer, job.recipe, work(), min(workers, number))
  with contextlib.closing(done), _bar(job, 'packing', shards,
                                      progress) as shown:
    for shard in shards:
      with ShardFiles(job.folder, shard, job.recipe.dtype, job.forms,
                      job.duplicates) as files:
        for block in shard.blocks:
          files.write(block, next(done))
          shown.update(block.size)
        files.close()


class _Reader:
  """The texts of blocks, and how long it took to read them."""

  def __init__(self, job: Job, blocks):
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
    """Since this was asked before."""
    seconds, self._seconds = self._seconds, 0.
    return seconds


def _bar(job: Job, what: str, shards: Sequence[Shard], progress: bool):
  """In bytes of the corpus's files, of those to come and those that are done.
  """
  whole = sum(block.size for block in job.survey.blocks)
  left = sum(shard.size for shard in shards)
  return bar(whole, 'B', f'{job.corpus.name}: {what}', progress,
             done=whole - left)
