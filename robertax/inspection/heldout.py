"""Words of held-out text, masked and guessed: what a run shows at its end."""

from collections.abc import Sequence

import numpy as np

from robertax.inspection.fill_mask import MASK, Filled
from robertax.inspection.model import Model


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
