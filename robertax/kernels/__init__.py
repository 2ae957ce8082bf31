"""Arrays in, arrays out: dropout by hash, attention, LayerNorm, GELU.

Floor 0. The room knows neither parameters nor config, and only the mesh that
`jax.set_mesh` has entered. Every function is traceable and gives the same
numbers under jit and on any mesh.
"""

from robertax.kernels.attention import IMPLEMENTATIONS, attention
from robertax.kernels.dense import gelu, layer_norm
from robertax.kernels.dropout import (
           dropout,
           fold,
           keep_mask,
           key_words,
           row_keys,
)

__all__ = ['IMPLEMENTATIONS', 'attention', 'dropout', 'fold', 'gelu',
           'keep_mask', 'key_words', 'layer_norm', 'row_keys']
