"""RACE's questions as ids: four sequences each.

fairseq's laws (examples/roberta/preprocess_RACE.py, tasks/
sentence_ranking.py): whitespace is collapsed; a `_` of the question is replaced
by the option, and where there is none the option follows the question. A
sequence is `<s> question+option </s>`, cut at 128 ids, then `</s> passage
</s>`, and the whole is cut at 512: of a long one the final `</s>` vanishes, of
a long question+option its `</s>`.
"""

from collections.abc import Sequence
import dataclasses

import numpy as np

from robertax.tasks.race_questions import Question
from robertax.text import Tokenizer

MAX_OPTION_LENGTH = 128
CHUNK = 4096  # Texts that are encoded at once.


@dataclasses.dataclass(frozen=True)
class Features:
  """Sequences, four a question in the order of A to D.

  Attributes:
    sequences: an array of the tokenizer's dtype each.
    options_cut, sequences_cut: how many of each the limits made shorter.
  """
  sequences: list[np.ndarray]
  options_cut: int
  sequences_cut: int


def question_option(question: str, option: str) -> str:
  """What is asked with one option filled in.

  >>> question_option('The  boy is _ .', 'tall'), question_option('Why?', 'So.')
  ('The boy is tall .', 'Why? So.')
  """
  filled = (question.replace('_', option) if '_' in question
            else f'{question} {option}')
  return collapsed(filled)


def collapsed(text: str) -> str:
  """Single spaces between words, none around (fairseq: re.sub(r'\\s+', ' '),
  and examples/roberta/multiprocessing_bpe_encoder.py strips each line)."""
  return ' '.join(text.split())


def sequence(tokenizer: Tokenizer, option: np.ndarray, passage: np.ndarray,
             max_length: int, max_option_length: int = MAX_OPTION_LENGTH
             ) -> np.ndarray:
  """`<s> option </s>`, cut, and `</s> passage </s>` behind it, cut.

  Args:
    tokenizer: gives the special ids.
    option, passage: ids without special tokens.
    max_length, max_option_length: of the whole, and of its first part.
  """
  bos, eos = (np.array([i], tokenizer.dtype)
              for i in (tokenizer.bos_id, tokenizer.eos_id))
  first = np.concatenate([bos, option, eos])[:max_option_length]
  return np.concatenate([first, eos, passage, eos])[:max_length]


def features(questions: Sequence[Question], tokenizer: Tokenizer,
             max_length: int, max_option_length: int = MAX_OPTION_LENGTH
             ) -> Features:
  """Sequences of all questions.

  Args:
    questions: of race_questions.read.
    tokenizer: any.
    max_length: of a sequence, in ids; the paper's is 512.
    max_option_length: of `<s> question+option </s>`.
  """
  passages = _encoded(tokenizer, dict.fromkeys(
      collapsed(q.passage) for q in questions))
  options = _encoded(tokenizer, dict.fromkeys(
      question_option(q.question, o) for q in questions for o in q.options))
  sequences, long_options, long = [], 0, 0
  for q in questions:
    passage = passages[collapsed(q.passage)]
    for text in q.options:
      option = options[question_option(q.question, text)]
      head = min(len(option) + 2, max_option_length)
      long_options += len(option) + 2 > max_option_length
      long += head + len(passage) + 2 > max_length
      sequences.append(sequence(tokenizer, option, passage, max_length,
                                max_option_length))
  return Features(sequences, long_options, long)


def _encoded(tokenizer, texts) -> dict[str, np.ndarray]:
  texts, found = list(texts), {}
  for start in range(0, len(texts), CHUNK):
    part = texts[start:start + CHUNK]
    # A view would keep all its neighbours' ids.
    found |= {t: ids.copy() for t, ids in zip(
        part, tokenizer.encode_batch(part))}
  return found
