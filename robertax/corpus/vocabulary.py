"""The tokenizer of a preparation: read, or trained on the corpora and kept."""

from collections.abc import Iterator
import hashlib
import json
import os
import sys

from robertax import errors, paths
from robertax.corpus.blocks import part_of
from robertax.corpus.locks import locked
from robertax.corpus.progress import bar
from robertax.corpus.sentences import SPLITTERS
from robertax.errors import InputError
from robertax.text import (
  Tokenizer,
  check,
  load,
  train_byte_bpe,
  train_wordpiece,
)

VERSION = 1  # Raised whenever the same corpora would train another tokenizer.
MAX_CHARS = 256_000_000


def tokenizer_path(config, corpora: list, sentences: str, cache_dir: str
                   ) -> str:
  """Where the tokenizer trained on these corpora is kept."""
  facts = [VERSION, MAX_CHARS, config.vocab_size, sentences,
           [corpus.fingerprint() for corpus in corpora]]
  if config.kind != 'byte_bpe':  # What is kept of those keeps its name.
    facts += [config.kind, config.lowercase]
  name = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
  return os.path.join(cache_dir, 'tokenizers', name, 'tokenizer.json')


def tokenizer_for(config, corpora: list, surveys, sentences: str,
                  cache_dir: str, progress: bool = True,
                  only_kept: bool = False) -> tuple[Tokenizer, str]:
  """The tokenizer that a config asks for.

  Args:
    config: a text.TokenizerConfig.
    corpora: what to train on where `path` is empty.
    surveys: gives each corpus's blocks, `surveys(corpus)`; only their training
      documents are used.
    sentences: a splitter's name; the tokenizer sees what will be encoded.
    cache_dir: trained tokenizers are kept here.
    progress: show a progress bar.
    only_kept: train none.

  Returns:
    The tokenizer and the path of its file.

  Raises:
    InputError: an unknown kind, a wrong file, a vocabulary that is too small.
  """
  if config.path:
    return load(config.path, config.lowercase), config.path
  check(config)
  path = tokenizer_path(config, corpora, sentences, cache_dir)
  if only_kept and not paths.exists(path):
    raise InputError(f'no tokenizer was trained on these corpora: {path} does '
                     'not exist. Run python -m robertax.prepare.')
  with locked(os.path.dirname(path)):
    if not paths.exists(path):
      share = _plan(corpora, surveys)[2]
      if share < 1:
        print(f'The tokenizer is trained on {share:.1%} of the text, documents '
              'taken evenly.', file=sys.stderr)

      def texts():  # WordPiece goes through it twice.
        return _training_texts(corpora, surveys, SPLITTERS[sentences], progress)

      tokenizer = (
          train_byte_bpe(texts(), config.vocab_size)
          if config.kind == 'byte_bpe' else
          train_wordpiece(texts, config.vocab_size, config.lowercase))
      if tokenizer.vocab_size < config.vocab_size:
        print(f'The text gives a vocabulary of {tokenizer.vocab_size:,} only, '
              f'{config.vocab_size:,} were asked for.', file=sys.stderr)
      with errors.writing(path):
        paths.makedirs(os.path.dirname(path))
        tokenizer.save(path)
    try:
      return load(path), path
    except InputError as e:
      raise InputError(f'{e} Delete that file: it is trained again.') from e


def _training_texts(corpora, surveys, split, progress) -> Iterator[list[str]]:
  """Sentences of the training documents, a list a document.

  Of more than `MAX_CHARS` characters a part is taken, document by document,
  evenly from beginning to end.
  """
  heads, total, share = _plan(corpora, surveys)
  seen = taken = 0
  with bar(total, 'char', 'tokenizer: reading', progress) as shown:
    for corpus, blocks in zip(corpora, heads):
      part = blocks[0].part
      for _, text in zip(range(blocks[-1].stop), corpus.documents()):
        seen += len(text)
        shown.update(len(text))
        if taken <= share * seen - len(text) * share or share == 1:
          taken += len(text)
          yield part_of(split(text), part)
  if progress:
    print('tokenizer: learning from it', file=sys.stderr)


def _plan(corpora, surveys) -> tuple[list, int, float]:
  """Training blocks of each corpus, their characters, the share to take."""
  heads = [[block for block in surveys(corpus) if block.split == 'train']
           for corpus in corpora]
  total = sum(block.chars for blocks in heads for block in blocks)
  return heads, total, min(1., MAX_CHARS / max(1, total))
