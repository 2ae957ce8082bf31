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


def test_of_text_without_words(loaded):
  """As proteins, or text without spaces: the middle of it is masked."""
  tok = loaded.tokenizer
  text = '9123 84756 1029'
  ids = np.concatenate([[tok.bos_id], tok.encode(text), [tok.eos_id]])
  (sentence, word, guesses), = report.fill_examples(loaded, [ids])
  assert sentence.replace('<mask>', word) == text and len(guesses) == 3


def test_of_letters(of_letters):
  """No space comes between the letters of a protein: it would be unknown."""
  tok = of_letters.tokenizer
  text = 'MKTAYIAKQRQISFVK'
  ids = np.concatenate([[tok.bos_id], tok.encode(text), [tok.eos_id]])
  (sentence, word, guesses), = report.fill_examples(of_letters, [ids])
  assert sentence.replace('<mask>', word) == text
  assert guesses == of_letters.fill_mask(sentence, 3)
  right, = of_letters.fill_mask(sentence, targets=[word])
  assert right.text == text and right.token == word


def test_nothing_is_said_of_too_short_text(run, monkeypatch):
  monkeypatch.setattr(report, 'fill_examples', lambda *_: [])
  monkeypatch.setattr(report, 'save_samples', lambda *_: None)
  assert report._guesses(run) == []


def test_the_end_of_a_run_asks_about_its_own_text(run, loaded, tmp_path):
  assert 'encode' in report._next_words(str(tmp_path))
  report.save_samples(str(tmp_path), report.Samples(
      1, 'here', report.fill_examples(loaded, run.task.heldout_ids(1)), None))
  said = report._next_words(str(tmp_path)).rpartition('fill_mask(')[2]
  assert '<mask>' in said and any(word in said for word in WORDS)
