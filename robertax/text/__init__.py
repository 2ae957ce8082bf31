"""text: strings <-> ids, on the `tokenizers` library. Floor 0.

Knows two encodings, RoBERTa's byte-level BPE and BERT's WordPiece, and which
ids their special tokens have; how to read a `tokenizer.json`, GPT-2's files
with fairseq's dict.txt, and BERT's vocab.txt; and how to train either. Knows
nothing of files of text: see corpus.
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
