"""Writing a split, or a duplicate of it: rows into shards, arrays, or both."""

from collections import Counter
from collections.abc import Sequence

from robertax.corpus import memmap, records
from robertax.corpus.blocks import BLOCKS_PER_SHARD, Block
from robertax.corpus.packing import Rows
from robertax.corpus.records import Split
from robertax.corpus.wire import encode_record


class SplitFiles:
  """The files of one split, in whichever forms are wanted.

  Blocks come in order; a shard takes BLOCKS_PER_SHARD of them.
  """

  def __init__(self, folder: str, split: str, dtype, forms: Sequence[str],
               num_blocks: int):
    """Makes no file yet.

    Args:
      folder: of the records.
      split: its name on disk, see records.split_names.
      dtype: of the ids.
      forms: as in Manifest.
      num_blocks: blocks to come.
    """
    self._folder, self._split = folder, split
    self._num_shards = -(-num_blocks // BLOCKS_PER_SHARD)
    self._with_shards = 'array_record' in forms
    self._memmap = 'memmap' in forms and memmap.SplitWriter(
        folder, split, dtype)
    self._shard = None
    self._blocks = 0
    self._lengths = []
    self._totals = Counter()

  def write(self, block: Block, rows: Rows) -> None:
    """Writes a block's rows, the next in order."""
    if self._blocks % BLOCKS_PER_SHARD == 0:
      self._next_shard()
    self._blocks += 1
    for row in rows.of(block.start):
      if self._shard:
        self._shard.write(encode_record(row))
      if self._memmap:
        self._memmap.write(row)
    self._lengths[-1] += len(rows.row_lengths)
    self._totals.update(
        num_examples=len(rows.lengths), num_tokens=len(rows.ids),
        num_documents=block.stop - block.start,
        num_sentences=rows.counts['num_sentences'])

  def _next_shard(self) -> None:
    if self._shard:
      self._shard.close()
      self._shard = None
    if self._with_shards:
      self._shard = records.ShardWriter(records.shard_path(
          self._folder, self._split, len(self._lengths), self._num_shards))
    self._lengths.append(0)

  def close(self) -> Split:
    """The split's counts, once all its files have their names."""
    if self._shard:
      self._shard.close()
      self._shard = None
    if self._memmap:
      self._memmap.close()
    return Split(num_records=sum(self._lengths),
                 shard_lengths=tuple(self._lengths), **self._totals)

  def abandon(self) -> None:
    """Drops unfinished files, on the way out of an error."""
    for writer in filter(None, (self._shard, self._memmap)):
      writer.abandon()
