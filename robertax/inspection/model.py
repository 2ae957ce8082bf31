"""A model to use at a Python prompt.

`Model` guesses the tokens behind masks, gives vectors of tokens, texts and
words, says how likely a text is, and classifies texts if it was fine-tuned for
that.
"""

from collections.abc import Iterator, Sequence
import math
import re
from typing import Any, NamedTuple

import numpy as np

from robertax.data.feed import fetch_behind
from robertax.errors import InputError, unknown
from robertax.inspection.network import Network, row_batches, with_ends
from robertax.text import Tokenizer

MASK = '<mask>'
LAYERS = ('last', 'all')
POOLING = (None, 'mean', 'first')
# Letters and digits with what joins them, or one punctuation mark.
WORD = re.compile(r"\w+(?:[-'\u2019]\w+)*|[^\w\s]")

# Tokens of a batch, padding included.
FILL_MAX_TOKENS = SCORE_MAX_TOKENS = 4096
# With all layers there are N + 1 times as many numbers.
ENCODE_MAX_TOKENS = {'last': 8192, 'all': 2048}
# Rows that are made at a time; a text of n tokens becomes n rows.
SCORE_MAX_ROWS = 4096
CLASSIFY_MAX_TOKENS = 8192

SomeTexts = str | tuple[str, str] | Sequence[str] | Sequence[tuple[str, str]]


class Filled(NamedTuple):
  """One guess for a mask."""
  text: str  # The text with the guess for the mask; other masks stay.
  probability: float  # Of the guess, over the whole vocabulary.
  token: str  # The guess, with its leading space if it begins a word.


class Words(NamedTuple):
  """Vectors of a text's words."""
  words: list[str]  # As in the text; each punctuation mark is a word.
  spans: list[tuple[int, int]]  # (start, end) of each, in characters.
  vectors: np.ndarray  # float32[W, D], or [N + 1, W, D] for all layers.


class Score(NamedTuple):
  """The pseudo-log-likelihood of a text."""
  tokens: list[str]  # Its tokens, as text.
  log_probs: np.ndarray  # float32[n], nats: of each token given all others.

  @property
  def total(self) -> float:
    """The sum in nats, which is lower for longer texts."""
    return float(self.log_probs.sum(dtype=np.float64))

  @property
  def perplexity(self) -> float:
    """exp of minus the mean; 1 for an empty text."""
    return math.exp(-self.total / max(1, len(self.log_probs)))


class Classified(NamedTuple):
  """The class of a text."""
  label: str  # The likeliest class.
  probability: float  # Of that class.
  probabilities: dict[str, float]  # Of every label, the likeliest first.


class Model(Network):
  """A network that answers questions about texts.

  Every method takes one text or a list. A list is cut into batches of texts of
  similar length, and lengths are rounded up so that few shapes are compiled.
  """

  def fill_mask(self, texts: str | Sequence[str], top_k: int = 5,
                targets: Sequence[str] | None = None) -> list:
    """The likeliest tokens for each `<mask>` of a text.

    >>> model.fill_mask('Paris is the <mask> of France.', top_k=1)
    [Filled(text='Paris is the capital of France.', probability=0.9, ...)]
    >>> model.fill_mask('The <mask> is open.', targets=['door', 'sea'])

    Args:
      texts: a text, or a list of texts, with one `<mask>` or more each, or what
        the tokenizer calls it (`[MASK]` for WordPiece).
      top_k: number of guesses, best first.
      targets: words to choose from, each of which must be one token. All of
        them are returned, best first. None: the whole vocabulary.

    Returns:
      A list of `Filled` for a text with one mask. For a text with several
      masks, which are guessed at the same time, a list of such lists. For a
      list of texts, a list of these. InputError if there is no mask, a text
      has too many tokens, or a target is not one token.
    """
    if not 1 <= top_k <= self.config.vocab_size:
      raise InputError(f'top_k={top_k}: from 1 to {self.config.vocab_size}.')
    if isinstance(targets, str) or targets is not None and not len(targets):
      raise InputError(f'targets={targets!r}: a list of words, or None for the '
                       'whole vocabulary.')
    questions = [masked_text(self, text) for text in _text_list(texts)]
    answers: list = [None] * len(questions)
    for numbers, input_ids, segment_ids in self._batches(
        [q.ids for q in questions], FILL_MAX_TOKENS):
      most = max(len(questions[n].places) for n in numbers)
      places = np.zeros((len(input_ids), 1 << (most - 1).bit_length()),
                        np.int32)
      for row, number in enumerate(numbers):
        places[row, :len(questions[number].places)] = questions[number].places
      log_probs = self.log_probs(input_ids, segment_ids, places)
      for row, number in enumerate(numbers):
        question = questions[number]
        found = [_mask_guesses(self, question.text, mask, log_probs[row, mask],
                               top_k, targets)
                 for mask in range(len(question.places))]
        answers[number] = found if len(found) > 1 else found[0]
    return answers[0] if isinstance(texts, str) else answers

  def encode(self, texts: str | Sequence[str], layers: str = 'last',
             pooling: str | None = None, words: bool = False) -> Any:
    """Vectors of tokens, texts or words.

    Args:
      texts: a text or a list.
      layers: 'last', or 'all' for the embeddings and every layer's output,
        which adds a first dim of N + 1.
      pooling: None gives a vector per token, <s> and </s> included; 'first'
        gives that of <s>, and 'mean' the mean of all.
      words: gives a vector per word: the mean over the tokens that share
        characters with the word or punctuation mark.

    Returns:
      float32[T, D] for one text or, pooled, float32[D]; for a list, a list of
      arrays or, pooled, one array with a row per text. With `words`, `Words`
      or a list of them. InputError if a text has too many tokens.
    """
    if layers not in LAYERS:
      raise unknown('layers', layers, LAYERS)
    if pooling not in POOLING:
      raise InputError(f"pooling={pooling!r}: None, 'mean' or 'first'.")
    if words and pooling:
      raise InputError(f'words=True and pooling={pooling!r}: a vector a word, '
                       'or one a text.')
    asked, rows, spans = _text_list(texts), [], []
    for text in asked:
      ids, places = self.tokenizer.encode_with_offsets([text])[0]
      rows.append(with_ends(self.tokenizer, ids, self.config.max_positions,
                            text))
      spans.append(places)
    found: list = [None] * len(asked)
    for numbers, input_ids, segment_ids in self._batches(
        rows, ENCODE_MAX_TOKENS[layers]):
      states = self.states(input_ids, segment_ids, layers == 'all')
      for row, number in enumerate(numbers):
        x = states[..., row, :len(rows[number]), :]
        if words:
          found[number] = _word_means(asked[number], spans[number], x)
        elif pooling == 'first':
          found[number] = x[..., 0, :]
        elif pooling == 'mean':
          found[number] = x.mean(-2)
        else:
          found[number] = x.copy()  # Not the whole batch kept for one row.
    if isinstance(texts, str):
      return found[0]
    if not pooling:
      return found
    return np.stack(found) if found else np.zeros(
        (0, self.config.hidden_size), np.float32)

  def score(self, texts: str | Sequence[str]) -> Any:
    """Pseudo-log-likelihood: how likely each token is given all others.

    Every token except <s> and </s> is masked in turn (Salazar et al. 2020,
    arXiv:1910.14659). The result for a text is a `Score`. InputError if a text
    has more tokens than positions, or if the model predicts no tokens.
    """
    tok = self.tokenizer
    rows = [with_ends(tok, tok.encode(text), self.config.max_positions, text)
            for text in _text_list(texts)]
    log_probs = [np.zeros(len(row) - 2, np.float32) for row in rows]
    # (row, place) of every token to be masked, shortest texts first.
    order = sorted(range(len(rows)), key=lambda n: len(rows[n]))
    asks = [(n, place) for n in order for place in range(1, len(rows[n]) - 1)]
    for start in range(0, len(asks), SCORE_MAX_ROWS):
      part = asks[start:start + SCORE_MAX_ROWS]
      masked = [rows[n].copy() for n, _ in part]
      for row, (_, place) in zip(masked, part):
        row[place] = tok.mask_id

      def ask(batch, part=part):
        numbers, input_ids, segment_ids = batch
        places = np.zeros((len(input_ids), 1), np.int32)
        targets = np.zeros_like(places)
        for at, number in enumerate(numbers):
          n, place = part[number]
          places[at], targets[at] = place, rows[n][place]
        return self._target_log_probs(
            self.params, input_ids, segment_ids, places, targets)

      for (numbers, *_), found in fetch_behind(
          self._batches(masked, SCORE_MAX_TOKENS), ask, 1):
        for at, number in enumerate(numbers):
          n, place = part[number]
          log_probs[n][place - 1] = found[at, 0]
    scores = [Score([tok.token_text(i) for i in row[1:-1]], found)
              for row, found in zip(rows, log_probs)]
    return scores[0] if isinstance(texts, str) else scores

  def classify(self, texts: SomeTexts) -> Any:
    """The class of a text or pair, by a model that was fine-tuned for classes.

    >>> model.classify('A film to see twice.')
    Classified(label='1', probability=0.98, probabilities={'1': 0.98, ...})
    >>> model.classify([('A man sleeps.', 'A man is awake.'), ...])

    It takes a text, a pair of texts (a tuple), or a list of either. Long texts
    are cut as in fine-tuning, the longer one of a pair first. InputError if the
    model has no classes, or if a list mixes texts and pairs.
    """
    classes = self.config.num_classes
    if classes < 2:
      raise InputError(
          f'model.num_classes={classes}: this model tells no classes apart. '
          'One that is fine-tuned for them does (task=text_classification, '
          'glue/*).')
    one = isinstance(texts, (str, tuple))
    asked = [(text,) if isinstance(text, str) else tuple(text)
             for text in ([texts] if one else texts)]
    widths = {len(row) for row in asked}
    if len(widths) > 1 or widths - {1, 2}:
      raise InputError('classify: a tuple is one pair of texts; a list is of '
                       'texts, or of pairs, not of both.')
    labels = self.labels or tuple(map(str, range(classes)))
    logits = self._text_logits(asked).astype(np.float64)
    odds = np.exp(logits - logits.max(-1, keepdims=True))
    found = []
    for probabilities in odds / odds.sum(-1, keepdims=True):
      ranked = {labels[n]: float(probabilities[n])
                for n in np.argsort(-probabilities, kind='stable')}
      best = next(iter(ranked))
      found.append(Classified(best, ranked[best], ranked))
    return found[0] if one else found

  def _text_logits(self, asked: Sequence[tuple[str, ...]]) -> np.ndarray:
    """float32[E, C]."""
    # Imported here, since filling masks needs no task.
    from robertax.tasks.finetune import encode_texts
    encoded = encode_texts(self.tokenizer, asked, self.longest,
                           separators=self.config.pair_separators)
    found = np.zeros((len(asked), self.config.num_classes), np.float32)

    def ask(batch):
      numbers, input_ids, segment_ids = batch
      type_ids = np.zeros_like(segment_ids)
      for row, number in enumerate(numbers if self.config.pair_types else ()):
        type_ids[row, encoded.second_starts[number]:] = 1
      return self._class_logits(
          self.params, input_ids, segment_ids, type_ids * segment_ids)

    for (numbers, *_), logits in fetch_behind(row_batches(
        encoded.sequences, self.tokenizer.pad_id, self.longest,
        CLASSIFY_MAX_TOKENS), ask, 1):
      found[numbers] = logits[:len(numbers)]
    return found

  def _batches(self, rows: Sequence[np.ndarray], max_tokens: int
               ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    return row_batches(rows, self.tokenizer.pad_id, self.config.max_positions,
                       max_tokens)


def _text_list(texts: str | Sequence[str]) -> list[str]:
  return [texts] if isinstance(texts, str) else list(texts)


# Masks. The space before a mask belongs to the guess (fairseq models/roberta/
# hub_interface.py, `fill_mask`): the text is cut at the masks, and each part is
# encoded separately, without the spaces at its end.

class MaskedText(NamedTuple):
  """A text with masks, as ids."""
  text: str  # With `<mask>` for each mask.
  ids: np.ndarray  # int32[T], <s> and </s> included.
  places: np.ndarray  # int32[M], where the masks are.


def masked_text(network: Network, text: str) -> MaskedText:
  """Encodes a text; InputError if it has no mask or too many tokens."""
  tok = network.tokenizer
  if not isinstance(text, str):
    raise InputError(f'a text to fill is {text!r}: expected a string.')
  for name in tok.mask_texts:
    text = text.replace(name, MASK)
  if MASK not in text:
    raise InputError(f'fill_mask needs a {MASK} in the text, found none: '
                     f'{text[:80]!r}.')
  ids = with_ends(tok, tok.encode(text, allow_mask=True),
                  network.config.max_positions, text)
  return MaskedText(text, ids, np.flatnonzero(ids == tok.mask_id))


def target_id(tok: Tokenizer, target: str, before: str) -> int:
  """The id of a word that follows `before`; InputError if it is not one token.

  After white space, and if it is written with a space, the word is the piece
  that has a space.
  """
  word = target
  if before[-1:].isspace() and not word.startswith(' '):
    word = f' {word}'
  ids = tok.encode(word)
  if len(ids) != 1 or int(ids[0]) == tok.unk_id:
    pieces = ', '.join(repr(tok.token_text(i)) for i in ids)
    raise InputError(
        f'target {target!r}: not one token of this model but '
        f'{pieces or "none"}: a mask stands for one. Give other words, or a '
        f'{MASK} for each piece.')
  return int(ids[0])


def _mask_guesses(network: Network, text: str, number: int,
                  log_probs: np.ndarray, top_k: int,
                  targets: Sequence[str] | None) -> list[Filled]:
  """The guesses for mask `number` of a text, whose log_probs are float32[V]."""
  tok = network.tokenizer
  start = [m.start() for m in re.finditer(re.escape(MASK), text)][number]
  before, after = text[:start], text[start + len(MASK):]
  if targets is None:
    # The best, without sorting the whole vocabulary.
    best = np.argpartition(-log_probs, top_k - 1)[:top_k]
  else:
    best = np.array(list(dict.fromkeys(
        target_id(tok, target, before) for target in targets)))
  best = best[np.lexsort((best, -log_probs[best]))]
  filled = []
  for token in best:
    guess = tok.decode([int(token)])
    # A WordPiece's words have no space of their own.
    if tok.word_starts[token] and not guess.startswith(' ') and before:
      guess = f' {guess}'
    # Its own space replaces the one before the mask.
    filled.append(Filled(before.removesuffix(' ') + guess + after,
                         float(np.exp(log_probs[token])), guess))
  return filled


def _word_means(text: str, spans: np.ndarray, x: np.ndarray) -> Words:
  """Each word's mean over the tokens that share a character with it."""
  starts, ends = spans.T
  words = list(WORD.finditer(text))
  vectors = np.zeros((*x.shape[:-2], len(words), x.shape[-1]), np.float32)
  for number, word in enumerate(words):
    tokens = 1 + np.flatnonzero((starts < word.end()) & (ends > word.start()))
    if len(tokens):  # <s> comes before them; some marks have no token.
      vectors[..., number, :] = x[..., tokens, :].mean(-2)
  return Words([m.group() for m in words], [m.span() for m in words], vectors)
