"""Words of held-out text, masked and guessed."""

import numpy as np

from robertax.inspection import report

WORDS = 'one two three four five six seven eight nine ten'.split()


def test_examples_from_heldout_text(run, loaded):
  examples = report.fill_examples(loaded, run.task.heldout_ids(3))
  assert len(examples) == 3
  for sentence, word, guesses in examples:
    assert sentence.count('<mask>') == 1 and word in WORDS
    assert len(guesses) == 3


def test_of_wordpieces(wordpiece):
  tok = wordpiece.tokenizer
  ids = np.concatenate([[tok.bos_id], tok.encode('nine ten one two three four. '
                                                 'five six'), [tok.eos_id]])
  (sentence, word, _), = report.fill_examples(wordpiece, [ids])
  assert word in WORDS
  assert sentence.replace('<mask>', word) == (
      'nine ten one two three four . five six')
