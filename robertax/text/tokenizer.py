"""The tokenizer: it turns text into ids and back, and can be trained and saved.

There are two kinds, each a row of `KINDS`: byte-level BPE (RoBERTa) and
WordPiece (BERT). Their special tokens have different ids, so all other code
takes these ids from attributes of the tokenizer.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
import contextlib
import hashlib
from itertools import chain
import json
import os
import re
from types import ModuleType
from typing import Any

import numpy as np

from robertax import errors, files
from robertax.config import TokenizerConfig
from robertax.errors import InputError, unknown
from robertax.text import byte_bpe, layout, wordpiece
from robertax.text.byte_bpe import MASK, SPECIALS

# The keys are the names that a tokenizer.json has for its model.
KINDS = {'BPE': byte_bpe, 'WordPiece': wordpiece}
MASK_TEXT = '<mask>'  # For a mask, whatever the tokenizer calls it.
# The longest text that is encoded at once. The library needs about 100 bytes a
# character, so a line of 50 MB would take gigabytes.
MAX_CHARS = 1 << 18
_BETWEEN_WORDS = re.compile(r'(?<=\S) (?=\S)')


def split_long(text: str, most: int = MAX_CHARS) -> Iterator[str]:
  """Cuts a text into parts of at most `most` characters.

  >>> list(split_long('some words, nospacehere', 8))
  ['some', ' words,', ' nospace', 'here']

  A part ends before a single space between two words. Byte-level BPE and
  WordPiece cut there as well, so the ids of the parts, joined, are those of the
  text. Where `most` characters hold no such space, the cut is arbitrary.
  """
  start = 0
  while len(text) - start > most:
    window = text[start + 1:start + most + 1]
    # The end of the window, where there nearly always is a space, comes first.
    for width in (256, most):
      begin = max(0, len(window) - width)
      places = [m.start() for m in _BETWEEN_WORDS.finditer(window, begin)]
      if places:
        break
    end = start + 1 + places[-1] if places else start + most
    yield text[start:end]
    start = end
  yield text[start:]


class Tokenizer:
  """A byte-level BPE or a WordPiece, with five special tokens.

  Text never becomes a special token: '<mask>' in a corpus gives the pieces '<',
  'mask', '>'. `encode` with `allow_mask=True`, which fill-mask uses, is the one
  exception. (WordPiece also gives unk_id for a word it cannot split.)

  Attributes:
    kind: 'byte_bpe' or 'wordpiece'.
    vocab_size: the number of ids.
    bos_id, pad_id, eos_id, unk_id, mask_id: the ids of the special tokens; a
      WordPiece calls them [CLS], [PAD], [SEP], [UNK] and [MASK].
    special_ids: these five ids, ascending.
    first_random_id: the least id that masking draws as a random token.
    word_starts: bool[vocab_size], the pieces that begin a word; special tokens
      do not. The first piece of a text may begin a word without being marked,
      since RoBERTa puts no space before it.
    mask_texts: '<mask>' and the tokenizer's own mask, for `encode`.
    layout: how one text and two are laid out, by the file's post-processor;
      where there is none, by that of RoBERTa or BERT.
    dtype: np.uint16, or np.uint32 if that is too small for some id.
    fingerprint: 16 hex digits, a hash of everything that decides ids.
  """

  def __init__(self, state: dict, source: str):
    """Reads a parsed tokenizer.json; `source` names it in InputErrors."""
    self._kind, state = _checked_state(state, source)
    kind, vocab = self._kind, state['model']['vocab']
    self.kind = kind.__name__.rpartition('.')[2]
    self.vocab_size = len(vocab)
    self.bos_id, self.pad_id, self.eos_id, self.unk_id, self.mask_id = (
        vocab[token] for token in (
            kind.BOS, kind.PAD, kind.EOS, kind.UNK, kind.MASK))
    self.special_ids = tuple(sorted(
        vocab[token] for token in (*kind.SPECIALS, kind.MASK)))
    self.first_random_id = kind.first_random_id(_base_vocab(state), source)
    self.mask_texts = tuple(dict.fromkeys((MASK_TEXT, kind.MASK)))
    self.word_starts = np.zeros(self.vocab_size, bool)
    self.word_starts[[i for piece, i in vocab.items()
                      if kind.begins_word(piece)]] = True
    self.word_starts[list(self.special_ids)] = False
    self._post_processor = state.get('post_processor') or json.loads(
        kind.post_processor(self.bos_id, self.eos_id).__getstate__())
    self.dtype = np.uint16 if self.vocab_size <= 65536 else np.uint32
    # Without special tokens in `added_tokens` the library finds none in a text.
    # It must not truncate or pad, either.
    plain = {
        **state, 'truncation': None, 'padding': None, 'post_processor': None,
        'added_tokens': [token for token in state['added_tokens']
                         if not token.get('special')]}
    import tokenizers  # Not every machine that trains has it.
    self._source = source
    with _refusals(source):
      self._plain = tokenizers.Tokenizer.from_str(json.dumps(plain))
      self.layout = layout.of(self._post_processor, self.vocab_size, source)
    self._plain.decoder = kind.decoder()
    read = json.loads(self._plain.to_str())
    facts = {key: read.get(key) for key in
             ('added_tokens', 'normalizer', 'pre_tokenizer', 'model')}
    self.fingerprint = hashlib.sha256(
        json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]

  @classmethod
  def from_json(cls, text: str, source: str = 'tokenizer.json') -> 'Tokenizer':
    """Parses the text of a tokenizer.json; `source` names it in errors."""
    with errors.reading(source, 'not JSON'):
      state = json.loads(text)
    return cls(state, source)

  @classmethod
  def from_bpe(cls, vocab: dict[str, int], merges: list, source: str
               ) -> 'Tokenizer':
    """Makes a byte-level BPE from pieces with ids, and merges by rank."""
    with _refusals(source):
      core = byte_bpe.core(vocab, merges)
    return cls(json.loads(core.to_str()), source)

  @classmethod
  def from_wordpiece(cls, vocab: dict[str, int], lowercase: bool, source: str
                     ) -> 'Tokenizer':
    """Makes a WordPiece from pieces with ids, special tokens included."""
    return cls(json.loads(wordpiece.core(vocab, lowercase).to_str()), source)

  def encode_batch(self, texts: list[str]) -> list[np.ndarray]:
    """Encodes texts; no special token is added or recognized.

    Returns arrays of `dtype`, one for each text, which are views of one buffer.
    A lone surrogate in a text is an InputError.
    """
    if any(len(text) > MAX_CHARS for text in texts):
      return [np.concatenate([self.encode_batch([part])[0]
                              for part in split_long(text)])
              for text in texts]
    ids = [encoding.ids for encoding in
           self._encodings(self._plain.encode_batch_fast, texts)]
    ends = np.cumsum([0, *map(len, ids)]).tolist()
    flat = np.fromiter(chain.from_iterable(ids), self.dtype, ends[-1])
    return [flat[a:b] for a, b in zip(ends, ends[1:])]

  def _encodings(self, encode: Callable[..., list], texts: list[str]) -> list:
    with _refusals(self._source):
      try:
        return encode(texts, add_special_tokens=False)
      except (UnicodeEncodeError, TypeError):
        pass
    raise InputError(
        'a text to encode holds a lone surrogate (half a character), which no '
        'UTF-8 text can hold: replace it')

  def encode_with_offsets(self, texts: list[str]
                          ) -> list[tuple[np.ndarray, np.ndarray]]:
    """Encodes texts as `encode_batch` does, and locates each id in its text.

    Returns:
      For each text, T ids of `dtype` and int32[T, 2]: the index of a piece's
      first character, and of the one after its last. The leading space of a
      byte-level piece is left out, unless the piece is only that space. Pieces
      that share the bytes of a character all cover that character.
    """
    results = []
    encodings = self._encodings(self._plain.encode_batch, texts)
    for text, encoding in zip(texts, encodings):
      spans = np.array(encoding.offsets, np.int32).reshape(-1, 2)
      letters = np.frombuffer(text.encode('utf-32-le'), np.uint32)
      longer = spans[:, 1] - spans[:, 0] > 1
      spans[longer, 0] += letters[spans[longer, 0]] == ord(' ')
      results.append((np.array(encoding.ids, self.dtype), spans))
    return results

  def encode(self, text: str, allow_mask: bool = False) -> np.ndarray:
    """Encodes one text, without <s> and </s>.

    With `allow_mask` each of `mask_texts` becomes the special token. Spaces
    before it are dropped, because the word that the model predicts there brings
    its own (fairseq models/roberta/hub_interface.py:fill_mask).
    """
    if not allow_mask:
      return self.encode_batch([text])[0]
    masks = '|'.join(map(re.escape, self.mask_texts))
    spans = self.encode_batch([s.rstrip() for s in re.split(masks, text)])
    mask = np.array([self.mask_id], self.dtype)
    return np.concatenate(
        [spans[0], *chain.from_iterable((mask, s) for s in spans[1:])])

  def decode(self, ids) -> str:
    """Decodes ids; special tokens appear as '<s>', '[MASK]', ...

    A byte-level BPE restores the text exactly; a WordPiece gives its words,
    joined by spaces.
    """
    return self._kind.decode(self._plain, [int(i) for i in ids])

  def token_text(self, token_id: int) -> str:
    """Shows one id as text: ' the', '<mask>', or bytes such as '\\xe2'.

    A piece that begins a word has a space in front, in either kind; incomplete
    characters are shown byte by byte.
    """
    return self._kind.token_text(self._plain, int(token_id))

  def token_bytes(self, token_id: int) -> bytes:
    """Returns the UTF-8 bytes of one id, which may be part of a character.

    Joined over the ids of a text they are its text; a WordPiece has one more
    space in front.
    """
    return self._kind.token_bytes(self._plain, int(token_id))

  def with_added(self, tokens: list[str]) -> 'Tokenizer':
    """Returns a tokenizer that gives these words the next free ids, in order.

    A word is recognized before the text is cut into pieces, unless a letter or
    digit is next to it. A space before it stays a token of its own, as with
    Hugging Face's `add_tokens`. A token that is empty, has spaces around it or
    has an id already is an InputError.
    """
    state = json.loads(self.to_json())
    added = state['added_tokens']
    known = {*state['model']['vocab'], *(token['content'] for token in added)}
    for number, token in enumerate(tokens, self.vocab_size):
      if not token or token != token.strip() or token in known:
        raise InputError(
            f'added token {token!r}: '
            + ('it has an id already.' if token in known else
               'expected a word without spaces around it.'))
      known.add(token)
      added.append({'id': number, 'content': token, 'single_word': True,
                    'lstrip': False, 'rstrip': False, 'normalized': False,
                    'special': False})
    return Tokenizer(state, 'added tokens')

  def to_json(self) -> str:
    """Returns a tokenizer.json for transformers' RoBERTa or BERT tokenizer."""
    import tokenizers
    core, kind = tokenizers.Tokenizer.from_str(self._plain.to_str()), self._kind
    core.add_special_tokens([
        tokenizers.AddedToken(token, special=True, normalized=False,
                              lstrip=token == kind.MASK and kind.MASK_LSTRIP)
        for token in (*kind.SPECIALS, kind.MASK)])
    state = json.loads(core.to_str())
    state['post_processor'] = self._post_processor
    # The library writes its keys in its own order.
    return tokenizers.Tokenizer.from_str(json.dumps(state)).to_str()

  def save(self, path: str) -> None:
    """Writes a tokenizer.json, which appears whole or not at all."""
    with errors.writing(path):
      files.write_text(os.fspath(path), self.to_json())


@contextlib.contextmanager
def _refusals(source: str) -> Iterator[None]:
  """Turns what the library says of a tokenizer into an InputError."""
  import tokenizers
  try:
    with errors.no_panic():
      yield
  except Exception as e:
    # The library raises bare Exceptions; of arguments, Python's own kinds.
    if type(e) is not Exception and not isinstance(
        e, (OverflowError, RuntimeError, TypeError, ValueError)):
      raise
    raise InputError(
        f'{source}: not a tokenizer that the tokenizers library '
        f'{tokenizers.__version__} reads: {e}') from e


def _checked_state(state: Any, source: str) -> tuple[ModuleType, dict]:
  """Returns a row of KINDS, and the state with added tokens in `vocab`."""
  model = state.get('model') if isinstance(state, dict) else None
  if not isinstance(model, dict):
    raise InputError(f'{source}: not a tokenizer.json: it has no "model".')
  name = model.get('type', 'BPE')
  if not isinstance(name, str) or name not in KINDS:
    raise InputError(f'{source}: its model is {name}; a byte-level BPE or a '
                     'WordPiece would do.')
  kind, vocab = KINDS[name], model.get('vocab')
  if not isinstance(vocab, dict) or not vocab:
    raise InputError(f'{source}: its model has no "vocab".')
  for key in ('normalizer', 'pre_tokenizer'):
    if not isinstance(state.get(key) or {}, dict):
      raise InputError(f'{source}: its "{key}" is not an object.')
  kind.check_model(model, source)
  vocab, added = dict(vocab), state.get('added_tokens') or []
  if not (isinstance(added, list)
          and all(isinstance(token, dict)
                  and isinstance(token.get('content'), str)
                  for token in added)):
    raise InputError(f'{source}: its "added_tokens" are not objects with '
                     '"content".')
  # The kind decides which tokens are special, not the file.
  added = [{**token, 'special': True} if token['content'] in (
      *kind.SPECIALS, kind.MASK) else token for token in added]
  for token in added:
    vocab.setdefault(token['content'], token.get('id'))
  last = len(vocab) - 1
  if not all(type(i) is int for i in vocab.values()) or sorted(
      vocab.values()) != list(range(last + 1)):
    raise InputError(
        f'{source}: its {last + 1} ids are not 0 to {last}, each once.')
  for token in (*kind.SPECIALS, kind.MASK):
    if token not in vocab:
      raise InputError(f'{source}: the special token {token} is missing.')
  state = {**state, 'model': {**model, 'vocab': vocab}, 'added_tokens': added}
  kind.check(state, _base_vocab(state), source)
  return kind, state


def _base_vocab(state: dict) -> dict[str, int]:
  """Returns the vocabulary without the tokens that were added at its end."""
  vocab = dict(state['model']['vocab'])
  added = {token['content'] for token in state['added_tokens']
           if not token.get('special')}
  while vocab and (last := max(vocab, key=vocab.get)) in added:
    del vocab[last]
  return vocab


# Training. The least vocab_size of each kind, and why:
_SMALLEST = {
    'byte_bpe': (256 + len(SPECIALS) + 1, 'a byte-level vocabulary has at '
                 'least {} ids: 256 bytes and 5 special tokens'),
    'wordpiece': (100, 'a WordPiece vocabulary has at least {} ids')}
# How many characters WordPiece keeps, as does Hugging Face's trainer of BERT.
_MOST_CHARACTERS = 1000


def check(config: TokenizerConfig) -> None:
  """Raises an InputError if a config's kind or vocab_size cannot be trained."""
  if config.kind not in _SMALLEST:
    raise unknown('tokenizer.kind', config.kind, _SMALLEST)
  if not config.path:
    _check_size(config.kind, config.vocab_size)


def _check_size(kind: str, vocab_size: int) -> None:
  least, why = _SMALLEST[kind]
  if vocab_size < least:
    raise InputError(f'tokenizer.vocab_size={vocab_size}: {why.format(least)}.')


def train_byte_bpe(texts: Iterable[str] | Iterable[list[str]],
                   vocab_size: int) -> Tokenizer:
  """Trains a byte-level BPE; the same texts give the same tokenizer.

  Ids have RoBERTa's layout: <s> <pad> </s> <unk>, the 256 bytes, the merges in
  the order in which they were learned, <mask>.

  Args:
    texts: strings, or lists of strings (faster).
    vocab_size: the number of all ids; less than 261 is an InputError. Too
      little text gives fewer ids: see `vocab_size` of the result.
  """
  import tokenizers
  from tokenizers import models, pre_tokenizers, trainers
  _check_size('byte_bpe', vocab_size)
  core = tokenizers.Tokenizer(models.BPE())
  core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
  # The pre-tokenizer splits letters from '<' and '>', so no merge can ever
  # spell a special token, however often the corpus contains it.
  core.train_from_iterator(texts, trainers.BpeTrainer(
      vocab_size=vocab_size - 1, show_progress=False,
      special_tokens=list(SPECIALS),
      # The library returns its alphabet as an unordered set.
      initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet())))
  model = json.loads(core.to_str())['model']
  vocab = model['vocab']
  vocab[MASK] = len(vocab)
  return Tokenizer.from_bpe(
      vocab, [tuple(pair) for pair in model['merges']], 'training')


def train_wordpiece(texts: Callable[[], Iterable[str] | Iterable[list[str]]],
                    vocab_size: int, lowercase: bool = True) -> Tokenizer:
  """Trains a WordPiece; the same texts give the same tokenizer.

  Ids are [PAD] [UNK] [CLS] [SEP], the characters at the beginning of a word,
  those inside one, longer pieces in the order in which they were learned (the
  most frequent pair first, as in BPE; BERT's trainer is not public), [MASK]. At
  most 1,000 characters, in at most half of the vocabulary, are kept; the rarest
  get no id.

  Args:
    texts: is called twice, for the characters and for the pieces; returns
      strings, or lists of strings.
    vocab_size: the number of all ids; less than 100 is an InputError. Too
      little text gives fewer ids.
    lowercase: whether text is made lower case and loses its accents.
  """
  from tokenizers import trainers
  _check_size('wordpiece', vocab_size)
  core = wordpiece.core({wordpiece.UNK: 0}, lowercase)
  most = min(_MOST_CHARACTERS, (vocab_size - len(wordpiece.SPECIALS) - 1) // 4)
  characters = _characters(texts(), core.normalizer, most)
  # The library would number the '##' characters in the order of a randomized
  # hash table, and these numbers decide between equally frequent pairs.
  numbered = [*wordpiece.SPECIALS, *characters,
              *(wordpiece.PREFIX + c for c in characters)]
  core.train_from_iterator(texts(), trainers.WordPieceTrainer(
      vocab_size=vocab_size - 1, show_progress=False,
      special_tokens=numbered, initial_alphabet=characters,
      limit_alphabet=len(characters),
      continuing_subword_prefix=wordpiece.PREFIX))
  vocab = json.loads(core.to_str())['model']['vocab']
  vocab[wordpiece.MASK] = len(vocab)
  return Tokenizer.from_wordpiece(vocab, lowercase, 'training')


def _characters(texts: Iterable[str] | Iterable[list[str]], normalizer,
                most: int) -> list[str]:
  """Finds the most frequent characters of the normalized texts, sorted."""
  raw, counts = Counter(), Counter()
  for text in texts:
    raw.update(text if isinstance(text, str) else ''.join(text))
  for character, count in raw.items():
    # Normalizing splits some letters into several, and drops accents.
    for normal in ''.join(normalizer.normalize_str(character).split()):
      counts[normal] += count
  return sorted(sorted(counts, key=lambda c: (-counts[c], c))[:most])
