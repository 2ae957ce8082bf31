"""QNLI-like pairs out of SQuAD: does the sentence hold the answer?

QNLI was made from SQuAD so (Wang et al. 2019, section 2.3): a question beside
each sentence of its paragraph, pairs with little in common left out. The exact
filter was not published; here each question has its answer's sentence and the
other one that shares the most words with it, so classes are even.

  questions = squad_files.read('train-v1.1.json', '1.1')
  made, left_out = qnli_pairs.pairs(questions)
  qnli_pairs.write(made, 'QNLI/train.tsv')
"""

from collections.abc import Iterable, Sequence
import dataclasses
import os

from robertax import errors
from robertax.corpus.sentences import prose
from robertax.tasks.squad_files import Question, normalize

HEADER = ('index', 'question', 'sentence', 'label')


@dataclasses.dataclass(frozen=True)
class Pair:
  """A row of QNLI; label is `entailment` or `not_entailment`."""
  question: str
  sentence: str
  label: str


def sentences(context: str) -> list[tuple[int, str]]:
  """(place of its first character, sentence) of a paragraph, in order."""
  found, at = [], 0
  for sentence in prose(context):
    at = context.index(sentence, at)
    found.append((at, sentence))
    at += len(sentence)
  return found


def pairs(questions: Iterable[Question]) -> tuple[list[Pair], int]:
  """Two pairs a question: its answer's sentence, and the one most like it.

  Most like it: shares the most words with the question, articles, punctuation
  and case aside; of equal ones, the first. By the first gold answer.

  Args:
    questions: with answers and their places; `squad_files.read`.

  Returns:
    (the pairs in the questions' order, entailment first; questions left out:
    without an answer, with an answer across two sentences, or on a paragraph
    of one sentence).
  """
  made, left_out, of = [], 0, {}
  for question in questions:
    split = of.setdefault(question.context, sentences(question.context))
    where = [i for i, (at, sentence) in enumerate(split)
             for answer in question.answers[:1]
             if at <= answer.start and answer.end <= at + len(sentence)]
    if not where or len(split) < 2:
      left_out += 1
      continue
    words = set(normalize(question.question).split())
    others = [sentence for i, (_, sentence) in enumerate(split)
              if i != where[0]]
    likest = max(others, key=lambda s: len(words & set(normalize(s).split())))
    for sentence, label in ((split[where[0]][1], 'entailment'),
                            (likest, 'not_entailment')):
      made.append(Pair(question.question.strip(), sentence, label))
  return made, left_out


def write(made: Sequence[Pair], path: str) -> None:
  """Writes pairs as GLUE's QNLI has them: a train.tsv or dev.tsv.

  Raises:
    InputError: it cannot be written.
  """
  partial = f'{path}.{os.getpid()}.partial'
  with errors.writing(path):
    with open(partial, 'w', encoding='utf-8', newline='\n') as f:
      f.write('\t'.join(HEADER) + '\n')
      for index, pair in enumerate(made):
        # A tab or a line's end would be another column or row.
        f.write('\t'.join([str(index), *(
            ' '.join(text.split()) for text in dataclasses.astuple(pair))])
                + '\n')
    os.replace(partial, path)
