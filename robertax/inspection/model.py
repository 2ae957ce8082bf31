"""A model at a Python prompt: what it guesses, sees and finds likely."""

from collections.abc import Sequence
from typing import Any

from robertax.inspection import classify, features, fill_mask, pseudo_likelihood
from robertax.inspection.network import Network


class Model(Network):
  """A network that is asked about texts.

  Everything takes one text or a list of them. A list is cut into batches of
  texts of like length; lengths are rounded up, so that few shapes are compiled.
  Attributes are those of `Network`: params, config, tokenizer, step, labels and
  longest.
  """

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
