"""Blocks of coming steps, pinned in the cache ahead of them.

A thread goes through the steps and pins what each of them will read, as far
ahead as the cache has room: so what is fetched is on its way long before it is
read, and what a step needs stays until that step has passed.
"""

from collections import deque
from collections.abc import Callable, Sequence
import threading

from robertax.data.block_cache import Block, BlockCache, Entry

STEPS = 512  # No further ahead.
SHARE = 0.75  # Of the cache; the rest is for what is read without a plan.


class Lookahead:
  """Goes ahead of whoever reads the steps. To be closed, or used in a `with`.
  """

  def __init__(self, cache: BlockCache | None,
               blocks: Callable[[int], Sequence[Block]], start: int):
    """Starts the thread.

    Args:
      cache: where blocks are kept; None: nothing is remote, nothing is done.
      blocks: what a step reads; called in the thread.
      start: the first step.
    """
    self._cache, self._blocks = cache, blocks
    self._next = start  # The step that is read next.
    self._held: deque[tuple[int, list[Entry]]] = deque()
    self._error: BaseException | None = None
    self._stopped = cache is None
    self._thread = threading.Thread(
        target=self._run, name='robertax-lookahead', daemon=True)
    if cache is not None:
      self._thread.start()

  def passed(self, step: int) -> None:
    """This step, and all before it, are read.

    Raises:
      Whatever the thread has met.
    """
    if self._cache is None:
      return
    with self._cache.changed:
      self._next = step + 1
      while self._held and self._held[0][0] <= step:
        self._release(self._held.popleft()[1])
      self._cache.changed.notify_all()
    if self._error is not None:
      raise self._error

  def close(self) -> None:
    """Ends the thread and lets go of all blocks; may be called again."""
    if self._cache is None:
      return
    with self._cache.changed:
      self._stopped = True
      self._cache.changed.notify_all()
    self._thread.join()
    while self._held:
      self._release(self._held.popleft()[1])

  def __enter__(self):
    return self

  def __exit__(self, *_):
    self.close()

  def _release(self, entries: list[Entry]) -> None:
    for entry in entries:
      self._cache.unpin(entry)

  def _run(self) -> None:
    step = self._next
    try:
      while not self._stopped:
        step = max(step, self._next)  # Whoever reads may be faster.
        blocks = self._blocks(step)
        if (needed := sum(block.size for block in blocks)) > (
            SHARE * self._cache.limit):
          raise self._cache.too_small(needed)
        self._pin(step, blocks)
        step += 1
    except BaseException as e:
      self._error = e

  def _pin(self, step: int, blocks: Sequence[Block]) -> None:
    entries: list[Entry] = []
    with self._cache.changed:
      # Let go of with its step, also while there is no room for the rest of it.
      self._held.append((step, entries))
    for block in blocks:
      with self._cache.changed:
        while not self._stopped and step >= self._next:
          entry = (self._cache.pin(block, SHARE)
                   if step < self._next + STEPS else None)
          if entry is not None:
            entries.append(entry)
            break
          self._cache.changed.wait(1.0)
