"""Trains tokenizers: a row of TRAINERS is a kind.

The same texts give the same tokenizer.
"""

from collections import Counter
from collections.abc import Callable, Iterable
import json
from typing import NamedTuple
import unicodedata

from robertax.config import TokenizerConfig
from robertax.errors import InputError, unknown
from robertax.text import wordpiece
from robertax.text.pieces import MASK, SPECIALS
from robertax.text.tokenizer import Tokenizer

Sample = Iterable[str] | Iterable[list[str]]
# GPT-2's regex, in which a combining mark (a vowel sign, a tone, an accent)
# belongs to the letter before it and does not end a word.
_MARKS_REGEX = (r"'s|'t|'re|'ve|'m|'ll|'d| ?[\p{L}\p{M}]+| ?\p{N}+"
                r'| ?[^\s\p{L}\p{M}\p{N}]+|\s+(?!\S)|\s+')
PRE_TOKENIZERS = ('default', 'marks')
# How many characters are looked at for a warning about combining marks, and
# the share of them from which there is one.
_LOOK, _MANY_MARKS = 2_000_000, .01


def check(config: TokenizerConfig) -> None:
  """Raises an InputError if a config's tokenizer cannot be trained."""
  if config.path:
    return
  if config.kind not in TRAINERS:
    raise unknown('tokenizer.kind', config.kind, TRAINERS)
  if config.pre_tokenizer not in PRE_TOKENIZERS:
    raise unknown('tokenizer.pre_tokenizer', config.pre_tokenizer,
                  PRE_TOKENIZERS)
  _check_size(config.kind, config.vocab_size)


def _check_size(kind: str, vocab_size: int) -> None:
  least, why = TRAINERS[kind].least, TRAINERS[kind].why
  if vocab_size < least:
    raise InputError(f'tokenizer.vocab_size={vocab_size}: {why.format(least)}.')


def train(config: TokenizerConfig, texts: Callable[[], Sample]
          ) -> tuple[Tokenizer, list[str]]:
  """Trains the tokenizer of a config; also returns lines about it for people.

  `texts` is called once or twice; it returns strings, or lists of strings,
  which are faster.
  """
  check(config)
  marks, lines = Counter(), []
  warns = config.kind in ('byte_bpe', 'wordpiece') and (
      config.pre_tokenizer == 'default')

  def watched():
    left = _LOOK if warns and not marks else 0
    for text in texts():
      if left > 0:
        whole = text if isinstance(text, str) else ''.join(text)
        left -= len(whole)
        for c, count in Counter(whole).items():
          marks[unicodedata.category(c)[0]] += count
      yield text

  tokenizer = TRAINERS[config.kind].train(config, watched, lines)
  share = marks['M'] / max(1, marks['M'] + marks['L'])
  if share > _MANY_MARKS and (config.kind == 'byte_bpe' or config.lowercase):
    lines.append(
        f'{share:.0%} of the letters are combining marks (vowel signs, tones, '
        'accents), ' + ('at which the default pre-tokenizer cuts words'
                        if config.kind == 'byte_bpe' else
                        'which tokenizer.lowercase=True drops')
        + ": tokenizer.pre_tokenizer='marks' keeps them with their letters.")
  if tokenizer.vocab_size < config.vocab_size:
    lines.append(f'The text gives a vocabulary of {tokenizer.vocab_size:,} '
                 f'only, {config.vocab_size:,} were asked for.')
  return tokenizer, lines


def _byte_bpe(config: TokenizerConfig, texts: Callable[[], Sample],
              lines: list[str]) -> Tokenizer:
  import tokenizers
  from tokenizers import decoders, models, pre_tokenizers, trainers
  core = tokenizers.Tokenizer(models.BPE())
  core.pre_tokenizer = (
      pre_tokenizers.ByteLevel(add_prefix_space=False)
      if config.pre_tokenizer == 'default' else pre_tokenizers.Sequence([
          pre_tokenizers.Split(tokenizers.Regex(_MARKS_REGEX), 'isolated'),
          pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]))
  # The pre-tokenizer splits letters from '<' and '>', so no merge can ever
  # spell a special token, however often the corpus contains it.
  core.train_from_iterator(texts(), trainers.BpeTrainer(
      vocab_size=config.vocab_size - 1, show_progress=False,
      special_tokens=list(SPECIALS),
      # The library returns its alphabet as an unordered set.
      initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet())))
  state = json.loads(core.to_str())
  vocab = state['model']['vocab']
  vocab[MASK] = len(vocab)
  merges = [tuple(pair) for pair in state['model']['merges']]
  if config.pre_tokenizer == 'default':
    return Tokenizer.from_bpe(vocab, merges, 'training')
  made = tokenizers.Tokenizer(models.BPE(vocab=vocab, merges=merges))
  made.pre_tokenizer, made.decoder = core.pre_tokenizer, decoders.ByteLevel()
  return Tokenizer(json.loads(made.to_str()), 'training')


def _wordpiece(config: TokenizerConfig, texts: Callable[[], Sample],
               lines: list[str]) -> Tokenizer:
  from tokenizers import trainers
  accents = config.pre_tokenizer == 'marks'
  core = wordpiece.core({wordpiece.UNK: 0}, config.lowercase, accents)
  most = min(config.alphabet_limit,
             (config.vocab_size - len(wordpiece.SPECIALS) - 1) // 4)
  normal = core.normalizer.normalize_str
  characters = _characters(
      # Normalizing splits some letters into several, and drops accents.
      texts(), lambda c: ''.join(normal(c).split()), most, lines)
  # The library would number the '##' characters in the order of a randomized
  # hash table, and these numbers decide between equally frequent pairs.
  numbered = [*wordpiece.SPECIALS, *characters,
              *(wordpiece.PREFIX + c for c in characters)]
  core.train_from_iterator(texts(), trainers.WordPieceTrainer(
      vocab_size=config.vocab_size - 1, show_progress=False,
      special_tokens=numbered, initial_alphabet=characters,
      limit_alphabet=len(characters),
      continuing_subword_prefix=wordpiece.PREFIX))
  vocab = json.loads(core.to_str())['model']['vocab']
  vocab[wordpiece.MASK] = len(vocab)
  return Tokenizer.from_wordpiece(vocab, config.lowercase, 'training', accents)


def _unigram(config: TokenizerConfig, texts: Callable[[], Sample],
             lines: list[str]) -> Tokenizer:
  """Trains SentencePiece's Unigram, cut and normalized as in XLM-R."""
  import tokenizers
  from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers
  core = tokenizers.Tokenizer(models.Unigram())
  core.normalizer = normalizers.NFKC()
  cuts = [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]
  core.decoder = decoders.Metaspace()
  kept = _characters(
      texts(), lambda c: ''.join(core.normalizer.normalize_str(c).split()),
      min(config.alphabet_limit, config.vocab_size // 2), lines)
  # The trainer fails on more characters than ids, so it sees none but these.
  others = tokenizers.Regex('[^▁' + ''.join(
      f'\\x{{{ord(c):x}}}' for c in kept) + ']')
  core.pre_tokenizer = pre_tokenizers.Sequence(
      [*cuts, pre_tokenizers.Split(others, 'removed')])
  core.train_from_iterator(texts(), trainers.UnigramTrainer(
      vocab_size=config.vocab_size - 1, show_progress=False, unk_token='<unk>',
      special_tokens=list(SPECIALS), initial_alphabet=kept))
  core.pre_tokenizer = pre_tokenizers.Sequence(cuts)
  state = json.loads(core.to_str())
  pieces = _settled(state['model']['vocab'][len(SPECIALS):])
  state['model'] |= {'unk_id': SPECIALS.index('<unk>'), 'vocab': [
      *([piece, 0.] for piece in SPECIALS), *pieces, [MASK, 0.]]}
  return Tokenizer(state, 'training')


def _settled(rows: list[list]) -> list[list]:
  """Returns pieces with scores in an order that no hash table has decided.

  Sums differ in their last digits, and characters that are hardly ever pieces
  are scored .0001 apart, from the least score on.
  """
  least = min((score for _, score in rows), default=0.)
  rare = [row for row in rows if len(row[0]) == 1 and abs(
      (steps := (row[1] - least) * 1e4) - round(steps)) < 1e-4
          and steps <= len(rows)]
  scores = sorted((score for _, score in rare), reverse=True)
  settled = {row[0]: score for row, score in zip(sorted(rare), scores)}
  return sorted(
      ([piece, round(settled.get(piece, score), 9)] for piece, score in rows),
      key=lambda row: (-row[1], row[0]))


def _char(config: TokenizerConfig, texts: Callable[[], Sample],
          lines: list[str]) -> Tokenizer:
  """Makes a vocabulary of characters; with 'marks' a letter has its marks."""
  import tokenizers
  from tokenizers import decoders, models, pre_tokenizers
  pattern = ('' if config.pre_tokenizer == 'default' else
             tokenizers.Regex(r'\P{M}?\p{M}*'))
  most = min(config.alphabet_limit, config.vocab_size - len(SPECIALS) - 1)
  split = pre_tokenizers.Split(pattern, 'isolated')
  pieces = _characters(
      texts(), None, most, lines,
      None if not pattern else lambda text: [
          piece for piece, _ in split.pre_tokenize_str(text)])
  vocab = {piece: i for i, piece in enumerate([*SPECIALS, *pieces, MASK])}
  core = tokenizers.Tokenizer(models.WordLevel(vocab, unk_token='<unk>'))
  core.pre_tokenizer, core.decoder = split, decoders.Fuse()
  return Tokenizer(json.loads(core.to_str()), 'training')


def _characters(texts: Sample, normal: Callable[[str], str] | None, most: int,
                lines: list[str], cut: Callable | None = None) -> list[str]:
  """Finds the most frequent characters of the normalized texts, sorted."""
  raw, counts = Counter(), Counter()
  for text in texts:
    for part in [text] if isinstance(text, str) else text:
      raw.update(cut(part) if cut else part)
  for character, count in raw.items():
    for found in normal(character) if normal else [character]:
      counts[found] += count
  ranked = sorted(counts, key=lambda c: (-counts[c], c))
  if len(ranked) > most:
    lost = sum(counts[c] for c in ranked[most:]) / sum(counts.values())
    lines.append(
        f'{most:,} of {len(ranked):,} characters are in the vocabulary; the '
        f'others, {lost:.2%} of the text, become unknown tokens '
        '(tokenizer.alphabet_limit, and a share of tokenizer.vocab_size, limit '
        'them).')
  return sorted(ranked[:most])


class Trainer(NamedTuple):
  """How a kind is trained.

  Attributes:
    train: is called with a config, a function that returns the texts, and a
      list for lines that a person should read.
    least: the least vocab_size.
    why: says why, with {} for that number.
  """
  train: Callable[[TokenizerConfig, Callable[[], Sample], list[str]], Tokenizer]
  least: int
  why: str


TRAINERS = {
    'byte_bpe': Trainer(_byte_bpe, 256 + len(SPECIALS) + 1,
                        'a byte-level vocabulary has at least {} ids: 256 '
                        'bytes and 5 special tokens'),
    'wordpiece': Trainer(_wordpiece, 100,
                         'a WordPiece vocabulary has at least {} ids'),
    'unigram': Trainer(_unigram, 100,
                       'a Unigram vocabulary has at least {} ids'),
    'char': Trainer(_char, 6, 'a vocabulary of characters has at least {} ids: '
                    '5 special tokens and a character')}


def train_byte_bpe(texts: Sample, vocab_size: int) -> Tokenizer:
  """Trains a byte-level BPE; the same texts give the same tokenizer.

  Ids have RoBERTa's layout: <s> <pad> </s> <unk>, the 256 bytes, the merges in
  the order in which they were learned, <mask>.

  Args:
    texts: strings, or lists of strings (faster).
    vocab_size: the number of all ids; less than 261 is an InputError. Too
      little text gives fewer ids: see `vocab_size` of the result.
  """
  _check_size('byte_bpe', vocab_size)
  return _byte_bpe(TokenizerConfig(vocab_size=vocab_size), lambda: texts, [])


def train_wordpiece(texts: Callable[[], Sample], vocab_size: int,
                    lowercase: bool = True) -> Tokenizer:
  """Trains a WordPiece; the same texts give the same tokenizer.

  Ids are [PAD] [UNK] [CLS] [SEP], the characters at the beginning of a word,
  those inside one, longer pieces in the order in which they were learned (the
  most frequent pair first, as in BPE; BERT's trainer is not public), [MASK]. At
  most `tokenizer.alphabet_limit` characters, in at most half of the vocabulary,
  are kept; the rarest get no id.

  Args:
    texts: is called twice, for the characters and for the pieces; returns
      strings, or lists of strings.
    vocab_size: the number of all ids; less than 100 is an InputError. Too
      little text gives fewer ids.
    lowercase: whether text is made lower case and loses its accents.
  """
  _check_size('wordpiece', vocab_size)
  return _wordpiece(TokenizerConfig(kind='wordpiece', vocab_size=vocab_size,
                                    lowercase=lowercase), texts, [])
