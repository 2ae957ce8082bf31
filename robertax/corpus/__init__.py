"""corpus: turns files of text into records. Floor 1, above text.

The room knows where documents come from, how they are split into sentences, how
these are packed into examples and rows, which documents are held out, and the
files of a prepared corpus. Masks, order and batches are in data. The names
below are imported when they are used.
"""

from robertax.tables import LazyTable

_NAMES = LazyTable(FORMATS='robertax.corpus.formats:FORMATS',
                   Manifest='robertax.corpus.records:Manifest',
                   Prepared='robertax.corpus.preparation:Prepared',
                   prepare='robertax.corpus.preparation:prepare')


def __getattr__(name: str):
  if name in _NAMES:
    return _NAMES[name]
  raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
