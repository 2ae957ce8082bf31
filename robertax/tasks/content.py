"""What a task reads, as hashes: a checkpoint says which data it belongs to.

Of what the data are, not of where they lie or when they were made: the same
text with another date, or prepared again in another cache, is the same.
"""

from collections.abc import Iterable
import dataclasses
import hashlib
import json
from typing import Any

import numpy as np

from robertax.corpus import Manifest
from robertax.data.examples import Examples

FORMS = ('array_record', 'memmap')


def of_records(manifests: Iterable[Manifest]) -> dict[str, str]:
  """Hashes of prepared corpora.

  Returns:
    `<corpus>/<sequence length>/counts`, of how many documents, sentences,
    examples and tokens there are in what format, and, as far as the manifest
    has checksums of its files, `.../array_record` and `.../memmap`, of these.
  """
  found = {}
  for manifest in manifests:
    values = dataclasses.asdict(manifest)
    name = f'{manifest.corpus}/{manifest.sequence_length}'
    found[f'{name}/counts'] = _hash([values[key] for key in (
        'version', 'corpus', 'format', 'sentences', 'pair_law', 'duplicates',
        'splits')])
    files = {file: checksum.sha256 for file, checksum
             in getattr(manifest, 'checksums', {}).items()
             if not file.endswith('.json')}
    for form in FORMS:
      of_form = {file: value for file, value in files.items()
                 if ('.array_record' in file) == (form == 'array_record')}
      if of_form:
        found[f'{name}/{form}'] = _hash(of_form)
  return found


def of_examples(splits: dict[str, Examples]) -> dict[str, str]:
  """Hashes of encoded splits: ids, labels, groups, order."""
  found = {}
  for name, examples in splits.items():
    total = hashlib.sha256()
    for field in dataclasses.fields(examples):
      value = getattr(examples, field.name)
      arrays = value if isinstance(value, dict) else {'': value}
      for key in sorted(arrays):
        array = np.ascontiguousarray(arrays[key])
        total.update(
            f'{field.name} {key} {array.dtype} {array.shape} '.encode())
        total.update(array.tobytes())
    found[name] = total.hexdigest()[:16]
  return found


def _hash(value: Any) -> str:
  text = json.dumps(value, sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()[:16]
