"""Asks a model about each line of a file what it was trained for.

  python -m robertax.predict --model=runs/rte --input=pairs.tsv --out=said.jsonl
  echo 'The <mask> is open.' | python -m robertax.predict --model=runs/mine

writes one JSON line for each line. By the model's task a line is a text with
masks; a text, or a text TAB a second one; a question TAB its context (SQuAD); a
context TAB a question TAB two options or more, with tabs between (RACE); or a
text with its [pronoun] and, if one is asked for, its _phrase_ (WSC). With
--json a line is an object with text, text_pair; question, context; context,
question, options. Its other keys are not read.
"""

import contextlib
import os
import sys

from absl import flags

from robertax import files
from robertax.errors import InputError, writing
from robertax.flags import run

_MODEL = flags.DEFINE_string('model', '', 'A workdir, hf:DIR, fairseq:FILE.')
_INPUT = flags.DEFINE_string(
    'input', '', 'A file instead of stdin; .gz, .zst and .bz2 are unpacked.')
_OUT = flags.DEFINE_string(
    'out', '', 'A file instead of stdout; it appears whole or not at all.')
_JSON = flags.DEFINE_bool('json', False, 'Lines are objects of JSON.')
_TOP_K = flags.DEFINE_integer(
    'top_k', 5, 'Most guesses of a mask, or classes, in an answer.')


def main(argv):
  """Exits with 0 (done), 1 (nobody reads the pipe) or 2 (wrong input)."""
  del argv
  if not _MODEL.value or _TOP_K.value < 1:
    raise InputError('--model=W is needed, and --top_k of at least 1, such as: '
                     'python -m robertax.predict --model=runs/mine --top_k=3')
  # Not before: it loads JAX.
  from robertax.corpus.readers import unpacked_lines
  from robertax.inspection import model, opening
  lines = (unpacked_lines(_INPUT.value, lambda _: None) if _INPUT.value else
           enumerate(sys.stdin.buffer, 1))
  answers = model.predict(opening.load(_MODEL.value), lines,
                          _INPUT.value or 'stdin', _JSON.value, _TOP_K.value)
  try:
    with writing(_OUT.value or 'stdout'), (
        files.writing_whole(_OUT.value, 'wb') if _OUT.value else
        contextlib.nullcontext(sys.stdout.buffer)) as out:
      for answer in answers:
        out.write(answer)
        out.flush()
  except BrokenPipeError:
    if not _OUT.value:  # Python would try again at exit.
      os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(1)


if __name__ == '__main__':
  run(main)
