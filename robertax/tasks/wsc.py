"""WSC: does a pronoun stand for a phrase? (SuperGLUE, Wang et al. 2019)

Phrases are put in the pronoun's place and scored by the masked-LM head; the
pronoun stands for the query if no other phrase of the sentence scores higher.
Only rows in which it does are trained on. A line of DIR/{train,val,test}.jsonl
is `{"text": ..., "target": {"span1_text": query, "span1_index": ...,
"span2_text": pronoun, "span2_index": ...}, "idx": ..., "label": true or
false}`; indices count words between white space. Rows, candidates and sequences
are those of fairseq (examples/roberta/wsc: wsc_utils.py, wsc_task.py,
wsc_criterion.py), except where comments say otherwise.
"""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import functools
import itertools
import os
import re
from typing import Any

import numpy as np

from robertax.corpus.readers import unpacked_lines
from robertax.data.finetuning import Examples
from robertax.errors import InputError, unknown
from robertax.progress import say
from robertax.tables import LazyTable
from robertax.tasks.finetune import Answers, Finetune, TaskRows, why_degenerate
from robertax.tasks.objectives import SpanRanking
from robertax.tasks.task import json_lines, parse_json
from robertax.text import Tokenizer

SPLITS = ('train', 'val', 'test')
ANSWERS = ('no', 'yes')
SPACY_MODEL = 'en_core_web_lg'  # fairseq's choice.
# Functions from a text to its noun phrases.
CHUNKERS = LazyTable(rules='robertax.tasks.noun_chunks:noun_chunks',
                     spacy='robertax.tasks.wsc:spacy_chunks')
_TRAILING = '.,"'
# `The _trophy_ did not fit because [it] was too big.`
_MARKED_PRONOUN = re.compile(r'\[([^][]+)\]')
_MARKED_QUERY = re.compile(r'(?<!\w)_([^_]+)_(?!\w)')
# Penn Treebank's spaces before marks and clitics: `Mr. Singer 's`.
_SPACED = re.compile(r" +(?=(?:[,.;:!?)]|['’](?:s|m|d|re|ve|ll)\b|n['’]t\b))")


@dataclasses.dataclass(frozen=True)
class PronounSentence:
  """A text, `prefix` + `pronoun` + `suffix` with all spaces, and a phrase."""
  id: str
  prefix: str
  pronoun: str
  suffix: str
  query: str  # '': only its candidates are of interest.
  label: bool | None  # Whether the pronoun stands for it; None: not known.

  @property
  def text(self) -> str:
    return self.prefix + self.pronoun + self.suffix


@dataclasses.dataclass(frozen=True)
class ReadSentences:
  """The sentences of a file, in its order."""
  sentences: list[PronounSentence]
  moved: int  # Pronouns that are one word behind their index.
  elsewhere: int  # Queries not at their index; only their text is used.


def read_sentences(folder: str, split: str, file: str = '') -> ReadSentences:
  """Reads a split of the folder, or the file; raises InputError."""
  path = file or os.path.join(folder, f'{split}.jsonl')
  if not os.path.isfile(path):
    raise InputError(f'{path}: not there. SuperGLUE\'s WSC folder has '
                     f'{", ".join(s + ".jsonl" for s in SPLITS)}; data.dir '
                     'names that folder.')
  sentences, ids, moved, elsewhere = [], {}, 0, 0
  for number, line in unpacked_lines(path, lambda _: None):
    if not line.strip():
      continue
    where = f'{path}:{number}'
    row = _parse_row(line, where)
    sentence, here, there = _parse_sentence(row, where)
    if sentence.id in ids:
      raise InputError(f'{where}: idx {sentence.id} is that of line '
                       f'{ids[sentence.id]} too.')
    ids[sentence.id] = number
    sentences.append(sentence)
    moved, elsewhere = moved + here, elsewhere + there
  if not sentences:
    raise InputError(f'{path}: no row in it.')
  return ReadSentences(sentences, moved, elsewhere)


def _parse_row(line: bytes, where: str) -> dict[str, Any]:
  row = parse_json(line, where)
  target = row.get('target') if isinstance(row, dict) else None
  if not isinstance(target, dict):
    raise InputError(f'{where}: not an object with "text" and "target".')
  for name, value, kind in (
      ('text', row.get('text'), str), ('idx', row.get('idx'), int),
      *((f'target.span{n}_{key}', target.get(f'span{n}_{key}'), kind)
        for n in (1, 2) for key, kind in (('text', str), ('index', int)))):
    if not isinstance(value, kind) or isinstance(value, bool):
      raise InputError(f'{where}: "{name}" is {value!r}: '
                       f'{"a text" if kind is str else "a number"} is needed.')
  label = row.get('label')
  if label is not None and not isinstance(label, bool):
    raise InputError(f'{where}: "label" is {label!r}: true or false is needed.')
  return row


def _parse_sentence(row: dict[str, Any], where: str
                    ) -> tuple[PronounSentence, bool, bool]:
  """Returns the sentence, whether its pronoun moved, its query is elsewhere."""
  target, tokens = row['target'], row['text'].split()
  index, pronoun = target['span2_index'], target['span2_text'].rstrip(_TRAILING)
  at = [i for i in (index, index + 1) if 0 <= i < len(tokens)
        and tokens[i].rstrip(_TRAILING) == pronoun]
  if not at or not pronoun:
    here = tokens[index] if 0 <= index < len(tokens) else 'no word'
    raise InputError(
        f'{where}: span2_index is {index}, where {here!r} is, not the '
        f'span2_text {target["span2_text"]!r}: the index counts words between '
        'white space, from 0.')
  marks = tokens[at[0]][len(pronoun):]  # fairseq loses them, in four rows.
  prefix = detokenized(tokens[:at[0]])
  # Both together, because a space may be between the pronoun and a mark.
  rest = detokenized([pronoun + marks, *tokens[at[0] + 1:]])
  query = ' '.join(target['span1_text'].split())
  if query.endswith(('.', ',')):
    query = query[:-1]
  if not query:
    raise InputError(f'{where}: "target.span1_text" is empty.')
  first = target['span1_index']
  words = tokens[max(first, 0):first + len(query.split())]
  sentence = PronounSentence(
      str(row['idx']), prefix + ' ' * bool(prefix), pronoun,
      rest[len(pronoun):], query, row.get('label'))
  found = ' '.join(words).lower().startswith(query.lower())
  return sentence, at[0] != index, not found


def marked_sentence(text: str) -> PronounSentence:
  """Reads a text with its [pronoun] and, if one is asked for, its _query_.

  fairseq marks them so (wsc_utils.py, `convert_sentence_to_json`). InputError
  if it has not one pronoun, or two queries.
  """
  text = detokenized(text.split())
  pronouns = list(_MARKED_PRONOUN.finditer(text))
  queries = _MARKED_QUERY.findall(text)
  if len(pronouns) != 1 or len(queries) > 1:
    raise InputError(
        f'{text[:80]!r} has {len(pronouns)} pronouns in brackets and '
        f'{len(queries)} phrases in underscores: one pronoun is needed, and at '
        'most one phrase, such as: The _trophy_ broke because [it] fell.')
  before, pronoun, behind = (_MARKED_QUERY.sub(r'\1', part) for part in (
      text[:pronouns[0].start()], pronouns[0][1], text[pronouns[0].end():]))
  return PronounSentence('', before, pronoun, behind, ''.join(queries), None)


def detokenized(tokens: list[str]) -> str:
  """Joins tokens without a treebank's spaces before marks and clitics."""
  return _SPACED.sub('', ' '.join(tokens))


def require_labels(sentences: list[PronounSentence], where: str
                   ) -> Iterator[PronounSentence]:
  """Yields all sentences; one without a label is an InputError."""
  for sentence in sentences:
    if sentence.label is None:
      raise InputError(f'{where}: row {sentence.id} has no label, and is to be '
                       'learned or scored.')
    yield sentence


def find_candidates(sentence: PronounSentence,
                    chunker: str = 'rules') -> list[str]:
  """Finds the phrases beside the query that a pronoun may stand for, in order.

  These are the sentence's noun phrases, except pronouns and those that contain
  the query or are contained in it (filter_noun_chunks), each text once.
  """
  if chunker not in CHUNKERS:
    raise unknown('finetune.chunker', chunker, CHUNKERS)
  return without_query(CHUNKERS[chunker](sentence.text), sentence.query)


def without_query(phrases: list[str], query: str) -> list[str]:
  query = query.lower()
  return [p for p in phrases if not query or (
      p.lower() not in query and query not in p.lower())]


def spacy_chunks(text: str) -> list[str]:
  """Finds spaCy's noun chunks and its runs of nouns, without pronouns."""
  sentence = _spacy()(text)
  spans = {(c.start, c.end) for c in sentence.noun_chunks}
  for kind, run in itertools.groupby(
      enumerate(sentence), key=lambda numbered: numbered[1].pos_):
    if kind in ('NOUN', 'PROPN'):
      places = [i for i, _ in run]
      spans.add((places[0], places[-1] + 1))
  found = {}
  for start, end in sorted(spans):
    span = sentence[start:end]
    if not all(token.pos_ == 'PRON' for token in span):
      found.setdefault(span.text.lower(), span.text)
  return list(found.values())


@functools.lru_cache(maxsize=1)
def _spacy():
  try:
    import spacy
    return spacy.load(SPACY_MODEL)
  except ImportError as e:
    raise InputError("finetune.chunker='spacy' needs spaCy: pip install spacy "
                     "(or '.[spacy]' in robertax's folder), or take 'rules'."
                     ) from e
  except OSError as e:
    raise InputError(
        f"finetune.chunker='spacy' needs its model {SPACY_MODEL}: python -m "
        f"spacy download {SPACY_MODEL}, or take 'rules'.") from e


@dataclasses.dataclass(frozen=True)
class WscFeatures:
  """Groups of sequences, one group a sentence: the query, then its candidates.

  The examples' values are span_targets int32[E, S], the phrase's own ids, and
  span_weights float32[E, S], 1 where there is one; their marks span_positions
  int32[E, S]. `phrases` has the texts; `truncated` sequences were cut.
  """
  examples: Examples
  phrases: list[list[str]]
  truncated: int


def encode_sentences(sentences: Sequence[PronounSentence], tokenizer: Tokenizer,
                     max_length: int, chunker: str = 'rules') -> WscFeatures:
  """Encodes the query and the candidates in the pronoun's place, masked.

  A phrase has the space before it that the pronoun had (binarize_with_mask,
  get_masked_input). Sequences are `<s> text </s>`, as in pretraining; fairseq's
  recipe leaves the <s> out. A long one keeps what is around the phrase.
  """
  phrases = [[s.query] * bool(s.query) + find_candidates(s, chunker)
             for s in sentences]
  texts = []
  for sentence, options in zip(sentences, phrases):
    if not options:
      raise InputError(f'no phrase that {sentence.pronoun!r} may stand for is '
                       f'in {sentence.text[:80]!r}.')
    before = sentence.prefix.rstrip()
    space = sentence.prefix[len(before):]
    texts += [before, sentence.suffix, *(space + o for o in options)]
  encoded = iter(tokenizer.encode_batch(texts))
  front, back = tokenizer.layout.single
  sequences, starts, spans, groups, truncated = [], [], [], [], 0
  for number, options in enumerate(phrases):
    prefix, suffix = next(encoded), next(encoded)
    for _ in options:
      span = next(encoded)[:max_length - len(front) - len(back)]
      left, right = context_window(len(prefix), len(suffix),
                                   max_length - len(front) - len(back)
                                   - len(span))
      truncated += left + right < len(prefix) + len(suffix)
      starts.append(len(front) + left)
      spans.append(span)
      groups.append(number)
      sequences.append(tokenizer.layout.ids(np.concatenate([
          prefix[len(prefix) - left:], np.full(len(span), tokenizer.mask_id),
          suffix[:right]])).astype(tokenizer.dtype))
  width = max(map(len, spans), default=1)
  targets = np.zeros((len(spans), width), np.int32)
  positions = np.full((len(spans), width), -1, np.int32)
  for number, (start, span) in enumerate(zip(starts, spans)):
    targets[number, :len(span)] = span
    positions[number, :len(span)] = start + np.arange(len(span))
  return WscFeatures(Examples.of(
      sequences, groups=np.array(groups, np.int64),
      values={'span_targets': targets,
              'span_weights': (positions >= 0).astype(np.float32)},
      marks={'span_positions': positions}), phrases, truncated)


def context_window(before: int, behind: int, room: int) -> tuple[int, int]:
  """Divides the room: each side gets half, and what the other leaves.

  >>> context_window(50, 5, 20), context_window(50, 50, 21)
  ((15, 5), (11, 10))
  """
  right = min(behind, max(room // 2, room - before))
  return min(before, room - right), right


class PronounTask(Finetune):
  """A task that is trained on WSC's sentences."""
  heads = {'lm_head': True}
  metrics = ('accuracy',)
  objective: SpanRanking

  def make_objective(self) -> SpanRanking:
    finetune = self.config.finetune
    return SpanRanking(self.model, self.tokenizer.pad_id, finetune.ranking_loss,
                       finetune.margin_alpha, finetune.margin_beta)

  def encode(self, rows: Sequence[PronounSentence], split: str
             ) -> tuple[Examples, int]:
    found = encode_sentences(rows, self.tokenizer, self.max_length,
                             self.config.finetune.chunker)
    sizes = np.array([len(p) for p in found.phrases])
    alone = int((sizes == 1).sum())
    say(f'{self.name} {split}: {sizes.mean() - 1:.1f} candidates a sentence '
        f'(at most {sizes.max() - 1})'
        + (f'; {alone} sentences have none, which teach nothing and are '
           'answered yes' if alone else ''))
    return found.examples, found.truncated

  def predictions(self, split: str, answers: Answers) -> np.ndarray:
    """Returns bool[groups]: whether no candidate scores more than the query."""
    firsts, scores = self.splits[split].examples.firsts, answers['scores']
    return np.array([scores[a] >= scores[a:b].max()
                     for a, b in zip(firsts, firsts[1:])], bool)

  def row_labels(self, split: str) -> np.ndarray:
    return np.array([row.label for row in self.splits[split].rows])

  def score(self, split: str, answers: Answers) -> dict[str, float]:
    return {'accuracy': 100 * float(np.mean(
        self.predictions(split, answers) == self.row_labels(split)))}

  def degenerate(self, split: str, answers: Answers) -> str:
    return why_degenerate(self.predictions(split, answers),
                          self.row_labels(split), ANSWERS, split)

  def read_wsc_train(self, folder: str) -> TaskRows:
    """Reads the rows of WSC's train.jsonl in which the query is right."""
    rows = self.read_wsc(folder, 'train', labelled=True)
    kept = [row for row in rows if row.label]
    return TaskRows(kept, f'{folder}/train.jsonl ({len(kept)} positive of '
                    f'{len(rows)} rows)')

  def read_wsc(self, folder: str, split: str, labelled: bool
               ) -> list[PronounSentence]:
    found, where = read_sentences(folder, split), f'{folder}/{split}.jsonl'
    if found.moved or found.elsewhere:
      say(f'{where}: {found.moved} pronouns are one word behind their index, '
          f'{found.elsewhere} queries are elsewhere')
    return (list(require_labels(found.sentences, where)) if labelled else
            found.sentences)


class Wsc(PronounTask):
  """SuperGLUE's WSC."""

  def read(self) -> Mapping[str, TaskRows]:
    folder = self.config.data.dir
    found = {'train': self.read_wsc_train(folder), 'val': TaskRows(
        self.read_wsc(folder, 'val', labelled=True), f'{folder}/val.jsonl')}
    if self.config.finetune.predict_test:
      found['test'] = TaskRows(self.read_wsc(folder, 'test', labelled=False),
                               f'{folder}/test.jsonl', labelled=False)
    return found

  def lines(self, split: str, answers: Answers) -> Iterator[dict[str, Any]]:
    firsts = self.splits[split].examples.firsts
    for row, fits, a, b in zip(self.splits[split].rows, self.predictions(
        split, answers), firsts, firsts[1:]):
      others = answers['scores'][a + 1:b]
      label = {} if row.label is None else {'label': row.label}
      yield {'idx': int(row.id), 'prediction': bool(fits), **label,
             'query': row.query, 'score': round(float(answers['scores'][a]), 6),
             'best_candidate': round(float(others.max()), 6) if len(others)
                               else None}

  def files(self, answers: Mapping[str, Answers]) -> dict[str, bytes]:
    """Returns WSC.jsonl in SuperGLUE's form, if test was answered."""
    if 'test' not in answers:
      return {}
    found = self.predictions('test', answers['test'])
    return {'WSC.jsonl': json_lines(
        {'idx': int(row.id), 'label': str(bool(fits))}
        for row, fits in zip(self.splits['test'].rows, found))}
