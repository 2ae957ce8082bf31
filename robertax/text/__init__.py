"""text: strings <-> ids, on the `tokenizers` library. Floor 0.

The room knows two encodings, RoBERTa's byte-level BPE and BERT's WordPiece, the
ids of their special tokens, the files that hold them, and how to train either.
It reads no text of its own: corpus does.
"""

from robertax.config import TokenizerConfig
from robertax.text.loading import load
from robertax.text.tokenizer import (
    Tokenizer,
    check,
    train_byte_bpe,
    train_wordpiece,
)

__all__ = ['Tokenizer', 'TokenizerConfig', 'check', 'load', 'train_byte_bpe',
           'train_wordpiece']
