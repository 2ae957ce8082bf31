"""data: records -> batches on the devices. Floor 2.

Knows in which order records are read (order), how a batch of them is gathered
(source), what is hidden (masking), that batch k is a pure function of the seed
and k (pipeline), and how a batch comes to lie on the mesh (feed). The only room
with tf.data; with data.backend='numpy' neither tensorflow nor array_record is
imported.
"""

from robertax.config import check_data as check
from robertax.data.feed import Feed, local_rows, split_micro_batches
from robertax.data.masking import Masking
from robertax.data.pipeline import (
    Pipeline,
    eval_batches,
    train_batches,
    unigram_counts,
)
from robertax.data.source import open_source

__all__ = [
  'Feed', 'Masking', 'Pipeline', 'check', 'eval_batches', 'local_rows',
  'open_source', 'split_micro_batches', 'train_batches', 'unigram_counts',
]
