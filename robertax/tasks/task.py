"""results.json and predictions.*, which a fine-tuning run writes last."""

from collections.abc import Iterable, Mapping, Sequence
import dataclasses
import hashlib
import json
import math
from typing import Any

import numpy as np

from robertax import files
from robertax.corpus import Manifest
from robertax.data.finetuning import Examples
from robertax.errors import writing
from robertax.tables import Table

# Whether answers are more than a constant one: runs at chance are common
# (fairseq #1114, #1946, #5361), and their scores look like scores.


def why_degenerate(found: Sequence[int], labels: Sequence[int],
                   names: Sequence[str], split: str) -> str:
  """Why these classes say nothing; '' if they do.

  Args:
    found, labels: classes, predicted and right.
    names: of the classes, for people.
    split: of what, likewise.
  """
  found, labels = np.asarray(found, int), np.asarray(labels, int)
  if len(np.unique(found)) == 1:
    return f'all answers on {split} are {names[found[0]]}.'
  value = 100 * np.mean(found == labels)
  chance = 100 * np.bincount(labels).max() / len(labels)
  if value <= chance:
    return (f'accuracy {value:.2f} on {split} is not above {chance:.2f}, what '
            'a constant answer has.')
  return ''


# What a task reads, as hashes: a checkpoint says which data it belongs to.
#
# Of what the data are, not of where they lie or when they were made: the same
# text with another date, or prepared again in another cache, is the same.


FORMS = ('array_record', 'memmap')


def records_content(manifests: Iterable[Manifest]) -> dict[str, str]:
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
    found[f'{name}/counts'] = _content_hash([values[key] for key in (
        'version', 'corpus', 'format', 'sentences', 'pair_law', 'duplicates',
        'splits')])
    files = {file: checksum.sha256 for file, checksum
             in getattr(manifest, 'checksums', {}).items()
             if not file.endswith('.json')}
    for form in FORMS:
      of_form = {file: value for file, value in files.items()
                 if ('.array_record' in file) == (form == 'array_record')}
      if of_form:
        found[f'{name}/{form}'] = _content_hash(of_form)
  return found


def examples_content(splits: dict[str, Examples]) -> dict[str, str]:
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


def _content_hash(value: Any) -> str:
  text = json.dumps(value, sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()[:16]


RESULTS = 'results.json'


def json_lines(lines: Iterable[Mapping[str, Any]]) -> bytes:
  """One JSON object a line."""
  return ''.join(json.dumps(plain_values(line), ensure_ascii=False) + '\n'
                 for line in lines).encode()


def plain_values(value: Any) -> Any:
  """NumPy's numbers as Python's; what is no number is null (JSON)."""
  if isinstance(value, Mapping):
    return {key: plain_values(v) for key, v in value.items()}
  if isinstance(value, (list, tuple)):
    return [plain_values(v) for v in value]
  if hasattr(value, 'tolist'):
    return plain_values(value.tolist())
  if isinstance(value, float) and not math.isfinite(value):
    return None
  return value


def write_results(folder: str, found: Mapping[str, Any],
                  texts: Mapping[str, bytes]) -> dict[str, Any]:
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
  found = plain_values({**found, 'files': sorted(texts)})
  content = dict(texts) if folder else {}
  if folder:
    content[RESULTS] = (json.dumps(found, indent=2, ensure_ascii=False)
                        + '\n').encode()
  for name, data in content.items():
    path = files.join(folder, name)
    with writing(path):
      files.write_bytes(path, data)
  return found


def describe_results(found: Mapping[str, Any]) -> str:
  """A score with data set, split, rows and seed, as it is always printed."""
  scores = '; '.join(
      f'{split} ' + ', '.join(f'{name} {_said_number(value)}'
                              for name, value in values.items())
      for split, values in found['scores'].items())
  text = (
      f'{found["task"]}: {found["metric"]} {_said_number(found["value"])} on '
      f'{found["split"]} ({found["rows"]} rows of {found["data"]}), seed '
      f'{found["seed"]}, best epoch {found["best_epoch"]:g} of training on '
      f'{found["train_rows"]} rows of {found["train_data"]}. All: '
      f'{scores}.')
  if found['degenerate']:
    text += f'\nDEGENERATE: {found["degenerate_because"]}'
  return text


def _said_number(value: float | None) -> str:
  return 'none' if value is None else f'{value:.2f}'


# The tasks by name: a new one is a class and a row here.


TASKS = Table({
    'pretrain': 'robertax.tasks.pretrain:Pretrain',
    **dict.fromkeys(
        ('glue/cola', 'glue/sst2', 'glue/mrpc', 'glue/stsb', 'glue/qqp',
         'glue/mnli', 'glue/qnli', 'glue/rte', 'glue/wnli'),
        'robertax.tasks.glue:Glue'),
    'text_classification': (
        'robertax.tasks.glue:TextClassification'),
    'qnli_ranking': 'robertax.tasks.qnli:QnliRanking',
    'wnli_spans': 'robertax.tasks.wnli:Wnli',
    'wsc': 'robertax.tasks.wsc:Wsc',
    **dict.fromkeys(('race', 'race/middle', 'race/high'),
                    'robertax.tasks.race:Race'),
    **dict.fromkeys(('squad', 'squad2'), 'robertax.tasks.squad:Squad')})
