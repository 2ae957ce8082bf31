"""Converts any model to a Hugging Face folder or a workdir.

verification.py compares it with what the other library's own tools read.
"""

from collections.abc import Iterator
import contextlib
import os
import shutil
import tempfile

from robertax import files
from robertax.errors import InputError, reading, writing
from robertax.inspection import opening, verification
from robertax.interop import huggingface
from robertax.interop.pretrained import with_positions, with_tokens


def convert(source: str, target: str, verify: str = '',
            max_positions: int = 0, add_tokens: str = '') -> list[str]:
  """Converts a model; `target` appears whole or not at all.

  Args:
    source: W, `hf:DIR` or `fairseq:FILE`.
    target: `hf:DIR` or W, a folder that does not exist yet.
    verify: '', or a mode of `verification.verify`, which comes before the
      target appears.
    max_positions: the new length of the position table; 0 keeps it.
    add_tokens: a file with a new token per line; empty: none.

  Returns:
    Lines for a person that say what was left unused, and last, if it is asked
    to `verify`, the verdict in JSON. InputError if some input is wrong;
    verification.Unverified if something differs.
  """
  if target.startswith('fairseq:'):
    raise InputError(f'--target={target}: hf:DIR or a workdir; fairseq is only '
                     'read.')
  to_hf, folder = target.startswith('hf:'), target.removeprefix('hf:')
  if files.is_remote(folder):
    raise InputError(f'--target={target}: a local folder, which can be copied '
                     'once it is whole.')
  folder = os.path.expanduser(folder).rstrip('/') or folder
  if os.path.exists(folder) and (not os.path.isdir(folder)
                                 or os.listdir(folder)):
    raise InputError(f'--target={target}: there is something already: choose '
                     'another folder, or move it away.')
  original = changed = opening.read_model(source)
  lines, last = list(original.lines), []
  if add_tokens:
    with reading(f'--add_tokens={add_tokens}'), open(
        add_tokens, encoding='utf-8') as f:
      tokens = [line.rstrip('\n') for line in f]
    changed = with_tokens(changed, [t for t in tokens if t])
  if max_positions:
    changed = with_positions(changed, max_positions)
  with appearing(folder) as partial:
    if to_hf:
      huggingface.write_folder(changed, partial)
    else:
      opening.write_workdir(partial, changed)
    if verify:
      again = opening.read_model(f'hf:{partial}' if to_hf else partial)
      last = [verification.verify(original, changed, again,
                                  partial if to_hf else '', verify).to_json()]
  return [*lines, f'{target}: written from {source}', *last]


@contextlib.contextmanager
def appearing(folder: str) -> Iterator[str]:
  """Yields a folder to write into, which is renamed to `folder` at the end.

  `folder` must not exist yet or be empty. If the body raises, nothing is left.
  """
  parent, name = os.path.split(os.path.abspath(folder))
  with writing(folder):
    os.makedirs(parent, exist_ok=True)
    partial = tempfile.mkdtemp(prefix=f'{name}.', suffix=files.PARTIAL,
                               dir=parent)
  try:
    yield partial
    with writing(folder):
      mask = os.umask(0)  # mkdtemp's folders are only for their owner.
      os.umask(mask)
      os.chmod(partial, 0o777 & ~mask)
      files.publish(partial, os.path.abspath(folder))
  finally:
    shutil.rmtree(partial, ignore_errors=True)
