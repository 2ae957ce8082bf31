"""Which token looks at which: the attention probabilities of a text."""

from __future__ import annotations

import dataclasses
import typing

import numpy as np

from robertax.errors import InputError
from robertax.inspection import fill_mask, pictures
from robertax.inspection.network import row_batches, with_ends

if typing.TYPE_CHECKING:
  from robertax.inspection.model import Model


@dataclasses.dataclass(frozen=True)
class AttentionMap:
  """Attention of one text; a notebook shows all layers and heads.

  Attributes:
    tokens: the text's T tokens, <s> and </s> included.
    probabilities: float32[N, H, T, T]: [n, h, t] is what token t, in layer n by
      head h, takes from each token; it sums to 1.
  """
  tokens: list[str]
  probabilities: np.ndarray

  def picture(self, layer: int, head: int) -> pictures.Picture:
    """One head, with its tokens.

    Args:
      layer, head: from 0; negative ones count from the last.

    Raises:
      InputError: there is no such.
    """
    for name, value, count in (('layer', layer, len(self.probabilities)),
                               ('head', head, self.probabilities.shape[1])):
      if not -count <= value < count:
        raise InputError(f'{name}={value}: there are {count}, from 0.')
    size = min(2.2 + .3 * len(self.tokens), 14)
    figure = pictures.blank(size + .8, size)
    axes = figure.subplots()
    image = axes.imshow(self.probabilities[layer, head], cmap='viridis',
                        vmin=0, vmax=1)
    places = range(len(self.tokens))
    names = [token.strip() or '␣' for token in self.tokens]
    axes.set_xticks(places, names, rotation=90)
    axes.set_yticks(places, names)
    axes.set(xlabel='looked at', ylabel='token')
    axes.set_title(f'layer {layer % len(self.probabilities)}, '
                   f'head {head % self.probabilities.shape[1]}', fontsize=11)
    figure.colorbar(image, ax=axes, shrink=.7, label='probability')
    return pictures.Picture(figure)

  def overview(self) -> pictures.Picture:
    """All heads as small maps: a row a layer, a column a head."""
    layers, heads = self.probabilities.shape[:2]
    figure = pictures.blank(min(1.25 * heads + .8, 16),
                            min(1.25 * layers + .8, 24))
    grid = figure.subplots(layers, heads, squeeze=False)
    for layer in range(layers):
      for head in range(heads):
        axes = grid[layer, head]
        axes.imshow(self.probabilities[layer, head], cmap='viridis', vmin=0,
                    vmax=1)
        axes.set_xticks([])
        axes.set_yticks([])
        if layer == 0:
          axes.set_title(f'head {head}', fontsize=9)
        if head == 0:
          axes.set_ylabel(f'layer {layer}', fontsize=9)
    return pictures.Picture(figure)

  def _repr_png_(self) -> bytes:
    return self.overview()._repr_png_()


def attention(model: Model, text: str) -> AttentionMap:
  """The attention of every layer and head for one text.

  The kernels never hold these numbers; they are made again here from each
  block's input, as `kernels.attention.xla` defines them.

  Args:
    model: from `robertax.load`.
    text: may have masks.

  Raises:
    InputError: more tokens than the model has positions.
  """
  tok = model.tokenizer
  for name in tok.mask_texts:
    text = text.replace(name, fill_mask.MASK)
  row = with_ends(tok, tok.encode(text, allow_mask=True),
                  model.config.max_positions, text)
  ((_, input_ids, segment_ids),) = row_batches(
      [row], tok.pad_id, model.config.max_positions, len(row))
  states = model.states(input_ids, segment_ids, all_layers=True)
  x_NTD = states[:-1, 0, :len(row)]  # What goes into each block; no padding.
  weights = model.params['layers']['attention']

  def project(name):
    kernel_NDHK = np.asarray(weights[name]['kernel'])
    bias_NHK = np.asarray(weights[name]['bias'])
    return np.einsum('NTD,NDHK->NHTK', x_NTD, kernel_NDHK,
                     optimize=True) + bias_NHK[:, :, None]

  q_NHTK, k_NHSK = project('query'), project('key')
  scores_NHTS = q_NHTK @ k_NHSK.swapaxes(-1, -2) * q_NHTK.shape[-1]**-.5
  scores_NHTS -= scores_NHTS.max(-1, keepdims=True)
  probs_NHTS = np.exp(scores_NHTS)
  probs_NHTS /= probs_NHTS.sum(-1, keepdims=True)
  return AttentionMap([tok.token_text(i) for i in row], probs_NHTS)
