"""Rows of a TFDS data set that fits in memory."""

from typing import Any

from robertax.data.pipeline import _tensorflow
from robertax.errors import InputError


def read_tfds(name: str, split: str, data_dir: str = ''
              ) -> list[dict[str, Any]] | None:
  """All rows of a split: bytes as str, NumPy's numbers as Python's.

  Args:
    name: such as `glue/rte`.
    split: such as `validation`.
    data_dir: where TFDS keeps prepared data; empty: its own place.

  Returns:
    None where the data set has no such split.

  Raises:
    InputError: TFDS is not installed, or the data set is neither there nor to
      be had.
  """
  try:
    import tensorflow_datasets as tfds
  except ImportError as e:
    raise InputError(f'tfds:{name} needs tensorflow_datasets: pip install '
                     'tensorflow-datasets.') from e
  _tensorflow()
  try:
    builder = tfds.builder(name, data_dir=data_dir or None)
    builder.download_and_prepare()
    if split not in builder.info.splits:
      return None
    rows = list(tfds.as_numpy(builder.as_dataset(split=split)))
  except Exception as e:  # TFDS has many, for no network and no such name.
    first = (str(e).strip().splitlines() or [repr(e)])[0]
    raise InputError(
        f'TFDS {name}{f" in {data_dir}" if data_dir else ""}: cannot be read '
        f'({type(e).__name__}: {first}). It must be prepared there, or the '
        'network be there to download it.') from e
  return [{key: _plain(value) for key, value in row.items()} for row in rows]


def _plain(value: Any) -> Any:
  if isinstance(value, bytes):
    return value.decode()
  return value.item() if hasattr(value, 'item') else value
