"""corpus: files of text -> records. Floor 1, above text.

Knows where documents come from, how they are split into sentences and packed
into examples and those into rows, which are held out, and what a prepared
corpus is on disk.
Nothing is masked, shuffled or batched here: see data.
"""

from robertax.corpus.formats import FORMATS
from robertax.corpus.preparation import Prepared, prepare
from robertax.corpus.records import Manifest

__all__ = ['FORMATS', 'Manifest', 'Prepared', 'prepare']
