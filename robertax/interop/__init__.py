"""Models of Hugging Face and fairseq, by one table of array names. Floor 2.

`open_source` opens a Hugging Face folder or a model.pt of fairseq, and its
`read()` returns a `Pretrained`: weights, shape and tokenizer.
`huggingface.write_folder` writes one for transformers. Code that comes with
weights is never run, and torch is imported only to read a .bin or .pt.
"""

from robertax.interop.pretrained import (
    Pretrained,
    is_foreign,
    open_source,
    source_tokenizer,
)

__all__ = ['Pretrained', 'is_foreign', 'open_source', 'source_tokenizer']
