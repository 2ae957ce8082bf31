"""A model to use at a Python prompt.

`Model` guesses the tokens behind masks, gives vectors of tokens, texts and
words, says how likely a text is, and answers what it was fine-tuned for: the
class or the score of a text, a question on a paragraph, one with options, what
a pronoun stands for. `predict` asks it about the lines of a file.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
import functools
import itertools
import math
import re
from typing import Any, NamedTuple

import numpy as np

from robertax.config import MASKED_LM
from robertax.errors import InputError, unknown
from robertax.inspection.network import Network, row_batches, with_ends
from robertax.tasks.task import json_lines, parse_json, softmax
from robertax.text import Tokenizer

MASK = '<mask>'
LAYERS = ('last', 'all')
POOLING = (None, 'mean', 'first')
# Letters and digits with what joins them, or one punctuation mark.
WORD = re.compile(r"\w+(?:[-'\u2019]\w+)*|[^\w\s]")

FILL_MAX_TOKENS = SCORE_MAX_TOKENS = 4096  # Of a batch, with padding.
# With all layers there are N + 1 times as many numbers.
ENCODE_MAX_TOKENS = {'last': 8192, 'all': 2048}
SCORE_MAX_ROWS = 4096  # Made at a time; a text of n tokens is n rows.
PREDICT_LINES = 256  # That are read, asked about and written at a time.

# The tasks that train for a method, and what it takes: texts, and options.
PRONOUN_TASKS = ('wsc', 'wnli_spans')
METHODS = {
    'fill_mask': (MASKED_LM, ('text',)), 'score': (MASKED_LM, ('text',)),
    'classify': ('text_classification or glue/*', ('text', 'text_pair')),
    'rate': ("glue/stsb, qnli_ranking or finetune.problem_type='regression'",
             ('text', 'text_pair')),
    'answer': ('squad or squad2', ('question', 'context')),
    'choose': ('race', ('context', 'question', 'options')),
    'resolve_pronoun': (' or '.join(PRONOUN_TASKS), ('text',))}
OF_TOKENS = ('fill_mask', 'score', 'resolve_pronoun')  # By the masked-LM head.

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


class Answer(NamedTuple):
  """The answer to a question: context[start:end], '' if there is none."""
  text: str
  start: int
  end: int
  probability: float  # Of this text, among the n best.
  no_answer: float | None  # Of no answer; None: the model always answers.


class Chosen(NamedTuple):
  """One of several options."""
  option: str
  number: int  # From 0.
  probability: float
  probabilities: tuple[float, ...]  # Of each option, in their order.


class Resolved(NamedTuple):
  """What a pronoun stands for."""
  phrase: str  # The one that fits best, the query if it ties.
  fits: bool | None  # Whether that is the query; None: none was given.
  scores: dict[str, float]  # Mean log-probability, in nats, of each phrase.


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
    self._check('fill_mask')
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
    front = len(self.tokenizer.layout.single[0])
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
          found[number] = _word_means(asked[number], spans[number],
                                      x[..., front:, :])
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
    self._check('score')
    from robertax.data.finetuning import Examples
    from robertax.tasks.objectives import SpanRanking
    tok = self.tokenizer
    rows = [with_ends(tok, tok.encode(text), self.config.max_positions, text)
            for text in _text_list(texts)]
    front, back = map(len, tok.layout.single)
    own = [slice(front, len(row) - back) for row in rows]
    log_probs = [np.zeros(len(row[part]), np.float32)
                 for row, part in zip(rows, own)]
    # (row, place) of every token to be masked, shortest texts first.
    order = sorted(range(len(rows)), key=lambda n: len(rows[n]))
    asks = [(n, place) for n in order
            for place in range(own[n].start, own[n].stop)]
    for start in range(0, len(asks), SCORE_MAX_ROWS):
      part = asks[start:start + SCORE_MAX_ROWS]
      masked = [rows[n].copy() for n, _ in part]
      for row, (_, place) in zip(masked, part):
        row[place] = tok.mask_id
      places = np.array([[place] for _, place in part], np.int32)
      targets = np.array([[rows[n][place]] for n, place in part], np.int32)
      found = self.outputs(SpanRanking, Examples.of(
          masked, marks={'span_positions': places}, values={
              'span_targets': targets,
              'span_weights': np.ones_like(places, np.float32)}),
                           SCORE_MAX_TOKENS)
      for (n, place), value in zip(part, found['scores']):
        log_probs[n][place - front] = value
    scores = [Score([tok.token_text(i) for i in row[part]], found)
              for row, part, found in zip(rows, own, log_probs)]
    return scores[0] if isinstance(texts, str) else scores

  def classify(self, texts: SomeTexts) -> Any:
    """The class of a text or pair, by a model that was fine-tuned for classes.

    Of a model of several labels a text (multi_label_classification) each label
    has a probability of its own, and `label` is the likeliest.

    >>> model.classify('A film to see twice.')
    Classified(label='1', probability=0.98, probabilities={'1': 0.98, ...})
    >>> model.classify([('A man sleeps.', 'A man is awake.'), ...])

    It takes a text, a pair of texts (a tuple), or a list of either. Long texts
    are cut as in fine-tuning, the longer one of a pair first. InputError if the
    model has no classes, or was fine-tuned on pairs and gets texts, or if a
    list mixes texts and pairs.
    """
    return self._ask('classify', _classes, texts)

  def rate(self, texts: SomeTexts) -> Any:
    """The score of a text or pair: 0 to 5 of glue/stsb, else the raw output.

    A model of qnli_ranking gives a higher one to the sentence with the answer.
    A model of several scores gives a dict, by name. Texts are those of
    `classify`.
    """
    return self._ask('rate', _ratings, texts)

  def answer(self, question: str | Sequence[tuple[str, str]],
             context: str | None = None, threshold: float | None = None) -> Any:
    """The answer to a question in its context, by a model of SQuAD.

    >>> model.answer('Who fell?', 'The old mill fell in 1973.')
    Answer(text='The old mill', start=0, end=12, probability=0.8, ...)

    A list has tuples (question, context). Long contexts are cut into windows as
    in fine-tuning. In SQuAD 2.0 there is no answer if `no_answer` is above the
    threshold; None: that which the run chose on its evaluation set, else 0.5.
    InputError if a context has no tokens.
    """
    return self._ask('answer', functools.partial(
        _answers, threshold=threshold), question, context)

  def choose(self, context: str | Sequence[tuple[str, str, Sequence[str]]],
             question: str = '', options: Sequence[str] = ()) -> Any:
    """The option that answers a question on a text, by a model of RACE.

    >>> model.choose('Ann has a cat.', 'Who has a cat?', ['Ann', 'Bob'])
    Chosen(option='Ann', number=0, probability=0.9, probabilities=(0.9, 0.1))

    A list has tuples (context, question, options); there may be any number of
    options from 2 on. Each takes the place of a `_` in the question, or follows
    it, and texts are cut as in fine-tuning.
    """
    return self._ask('choose', _choices, context, question, options)

  def resolve_pronoun(self, texts: str | Sequence[str]) -> Any:
    """What the pronoun in brackets stands for: the phrase in underscores?

    >>> model.resolve_pronoun('The _trophy_ broke because [it] fell.').fits
    True
    >>> model.resolve_pronoun('The trophy broke because [it] fell.').phrase
    'The trophy'

    As fairseq's `disambiguate_pronoun`: phrases are scored in the pronoun's
    place by the masked-LM head, which a model that is only pretrained has, too.
    The other phrases are those of the run's `finetune.chunker`.
    """
    return self._ask('resolve_pronoun', _resolutions, texts)

  @property
  def method(self) -> str:
    """The name of the method that the model was trained for."""
    config, task = self.config, self.recipe.task
    if config.span_head:
      return 'answer'
    if config.num_classes == 1 and task.startswith('race'):
      return 'choose'
    if config.num_classes:
      scores = (self.problem_type == 'regression' if self.problem_type
                else config.num_classes == 1)
      return 'rate' if scores else 'classify'
    if not config.lm_head:
      return 'encode'
    return 'resolve_pronoun' if task in PRONOUN_TASKS else 'fill_mask'

  @functools.cached_property
  def num_texts(self) -> int:
    """Texts of an example to classify or rate; 0: one or two."""
    from robertax.tasks.glue_files import GLUE
    task, columns = self.recipe.task, self.recipe.finetune.text_columns
    if task == 'text_classification':
      return len(list(filter(None, columns.split(','))))
    row = GLUE.get('qnli' if task == 'qnli_ranking' else
                   task.removeprefix('glue/'))
    return len(row.columns) if row else 0

  def _ask(self, method: str, ask: Callable[['Model', list], list], first: Any,
           *rest: Any) -> Any:
    """The answer to one question; or the answers to the list that is first."""
    one = (isinstance(first, str) or not isinstance(first, Iterable)
           or isinstance(first, tuple) and not rest)
    asked = [tuple(row) if isinstance(row, (tuple, list)) else (row,) for row in
             ([(first, *rest) if rest else first] if one else first)]
    self._check(method, asked)
    found = ask(self, asked) if asked else []
    return found[0] if one else found

  def _check(self, method: str, asked: Sequence[tuple] = ()):
    """InputError if the model was not made for a method or its questions."""
    task, (tasks, names) = self.recipe.task, METHODS[method]
    made = ('for this model' if task == MASKED_LM else
            f'this model was fine-tuned for {task}:')
    if method != self.method and not (self.config.lm_head
                                      and method in OF_TOKENS):
      raise InputError(f'model.{method} is for {tasks}; {made} use '
                       f'model.{self.method}.')
    if 'text_pair' in names and asked:
      names = names[:self.num_texts or len(asked[0])]
    for row in asked:
      if len(row) != len(names) or not all(
          isinstance(value, str) if name != 'options' else isinstance(
              value, (list, tuple)) and len(value) > 1 and all(
                  isinstance(option, str) for option in value)
          for name, value in zip(names, row)):
        raise InputError(f'{made} {method} takes ({", ".join(names)}), not '
                         f'{str(row)[:80]}.')

  def _batches(self, rows: Sequence[np.ndarray], max_tokens: int
               ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    return row_batches(rows, self.tokenizer.pad_id, self.config.max_positions,
                       max_tokens)


def _text_list(texts: str | Sequence[str]) -> list[str]:
  found = [texts] if isinstance(texts, str) else list(texts)
  for text in found:
    if not isinstance(text, str):
      raise InputError(f'a text is {text!r}: expected a string.')
  return found


# What fine-tuned models answer, encoded and decoded as the task does it.

def _logits(model: Model, asked: list[tuple[str, ...]]) -> np.ndarray:
  """float32[E, C]."""
  from robertax.data.finetuning import Examples
  from robertax.tasks.finetune import encode_texts
  from robertax.tasks.objectives import Classification
  encoded = encode_texts(model.tokenizer, asked, model.longest)
  return model.outputs(Classification, Examples.of(
      encoded.sequences, second_starts=encoded.second_starts))['logits']


def _classes(model: Model, asked: list[tuple[str, ...]]) -> list[Classified]:
  labels = model.labels or tuple(map(str, range(model.config.num_classes)))
  found, several = [], model.problem_type == 'multi_label_classification'
  for logits in _logits(model, asked):
    probabilities = (0.5 + np.tanh(logits.astype(np.float64) / 2) / 2 if several
                     else softmax(logits))
    ranked = {labels[n]: float(probabilities[n])
              for n in np.argsort(-probabilities, kind='stable')}
    best = next(iter(ranked))
    found.append(Classified(best, ranked[best], ranked))
  return found


def _ratings(model: Model, asked: list[tuple[str, ...]]) -> list[Any]:
  from robertax.tasks.glue import LARGEST_SCORE
  scale = LARGEST_SCORE if model.recipe.task == 'glue/stsb' else 1
  scores = [[float(x) * scale for x in row] for row in _logits(model, asked)]
  if model.config.num_classes == 1:
    return [score for score, in scores]
  return [dict(zip(model.labels, row)) for row in scores]


def _answers(model: Model, asked: list[tuple[str, str]],
             threshold: float | None) -> list[Answer]:
  from robertax.tasks import squad
  data, tuned = model.recipe.data, model.recipe.finetune
  two = model.config.num_classes == len(squad.ANSWER_LABELS)
  encoded = squad.encode_questions([
      squad.Question(str(n), '', *row, ()) for n, row in enumerate(asked)],
                                   model.tokenizer)
  windowing = squad.Windowing.of(model.longest, data, model.tokenizer.layout)
  windows = squad.make_windows(encoded, windowing)
  examples = squad.window_examples(encoded, windows, windowing, model.tokenizer)
  decoded = squad.decode_examples(
      examples, encoded, windows, model.outputs(squad.SpanTuning, examples),
      squad.Decoding(tuned.n_best, tuned.max_answer_length), two)
  threshold = next(x for x in (threshold, model.threshold, 0.5)
                   if x is not None)
  texts = squad.final_answers(decoded, threshold if two else None)
  n_best = squad.n_best_predictions(decoded, '2.0' if two else '1.1')
  found = []
  for key, text in texts.items():
    start = decoded[key].spans[0].start if text else 0
    probability = next(entry['probability'] for entry in n_best[key]
                       if entry['text'] == text)
    found.append(Answer(text, start, start + len(text), probability,
                        decoded[key].no_answer))
  return found


def _choices(model: Model, asked: list[tuple[str, str, Sequence[str]]]
             ) -> list[Chosen]:
  from robertax.tasks import race
  from robertax.tasks.objectives import Choice
  questions = [race.RaceQuestion('', '', text, question, tuple(options), None)
               for text, question, options in asked]
  examples = race.encode_questions(
      questions, model.tokenizer, model.longest,
      model.recipe.finetune.max_option_length).examples()
  scores, found = iter(model.outputs(Choice, examples)['scores']), []
  for *_, options in asked:
    shares = softmax(np.array([next(scores) for _ in options]))
    best = int(shares.argmax())
    found.append(Chosen(options[best], best, float(shares[best]),
                        tuple(shares.tolist())))
  return found


def _resolutions(model: Model, asked: list[tuple[str]]) -> list[Resolved]:
  from robertax.tasks import wsc
  from robertax.tasks.objectives import SpanRanking
  sentences = [wsc.marked_sentence(text) for text, in asked]
  made = wsc.encode_sentences(sentences, model.tokenizer, model.longest,
                              model.recipe.finetune.chunker)
  scores, found = iter(model.outputs(SpanRanking, made.examples)['scores']), []
  for sentence, phrases in zip(sentences, made.phrases):
    scored = {phrase: float(next(scores)) for phrase in phrases}
    best = max(scored, key=scored.get)  # Of equal ones the first: the query.
    found.append(Resolved(best, best == sentence.query if sentence.query else
                          None, scored))
  return found


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
    if tok.follows_space(token) and not guess.startswith(' ') and before:
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
    tokens = np.flatnonzero((starts < word.end()) & (ends > word.start()))
    if len(tokens):  # Some marks have no token.
      vectors[..., number, :] = x[..., tokens, :].mean(-2)
  return Words([m.group() for m in words], [m.span() for m in words], vectors)


# Lines of a file: questions in, answers out.

def predict(model: Model, lines: Iterable[tuple[int, bytes]], where: str,
            as_json: bool = False, top_k: int = 5) -> Iterator[bytes]:
  """Yields a JSON line for each numbered line, by the model's own method.

  A line is a text, or fields with tabs between, or an object of JSON with the
  names in METHODS. InputError, naming `where` and the line, for a wrong one;
  the answers to all lines before it come first.
  """
  if model.method == 'encode':
    raise InputError('this model predicts nothing: from Python, model.encode '
                     'gives its vectors.')

  def ask(batch: Sequence[tuple[int, bytes]]) -> list[bytes]:
    return [json_lines([answer]) for answer in _ask(
        model, [_question(model, line, as_json) for _, line in batch], top_k)]

  lines = iter(lines)
  while batch := list(itertools.islice(lines, PREDICT_LINES)):
    try:
      yield from ask(batch)
    except InputError:  # Of some line, or of a list that mixes forms.
      for one in batch:
        try:
          yield from ask([one])
        except InputError as e:
          raise InputError(f'{where}, line {one[0]}: {e}') from e


def _question(model: Model, line: bytes, as_json: bool) -> tuple:
  try:
    text = line.decode('utf-8-sig').removesuffix('\n').removesuffix('\r')
  except UnicodeDecodeError as e:
    raise InputError(f'not UTF-8: {e}') from e
  names = METHODS[model.method][1]
  if 'text_pair' in names and model.num_texts:
    names = names[:model.num_texts]
  if as_json:
    fields = parse_json(text, 'this line')
    if not isinstance(fields, dict) or names[0] not in fields:
      raise InputError(f'an object with {", ".join(names)} is needed.')
    values = [fields[name] for name in names if name in fields]
  else:
    values = text.split('\t') if len(names) > 1 else [text]
    if 'options' in names:
      values[2:] = [values[2:]]
  return tuple(values)


def _ask(model: Model, questions: list, top_k: int) -> list[dict[str, Any]]:
  if model.method == 'fill_mask':
    return [{'masks': [[guess._asdict() for guess in guesses] for guesses in (
        found if isinstance(found[0], list) else [found])]}
            for found in model.fill_mask([text for text, in questions], top_k)]
  found = getattr(model, model.method)(questions)
  if model.method == 'rate':
    return [{'rating': value} for value in found]
  answers = [answer._asdict() for answer in found]
  if model.method == 'classify':
    for answer in answers:
      answer['probabilities'] = dict(itertools.islice(
          answer['probabilities'].items(), top_k))
  return answers
