"""Surveys: what the first pass over a corpus learned, and keeps.

That pass reads everything, so that what is wrong with the text is said before
any work is done. Its result depends on the text alone: it is kept in
`<cache_dir>/surveys/<corpus>-<hash>.json`, so neither a restart nor another
format, length or tokenizer reads the text for it again.
"""

from collections import Counter
import dataclasses
import hashlib
import json
import os
import sys
import time

from robertax import paths
from robertax.corpus import blocks as laws
from robertax.corpus.blocks import Block
from robertax.corpus.manifest import write_json, writing
from robertax.corpus.progress import bar
from robertax.errors import InputError

VERSION = 1  # Raised whenever the same text would be surveyed otherwise.
LITERALS = ('<s>', '<pad>', '</s>', '<unk>', '<mask>')


@dataclasses.dataclass(frozen=True)
class Surveyed:
  """What is known of a corpus.

  Attributes:
    blocks: all of them, in order.
    counts: what the reader counted, `documents_naming_special_tokens`,
      `characters`.
    seconds: how long the reading took.
  """
  blocks: list[Block]
  counts: Counter
  seconds: float


class Surveys:
  """The survey of each corpus, made when it is first asked for."""

  def __init__(self, cache_dir: str, progress: bool, only_kept: bool = False):
    """
    Args:
      cache_dir: surveys are kept in its folder `surveys`.
      progress: show a bar and what is missing, on stderr.
      only_kept: read no text; a corpus without a survey is an error.
    """
    self._folder = os.path.join(cache_dir, 'surveys')
    self._progress, self._only_kept = progress, only_kept
    self._known = {}

  def __call__(self, corpus) -> list[Block]:
    """The blocks of a corpus."""
    return self.of(corpus).blocks

  def of(self, corpus) -> Surveyed:
    """All that is known of a corpus.

    Raises:
      InputError: there is something wrong with its text, or none.
    """
    if corpus.name not in self._known:
      self._known[corpus.name] = self._find(corpus)
    return self._known[corpus.name]

  def _find(self, corpus) -> Surveyed:
    fingerprint = corpus.fingerprint()
    facts = [VERSION, fingerprint, LITERALS, laws.MIN_CHARS,
             laws.MIN_DOCUMENTS, laws.MAX_CHARS, laws.MAX_DOCUMENTS]
    name = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
    path = os.path.join(self._folder, f'{corpus.name}-{name}.json')
    found = _read(path)
    if found is None and self._only_kept:
      raise InputError(
          f'{corpus.name}: not prepared, or another text was, or this machine '
          f'sees other files: nothing in {self._folder} is of '
          f'{", ".join(corpus.files[:3])} as it is now.')
    if found is None:
      found = self._survey(corpus)
      if corpus.fingerprint() == fingerprint:  # It did not change meanwhile.
        with writing(self._folder):
          paths.makedirs(self._folder)
        write_json(path, {
            'blocks': json.dumps([dataclasses.astuple(block)
                                  for block in found.blocks]),
            'counts': found.counts, 'seconds': found.seconds})
    return found

  def _survey(self, corpus) -> Surveyed:
    started = time.monotonic()
    survey, literals, num_bytes = laws.Survey(), 0, 0
    missing = getattr(corpus, 'missing', ())
    if missing and self._progress:
      print(f'{corpus.name}: not installed, so without: {", ".join(missing)}.',
            file=sys.stderr)
    with bar(corpus.size, 'B', f'{corpus.name}: reading',
             self._progress) as shown:
      for text in corpus.documents():
        survey.add(len(text), corpus.position, getattr(corpus, 'mark', None))
        num_bytes += len(text) if text.isascii() else len(text.encode())
        literals += any(token in text for token in LITERALS)
        shown.update(corpus.position - shown.n)
      shown.update(corpus.position - shown.n)
    if not survey.num_documents:
      raise InputError(
          f'data.corpora: {corpus.name} holds no text: '
          f'{", ".join(corpus.files[:3]) or "no files"}.')
    counts = Counter(corpus.counts)
    counts['documents_naming_special_tokens'] = literals
    counts['characters'] = survey.num_chars
    counts['utf8_bytes'] = num_bytes
    return Surveyed(survey.blocks(), counts,
                    round(time.monotonic() - started, 3))


def _read(path: str) -> Surveyed | None:
  """What was kept; None: nothing, or nothing that can be used."""
  try:
    with paths.open(path) as f:
      values = json.load(f)
    blocks = [Block(*fields, None if mark is None else tuple(mark))
              for *fields, mark in json.loads(values['blocks'])]
    return Surveyed(blocks, Counter(values['counts']), values['seconds'])
  except (OSError, ValueError, KeyError, TypeError):
    return None
