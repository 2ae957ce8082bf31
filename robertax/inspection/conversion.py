"""Any model -> a folder of Hugging Face or a workdir, checked on the way."""

from collections.abc import Iterator
import contextlib
import os
import shutil
import tempfile

from robertax import files
from robertax.errors import InputError, writing
from robertax.inspection import opening, workdirs
from robertax.interop import Pretrained, huggingface, verification
from robertax.interop.pretrained import with_positions, with_tokens


def convert(source: str, target: str, verify: bool = False,
            max_positions: int = 0, add_tokens: str = '') -> list[str]:
  """Converts; `target` appears whole or not at all.

  Args:
    source: W, `hf:DIR` or `fairseq:FILE`.
    target: `hf:DIR` or W, a folder that is not there yet.
    verify: compare logits of both on real sentences before it appears: by
      transformers, where that is installed, and by reading back.
    max_positions: make the position table as long as that; 0: as it is.
    add_tokens: a file with a new token a line; empty: none.

  Returns:
    Lines for a person: what was left unused, and what was compared.

  Raises:
    InputError: wrong input of any kind, or logits that differ; names it.
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
  original = opening.read(source)
  lines = list(original.lines)
  changed = _extended(original, max_positions, add_tokens)
  with appearing(folder) as partial:
    if to_hf:
      huggingface.write_folder(changed, partial)
    else:
      workdirs.write(partial, changed)
    if verify:
      lines += _verified(original, changed, source, to_hf, partial)
  return lines + [f'{target}: written from {source}']


def _extended(pretrained: Pretrained, max_positions: int, add_tokens: str
              ) -> Pretrained:
  if add_tokens:
    try:
      with open(add_tokens, encoding='utf-8') as f:
        tokens = [line.rstrip('\n') for line in f]
    except (OSError, UnicodeDecodeError) as e:
      raise InputError(f'cannot read --add_tokens={add_tokens}: {e}') from e
    pretrained = with_tokens(pretrained, [t for t in tokens if t])
  if max_positions:
    pretrained = with_positions(pretrained, max_positions)
  return pretrained


def _verified(original: Pretrained, changed: Pretrained, source: str,
              to_hf: bool, partial: str) -> Iterator[str]:
  """Compares what was read with what was written, and both with PyTorch."""
  there = verification.has_transformers()
  if original.source.startswith('hf:') and there:
    batch = verification.batch(original.tokenizer, original.config)
    yield verification.compare(
        verification.our_outputs(original, batch), verification.their_outputs(
            original.source.removeprefix('hf:'), batch), batch,
        f'transformers and robertax on {source}')
  batch = verification.batch(changed.tokenizer, changed.config)
  ours = verification.our_outputs(changed, batch)
  again = opening.read(f'hf:{partial}' if to_hf else partial)
  yield verification.compare(
      ours, verification.our_outputs(again, batch), batch,
      'what was read and what was written')
  if to_hf and there:
    yield verification.compare_tokenizers(changed.tokenizer, partial)
    yield verification.compare(
        ours, verification.their_outputs(partial, batch), batch,
        'robertax and transformers on what was written')
  if not there:
    yield ('torch and transformers are not installed: compared by robertax '
           'alone')


@contextlib.contextmanager
def appearing(folder: str) -> Iterator[str]:
  """A folder to write into, which then takes its place at once.

  Args:
    folder: not there yet, or empty.

  Yields:
    The path of a folder beside it. If the body raises, it goes.

  Raises:
    InputError: it cannot be made.
  """
  parent, name = os.path.split(os.path.abspath(folder))
  with writing(folder):
    os.makedirs(parent, exist_ok=True)
    partial = tempfile.mkdtemp(prefix=f'{name}.', suffix='.partial',
                               dir=parent)
  try:
    yield partial
    with writing(folder):
      # mkdtemp's is for its owner's eyes alone.
      os.chmod(partial, 0o777 & ~_umask())
      os.replace(partial, os.path.abspath(folder))
  finally:
    shutil.rmtree(partial, ignore_errors=True)


def _umask() -> int:
  mask = os.umask(0)
  os.umask(mask)
  return mask
