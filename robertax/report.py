"""Writes a page about a run: curves, timing, text, samples, config.

  python -m robertax.report --workdir=runs/a[,runs/b,...] [--out=FILE.html]

writes runs/a/report.html, which any browser opens, without a network. A run
writes it itself at its end; this command is for a run in progress. With further
runs, which are compared with the first, it writes runs/a/compared.html.
"""

from absl import flags

from robertax.errors import InputError, print_result
from robertax.flags import run

_WORKDIR = flags.DEFINE_list(
    'workdir', [], 'The run to report on, then those to compare it with.')
_OUT = flags.DEFINE_string(
    'out', '', 'A file instead of W/report.html or W/compared.html.')


def main(argv):
  """Exits with 0 (written) or 2 (wrong input)."""
  del argv
  folders = [folder for folder in _WORKDIR.value if folder]
  if not folders:
    raise InputError('--workdir=W[,W2,...] is needed, such as: '
                     'python -m robertax.report --workdir=runs/quickstart')
  from robertax.inspection import report
  path = report.write_report(folders[0], folders[1:], _OUT.value)
  if not path.startswith('/dev/'):  # There the page itself may be printed.
    print_result(path)


if __name__ == '__main__':
  run(main)
