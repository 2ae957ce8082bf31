"""load(): a trained model at a Python prompt."""

from collections.abc import Sequence
import os
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from robertax import model as modelling
from robertax import text
from robertax.errors import InputError
from robertax.model.config import ModelConfig
from robertax.train import workdir
from robertax.train.checkpoint import Checkpoints

MASK = '<mask>'


class Filled(NamedTuple):
  """One guess for a mask.

  Attributes:
    text: the sentence with the guess in the mask's place.
    probability: of the guess, over the whole vocabulary.
    token: the guess, with its leading space if it begins a word.
  """
  text: str
  probability: float
  token: str


class Model:
  """Weights, tokenizer and shape together.

  Attributes:
    params: nested dict of float32 arrays.
    config: the ModelConfig.
    tokenizer: text.Tokenizer.
    step: updates the weights have seen.
  """

  def __init__(self, params: Any, config: ModelConfig,
               tokenizer: text.Tokenizer, step: int):
    self.params, self.config = params, config
    self.tokenizer, self.step = tokenizer, step
    self._log_probs = jax.jit(self._masked_log_probs)

  def fill_mask(self, sentence: str, top_k: int = 5) -> list[Filled]:
    """The likeliest tokens for the one <mask> of a sentence.

    The space before the mask belongs to the guess, as in fairseq
    (models/roberta/hub_interface.py:156-217): the text is cut at the mask, each
    part loses the spaces at its end and is encoded apart.

    Args:
      sentence: text with exactly one `<mask>`, or what the tokenizer calls it
        (`[MASK]` in a WordPiece).
      top_k: number of guesses, best first.

    Raises:
      InputError: not one mask, or more tokens than the model has positions.
    """
    tok = self.tokenizer
    for name in tok.mask_texts:
      sentence = sentence.replace(name, MASK)
    if sentence.count(MASK) != 1:
      raise InputError(f'fill_mask needs exactly one {MASK} in the text, found '
                       f'{sentence.count(MASK)}: {sentence[:80]!r}.')
    if not 1 <= top_k <= self.config.vocab_size:
      raise InputError(f'top_k={top_k}: from 1 to {self.config.vocab_size}.')
    ids = np.concatenate([[tok.bos_id], tok.encode(sentence, allow_mask=True),
                          [tok.eos_id]]).astype(np.int32)
    if len(ids) > self.config.max_positions:
      raise InputError(
          f'the text is {len(ids)} tokens long, the model has '
          f'{self.config.max_positions} positions: give a shorter one.')
    log_probs = self._at(ids, int(np.argmax(ids == tok.mask_id)))
    best = np.argsort(-log_probs, kind='stable')[:top_k]
    hole = f' {MASK}' if f' {MASK}' in sentence else MASK
    filled = []
    for token in best:
      guess = tok.decode([int(token)])
      # A WordPiece's words have no space of their own.
      if (tok.word_starts[token] and not guess.startswith(' ')
          and not sentence.startswith(MASK)):
        guess = f' {guess}'
      filled.append(Filled(sentence.replace(hole, guess),
                           float(np.exp(log_probs[token])), guess))
    return filled

  def _at(self, ids: np.ndarray, position: int) -> np.ndarray:
    """log p of every token at one position of one example: float32[V]."""
    # Lengths are rounded up to powers of two, so that few shapes are compiled.
    length = min(self.config.max_positions, 1 << (len(ids) - 1).bit_length())
    input_ids = np.full((1, length), self.tokenizer.pad_id, np.int32)
    input_ids[0, :len(ids)] = ids
    segment_ids = (np.arange(length) < len(ids)).astype(np.int32)[None]
    return np.asarray(self._log_probs(
        self.params, input_ids, segment_ids, np.array([[position]], np.int32))
                     )[0, 0]

  def _masked_log_probs(self, params, input_ids, segment_ids, positions):
    module = modelling.bind(self.config, params)
    types = jnp.zeros_like(input_ids) if self.config.num_types else None
    x_BTD = module.encode(input_ids, segment_ids, types)
    return jax.nn.log_softmax(
        module.mlm_logits(x_BTD, positions).astype(jnp.float32))


def load(path: str) -> Model:
  """Opens the newest checkpoint of a workdir.

  Args:
    path: W, a folder that `python -m robertax.main` has written.

  Raises:
    InputError: no finished run is there.
  """
  config = workdir.read_config(path)
  if config is None:
    found = ('it does not exist' if not os.path.exists(path) else
             'it has no config.json')
    raise InputError(f'{path!r} is not a workdir of robertax: {found}.')
  if not os.path.isdir(f'{path}/checkpoints'):
    raise InputError(f'{path!r} has no checkpoints yet.')
  checkpoints = Checkpoints(path, read_only=True, alone=True)
  try:
    step = checkpoints.latest_step()
    if step is None:
      raise InputError(f'{path!r} has no finished checkpoint yet.')
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    shapes = jax.eval_shape(lambda: modelling.pad_vocabulary(
        modelling.create(config.model, jax.random.key(0))))
    params = checkpoints.restore_params(step, jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here),
        shapes))
  finally:
    checkpoints.close()
  return Model(modelling.unpad_vocabulary(config.model, params), config.model,
               text.load(f'{path}/tokenizer.json'), step)


def fill_examples(model: Model, rows: Sequence[np.ndarray]
                  ) -> list[tuple[str, str, list[Filled]]]:
  """For each row of held-out ids, one word masked and guessed.

  Args:
    model: guesses.
    rows: ids of examples; in each the sentence nearest to 16 tokens is taken,
      and in it the middle one of its tokens that are whole words.

  Returns:
    (sentence with <mask>, the word that stood there, guesses) for each row in
    which a sentence with a whole word was found.
  """
  tok, examples = model.tokenizer, []
  for row in rows:
    ends = np.flatnonzero(np.isin(row, (tok.bos_id, tok.eos_id)))
    sentences = [s for s in np.split(row, ends + 1) if len(s) >= 8]
    for ids in sorted(sentences, key=lambda s: abs(len(s) - 16)):
      ids = ids[~np.isin(ids, tok.special_ids)][:model.config.max_positions - 2]
      pieces = [tok.token_text(i) for i in ids]
      words = [i for i in range(1, len(ids) - 1)
               if pieces[i].startswith(' ') and pieces[i].strip().isalpha()
               and len(pieces[i]) > 3 and not pieces[i + 1][:1].isalpha()]
      if words:
        place = words[len(words) // 2]
        tail = tok.decode(ids[place + 1:])
        if tok.word_starts[ids[place + 1]] and not tail.startswith(' '):
          tail = f' {tail}'
        sentence = f'{tok.decode(ids[:place])} {MASK}{tail}'
        examples.append((sentence, pieces[place].strip(),
                         model.fill_mask(sentence, 3)))
        break
  return examples
