"""text: strings <-> ids, on the `tokenizers` library. Floor 0.

The room reads any tokenizer of that library, finds its special tokens, and says
how they surround a text. It trains byte-level BPE, WordPiece, Unigram and
vocabularies of characters. It reads no text of its own: corpus does.
"""

from robertax.config import TokenizerConfig
from robertax.text.loading import load
from robertax.text.tokenizer import Tokenizer
from robertax.text.training import (
    check,
    train,
    train_byte_bpe,
    train_wordpiece,
)

__all__ = ['Tokenizer', 'TokenizerConfig', 'check', 'load', 'train',
           'train_byte_bpe', 'train_wordpiece']
