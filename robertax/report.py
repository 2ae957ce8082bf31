"""A run on one page: curves, seconds, text, samples, config.

  python -m robertax.report --workdir=runs/a[,runs/b,...] [--out=FILE.html]

Writes runs/a/report.html, to be opened in any browser, also on a phone and
without a network; the other runs stand beside the first. A run writes its own
at its end; this is for one that is under way, and to compare.
"""

from absl import flags

from robertax.errors import InputError
from robertax.flags import run

_WORKDIR = flags.DEFINE_list(
    'workdir', [], 'The run that it is about, then those to compare it with.')
_OUT = flags.DEFINE_string('out', '', 'A file instead of W/report.html.')


def main(argv):
  """Exit code 0: it is written; 2: wrong input."""
  del argv
  folders = [folder for folder in _WORKDIR.value if folder]
  if not folders:
    raise InputError('--workdir=W[,W2,...] is needed, such as: '
                     'python -m robertax.report --workdir=runs/quickstart')
  from robertax.inspection import report

  print(report.write_report(folders[0], folders[1:], _OUT.value))


if __name__ == '__main__':
  run(main)
