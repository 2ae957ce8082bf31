"""A model at a Python prompt: what it guesses, sees and finds likely."""

from collections.abc import Sequence
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from robertax import model as modelling
from robertax import text
from robertax.config import ModelConfig
from robertax.inspection import classify, features, fill_mask, pseudo_likelihood


class Model:
  """Weights, tokenizer and shape together.

  Everything takes one text or a list of them. A list is cut into batches of
  texts of like length; lengths are rounded up, so that few shapes are compiled.

  Attributes:
    params: nested dict of float32 arrays.
    config: the ModelConfig.
    tokenizer: text.Tokenizer.
    step: updates the weights have seen.
    labels: names of the classes; empty where there are none.
    longest: most tokens that a text to classify has, as in its fine-tuning.
  """

  def __init__(self, params: Any, config: ModelConfig,
               tokenizer: text.Tokenizer, step: int,
               labels: Sequence[str] = (), longest: int = 0):
    self.params, self.config = params, config
    self.tokenizer, self.step = tokenizer, step
    self.labels = tuple(labels)
    self.longest = min(longest or config.max_positions, config.max_positions)
    self._states = jax.jit(functools.partial(_states, config),
                           static_argnames='all_layers')
    self._log_probs = jax.jit(functools.partial(_log_probs, config))
    self._class_logits = jax.jit(functools.partial(_class_logits, config))
    self._target_log_probs = jax.jit(
        functools.partial(_target_log_probs, config))

  def fill_mask(self, texts: str | Sequence[str], top_k: int = 5,
                targets: Sequence[str] | None = None) -> list:
    """The likeliest tokens for each `<mask>` of a text.

    >>> model.fill_mask('Paris is the <mask> of France.', top_k=1)
    [Filled(text='Paris is the capital of France.', probability=0.9, ...)]
    >>> model.fill_mask('The <mask> is open.', targets=['door', 'sea'])

    Args:
      texts: text with one `<mask>` or more, or what the tokenizer calls it
        (`[MASK]` in a WordPiece); or a list of such.
      top_k: number of guesses, best first.
      targets: words to choose between, instead of all; each must be one token.
        All of them are returned, best first.

    Returns:
      Of a text with one mask a list of `Filled`; of one with several, which
      are guessed at the same time, such a list for each. Of a list of texts a
      list of these.

    Raises:
      InputError: no mask, a text with more tokens than positions, a target that
        is not one token, or a model that predicts no tokens.
    """
    return fill_mask.fill_mask(self, texts, top_k, targets)

  def encode(self, texts: str | Sequence[str], layers: str = 'last',
             pooling: str | None = None, words: bool = False) -> Any:
    """Vectors of tokens, texts or words.

    Args:
      texts: a text or a list.
      layers: 'last', or 'all': the embeddings and every block's output, in a
        dim of N + 1 in front.
      pooling: None: a vector a token, <s> and </s> included; 'first': that of
        <s>; 'mean': of all tokens, those two included.
      words: a vector a word: the mean over the tokens that a word or
        punctuation mark shares characters with.

    Returns:
      Of one text float32[T, D] or, pooled, float32[D]; of a list a list of
      arrays or, pooled, one array with a row for each text. With `words`,
      `Words`, or a list of them.

    Raises:
      InputError: an unknown value, or a text with more tokens than positions.
    """
    return features.encode(self, texts, layers, pooling, words)

  def score(self, texts: str | Sequence[str]) -> Any:
    """Pseudo-log-likelihood: how likely each token is, given all others.

    Each token is masked in turn (Salazar et al. 2020, arXiv:1910.14659), <s>
    and </s> never.

    Args:
      texts: a text or a list.

    Returns:
      `Score`, or a list of them: `.total` in nats, `.log_probs` of each token.

    Raises:
      InputError: a text with more tokens than positions, or a model that
        predicts no tokens.
    """
    return pseudo_likelihood.score(self, texts)

  def classify(self, texts: classify.Texts) -> Any:
    """The class of a text or pair, by a model that was fine-tuned for classes.

    >>> model.classify('A film to see twice.')
    Classified(label='1', probability=0.98, probabilities={'1': 0.98, ...})
    >>> model.classify([('A man sleeps.', 'A man is awake.'), ...])

    What is too long is cut as in fine-tuning, the longer text of a pair first.

    Args:
      texts: a text, a pair of texts (a tuple), or a list of either.

    Returns:
      `Classified`, or a list of them.

    Raises:
      InputError: a model without classes, or single texts and pairs in one
        list.
    """
    return classify.classify(self, texts)

  def class_logits(self, input_ids: np.ndarray, segment_ids: np.ndarray,
                   type_ids: np.ndarray) -> np.ndarray:
    """float32[B, C] of rows of one example each; types are int32[B, T]."""
    return np.asarray(self._class_logits(self.params, input_ids, segment_ids,
                                         type_ids))

  def states(self, input_ids: np.ndarray, segment_ids: np.ndarray,
             all_layers: bool = False) -> np.ndarray:
    """float32[B, T, D] of ids, or, of all layers, [N + 1, B, T, D]."""
    return np.asarray(self._states(self.params, input_ids, segment_ids,
                                   all_layers=all_layers))

  def log_probs(self, input_ids: np.ndarray, segment_ids: np.ndarray,
                positions: np.ndarray) -> np.ndarray:
    """log p of every token at `positions`, int32[B, M]: float32[B, M, V]."""
    return np.asarray(self._log_probs(self.params, input_ids, segment_ids,
                                      positions))

  def target_log_probs(self, input_ids: np.ndarray, segment_ids: np.ndarray,
                       positions: np.ndarray, targets: np.ndarray
                       ) -> np.ndarray:
    """log p of `targets` at `positions`, both int32[B, M]: float32[B, M]."""
    return np.asarray(self._target_log_probs(
        self.params, input_ids, segment_ids, positions, targets))


def _encoded(config, params, input_ids, segment_ids, all_layers=False):
  module = modelling.bind(config, params)
  types = jnp.zeros_like(input_ids) if config.num_types else None
  encode = module.encode_layers if all_layers else module.encode
  return module, encode(input_ids, segment_ids, types)


def _class_logits(config, params, input_ids, segment_ids, type_ids):
  module = modelling.bind(config, params)
  x_BTD = module.encode(input_ids, segment_ids,
                        type_ids if config.num_types else None)
  first = jnp.zeros((len(input_ids), 1), jnp.int32)
  return module.class_logits(x_BTD, first)[:, 0].astype(jnp.float32)


def _states(config, params, input_ids, segment_ids, all_layers):
  _, x_BTD = _encoded(config, params, input_ids, segment_ids, all_layers)
  return x_BTD.astype(jnp.float32)


def _log_probs(config, params, input_ids, segment_ids, positions):
  module, x_BTD = _encoded(config, params, input_ids, segment_ids)
  return jax.nn.log_softmax(module.mlm_logits(x_BTD, positions))


def _target_log_probs(config, params, input_ids, segment_ids, positions,
                      targets):
  log_probs = _log_probs(config, params, input_ids, segment_ids, positions)
  return jnp.take_along_axis(log_probs, targets[..., None], axis=-1)[..., 0]
