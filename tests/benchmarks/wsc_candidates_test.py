"""The shares that the command prints, on rows whose shares are known."""

import json

from benchmarks import wsc_candidates


def test_shares(tmp_path):
  rows = [('Ann', True), ('the old dog', True), ('old dog', False),
          ('saw Ann', True)]
  (tmp_path / 'val.jsonl').write_text(''.join(json.dumps({
      'text': 'Ann saw an old dog and he ran.', 'idx': i, 'label': label,
      'target': {'span1_text': query, 'span1_index': 0, 'span2_text': 'he',
                 'span2_index': 6}}) + '\n' for i, (query, label) in
                                             enumerate(rows)))
  found = wsc_candidates.measure(str(tmp_path), 'val', 'rules')
  assert found['rows'] == 4 and found['positive_rows'] == 3
  # Exactly: Ann, old dog; without determiners the old dog too.
  assert (found['queries'], found['queries_bare']) == (50.0, 75.0)
  assert (found['positive'], found['positive_bare']) == (33.3, 66.7)
  assert found['without'] == 0 and found['most'] >= 2
