"""A slice of each corpus, and another that is held out: for small studies."""

from collections.abc import Iterator
import json

from robertax import paths
from robertax.corpus.documents import resolve
from robertax.errors import InputError, writing

PARTS = ('train', 'heldout')
LONGEST = 4_000  # Characters of a document that a slice takes: many documents.


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
  for corpus in resolve(corpora):
    places = {part: f'{folder}/{part}/{corpus.name}.jsonl' for part in PARTS}
    if all(map(paths.exists, places.values())):
      continue
    documents = (text[:LONGEST].rpartition('\n')[0] or text[:LONGEST]
                 for text in corpus.documents())
    for part, path in places.items():
      taken = _until(documents, characters, corpus.name)
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


def _until(documents: Iterator[str], characters: int, name: str
           ) -> Iterator[str]:
  taken = 0
  while taken < characters:
    text = next(documents, None)
    if text is None:
      raise InputError(
          f'the corpus {name}: two slices of {characters} characters are more '
          'than half of it or all (a document gives its first '
          f'{LONGEST:,}): more text is needed.')
    taken += len(text)
    yield text
