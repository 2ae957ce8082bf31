"""Other people's names for our arrays: Hugging Face's, fairseq's, ONE table.

Floor 2: the room knows model and text. `open_source` looks at a folder of
Hugging Face or a model.pt of fairseq, and its `read()` gives a `Pretrained`:
weights, shape and tokenizer. `huggingface.write_folder` writes one for
transformers. No code that comes with weights is run, and torch is imported only
to read a .bin or .pt.
"""

from robertax.interop.pretrained import (
    Pretrained,
    is_foreign,
    open_source,
    source_tokenizer,
)

__all__ = ['Pretrained', 'is_foreign', 'open_source', 'source_tokenizer']
