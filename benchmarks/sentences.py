"""Compares sentence splitters: accuracy, speed, and differences.

  python -m benchmarks.sentences [--data=news.jsonl.zst,books/] [--differ=20]

Runs each splitter of robertax, and each installed library of `CANDIDATES`
(their wheels contain all rules and data), on sentences with known ends
(`sentences_gold.txt`) and, with --data, on your text. Prints megabytes per
second on one core, and the agreement with `prose`. --differ prints places where
splitters disagree, for a person to judge. The last line is one JSON object.
"""

from collections.abc import Callable, Iterator
import functools
import importlib.metadata
import itertools
import json
import pathlib
import random
import time

from absl import flags

from robertax.corpus.documents import resolve
from robertax.corpus.sentences import SPLITTERS, lines
from robertax.errors import InputError
from robertax.flags import run

GOLD = pathlib.Path(__file__).parent / 'sentences_gold.txt'
_DATA = flags.DEFINE_string('data', '', 'Text, as data.corpora names it.')
_MEGABYTES = flags.DEFINE_float('megabytes', 2., 'Of --data, from each corpus.')
_DIFFER = flags.DEFINE_integer('differ', 0, 'Places to print, at random.')
Splitter = Callable[[str], list[str]]


def blingfire() -> Splitter:
  import blingfire
  return lambda line: blingfire.text_to_sentences(line).split('\n')


def pysbd() -> Splitter:
  import pysbd
  return pysbd.Segmenter(language='en', clean=False).segment


def razdel() -> Splitter:
  import razdel
  return lambda line: [s.text for s in razdel.sentenize(line)]


def segtok() -> Splitter:
  from segtok.segmenter import split_single
  return lambda line: list(split_single(line))


def syntok() -> Splitter:
  from syntok import segmenter
  return lambda line: [
      ''.join(token.spacing + token.value for token in sentence)
      for paragraph in segmenter.analyze(line) for sentence in paragraph]


CANDIDATES = dict(blingfire=blingfire, pysbd=pysbd, razdel=razdel,
                  segtok=segtok, syntok=syntok)


def installed() -> Iterator[tuple[str, str, Splitter]]:
  """(name, version, function) of each splitter; a line is a paragraph."""
  for name, split in SPLITTERS.items():
    try:
      split('A. B.')
    except InputError as e:
      print(e)
      continue
    yield f'robertax {name}', '', split
  for name, make in CANDIDATES.items():
    try:
      split = make()
    except ImportError:
      print(f'{name}: not installed, left out.')
      continue
    yield name, importlib.metadata.version(name), functools.partial(
        _by_lines, split)


def _by_lines(split: Splitter, document: str) -> list[str]:
  return [s for line in lines(document) for s in split(line)]


def read_gold() -> dict[str, list[list[str]]]:
  """Maps kinds of text to paragraphs of sentences."""
  found, kind = {}, None
  for paragraph in GOLD.read_text().split('\n\n'):
    sentences = []
    for line in paragraph.split('\n'):
      if line.startswith('# ') and len(line) < 20:
        kind = line[2:].lower()
      elif line and not line.startswith('#'):
        sentences.append(line)
    found.setdefault(kind, []).append(sentences)
  return found


def ends(sentences: list[str]) -> set[int]:
  """Sentence ends except the last, counted in characters without spaces."""
  places = itertools.accumulate(len(''.join(s.split())) for s in sentences)
  return set(list(places)[:-1])


def scores(pairs) -> dict[str, float]:
  """Computes precision, recall and F1 of sentence ends, in percent.

  Args:
    pairs: (found sentences, wanted sentences) of each paragraph.
  """
  right = found = wanted = 0
  for given, gold in pairs:
    given, gold = ends(given), ends(gold)
    right += len(given & gold)
    found += len(given)
    wanted += len(gold)
  precision, recall = right / max(1, found), right / max(1, wanted)
  return {name: round(100 * value, 1) for name, value in dict(
      precision=precision, recall=recall,
      f1=2 * right / max(1, found + wanted)).items()}


def changed(sentences: list[str], text: str) -> bool:
  """Whether a splitter lost more than spaces, or added anything."""
  return ''.join(''.join(sentences).split()) != ''.join(text.split())


def sample() -> list[str]:
  """Reads the first documents of each corpus of --data."""
  texts = []
  for corpus in resolve(_DATA.value) if _DATA.value else []:
    size = 0
    for text in corpus.documents():
      text = text[:200_000]
      texts.append(text)
      size += len(text.encode())
      if size > _MEGABYTES.value * 1e6:
        break
  return texts


def differences(texts: list[str], splitters: dict[str, Splitter],
                number: int) -> Iterator[str]:
  """Random places where splitters disagree about an end."""
  rng, found = random.Random(0), []
  for text in rng.sample(texts, min(len(texts), 300)):
    for line in lines(text)[:40]:
      seen = {name: ends(split(line)) for name, split in splitters.items()}
      solid = ''.join(line.split())
      for place in set().union(*seen.values()) - set.intersection(
          *seen.values()):
        here = [name for name in seen if place in seen[name]]
        found.append(f'{solid[max(0, place - 40):place]} | '
                     f'{solid[place:place + 30]}    {", ".join(here)}')
  return iter(rng.sample(found, min(number, len(found))))


def main(argv):
  del argv
  texts = sample()
  size = sum(len(text.encode()) for text in texts) / 1e6
  gold, results, splitters = read_gold(), {}, {}
  for name, version, split in installed():
    splitters[name] = split
    result = results[name] = {'version': version}
    every = []
    for kind, paragraphs in gold.items():
      pairs = [(split(' '.join(p)), p) for p in paragraphs]
      every += pairs
      result[kind] = scores(pairs)
    result['all'] = scores(every)
    if texts:
      started = time.process_time()
      found = [split(text) for text in texts]
      result['megabytes_per_second'] = round(
          size / (time.process_time() - started), 2)
      result['documents_changed'] = sum(map(changed, found, texts))
      result['agrees_with_prose'] = scores(
          (f, SPLITTERS['prose'](t)) for f, t in zip(found, texts))['f1']
  kinds = [*gold, 'all']
  print(f'{"":22}' + ''.join(f'{kind:>16}' for kind in kinds)
        + '    MB/s  changed  as prose')
  for name, result in results.items():
    row = ''.join('{precision:6}{recall:6}'.format(**result[k])
                  + ' ' * 4 for k in kinds)
    print(f'{name + " " + result["version"]:22}{row}  {result["all"]["f1"]} F1'
          + (f'{result["megabytes_per_second"]:8}'
             f'{result["documents_changed"]:8}'
             f'{result["agrees_with_prose"]:8}' if texts else ''))
  if _DIFFER.value:
    del splitters['robertax lines']
    print(*differences(texts, splitters, _DIFFER.value), sep='\n')
  print(json.dumps({'megabytes': round(size, 2), 'documents': len(texts),
                    'gold_sentences': sum(len(p) for k in gold.values()
                                          for p in k), 'results': results}))


if __name__ == '__main__':
  run(main)
