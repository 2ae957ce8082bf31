"""Asks a model about each line of a file what it was trained for.

  python -m robertax.predict --model=runs/rte --input=pairs.tsv --out=said.jsonl
  echo 'The <mask> is open.' | python -m robertax.predict --model=runs/mine

writes one JSON line for each line of --input, or of stdin. A line is, by the
model's task,

  text with masks                    a pretrained model
  text, or text TAB text             glue/*, text_classification, qnli_ranking
  question TAB context               squad, squad2
  context TAB question TAB option TAB option ...   race
  text with its [pronoun] and, or not, a _phrase_  wsc, wnli_spans

With --json a line is an object: text (and text_pair); question, context;
context, question, options (a list). Other keys are not read.
"""

import os
import sys

from absl import flags

from robertax import files
from robertax.errors import InputError, writing
from robertax.flags import run
from robertax.progress import call_out

_MODEL = flags.DEFINE_string('model', '', 'A workdir, hf:DIR, fairseq:FILE.')
_INPUT = flags.DEFINE_string('input', '', 'A file instead of stdin; it may be '
                             'packed (.gz, .zst, .bz2).')
_OUT = flags.DEFINE_string('out', '', 'A file instead of stdout, which appears '
                           'whole or not at all.')
_JSON = flags.DEFINE_bool('json', False, 'Lines are objects of JSON.')
_TOP_K = flags.DEFINE_integer(
    'top_k', 5, 'Most guesses of a mask, or classes, in an answer.')


def main(argv):
  """Exits with 0 (done), 1 (stdout was closed or full) or 2 (wrong input)."""
  del argv
  if not _MODEL.value:
    raise InputError('--model=W is needed, such as: python -m robertax.predict '
                     '--model=runs/quickstart --input=texts.txt')
  if _TOP_K.value < 1:
    raise InputError(f'--top_k={_TOP_K.value}: at least 1.')
  # Not before: it loads JAX.
  from robertax.corpus.readers import unpacked_lines
  from robertax.inspection import model, opening
  lines = (unpacked_lines(_INPUT.value, lambda _: None) if _INPUT.value else
           enumerate(sys.stdin.buffer, 1))
  answers = model.predict(opening.load(_MODEL.value), lines,
                          _INPUT.value or 'stdin', _JSON.value, _TOP_K.value)
  if _OUT.value:
    with writing(_OUT.value), files.writing_whole(_OUT.value, 'wb') as f:
      f.writelines(answers)
    return
  for answer in answers:
    _print(answer)


def _print(answer: bytes):
  """Writes to stdout, or ends with 1 if nobody reads it or it is full."""
  try:
    sys.stdout.buffer.write(answer)
    sys.stdout.buffer.flush()
  except OSError as e:
    if not isinstance(e, BrokenPipeError):
      call_out(f'robertax: error: stdout: {e.strerror}.')
    # Python would try again at exit.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(1)


if __name__ == '__main__':
  run(main)
