#!/usr/bin/env bash
# Iterating over the elements that Resiliparse finds takes quadratic time.
#
# What query_selector_all and get_elements_by_tag_name return is a live list,
# and each step of `for element in found` searches the tree again: thousands of
# elements take seconds or minutes. found.values() gives the same elements in
# milliseconds.
#
# Seen with Resiliparse 2.0.1, Python 3.11: 1,000 lists took 2 to 5 s by
# iteration, 2 ms by values().
#
# Exit code 0: as seen; 1: the behaviour has changed. Needs python3 with
# resiliparse.
set -euo pipefail
python3 - <<'P'
import time

from resiliparse.parse.html import HTMLTree


def seconds(function, found):
  start = time.perf_counter()
  assert len(function(found)) == 1000
  return time.perf_counter() - start


tree = HTMLTree.parse('<ul><li>x</li></ul>' * 1000)
found = tree.body.query_selector_all('ul')
slow = seconds(lambda found: [element for element in found], found)
fast = seconds(lambda found: found.values(), found)
print(f'iteration {slow:.3f} s, values() {fast:.3f} s')
raise SystemExit(slow < 20 * fast)
P
