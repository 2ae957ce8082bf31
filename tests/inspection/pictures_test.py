"""Pictures of a run."""

import pytest

from robertax.errors import InputError
from robertax.inspection import page


def test_the_curve_is_a_picture(run):
  path = page.learning_curve(run.workdir)
  with open(path, 'rb') as f:
    assert f.read(8) == b'\x89PNG\r\n\x1a\n'


def test_no_metrics_no_curve(tmp_path):
  with pytest.raises(InputError, match='metrics.jsonl'):
    page.learning_curve(str(tmp_path))
