"""Times the preparation of text: `python -m benchmarks.prepare --data=DIR`.

Writes all documents of the files in DIR to one text file, and half of them to
another, and measures, each in a process of its own,

  tokenizers' encode_batch alone on all their sentences, on all cores: half of
  the sentences before the preparation and half after it, in case the machine's
  speed changes;
  text file -> finished records (corpus.prepare, with an empty cache): its time,
  and the peak memory of all its processes (PSS, which counts shared pages
  once), for all the text and for half of it.

DIR is by default `pretrain` of ROBERTAX_TEST_DATA, with the tokenizer in `bpe`
beside it, or else the embedded text. The cost of 160 GB is extrapolated. The
last line is one JSON object.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time

PAPER = 160e9  # Bytes of text, the paper's section 3.2.
CORES = (8, 32, 96)
SAMPLE_SECONDS = 0.1


def write_text(data: str, folder: str) -> tuple[str, str]:
  """Writes all documents, and half of them, as .jsonl files.

  Returns:
    The paths.
  """
  from robertax.corpus.documents import resolve
  paths = tuple(os.path.join(folder, f'{name}.jsonl')
                for name in ('all', 'half'))
  corpora = resolve(data)
  with open(paths[0], 'w') as whole, open(paths[1], 'w') as half:
    number = 0
    for corpus in corpora:
      for text in corpus.documents():
        line = json.dumps({'text': text}, ensure_ascii=False) + '\n'
        whole.write(line)
        if number % 2 == 0:
          half.write(line)
        number += 1
  return paths


def encode(path: str, tokenizer: str, part: int) -> dict[str, float]:
  """Times encode_batch alone, in seconds, on every second batch of sentences.

  Args:
    path: a .jsonl file.
    tokenizer: path of the tokenizer.
    part: 0 or 1: which half of the batches.
  """
  from tokenizers import Tokenizer

  from robertax.corpus.documents import resolve
  from robertax.corpus.sentences import prose
  library = Tokenizer.from_file(tokenizer)
  seconds, batch, size, number, tokens, text = 0., [], 0, 0, 0, 0

  def flush():
    nonlocal seconds, tokens, text
    if number % 2 == part and batch:
      started = time.perf_counter()
      found = library.encode_batch(batch, add_special_tokens=False)
      seconds += time.perf_counter() - started
      tokens += sum(map(len, found))
      text += sum(len(sentence.encode()) for sentence in batch)

  for document in resolve(path)[0].documents():
    for sentence in prose(document):
      batch.append(sentence)
      size += len(sentence)
    if size > 2 << 20:
      flush()
      batch, size, number = [], 0, number + 1
  flush()
  return dict(seconds=seconds, tokens=tokens, bytes=text)


def prepare(path: str, tokenizer: str, cache: str) -> dict:
  """Prepares a file like `robertax.prepare`; gives its time and stages."""
  from robertax import corpus
  from robertax.config import DataConfig, TokenizerConfig
  started = time.perf_counter()
  (manifest,) = corpus.prepare(
      DataConfig(corpora=path, cache_dir=cache),
      TokenizerConfig(path=tokenizer), progress=False).manifests
  return dict(seconds=time.perf_counter() - started, stages=manifest.stages,
              tokens=sum(split.num_tokens for split in
                         manifest.splits.values()))


def memory(pid: int) -> int:
  """The current memory (PSS, bytes) of a process and its descendants."""
  total = 0
  try:
    with open(f'/proc/{pid}/smaps_rollup') as f:
      total += next(int(line.split()[1]) for line in f
                    if line.startswith('Pss:')) << 10
    for thread in os.listdir(f'/proc/{pid}/task'):
      with open(f'/proc/{pid}/task/{thread}/children') as f:
        total += sum(memory(int(child)) for child in f.read().split())
  except (OSError, StopIteration):
    pass  # It ended meanwhile.
  return total


def child(what: str, *arguments) -> tuple[dict, int]:
  """Runs a function of this module in a process of its own.

  Returns:
    (the function's result, its peak memory in bytes).
  """
  process = subprocess.Popen(
      [sys.executable, '-m', 'benchmarks.prepare', '--child',
       json.dumps([what, *arguments])], stdout=subprocess.PIPE, text=True)
  peak, ended = 0, threading.Event()

  def watch():
    nonlocal peak
    while not ended.wait(SAMPLE_SECONDS):
      peak = max(peak, memory(process.pid))

  watcher = threading.Thread(target=watch)
  watcher.start()
  out = process.communicate()[0]
  ended.set()
  watcher.join()
  if process.returncode:
    sys.exit(f'{what} ended with {process.returncode}')
  return json.loads(out.splitlines()[-1]), peak


def tokenizer_json(path: str, text: str, folder: str) -> str:
  """Writes a tokenizer.json, of the given or a newly trained tokenizer."""
  from robertax import text as room
  from robertax.corpus.documents import resolve
  saved = os.path.join(folder, 'tokenizer.json')
  if path:
    tokenizer = room.load(path, False)
  else:
    documents = (d for _, d in zip(range(5000), resolve(text)[0].documents()))
    tokenizer = room.train_byte_bpe(documents, 30_000)
  tokenizer.save(saved)
  return saved


def _say(what: str, seconds: float, size: int) -> None:
  rate = size / max(seconds, 1e-9) / 1e6  # Little text leaves nothing to time.
  print(f'{what:21s} {seconds:7.1f} s  {rate:6.2f} MB/s', flush=True)


def expected(rate: float, reading: float, cores: int) -> list[str]:
  """Extrapolates to 160 GB, as lines.

  Args:
    rate: bytes of text per second that this machine prepares.
    reading: bytes of text per second that one process reads.
    cores: number of cores of this machine.
  """
  lines = [f'160 GB, expected: text / ({rate / cores / 1e6:.2f} MB/s a core x '
           'cores), and no faster than one process reads it twice, '
           f'{reading / 1e6:.0f} MB/s:']
  for number in CORES:
    work = PAPER / (rate / cores * number) / 3600
    read = PAPER / reading / 3600
    lines.append(f'  {number} cores: {work:.1f} h of work, {read:.1f} h of '
                 f'reading: {max(work, read):.1f} h')
  return lines


def measure(data: str, tokenizer: str) -> dict[str, float]:
  """Makes all measurements, and prints a table."""
  cores = len(os.sched_getaffinity(0))
  with tempfile.TemporaryDirectory() as folder:
    whole, half = write_text(data, folder)
    saved = tokenizer_json(tokenizer, whole, folder)
    size = os.path.getsize(whole)
    before, _ = child('encode', whole, saved, 0)
    _say('encode_batch, before', before['seconds'], before['bytes'])
    made, peak = child('prepare', whole, saved, f'{folder}/whole')
    _say('text -> records', made['seconds'], size)
    behind, _ = child('encode', whole, saved, 1)
    _say('encode_batch, behind', behind['seconds'], behind['bytes'])
    _, half_peak = child('prepare', half, saved, f'{folder}/half')
  alone = before['seconds'] + behind['seconds']
  text = before['bytes'] + behind['bytes']
  rate = size / made['seconds']
  results = dict(
      fraction_of_encode_batch=round(alone / made['seconds'], 3),
      megabytes_per_second=round(rate / 1e6, 2),
      peak_memory_mib=round(peak / 2**20, 1),
      peak_memory_ratio=round(peak / half_peak, 3))
  print(f'{size / 1e6:.0f} MB of text, {made["tokens"]:,} tokens of records, '
        f'{cores} cores')
  _say('encode_batch alone', alone, text)
  _say('text -> records', made['seconds'], size)
  for name, seconds in made['stages'].items():
    print(f'  {name:19s} {seconds:7.1f} s, summed over processes')
  print(f'peak memory           {peak / 2**20:7.1f} MiB, of half the text '
        f'{half_peak / 2**20:.1f} MiB: ratio '
        f'{results["peak_memory_ratio"]:.2f}')
  for line in expected(rate, size / made['stages']['reading'], cores):
    print(line)
  return results


def main():
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  there = os.environ.get('ROBERTAX_TEST_DATA', '')
  parser.add_argument(
      '--data', default=f'{there}/pretrain/*' if there else 'python',
      help='text files, like data.corpora')
  parser.add_argument(
      '--tokenizer', default=f'{there}/bpe' if there else '',
      help='like tokenizer.path; empty: one is trained on some of the text')
  parser.add_argument('--child', help=argparse.SUPPRESS)
  flags = parser.parse_args()
  if flags.child:
    what, *arguments = json.loads(flags.child)
    result = {'encode': encode, 'prepare': prepare}[what](*arguments)
    print(json.dumps(result))
    return
  print(json.dumps(measure(flags.data, flags.tokenizer)))


if __name__ == '__main__':
  main()
