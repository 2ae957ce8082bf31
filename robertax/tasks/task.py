"""results.json and predictions.*, which a fine-tuning run writes last."""

from collections.abc import Iterable, Mapping
import json
import math
from typing import Any

from robertax import paths
from robertax.errors import writing

RESULTS = 'results.json'


def json_lines(lines: Iterable[Mapping[str, Any]]) -> bytes:
  """One JSON object a line."""
  return ''.join(json.dumps(plain(line), ensure_ascii=False) + '\n'
                 for line in lines).encode()


def plain(value: Any) -> Any:
  """NumPy's numbers as Python's; what is no number is null (JSON)."""
  if isinstance(value, Mapping):
    return {key: plain(v) for key, v in value.items()}
  if isinstance(value, (list, tuple)):
    return [plain(v) for v in value]
  if hasattr(value, 'tolist'):
    return plain(value.tolist())
  if isinstance(value, float) and not math.isfinite(value):
    return None
  return value


def write(folder: str, found: Mapping[str, Any], texts: Mapping[str, bytes]
          ) -> dict[str, Any]:
  """Writes the files, then results.json, each whole or not at all.

  Args:
    folder: W; '': nothing is written.
    found: what results.json is to hold; the names of the files are added.
    texts: content by name of the file.

  Returns:
    What results.json holds.

  Raises:
    InputError: the folder cannot be written.
  """
  found = plain({**found, 'files': sorted(texts)})
  content = dict(texts) if folder else {}
  if folder:
    content[RESULTS] = (json.dumps(found, indent=2, ensure_ascii=False)
                        + '\n').encode()
  for name, data in content.items():
    path = paths.join(folder, name)
    with writing(path):
      paths.write_bytes(path, data)
  return found


def sentence(found: Mapping[str, Any]) -> str:
  """A score with data set, split, rows and seed, as it is always printed."""
  scores = '; '.join(
      f'{split} ' + ', '.join(f'{name} {_number(value)}'
                              for name, value in values.items())
      for split, values in found['scores'].items())
  text = (f'{found["task"]}: {found["metric"]} {_number(found["value"])} on '
          f'{found["split"]} ({found["rows"]} rows of {found["data"]}), seed '
          f'{found["seed"]}, best epoch {found["best_epoch"]:g} of training on '
          f'{found["train_rows"]} rows of {found["train_data"]}. All: '
          f'{scores}.')
  if found['degenerate']:
    text += f'\nDEGENERATE: {found["degenerate_because"]}'
  return text


def _number(value: float | None) -> str:
  return 'none' if value is None else f'{value:.2f}'
