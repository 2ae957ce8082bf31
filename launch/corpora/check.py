"""What was prepared, beside the paper's 160 GB.

  python -m launch.corpora.check [--names=books=pg19,...] FOLDER [FOLDER ...]

Each FOLDER is one of records (`python -m robertax.prepare` prints them), or one
that holds such, as <data.cache_dir>/records. Text is counted in bytes of UTF-8,
which is how the paper counts. A corpus is known by its name: `--names` says
which of yours stands for which of the paper's. Exit code 1 if one is missing or
has less than half.
"""

import json
import os
import sys

# Gigabytes of text, Liu et al. 2019, section 3.2; of the 16 GB of BookCorpus
# and Wikipedia together about 4 and 12 (fairseq issue 2947).
PAPER = {'books': 4, 'wikipedia': 12, 'cc_news': 76, 'openwebtext': 38,
         'stories': 31}
ENOUGH = 0.5
BEGINS = {'books': ('book', 'pg19'), 'wikipedia': ('wiki', 'enwiki'),
          'cc_news': ('cc_news', 'ccnews', 'cc-news', 'news'),
          'openwebtext': ('openwebtext', 'owt', 'web'),
          'stories': ('stories', 'cc_stories', 'cc-stories')}


def manifests(folders: list[str]) -> list[tuple[str, dict]]:
  """(path, manifest) of all records in some folders."""
  found = []
  for folder in folders:
    if not os.path.isdir(folder):
      raise SystemExit(f'{folder}: no folder')
    for place, _, names in sorted(os.walk(folder)):
      if 'manifest.json' in names:
        path = os.path.join(place, 'manifest.json')
        with open(path, encoding='utf-8') as f:
          values = json.load(f)
        if 'corpus' in values and 'counts' in values:
          found.append((path, values))
  if not found:
    raise SystemExit('no records there: no manifest.json in '
                     + ', '.join(folders))
  return found


def stands_for(corpus: str, names: dict[str, str]) -> str | None:
  """Which of the paper's corpora one of that name stands for."""
  for paper, own in names.items():
    if own == corpus:
      return paper
  for paper, beginnings in BEGINS.items():
    if paper not in names and corpus.lower().startswith(beginnings):
      return paper
  return None


def table(found: list[tuple[str, dict]], names: dict[str, str]
          ) -> tuple[list[str], list[str]]:
  """Lines to print, and what is missing."""
  text, documents, others = dict.fromkeys(PAPER, 0), {}, []
  seen = set()
  for path, manifest in found:
    corpus = manifest['corpus']
    size = manifest['counts'].get('utf8_bytes',
                                  manifest['counts'].get('characters', 0))
    if (corpus, size) in seen:
      continue  # The same text in another format or length.
    seen.add((corpus, size))
    paper = stands_for(corpus, names)
    if paper is None:
      others.append(f'{corpus}: {size / 1e9:.2f} GB, none of the paper\'s '
                    f'({path})')
      continue
    text[paper] += size
    documents[paper] = documents.get(paper, 0) + sum(
        split['num_documents'] for name, split in manifest['splits'].items()
        if name in ('train', 'train-0', 'eval'))
  lines = [f'{"corpus":14}{"here, GB":>10}{"paper, GB":>11}{"share":>8}'
           f'{"documents":>13}']
  for paper, size in PAPER.items():
    share = text[paper] / 1e9 / size
    lines.append(f'{paper:14}{text[paper] / 1e9:10.2f}{size:11}{share:8.0%}'
                 f'{documents.get(paper, 0):13,}')
  total = sum(text.values()) / 1e9
  lines.append(f'{"together":14}{total:10.2f}{sum(PAPER.values()):11}'
               f'{total / sum(PAPER.values()):8.0%}')
  missing = [
      f'{paper}: {"missing" if not text[paper] else "less than half"}, see '
      f'launch/corpora/{paper}.sh' for paper, size in PAPER.items()
      if text[paper] < ENOUGH * size * 1e9]
  return lines + others, missing


def main(arguments: list[str]) -> int:
  """Exit code 0: all five are there; 1: not; 2: wrong arguments."""
  names, folders = {}, []
  for argument in arguments:
    if argument.startswith('--names='):
      pairs = [p.partition('=') for p in argument[8:].split(',')]
      names |= {paper: own for paper, _, own in pairs}
    else:
      folders.append(argument)
  if not folders or not all(names.values()) or set(names) - set(PAPER) or any(
      f.startswith('--') for f in folders):
    print(__doc__, file=sys.stderr)
    return 2
  lines, missing = table(manifests(folders), names)
  print('\n'.join([*lines, *missing]))
  return 1 if missing else 0


if __name__ == '__main__':
  sys.exit(main(sys.argv[1:]))
