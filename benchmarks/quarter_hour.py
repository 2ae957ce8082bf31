"""The parts of benchmarks/quarter_hour.sh, which says how it is used.

Each part is a process with a limit of time. The last line of its output is its
result, and results.jsonl gets one line per part: part, seconds, exit code, and
either the result or the last lines of its output.
"""

import argparse
import importlib.util
import io
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from typing import Any

ROOT = pathlib.Path(__file__).parents[1]
# Import name -> the requirement, of packages that a GPU image may lack.
WHEELS = {'absl': 'absl-py', 'etils': 'etils', 'filelock': 'filelock',
          'ml_collections': 'ml-collections', 'safetensors': 'safetensors',
          'tensorboardX': 'tensorboardx', 'tokenizers': 'tokenizers',
          'tqdm': 'tqdm', 'zstandard': 'zstandard', 'yaml': 'pyyaml'}
PYTHONS = ('3.11', '3.12')
MOST_BYTES, TEXT_CHARS = 40_000_000, 50_000_000
PIECE_BYTES = 15_000_000
SAVING = 40.0  # Seconds kept for the checkpoint.
VOCABULARY = 8192
SAMPLE_CHARS = 1_000_000  # Of each corpus, to train the tokenizer on.
MODEL = {'hidden_size': 512, 'num_layers': 8, 'num_heads': 8, 'mlp_size': 2048}
REHEARSED = {'hidden_size': 64, 'num_layers': 2, 'num_heads': 2,
             'mlp_size': 256}


def pack(folder: pathlib.Path, texts: list[str]) -> None:
  """Makes the folder: wheels, tokenizer.json and text/."""
  import zstandard

  from robertax import text
  from robertax.corpus.documents import resolve
  text_dir = folder / 'text'
  text_dir.mkdir(parents=True, exist_ok=True)
  pins = dict(re.findall(r'^([\w.-]+)==(\S+)', (
      ROOT / 'requirements.txt').read_text(), re.M))
  for version in PYTHONS:
    subprocess.run(
        [sys.executable, '-m', 'pip', 'download', '-q', '--no-deps',
         '--only-binary=:all:', '--disable-pip-version-check',
         f'--python-version={version}', '--implementation=cp',
         *(f'--platform=manylinux{old}_x86_64' for old in (
             '_2_28', '_2_17', '2014', '1')), '-d', str(folder / 'wheels'),
         *(f'{name}=={pins[name]}' for name in WHEELS.values())], check=True)
  corpora = resolve(','.join(texts))
  sample: list[str] = []
  for corpus in corpora:
    path = text_dir / f'{corpus.name}.jsonl.zst'
    left, taken = TEXT_CHARS // len(corpora), SAMPLE_CHARS
    packer = zstandard.ZstdCompressor(level=10)
    with open(path, 'wb') as file, packer.stream_writer(file) as out:
      for document in corpus.documents():
        out.write((json.dumps({'text': document[:left]}) + '\n').encode())
        sample.append(document[:taken])
        left, taken = left - len(document), max(0, taken - len(document))
        if left <= 0:
          break
    print(f'{corpus.name}: {path.stat().st_size / 1e6:.1f} MB', flush=True)
  text.train_byte_bpe(filter(None, sample), VOCABULARY).save(
      str(folder / 'tokenizer.json'))
  size = sum(f.stat().st_size for f in folder.rglob('*') if f.is_file())
  print(f'{folder}: {size / 1e6:.1f} MB')
  if size > MOST_BYTES:
    raise SystemExit(f'that is more than {MOST_BYTES / 1e6:.0f} MB.')


def missing_wheels(folder: pathlib.Path) -> list[str]:
  """Wheels for this Python of packages that it does not have."""
  tag = f'cp{sys.version_info[0]}{sys.version_info[1]}'
  found = []
  for module, name in WHEELS.items():
    if importlib.util.find_spec(module):
      continue
    stem = name.replace('-', '_').lower()
    found += [str(f) for f in sorted(folder.glob('*.whl'))
              if f.name.lower().startswith(f'{stem}-')
              and (tag in f.name or '-abi3-' in f.name or '-none-' in f.name)]
  return found


def run(part: str, words: list[str], limit: float, out: pathlib.Path
        ) -> dict[str, Any]:
  """Runs a part, appends its line to results.jsonl, and returns it."""
  begin, log = time.monotonic(), out / f'{part}.log'
  print(f'--- {part}: at most {limit:.0f} s', flush=True)
  with open(log, 'w', encoding='utf-8') as file:
    child = subprocess.Popen(
        [sys.executable, *words], cwd=ROOT, stdout=file, stderr=file,
        start_new_session=True, env=os.environ | {'PYTHONUNBUFFERED': '1'})
    for wanted, patience in ((signal.SIGTERM, limit), (signal.SIGKILL, 15.)):
      try:
        child.wait(max(1., patience))
        break
      except subprocess.TimeoutExpired:
        os.killpg(child.pid, wanted)
    code = child.wait()
  said = log.read_text(errors='replace').strip().splitlines() or ['']
  line: dict[str, Any] = {'part': part, 'exit': code,
                          'seconds': round(time.monotonic() - begin, 1)}
  try:
    line['result'] = json.loads(said[-1])
  except ValueError:
    line['said'] = said[-5:]
  return record(line, out)


def record(line: dict[str, Any], out: pathlib.Path) -> dict[str, Any]:
  with open(out / 'results.jsonl', 'a', encoding='utf-8') as file:
    file.write(json.dumps(line) + '\n')
  print(json.dumps(line)[:1000], flush=True)
  return line


def train(given, workdir: pathlib.Path, steps: int, attention: str
          ) -> list[str]:
  """The words of robertax.main."""
  sizes = (REHEARSED, 16, 64) if given.rehearse else (MODEL, 2048, 128)
  model, batch, length = sizes
  keys = {
      'data.corpora': ','.join(map(str, sorted((given.data / 'text').glob(
          '*.zst'))[:1 if given.rehearse else None])),
      'data.cache_dir': workdir.parent / 'cache', 'data.backend': 'numpy',
      'data.batch_size': batch, 'data.sequence_length': length,
      'tokenizer.path': given.data / 'tokenizer.json',
      'model.max_positions': length, 'model.dropout_rate': 0.0,
      'model.attention_dropout_rate': 0.0,
      'model.dtype': 'float32' if given.rehearse else 'bfloat16',
      **{f'model.{name}': value for name, value in model.items()},
      'optim.learning_rate': 1e-3, 'optim.warmup_steps': max(1, steps // 16),
      'train.steps': steps, 'train.log_every': max(1, steps // 50),
      'train.eval_every': max(1, steps // 5),
      'train.checkpoint_every': max(1, steps // 2)}
  return ['-m', 'robertax.main', '--config=configs/one_gpu.py',
          f'--workdir={workdir}', '--config.model.remat=none',
          f'--config.model.attention={attention}',
          f'--config.train.micro_batches={1 if given.rehearse else 4}',
          *(f'--config.{key}={value}' for key, value in keys.items())]


def pretrain(given, out: pathlib.Path, end: float) -> None:
  """A short run says how fast steps are; the long one takes what is left."""
  runs = out / 'runs'
  # Also prepares the text, and fills no compile cache: the long run compiles.
  for attention in ('auto', 'xla'):
    line = run(f'pretrain_probe_{attention}', train(
        given, runs / 'probe', 40, attention), (end - time.monotonic()) / 2,
               out)
    if not line['exit']:
      break
    shutil.rmtree(runs / 'probe', ignore_errors=True)
  else:
    return
  lines = read_metrics(runs / 'probe')
  speed = max(x['train/tokens_per_second'] for x in lines[len(lines) // 2:]
              if 'train/tokens_per_second' in x)
  tokens = 16 * 64 if given.rehearse else 2048 * 128
  # Its own start is not longer than that of the probe.
  left = end - time.monotonic() - SAVING - line['seconds']
  steps = max(20, int(.8 * left * speed / tokens))
  line = run('pretrain', train(given, runs / 'long', steps, attention),
             end - time.monotonic() - SAVING, out)
  lines = read_metrics(runs / 'long')
  last = [x for x in lines if 'eval/loss' in x][-1:]
  record({'part': 'curve', 'exit': line['exit'], 'steps': steps,
          'tokens': steps * tokens, 'last': last,
          'eval': [[x['step'], x['eval/loss']] for x in lines
                   if 'eval/loss' in x]}, out)
  if any((runs / 'long').glob('checkpoints/*')):
    begin = time.monotonic()
    line = run('export', ['-m', 'robertax.convert', f'--source={runs / "long"}',
                          f'--target=hf:{runs / "exported"}'], SAVING, out)
    if not line['exit']:
      pieces = tar_pieces(runs / 'exported', runs / 'long', out)
      record({'part': 'checkpoint', 'exit': 0, 'bytes': pieces,
              'seconds': round(time.monotonic() - begin, 1)}, out)


def read_metrics(workdir: pathlib.Path) -> list[dict[str, Any]]:
  path = workdir / 'metrics.jsonl'
  return [json.loads(line) for line in path.read_text().splitlines()
          ] if path.exists() else []


def tar_pieces(folder: pathlib.Path, workdir: pathlib.Path, out: pathlib.Path
               ) -> list[int]:
  """Writes an exported model, in bfloat16, and its curve as pieces of a tar."""
  import ml_dtypes
  from safetensors.numpy import load_file, save_file
  weights = folder / 'model.safetensors'
  save_file({name: x.astype(ml_dtypes.bfloat16) for name, x in
             load_file(weights).items()}, weights, {'format': 'pt'})
  content = io.BytesIO()
  with tarfile.open(fileobj=content, mode='w') as tar:
    tar.add(folder, 'exported')
    for name in ('metrics.jsonl', 'config.json', 'report.html'):
      if (workdir / name).exists():
        tar.add(workdir / name, f'run/{name}')
  whole = content.getvalue()
  sizes = []
  for number, start in enumerate(range(0, len(whole), PIECE_BYTES)):
    piece = whole[start:start + PIECE_BYTES]
    (out / f'checkpoint.tar.{number:02}').write_bytes(piece)
    sizes.append(len(piece))
  return sizes


def measure(given) -> bool:
  """All parts; returns whether all of them ended well."""
  out = given.out
  out.mkdir(parents=True, exist_ok=True)
  (out / 'results.jsonl').write_text('')
  begin = time.monotonic()
  end = begin + 60 * given.minutes
  small = given.rehearse
  run('device', ['-c', (
      'import jax, json, sys; d = jax.devices(); print(json.dumps({'
      '"jax": jax.__version__, "device": d[0].device_kind, "count": len(d), '
      '"platform": d[0].platform, "python": sys.version.split()[0]}))')],
      60, out)
  run('kernels', ['-m', 'benchmarks.exact', *(
      ['--tokens=32', '--heads=2', '--rows=1'] if small else [])], 100, out)
  run('attention', ['-m', 'benchmarks.attention', *(
      ['--tokens=32', '--heads=2', '--rows=1', '--rounds=1', '--calls=1']
      if small else ['--rounds=4', '--calls=5'])], 60, out)
  if all(map(importlib.util.find_spec, ('torch', 'transformers'))):
    alone = []
  else:
    alone = ['--alone']
    record({'part': 'torch', 'exit': 0, 'said': ['skipped: no torch']}, out)
  run('step', ['-m', 'benchmarks.step', '--anyway', *alone, *(
      ['--size=tiny', '--rows=2', '--tokens=32', '--rounds=1'] if small else
      ['--dtype=bfloat16', '--tokens=512', '--micro_batches=32,64',
       '--rounds=3', '--steps=5'])], 180, out)
  if given.data is None:
    record({'part': 'pretrain', 'exit': 2, 'said': [
        'skipped: --data=DIR names what --pack=DIR has made']}, out)
  else:
    try:
      pretrain(given, out, end)
    except Exception as e:  # A line, as of the parts before it.
      record({'part': 'pretrain', 'exit': 1, 'said': [repr(e)]}, out)
  lines = [json.loads(line) for line in (
      out / 'results.jsonl').read_text(encoding='utf-8').splitlines()]
  failed = [line['part'] for line in lines if line['exit']]
  record({'part': 'all', 'exit': int(bool(failed)), 'failed': failed,
          'seconds': round(time.monotonic() - begin, 1)}, out)
  return not failed


def main(arguments: list[str] | None = None) -> None:
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--pack', type=pathlib.Path)
  parser.add_argument('--text', help='as data.corpora; default: the corpora of '
                      'ROBERTAX_TEST_DATA')
  parser.add_argument('--missing', type=pathlib.Path, help=argparse.SUPPRESS)
  parser.add_argument('--data', type=lambda path: pathlib.Path(path).resolve())
  parser.add_argument('--out', type=lambda path: pathlib.Path(path).resolve(),
                      default=pathlib.Path('runs/quarter_hour').resolve())
  parser.add_argument('--minutes', type=float, default=12.)
  parser.add_argument('--rehearse', action='store_true')
  given = parser.parse_args(arguments)
  if given.missing:
    print('\n'.join(missing_wheels(given.missing)))
  elif given.pack:
    text = given.text or ','.join(
        str(path) for path in sorted(pathlib.Path(os.environ.get(
            'ROBERTAX_TEST_DATA', '/nowhere'), 'pretrain').glob('*')))
    if not text:
      raise SystemExit('--text=FILES is needed, or ROBERTAX_TEST_DATA.')
    pack(given.pack, text.split(','))
  elif not measure(given):
    raise SystemExit(1)


if __name__ == '__main__':
  main()
