"""A model at a Python prompt: what it guesses, sees and finds likely."""

from collections.abc import Sequence
import math
import re
from typing import Any, NamedTuple

import numpy as np

from robertax.errors import InputError, unknown
from robertax.inspection.network import Network, row_batches, with_ends
from robertax.tasks.finetune import encode_texts

# Guesses for masks, with fairseq's rules for the spaces beside them.


MASK = '<mask>'
FILL_MAX_TOKENS = 4096


class Filled(NamedTuple):
  """One guess for a mask.

  Attributes:
    text: the text with the guess in the mask's place; other masks stay.
    probability: of the guess, over the whole vocabulary.
    token: the guess, with its leading space if it begins a word.
  """
  text: str
  probability: float
  token: str


class MaskedText(NamedTuple):
  """A text with masks, as ids.

  Attributes:
    text: with `<mask>` for each.
    ids: int32[T], <s> and </s> included.
    places: int32[M], where the masks are.
  """
  text: str
  ids: np.ndarray
  places: np.ndarray


def fill_masks(network: Network, texts: str | Sequence[str], top_k: int,
               targets: Sequence[str] | None) -> list:
  """See `Model.fill_mask`.

  The space before a mask belongs to the guess (fairseq models/roberta/
  hub_interface.py, `fill_mask`): the text is cut at the masks, each part loses
  the spaces at its end and is encoded apart.
  """
  if not 1 <= top_k <= network.config.vocab_size:
    raise InputError(f'top_k={top_k}: from 1 to {network.config.vocab_size}.')
  if isinstance(targets, str) or targets is not None and not len(targets):
    raise InputError(f'targets={targets!r}: a list of words, or None for the '
                     'whole vocabulary.')
  asked = [texts] if isinstance(texts, str) else list(texts)
  questions = [masked_text(network, text) for text in asked]
  answers: list = [None] * len(asked)
  for numbers, input_ids, segment_ids in row_batches(
      [q.ids for q in questions], network.tokenizer.pad_id,
      network.config.max_positions, FILL_MAX_TOKENS):
    most = max(len(questions[n].places) for n in numbers)
    places = np.zeros((len(input_ids), 1 << (most - 1).bit_length()), np.int32)
    for row, number in enumerate(numbers):
      places[row, :len(questions[number].places)] = questions[number].places
    log_probs = network.log_probs(input_ids, segment_ids, places)
    for row, number in enumerate(numbers):
      question = questions[number]
      found = [_mask_guesses(network, question.text, mask, log_probs[row, mask],
                             top_k, targets)
               for mask in range(len(question.places))]
      answers[number] = found if len(found) > 1 else found[0]
  return answers[0] if isinstance(texts, str) else answers


def masked_text(network: Network, text: str) -> MaskedText:
  """A text with masks as ids.

  Raises:
    InputError: no text, no mask in it, or more tokens than positions.
  """
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


def _mask_guesses(network: Network, text: str, number: int,
                  log_probs: np.ndarray, top_k: int,
                  targets: Sequence[str] | None) -> list[Filled]:
  """Those for the mask of that number."""
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
    # Its own space stands in the place of the one before the mask.
    filled.append(Filled(before.removesuffix(' ') + guess + after,
                         float(np.exp(log_probs[token])), guess))
  return filled


def target_id(tok, target: str, before: str) -> int:
  """The id of a word that someone proposes.

  Behind a space, or other white space, it is the piece that has a space of its
  own; one that is written with its space is always that piece.
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


# Vectors of tokens, texts and words.


LAYERS = ('last', 'all')
POOLING = (None, 'mean', 'first')
# Of a batch; with all layers there are N + 1 times as many numbers.
ENCODE_MAX_TOKENS = {'last': 8192, 'all': 2048}
# Letters and digits with what joins them, or one mark.
WORD = re.compile(r"\w+(?:[-'\u2019]\w+)*|[^\w\s]")


class Words(NamedTuple):
  """Vectors of a text's words.

  Attributes:
    words: as they stand in the text; each mark of punctuation is one.
    spans: (start, end) of each, in characters.
    vectors: float32[W, D], or [N + 1, W, D] of all layers.
  """
  words: list[str]
  spans: list[tuple[int, int]]
  vectors: np.ndarray


def encode_vectors(network: Network, texts: str | Sequence[str], layers: str,
                   pooling: str | None, words: bool) -> Any:
  """See `Model.encode`."""
  if layers not in LAYERS:
    raise unknown('layers', layers, LAYERS)
  if pooling not in POOLING:
    raise InputError(f"pooling={pooling!r}: None, 'mean' or 'first'.")
  if words and pooling:
    raise InputError(f'words=True and pooling={pooling!r}: a vector a word, or '
                     'one a text.')
  asked = [texts] if isinstance(texts, str) else list(texts)
  tok = network.tokenizer
  rows, spans = [], []
  for text in asked:
    ids, places = tok.encode_with_offsets([text])[0]
    rows.append(with_ends(tok, ids, network.config.max_positions,
                          text))
    spans.append(places)
  found: list = [None] * len(asked)
  for numbers, input_ids, segment_ids in row_batches(
      rows, tok.pad_id, network.config.max_positions,
      ENCODE_MAX_TOKENS[layers]):
    states = network.states(input_ids, segment_ids, layers == 'all')
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
      (0, network.config.hidden_size), np.float32)


def _word_means(text: str, spans: np.ndarray, x: np.ndarray) -> Words:
  """Each word's mean, over the tokens that share a character with it."""
  starts, ends = spans.T
  words = [m for m in WORD.finditer(text)]
  vectors = np.zeros((*x.shape[:-2], len(words), x.shape[-1]), np.float32)
  for number, word in enumerate(words):
    tokens = 1 + np.flatnonzero((starts < word.end()) & (ends > word.start()))
    if len(tokens):  # <s> stands before them; some marks have no token.
      vectors[..., number, :] = x[..., tokens, :].mean(-2)
  return Words([m.group() for m in words], [m.span() for m in words], vectors)


# Classes of texts, by a model that was fine-tuned for them.


Texts = str | tuple[str, str] | Sequence[str] | Sequence[tuple[str, str]]
CLASSIFY_MAX_TOKENS = 8192  # Of a batch.


class Classified(NamedTuple):
  """An answer.

  Attributes:
    label: the likeliest class.
    probability: of it.
    probabilities: label -> its own, the likeliest first.
  """
  label: str
  probability: float
  probabilities: dict[str, float]


def classify_texts(network: Network, texts: Texts) -> Any:
  """See `Model.classify`."""
  classes = network.config.num_classes
  if classes < 2:
    raise InputError(
        f'model.num_classes={classes}: this model tells no classes apart. One '
        'that is fine-tuned for them does (task=text_classification, glue/*).')
  one = isinstance(texts, (str, tuple))
  asked = [(text,) if isinstance(text, str) else tuple(text)
           for text in ([texts] if one else texts)]
  widths = {len(row) for row in asked}
  if len(widths) > 1 or widths - {1, 2}:
    raise InputError('classify: a tuple is one pair of texts; a list is of '
                     'texts, or of pairs, not of both.')
  labels = network.labels or tuple(map(str, range(classes)))
  logits = _text_logits(network, asked).astype(np.float64)
  odds = np.exp(logits - logits.max(-1, keepdims=True))
  found = [
      _as_classified(labels, p) for p in odds / odds.sum(-1, keepdims=True)
  ]
  return found[0] if one else found


def _text_logits(network: Network, asked: Sequence[tuple[str,
                                                         ...]]) -> np.ndarray:
  """float32[E, C]."""
  tok, longest = network.tokenizer, network.longest
  typed = network.config.num_types > 1  # With one type it is of all tokens.
  encoded = encode_texts(tok, asked, longest, separators=1 if typed else 2)
  found = np.zeros((len(asked), network.config.num_classes), np.float32)
  for numbers, input_ids, segment_ids in row_batches(
      encoded.sequences, tok.pad_id, longest, CLASSIFY_MAX_TOKENS):
    type_ids = np.zeros_like(segment_ids)
    for row, number in enumerate(numbers if typed else ()):
      type_ids[row, encoded.second_starts[number]:] = 1
    found[numbers] = network.class_logits(
        input_ids, segment_ids, type_ids * segment_ids)[:len(numbers)]
  return found


def _as_classified(labels: Sequence[str],
                   probabilities: np.ndarray) -> Classified:
  ranked = {labels[n]: float(probabilities[n])
            for n in np.argsort(-probabilities, kind='stable')}
  best = next(iter(ranked))
  return Classified(best, ranked[best], ranked)


# How likely a text is, token by token: each masked in turn.


SCORE_MAX_TOKENS = 4096
# Rows that are made at a time: a text of n tokens becomes n of them.
SCORE_MAX_ROWS = 4096


class TextScore(NamedTuple):
  """The pseudo-log-likelihood of a text.

  Attributes:
    tokens: its tokens, as text.
    log_probs: float32[n], nats: of each, given all others.
  """
  tokens: list[str]
  log_probs: np.ndarray

  @property
  def total(self) -> float:
    """The sum, in nats; longer texts have more to lose."""
    return float(self.log_probs.sum(dtype=np.float64))

  @property
  def perplexity(self) -> float:
    """exp of minus the mean; 1 of an empty text."""
    return math.exp(-self.total / max(1, len(self.log_probs)))


def score_texts(network: Network, texts: str | Sequence[str]) -> Any:
  """See `Model.score`."""
  asked = [texts] if isinstance(texts, str) else list(texts)
  tok = network.tokenizer
  rows = [with_ends(tok, tok.encode(text),
                    network.config.max_positions, text)
          for text in asked]
  log_probs = [np.zeros(len(row) - 2, np.float32) for row in rows]
  # (row, place) of every token that is masked, shortest texts first.
  order = sorted(range(len(rows)), key=lambda n: len(rows[n]))
  asks = [(n, place) for n in order for place in range(1, len(rows[n]) - 1)]
  for start in range(0, len(asks), SCORE_MAX_ROWS):
    part = asks[start:start + SCORE_MAX_ROWS]
    masked = []
    for n, place in part:
      row = rows[n].copy()
      row[place] = tok.mask_id
      masked.append(row)
    for numbers, input_ids, segment_ids in row_batches(
        masked, tok.pad_id, network.config.max_positions, SCORE_MAX_TOKENS):
      places = np.zeros((len(input_ids), 1), np.int32)
      targets = np.zeros_like(places)
      for at, number in enumerate(numbers):
        n, place = part[number]
        places[at], targets[at] = place, rows[n][place]
      found = network.target_log_probs(input_ids, segment_ids, places, targets)
      for at, number in enumerate(numbers):
        n, place = part[number]
        log_probs[n][place - 1] = found[at, 0]
  scores = [TextScore([tok.token_text(i) for i in row[1:-1]], found)
            for row, found in zip(rows, log_probs)]
  return scores[0] if isinstance(texts, str) else scores


class Model(Network):
  """A network that is asked about texts.

  Everything takes one text or a list of them. A list is cut into batches of
  texts of like length; lengths are rounded up, so that few shapes are compiled.
  Attributes are those of `Network`: params, config, tokenizer, step, labels and
  longest.
  """

  def fill_mask(self, texts: str | Sequence[str], top_k: int = 5,
                targets: Sequence[str] | None = None) -> list:
    """The likeliest tokens for each `<mask>` of a text.

    >>> model.fill_mask('Paris is the <mask> of France.', top_k=1)
    [Filled(text='Paris is the capital of France.', probability=0.9, ...)]
    >>> model.fill_mask('The <mask> is open.', targets=['door', 'sea'])

    Args:
      texts: text with one `<mask>` or more, or what the tokenizer calls it
        (`[MASK]` in a WordPiece); or a list of such.
      top_k: number of guesses, best first.
      targets: words to choose between, instead of all; each must be one token.
        All of them are returned, best first.

    Returns:
      Of a text with one mask a list of `Filled`; of one with several, which
      are guessed at the same time, such a list for each. Of a list of texts a
      list of these.

    Raises:
      InputError: no mask, a text with more tokens than positions, a target that
        is not one token, or a model that predicts no tokens.
    """
    return fill_masks(self, texts, top_k, targets)

  def encode(self, texts: str | Sequence[str], layers: str = 'last',
             pooling: str | None = None, words: bool = False) -> Any:
    """Vectors of tokens, texts or words.

    Args:
      texts: a text or a list.
      layers: 'last', or 'all': the embeddings and every block's output, in a
        dim of N + 1 in front.
      pooling: None: a vector a token, <s> and </s> included; 'first': that of
        <s>; 'mean': of all tokens, those two included.
      words: a vector a word: the mean over the tokens that a word or
        punctuation mark shares characters with.

    Returns:
      Of one text float32[T, D] or, pooled, float32[D]; of a list a list of
      arrays or, pooled, one array with a row for each text. With `words`,
      `Words`, or a list of them.

    Raises:
      InputError: an unknown value, or a text with more tokens than positions.
    """
    return encode_vectors(self, texts, layers, pooling, words)

  def score(self, texts: str | Sequence[str]) -> Any:
    """Pseudo-log-likelihood: how likely each token is, given all others.

    Each token is masked in turn (Salazar et al. 2020, arXiv:1910.14659), <s>
    and </s> never.

    Args:
      texts: a text or a list.

    Returns:
      `Score`, or a list of them: `.total` in nats, `.log_probs` of each token.

    Raises:
      InputError: a text with more tokens than positions, or a model that
        predicts no tokens.
    """
    return score_texts(self, texts)

  def classify(self, texts: Texts) -> Any:
    """The class of a text or pair, by a model that was fine-tuned for classes.

    >>> model.classify('A film to see twice.')
    Classified(label='1', probability=0.98, probabilities={'1': 0.98, ...})
    >>> model.classify([('A man sleeps.', 'A man is awake.'), ...])

    What is too long is cut as in fine-tuning, the longer text of a pair first.

    Args:
      texts: a text, a pair of texts (a tuple), or a list of either.

    Returns:
      `Classified`, or a list of them.

    Raises:
      InputError: a model without classes, or single texts and pairs in one
        list.
    """
    return classify_texts(self, texts)
