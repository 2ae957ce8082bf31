"""Measures how many of WSC's phrases a chunker finds.

  python -m benchmarks.wsc_candidates --data=WSC [--chunker=rules|spacy]

For each split of SuperGLUE's WSC it prints the share of the queries
(span1_text) that are among the noun phrases of their sentence, for all rows and
for the positive ones; the same without determiners; and the number of
candidates per row besides its query. The rules were written with only train in
view. The last line is one JSON object.
"""

import argparse
import json
import sys

from robertax.errors import InputError, unknown
from robertax.tasks import wsc
from robertax.tasks.noun_chunks import DETERMINERS
from robertax.tasks.wsc import CHUNKERS, find_candidates


def bare(phrase: str) -> str:
  """Removes a determiner, and makes text lower case."""
  words = phrase.lower().split()
  return ' '.join(words[len(words) > 1 and words[0] in DETERMINERS:])


def measure(folder: str, split: str, chunker: str) -> dict[str, float]:
  """Computes shares in percent, and means.

  Args:
    folder: WSC's folder.
    split: one of pronouns.SPLITS.
    chunker: a row of CHUNKERS.
  """
  rows = wsc.read_sentences(folder, split).sentences
  exact, loose, counts = [], [], []
  for row in rows:
    phrases = CHUNKERS[chunker](row.text)
    exact.append(row.query.lower() in {p.lower() for p in phrases})
    loose.append(bare(row.query) in set(map(bare, phrases)))
    counts.append(len(find_candidates(row, chunker)))
  found = {'rows': len(rows), 'queries': share(exact),
           'queries_bare': share(loose)}
  positive = [i for i, row in enumerate(rows) if row.label]
  if positive:
    found |= {'positive_rows': len(positive),
              'positive': share([exact[i] for i in positive]),
              'positive_bare': share([loose[i] for i in positive])}
  return found | {'candidates': round(sum(counts) / len(counts), 2),
                  'most': max(counts), 'without': counts.count(0)}


def share(found: list[bool]) -> float:
  return round(100 * sum(found) / len(found), 1)


def main():
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  parser.add_argument('--data', required=True)
  parser.add_argument('--chunker', default='rules')
  options = parser.parse_args()
  try:
    if options.chunker not in CHUNKERS:
      raise unknown('chunker', options.chunker, CHUNKERS)
    found = {split: measure(options.data, split, options.chunker)
             for split in wsc.SPLITS}
  except InputError as e:
    sys.exit(f'robertax: error: {e}')
  for split, values in found.items():
    print(split.ljust(6), ', '.join(f'{k} {v}' for k, v in values.items()))
  print(json.dumps({'chunker': options.chunker, **found}))


if __name__ == '__main__':
  main()
