"""A slice of each corpus, and another that is held out: for small studies."""

from collections.abc import Iterator
import json

from robertax import paths
from robertax.corpus.documents import Corpus, resolve
from robertax.errors import InputError, writing

PARTS = ('train', 'heldout')
# Characters of a document that a slice takes, so that it has many documents;
# of a corpus of few long ones (books) twice as many, or four times, ...
LONGEST = 4_000
VERSION = 1  # Raised whenever a slice would be another.


def write_slices(corpora: str, folder: str, characters: int) -> None:
  """Two slices of each corpus, of different documents: to train, to ask.

  Args:
    corpora: as data.corpora.
    folder: gets train/<corpus>.jsonl and heldout/<corpus>.jsonl; what is there
      already stays.
    characters: about as many in each.

  Raises:
    InputError: a corpus has less than twice as many; it cannot be written.
  """
  for one in resolve(corpora):
    places = {part: f'{folder}/{part}/{one.name}.jsonl' for part in PARTS}
    if all(map(paths.exists, places.values())):
      continue
    documents = _beginnings(one, _longest(one, characters))
    for part, path in places.items():
      taken = _until(documents, characters)
      if paths.exists(path):
        for _ in taken:
          pass
        continue
      with writing(path):
        paths.makedirs(f'{folder}/{part}')
        with paths.open(f'{path}.partial', 'w') as f:
          for text in taken:
            f.write(json.dumps({'text': text}) + '\n')
        paths.replace(f'{path}.partial', path)


def _beginnings(corpus: Corpus, longest: int) -> Iterator[str]:
  for text in corpus.documents():
    if len(text) > longest:  # Down to its last whole line.
      text = text[:longest].rpartition('\n')[0] or text[:longest]
    yield text


def _longest(corpus: Corpus, characters: int) -> int:
  """The least of LONGEST, 2 LONGEST, ... of which two slices can be made."""
  longest = LONGEST
  while True:
    documents = _beginnings(corpus, longest)
    slices = [sum(map(len, _until(documents, characters))) for _ in PARTS]
    if min(slices) >= characters:
      return longest
    if max(map(len, corpus.documents()), default=0) <= longest:
      raise InputError(
          f'the corpus {corpus.name}: two slices of {characters:,} characters, '
          'of different documents, are more than it has: more text is needed.')
    longest *= 2


def _until(documents: Iterator[str], characters: int) -> Iterator[str]:
  """Documents until there are so many characters of them, or no more."""
  taken = 0
  while taken < characters and (text := next(documents, None)) is not None:
    taken += len(text)
    yield text
