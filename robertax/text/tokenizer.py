"""The tokenizer: it turns text into ids and back, and can be saved.

A file of any model of the `tokenizers` library is read (`pieces`), and that
library decides the ids, as the file says. The five special tokens may have any
ids and names, so all other code takes them from attributes of the tokenizer.
"""

from collections.abc import Callable, Iterator
import contextlib
import copy
import functools
import hashlib
from itertools import chain, groupby
import json
import os
import re
from typing import Any

import numpy as np

from robertax import errors, files
from robertax.config import ModelConfig
from robertax.errors import InputError
from robertax.text import encoders, layout, pieces, wordpiece

MASK_TEXT = '<mask>'  # For a mask, whatever the tokenizer calls it.
# The longest text that is encoded at once. The library needs about 100 bytes a
# character, so a line of 50 MB would take gigabytes.
MAX_CHARS = 1 << 18
_BETWEEN_WORDS = re.compile(r'(?<=\S) (?=\S)')
# Makes the name of a special token one that no text has.
_NO_TEXT = '\0 is no text'
NAMES_FILE = 'special_tokens_map.json'


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
  """A tokenizer of the `tokenizers` library, with its special tokens.

  Text never becomes one of the five special tokens: '<mask>' in a corpus gives
  the pieces '<', 'mask', '>'. `encode` with `allow_mask=True`, which fill-mask
  uses, is the one exception. (A word without pieces gives unk_id.) Other tokens
  that a file adds, such as '<url>', are found as the library finds them.
  Dropout, which a file may have, is off: the same text has the same ids.

  Attributes:
    kind: 'byte_bpe', 'wordpiece', 'unigram', 'char', 'word_level' or 'bpe' (one
      that is not byte-level).
    vocab_size: the number of ids.
    bos_id, pad_id, eos_id, unk_id, mask_id: the ids of the special tokens; a
      WordPiece calls them [CLS], [PAD], [SEP], [UNK] and [MASK]. unk_id is -1
      if no text needs one.
    special_ids: these five ids, ascending.
    random_ids: int32[R], the ids that masking draws as random tokens.
    word_starts: bool[vocab_size], the pieces that begin a word; special tokens
      do not. The first piece of a text may begin a word without being marked,
      since RoBERTa puts no space before it.
    mask_texts: '<mask>' and the tokenizer's own mask, for `encode`.
    layout: how one text and two are laid out, by the file's post-processor;
      where there is none, by that of RoBERTa or BERT.
    notes: lines for people about what this file has and what is done with it.
    dtype: np.uint16, or np.uint32 if that is too small for some id.
    fingerprint: 16 hex digits, a hash of everything that decides ids.
  """

  def __init__(self, state: dict, source: str,
               names: dict[str, str] | None = None):
    """Reads a parsed tokenizer.json; `source` names it in InputErrors.

    `names` are the names of special tokens that files beside it give, such as
    {'mask_token': '<m>'}.
    """
    state = pieces.checked(state, source)
    ids = pieces.ids_of(state, source)
    self._source, self._names = source, names or {}
    self.kind = pieces.kind_of(state)
    self.vocab_size = 1 + max(ids.values())
    post, ends = state.get('post_processor'), (None, None)
    if post:
      with refusals(source):
        found = layout.of(post, self.vocab_size, source)
      ends = (*found.single[0], None)[0], (None, *found.single[1])[-1]
      if not any((*found.single, found.before, found.between, found.after)):
        post = None  # Such as ByteLevel, which only mends offsets.
    self._roles = pieces.roles_of(state, ids, self._names, ends, source)
    (self.bos_id, self.pad_id, self.eos_id, self.unk_id,
     self.mask_id) = self._roles
    self.special_ids = tuple(sorted({i for i in self._roles if i >= 0}))
    self._pieces = [''] * self.vocab_size
    for piece, i in ids.items():
      self._pieces[i] = piece
    own = [token for token in state['added_tokens']
           if ids[token['content']] not in self.special_ids]
    self._literal = {ids[token['content']] for token in own}
    self._post_processor = post or self._default_post_processor()
    with refusals(source):
      self.layout = layout.of(self._post_processor, self.vocab_size, source)
    self._spelling = pieces.spelling_of(state)
    self._ordinary = _is_ordinary(state, ids, self.kind)
    self.random_ids = pieces.random_ids(
        self._pieces, self._roles, self.kind, self._ordinary,
        {token['content'] for token in own if not token.get('special')})
    self.mask_texts = tuple(dict.fromkeys(
        (MASK_TEXT, self._pieces[self.mask_id])))
    self.word_starts = pieces.word_starts(
        self._pieces, self._spelling, self.kind)
    self.word_starts[list(self.special_ids)] = False
    self.dtype = np.uint16 if self.vocab_size <= 65536 else np.uint32
    self.notes = _notes(state, ids, self.kind, source)
    self._state = {**state, 'truncation': None, 'padding': None}
    self._plain, facts = self._libraries(ids, own)
    self._encode = encoders.reference(self._plain)
    self.fingerprint = hashlib.sha256(
        json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]

  def _default_post_processor(self) -> dict:
    """Returns BERT's for a tokenizer with its names, else RoBERTa's."""
    from tokenizers import processors
    bos, eos = self._pieces[self.bos_id], self._pieces[self.eos_id]
    ends = (eos, self.eos_id), (bos, self.bos_id)
    # The arguments are positional because the library's docstring and its code
    # disagree on the name of the second one.
    made = (processors.BertProcessing(*ends) if bos.startswith('[') else
            processors.RobertaProcessing(*ends, True, False))
    return json.loads(made.__getstate__())

  def _libraries(self, ids: dict[str, int], own: list[dict]) -> tuple:
    """Returns the library's tokenizer and the facts that decide ids.

    An ordinary one has its special tokens in the vocabulary, where no text
    reaches them. In all others their names become some that no text has.
    """
    import tokenizers  # Not every machine that trains has it.
    model = self._model()
    unmerged = [t for t in own if t['content'] not in model['vocab']]
    if self._ordinary and not (unmerged and self.kind == 'wordpiece'):
      plain = {**self._state, 'model': {**model, 'vocab': ids},
               'added_tokens': own, 'post_processor': None}
      with refusals(self._source):
        made = tokenizers.Tokenizer.from_str(json.dumps(plain))
      facts = _facts(made)
      if not self._reaches_specials(made):
        return made, facts
    made = self._hiding(set(self.special_ids), ids)
    return made, _facts(made)

  def _model(self) -> dict:
    """Returns the model without dropout."""
    model = self._state['model']
    return {**model, 'dropout': None} if 'dropout' in model else model

  def _hiding(self, hidden: set[int], ids: dict[str, int]):
    """Builds the library's tokenizer without the `hidden` special tokens.

    A mask that is not hidden is found in text.
    """
    import tokenizers
    def name(piece):
      return piece + _NO_TEXT if ids.get(piece) in hidden else piece
    model = self._model()
    vocab = model['vocab']
    if isinstance(vocab, list):
      vocab = [[name(piece), score] for piece, score in vocab]
    else:
      vocab = {name(piece): i for piece, i in vocab.items()}
      if model['type'] != 'WordPiece' or sorted(vocab.values()) != list(
          range(len(vocab))):
        # The library would number tokens behind a gap otherwise.
        vocab |= {name(piece): i for piece, i in ids.items()}
    known = {row[0] for row in vocab} if isinstance(vocab, list) else vocab
    tokens = {ids[t['content']]: t for t in self._state['added_tokens']}
    if self.mask_id not in hidden:
      tokens.setdefault(self.mask_id, self._added(self.mask_id))
    added = [{**t, 'content': name(t['content']), 'id': i,
              'special': t.get('special', False)} for i, t in tokens.items()]
    added = [t for t in added if not t['content'].endswith(_NO_TEXT)
             or t['content'] not in known]
    model = {**model, 'vocab': vocab}
    if isinstance(model.get('merges'), list):
      # Trained on text with '</s>' in it, some merges make that token.
      lost = {piece for piece, i in ids.items() if i in hidden}
      pairs = [(pair, pair.split(' ') if isinstance(pair, str) else pair)
               for pair in model['merges']]
      model['merges'] = [pair for pair, parts in pairs
                         if lost.isdisjoint([*parts, ''.join(parts)])]
    if isinstance(model.get('unk_token'), str):
      model['unk_token'] = name(model['unk_token'])
    with refusals(self._source):
      made = tokenizers.Tokenizer.from_str(json.dumps({
          **self._state, 'model': model, 'post_processor': None,
          'added_tokens': sorted(added, key=lambda t: t['id'])}))
    for token in added:
      if made.token_to_id(token['content']) != token['id']:
        raise InputError(
            f'{self._source}: the library gives its added token '
            f'{token["content"].removesuffix(_NO_TEXT)!r} the id '
            f'{made.token_to_id(token["content"])}, the file {token["id"]}.')
    return made

  def _reaches_specials(self, made) -> bool:
    """Whether the text of a special token's name becomes that token."""
    with refusals(self._source):
      found = {i for special in self.special_ids for i in made.encode(
          f' {self._pieces[special]} a{self._pieces[special]}b',
          add_special_tokens=False).ids}
    return bool(found & set(self.special_ids) - {self.unk_id})

  @classmethod
  def from_json(cls, text: str, source: str = 'tokenizer.json',
                names: dict[str, str] | None = None) -> 'Tokenizer':
    """Parses the text of a tokenizer.json; `source` names it in errors."""
    with errors.reading(source, 'not JSON'):
      state = json.loads(text)
    return cls(state, source, names)

  @classmethod
  def from_bpe(cls, vocab: dict[str, int], merges: list, source: str
               ) -> 'Tokenizer':
    """Makes a byte-level BPE from pieces with ids, and merges by rank."""
    return cls(byte_bpe_state(vocab, merges, source), source)

  @classmethod
  def from_wordpiece(cls, vocab: dict[str, int], lowercase: bool, source: str,
                     accents: bool = False) -> 'Tokenizer':
    """Makes a WordPiece from pieces with ids, special tokens included."""
    return cls(json.loads(wordpiece.core(vocab, lowercase, accents).to_str()),
               source)

  def encode_batch(self, texts: list[str]) -> list[np.ndarray]:
    """Encodes texts; no special token is added or recognized.

    Returns arrays of `dtype`, one for each text, which are views of one buffer.
    A lone surrogate in a text is an InputError.
    """
    ids, lengths = self.encode_flat(texts)
    ends = np.cumsum([0, *lengths]).tolist()
    return [ids[a:b] for a, b in zip(ends, ends[1:])]

  def encode_flat(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Encodes texts as `encode_batch` does, into two arrays.

    Returns:
      The ids of all texts, of `dtype`, and int64[texts]: how many each has.
    """
    self._check_texts(texts)
    if any(len(text) > MAX_CHARS for text in texts):
      whole = [[self.encode_flat([part])[0] for part in self._parts(text)]
               for text in texts]
      return (np.concatenate(list(chain.from_iterable(whole))),
              np.array([sum(map(len, parts)) for parts in whole]))
    ids, lengths = self._refusing(self._encode, texts)
    return ids.astype(self.dtype), lengths

  def with_encoder(self, name: str) -> 'Tokenizer':
    """Returns a tokenizer whose `encode_batch` is of a row of ENCODERS."""
    if name == encoders.DEFAULT:
      return self
    other = copy.copy(self)
    other._encode = encoders.ENCODERS[name](self._plain)
    return other

  def choose_encoder(self, wanted: str, sample: list[str]) -> encoders.Encoder:
    """Chooses the encoder for `wanted`, data.encoder; see encoders.choose."""
    return encoders.choose(
        wanted, self._plain,
        [self.token_text(i) for i in range(self.vocab_size)], sample)

  def _parts(self, text: str) -> Iterator[str]:
    # A normalizer that prepends a space brings that of a later part itself.
    twice = '"Prepend"' in json.dumps(self._state.get('normalizer'))
    for number, part in enumerate(split_long(text)):
      yield part.removeprefix(' ') if twice and number else part

  def _encodings(self, encode: Callable[..., list], texts: list[str]) -> list:
    self._check_texts(texts)
    return self._refusing(
        lambda texts: encode(texts, add_special_tokens=False), texts)

  def _check_texts(self, texts: list[str]):
    for text in texts:
      if not isinstance(text, str):
        raise InputError(f'a text to encode is a {type(text).__name__}: a '
                         'string would do.')

  def _refusing(self, encode: Callable[[list[str]], Any], texts: list[str]):
    with refusals(self._source):
      try:
        return encode(texts)
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
    spans = [span.rstrip() for span in re.split(masks, text)]
    if not self._ordinary:
      # What the library puts at the beginning of a text is not put behind a
      # mask by all of its pre-tokenizers, so it is shown the whole.
      own = self._pieces[self.mask_id]
      found = self._encodings(self._masked.encode_batch, [own.join(spans)])[0]
      return np.array(found.ids, self.dtype)
    spans = self.encode_batch(spans)
    mask = np.array([self.mask_id], self.dtype)
    return np.concatenate(
        [spans[0], *chain.from_iterable((mask, s) for s in spans[1:])])

  @functools.cached_property
  def _masked(self):
    """The library's tokenizer that finds the mask in a text."""
    ids = pieces.ids_of(self._state, self._source)
    return self._hiding({*self.special_ids} - {self.mask_id}, ids)

  def decode(self, ids) -> str:
    """Decodes ids; special tokens appear as '<s>', '[MASK]', ...

    A byte-level BPE restores the text exactly; a WordPiece gives its words,
    joined by spaces.
    """
    spelling = self._spelling
    if spelling.letters:
      return b''.join(map(self.token_bytes, ids)).decode(errors='replace')
    # As the library does: where bytes in a row are no UTF-8, each is a U+FFFD.
    text = ''
    for single, run in groupby(ids, lambda i: pieces.is_byte(self._pieces[i])):
      found = b''.join(map(self.token_bytes, run))
      try:
        text += found.decode()
      except UnicodeDecodeError:
        text += '\ufffd' * len(found) if single else found.decode(
            errors='replace')
    if spelling.space or spelling.prefix or spelling.apart:
      return text.removeprefix(' ')
    return text.removesuffix(' ') if spelling.suffix else text

  def token_text(self, token_id: int) -> str:
    """Shows one id as text: ' the', '<mask>', or bytes such as '\\xe2'.

    A piece that begins a word has a space in front, in either kind; incomplete
    characters are shown byte by byte.
    """
    return self.token_bytes(token_id).decode(errors='backslashreplace')

  def token_bytes(self, token_id: int) -> bytes:
    """Returns the UTF-8 bytes of one id, which may be part of a character.

    Joined over the ids of a text they are its text; where words are marked, as
    in a WordPiece, there is one more space in front.
    """
    i = int(token_id)
    piece, spelling = self._pieces[i], self._spelling
    if i not in self._literal and i not in self.special_ids:
      return spelling.bytes(piece)
    # An unknown word and an added one are words, the other tokens are not.
    word = (spelling.prefix or spelling.apart) and (
        i == self.unk_id or i in self._literal)
    return (f' {piece}' if word else piece).encode()

  def follows_space(self, token_id: int) -> bool:
    """Whether text has a space before this piece, unless it comes first.

    Where characters are words, as in proteins, nothing is between them.
    """
    return bool(self.word_starts[token_id]) and bool(
        self._spelling.suffix or self.token_text(token_id).startswith(' '))

  def with_added(self, tokens: list[str]) -> 'Tokenizer':
    """Returns a tokenizer that gives these words the next free ids, in order.

    A word is recognized before the text is cut into pieces, unless a letter or
    digit is next to it, and as the normalizer leaves it, as by Hugging Face's
    `add_tokens`: an uncased tokenizer finds it in any case. A space before it
    stays a token of its own. A token that is empty, has spaces around it or has
    an id already is an InputError.
    """
    added = list(self._state['added_tokens'])
    known = set(self._pieces) - {''}
    for number, token in enumerate(tokens, self.vocab_size):
      if not token or token != token.strip() or token in known:
        raise InputError(
            f'added token {token!r}: '
            + ('it has an id already.' if token in known else
               'expected a word without spaces around it.'))
      known.add(token)
      added.append({'id': number, 'content': token, 'single_word': True,
                    'lstrip': False, 'rstrip': False, 'normalized': True,
                    'special': False})
    return Tokenizer({**self._state, 'added_tokens': added}, 'added tokens',
                     self._names)

  def _added(self, token_id: int) -> dict:
    """Describes a special token that the file does not describe."""
    # The space before a mask is part of the word that is predicted there.
    return {'id': token_id, 'content': self._pieces[token_id],
            'single_word': False, 'rstrip': False, 'normalized': False,
            'special': True, 'lstrip': token_id == self.mask_id and bool(
                self._spelling.letters or self._spelling.space)}

  def laid_out(self, model: ModelConfig) -> 'Tokenizer':
    """Returns a tokenizer whose `layout` is that of the model (pair_layout)."""
    old = model.pair_layout == 'types' and (  # A masked LM has no pairs.
        model.num_classes or model.span_head)
    if model.pair_layout == 'tokenizer' or not (model.pair_types or old):
      return self
    template = layout.template(
        (self._pieces[self.bos_id], self.bos_id),
        (self._pieces[self.eos_id], self.eos_id), model.pair_types)
    if layout.of(template, self.vocab_size, self._source) == self.layout:
      return self
    return Tokenizer({**self._state, 'post_processor': template}, self._source,
                     self._names)

  def to_json(self) -> str:
    """Returns a tokenizer.json for transformers' tokenizers."""
    import tokenizers
    state = dict(self._state)
    added = {t['content']: t for t in state['added_tokens']}
    for i in self.special_ids:
      piece = self._pieces[i]
      added[piece] = {**added.get(piece, self._added(i)), 'special': True}
    state |= {'post_processor': self._post_processor, 'added_tokens': sorted(
        added.values(), key=lambda token: self._pieces.index(token['content']))}
    core = tokenizers.Tokenizer.from_str(json.dumps(state))
    if self._ordinary:
      from tokenizers import decoders
      core.decoder = (
          decoders.ByteLevel() if self.kind == 'byte_bpe' else
          decoders.WordPiece(prefix=wordpiece.PREFIX, cleanup=False))
    return core.to_str()

  def special_names(self) -> dict[str, str]:
    """Returns the names of the special tokens: cls_token, pad_token, ..."""
    return {key: self._pieces[i] for role, i in zip(
        pieces.Roles._fields, self._roles) if i >= 0
            for key in pieces.NAME_KEYS[role]}

  def save(self, path: str) -> None:
    """Writes a tokenizer.json, which appears whole or not at all.

    If the file alone does not tell the special tokens, special_tokens_map.json
    beside it does.
    """
    path, text = os.fspath(path), self.to_json()
    with errors.writing(path):
      try:
        alone = Tokenizer.from_json(text)._roles == self._roles
      except InputError:
        alone = False
      if not alone:
        files.write_text(files.join(os.path.dirname(path), NAMES_FILE),
                         json.dumps(self.special_names()))
      files.write_text(path, text)


def byte_bpe_state(vocab: dict[str, int], merges: list, source: str
                   ) -> dict[str, Any]:
  """Makes the parsed tokenizer.json of a byte-level BPE."""
  import tokenizers
  from tokenizers import models, pre_tokenizers
  with refusals(source):
    made = tokenizers.Tokenizer(models.BPE(vocab=vocab, merges=merges))
  made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
  return json.loads(made.to_str())


@contextlib.contextmanager
def refusals(source: str) -> Iterator[None]:
  """Turns what the library says of a tokenizer into an InputError."""
  import tokenizers
  try:
    with errors.no_panic():
      yield
  except InputError:
    raise
  except Exception as e:
    # The library raises bare Exceptions; of arguments, Python's own kinds.
    if type(e) is not Exception and not isinstance(
        e, (OverflowError, RuntimeError, TypeError, ValueError)):
      raise
    raise InputError(
        f'{source}: not a tokenizer that the tokenizers library '
        f'{tokenizers.__version__} reads: {e}') from e


def _facts(made) -> dict[str, Any]:
  read = json.loads(made.to_str())
  return {key: read.get(key) for key in
          ('added_tokens', 'normalizer', 'pre_tokenizer', 'model')}


def _is_ordinary(state: dict, ids: dict[str, int], kind: str) -> bool:
  """Whether this is a whole byte-level BPE, or a WordPiece with BERT's cuts.

  Their pre-tokenizers cut the names of special tokens, which therefore may stay
  in the vocabulary.
  """
  model, cuts = state['model'], state.get('pre_tokenizer')
  if kind == 'wordpiece':
    return (cuts or {}).get('type') == 'BertPreTokenizer' and model.get(
        'continuing_subword_prefix', wordpiece.PREFIX) == wordpiece.PREFIX
  return (kind == 'byte_bpe' and '"ByteLevel"' in json.dumps(cuts)
          and all(c in ids for c in pieces.BYTE_OF)
          and len(ids) == 1 + max(ids.values()))


def _notes(state: dict, ids: dict[str, int], kind: str, source: str
           ) -> tuple[str, ...]:
  notes, dropout = [], state['model'].get('dropout')
  if dropout:
    notes.append(f'{source}: its dropout of {dropout} is off: the same text '
                 'always gives the same ids.')
  missing = sum(c not in ids for c in pieces.BYTE_OF)
  if kind == 'byte_bpe' and missing:
    notes.append(f'{source}: {missing} of the 256 bytes have no id: the '
                 'library drops such letters from a text, and says nothing.')
  return tuple(notes)
