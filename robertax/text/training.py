"""Training a tokenizer: which pieces a corpus is cut into."""

from collections import Counter
from collections.abc import Callable, Iterable
import json

from robertax.config import TokenizerConfig
from robertax.errors import InputError, unknown
from robertax.text import wordpiece
from robertax.text.byte_bpe import MASK, SPECIALS
from robertax.text.tokenizer import Tokenizer

# The least ids of each kind, and why.
SMALLEST = {
    'byte_bpe': (256 + len(SPECIALS) + 1, 'a byte-level vocabulary has at '
                 'least {} ids: 256 bytes and 5 special tokens'),
    'wordpiece': (100, 'a WordPiece vocabulary has at least {} ids')}
# Characters that WordPiece keeps; Hugging Face's trainer of BERT has as many.
MOST_CHARACTERS = 1000


def check(config: TokenizerConfig) -> None:
  """Refuses what cannot be trained, before any text is read.

  Raises:
    InputError: an unknown kind, or a vocabulary that is too small.
  """
  if config.kind not in SMALLEST:
    raise unknown('tokenizer.kind', config.kind, SMALLEST)
  if not config.path:
    _check_size(config.kind, config.vocab_size)


def _check_size(kind: str, vocab_size: int) -> None:
  least, why = SMALLEST[kind]
  if vocab_size < least:
    raise InputError(
        f'tokenizer.vocab_size={vocab_size}: {why.format(least)}.')


def train_byte_bpe(texts: Iterable[str] | Iterable[list[str]],
                   vocab_size: int, progress: bool = False) -> Tokenizer:
  """Learns `vocab_size` pieces; the same texts give the same tokenizer.

  Ids as RoBERTa's: <s> <pad> </s> <unk> first, then the 256 bytes, then the
  merges in the order they were learned, <mask> last.

  Args:
    texts: strings, or lists of strings (faster).
    vocab_size: number of ids, all included; at least 261. A text too small for
      that many gives fewer: the caller reads `vocab_size` of the result.
    progress: show the library's progress bars.

  Raises:
    InputError: vocab_size is too small.
  """
  import tokenizers
  from tokenizers import models, pre_tokenizers, trainers
  _check_size('byte_bpe', vocab_size)
  core = tokenizers.Tokenizer(models.BPE())
  core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
  # The pre-tokenizer splits letters from '<' and '>', so no merge can ever
  # spell a special token, however often the corpus does.
  core.train_from_iterator(texts, trainers.BpeTrainer(
      vocab_size=vocab_size - 1, show_progress=progress,
      special_tokens=list(SPECIALS),
      # Sorted: the library returns its alphabet as an unordered set.
      initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet())))
  model = json.loads(core.to_str())['model']
  vocab = model['vocab']
  vocab[MASK] = len(vocab)
  return Tokenizer.from_bpe(
      vocab, [tuple(pair) for pair in model['merges']], 'training')


def train_wordpiece(texts: Callable[[], Iterable[str] | Iterable[list[str]]],
                    vocab_size: int, lowercase: bool = True,
                    progress: bool = False) -> Tokenizer:
  """Learns `vocab_size` pieces; the same texts give the same tokenizer.

  Ids: [PAD] [UNK] [CLS] [SEP] first, then the characters, each as it begins a
  word and as it goes on in one, then longer pieces in the order they were
  learned (the most frequent pair first, as BPE; what was trained for BERT is
  not public), [MASK] last. Of very many characters the rarest get no id: at
  most 1,000, and at most half of the vocabulary, are kept.

  Args:
    texts: gives strings, or lists of strings; called twice, for the characters
      and for the pieces.
    vocab_size: number of ids, all included; at least 100. A text too small for
      that many gives fewer.
    lowercase: make text lower case and drop accents.
    progress: show the library's progress bars.

  Raises:
    InputError: vocab_size is too small.
  """
  from tokenizers import trainers
  _check_size('wordpiece', vocab_size)
  core = wordpiece.core({wordpiece.UNK: 0}, lowercase)
  most = min(MOST_CHARACTERS,
             (vocab_size - len(wordpiece.SPECIALS) - 1) // 4)
  characters = _characters(texts(), core.normalizer, most)
  # The library numbers the '##' characters in the order of a hash table that
  # is another one each time, and by its numbers decides between equally
  # frequent pairs: all are numbered here, before it comes to that.
  numbered = [*wordpiece.SPECIALS, *characters,
              *(wordpiece.PREFIX + c for c in characters)]
  core.train_from_iterator(texts(), trainers.WordPieceTrainer(
      vocab_size=vocab_size - 1, show_progress=progress,
      special_tokens=numbered, initial_alphabet=characters,
      limit_alphabet=len(characters),
      continuing_subword_prefix=wordpiece.PREFIX))
  vocab = json.loads(core.to_str())['model']['vocab']
  vocab[wordpiece.MASK] = len(vocab)
  return Tokenizer.from_wordpiece(vocab, lowercase, 'training')


def _characters(texts: Iterable[str] | Iterable[list[str]], normalizer,
                most: int) -> list[str]:
  """The most frequent characters of the normalized texts, sorted."""
  raw, counts = Counter(), Counter()
  for text in texts:
    raw.update(text if isinstance(text, str) else ''.join(text))
  for character, count in raw.items():
    # A letter may become several, of which the accents go.
    for normal in ''.join(normalizer.normalize_str(character).split()):
      counts[normal] += count
  kept = sorted(counts, key=lambda c: (-counts[c], c))[:most]
  return sorted(kept)
