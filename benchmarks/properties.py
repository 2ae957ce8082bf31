"""Compares the lists of tests: benchmarks.properties --against=COMMIT

Lists the names of all tests of a commit and of this tree, in any file, and
prints those that are gone. GONE explains the tests that were removed on
purpose; any other missing test is a lost property. The last line is JSON:
`before`, `now`, `new` (counts of names) and `lost` (names). Exit code 0:
nothing is lost; 1: a name is gone without a reason; 2: no such commit.
"""

import argparse
import ast
from collections import Counter
from collections.abc import Iterable
import json
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
# Tests removed since 4671473.
GONE = {
    'test_demand':
        'it was of the operations of two masking libraries; there is one now',
    'test_the_same_in_both':
        'NumPy alone masks now',
    'test_tensorflow_gives_the_same_bits':
        "NumPy alone masks now, with data.masking_ops='tensorflow' too",
    'test_unknown_law':
        'tests/config_test.py: the config refuses it before',
    'test_unknown_specials':
        'tests/config_test.py: the config refuses it before',
    'test_four_processes_give_the_losses_of_one':
        'test_the_processes_give_the_losses_of_one: two processes now',
    'test_a_block_may_turn_out_smaller': 'a range of a cache is a chunk now',
    'test_a_damaged_block_is_fetched_again':
        'a range of a cache is a chunk now',
    'test_other_records_in_the_same_place_are_other_blocks':
        'a range of a cache is a chunk now',
    'test_unigram_runs_are_spread_and_few_blocks':
        'a range of a cache is a chunk now',
    'test_scan_equals_a_loop_over_the_blocks':
        "the transformer's block is a layer now",
    'test_pieces_are_the_text': 'test_parts_are_the_text: split_long now',
    'test_a_workdir_in_a_storage_is_the_local_one':
        'its fake hid that no checkpoint reached a bucket; the oracle is '
        'test_a_run_in_a_bucket_is_the_local_one, the rest '
        'test_what_lies_beside_checkpoints_in_a_storage_is_the_local_workdir',
    'test_a_wrong_law_is_refused': 'the config refuses these values before',
    'test_predictions_and_scores_round_trip':
        'what wrote the file was used by tests alone: '
        'test_predictions_and_scores_keep_their_order',
    'test_shardings_by_field_or_function':
        'Feed took shardings by field, and nobody gave it any',
}


def names(sources: Iterable[str]) -> Counter:
  """Counts each test's name in the sources of test files."""
  return Counter(
      node.name for source in sources for node in ast.walk(ast.parse(source))
      if isinstance(node, ast.FunctionDef) and node.name.startswith('test_'))


def sources_of(commit: str) -> list[str]:
  """Reads the test files of a commit.

  Raises:
    subprocess.CalledProcessError: there is no such commit.
  """
  def git(*arguments: str) -> str:
    return subprocess.run(['git', *arguments], cwd=ROOT, text=True, check=True,
                          capture_output=True).stdout
  paths = git('ls-tree', '-r', '--name-only', commit, 'tests').split()
  return [git('show', f'{commit}:{path}') for path in paths
          if path.endswith('_test.py')]


def lost(before: Counter, now: Counter, gone: dict[str, str]) -> list[str]:
  """The names that occur less often than before, without a reason."""
  return sorted(name for name in before - now if name not in gone)


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--against', required=True, help='a commit')
  options = parser.parse_args()
  try:
    before = names(sources_of(options.against))
  except subprocess.CalledProcessError as e:
    print(e.stderr.strip(), file=sys.stderr)
    return 2
  now = names(path.read_text()
              for path in sorted((ROOT / 'tests').rglob('*_test.py')))
  missing = lost(before, now, GONE)
  for name in sorted(before - now):
    print(f'{name}: {GONE.get(name, "LOST")}')
  print(json.dumps({'before': before.total(), 'now': now.total(),
                    'new': (now - before).total(), 'lost': missing}))
  return 1 if missing else 0


if __name__ == '__main__':
  sys.exit(main())
