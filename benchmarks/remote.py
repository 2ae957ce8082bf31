"""Times remote records: `python -m benchmarks.remote`.

Puts records of random ids behind fake://, where an open takes 50 ms and all
reads share 100 MB/s, and takes masked batches from the pipeline, as in a run.
Measures

  tokens per second of wall time, with the first batch and after it;
  bytes read per byte used: everything read from the remote folder, with array
  headers and reading ahead for steps that never came, per byte of the gathered
  rows (ids, lengths, starts, documents);
  the peak size of the cache, and its bound;
  bytes read per byte used if several hosts share the batches, each with its own
  cache, with and without lanes.

Batches are compared with those of the same records on local disk, bit for bit.
The last line is one JSON object.
"""

import argparse
import dataclasses
import json
import os
import tempfile
import time

OPEN_SECONDS, BYTES_PER_SECOND = 0.05, 100e6


def disk_bytes(folder: str) -> int:
  """The size of a folder's files, in bytes."""
  return sum(os.stat(os.path.join(path, name)).st_size
             for path, _, names in os.walk(folder) for name in names
             if name != '.lock')


def used_bytes(batch) -> int:
  """The size of the records of a batch's rows, in bytes."""
  tokens = int((batch['segment_ids'] > 0).sum())
  examples = int((batch['example_ids'] >= 0).sum())
  return 2 * tokens + 8 * examples + 16 * len(batch['input_ids'])


def run(manifest, config, folder: str, steps: int, *, rows=None, local=None,
        compare: int = 4) -> dict[str, float]:
  """Takes `steps` batches through an empty cache.

  Args:
    manifest: manifest of the remote records.
    config: the `data` section.
    folder: an empty folder for the cache.
    steps: number of batches.
    rows: rows of each batch; None: all.
    local: manifest of the same records on this machine; the first batches must
      be equal.
    compare: number of batches to compare.
  """
  import numpy as np

  from benchmarks import fake_remote
  from benchmarks.input import MASK_ID, SPECIAL_IDS, VOCAB_SIZE
  from robertax.data.masking import Masking
  from robertax.data.pipeline import Pipeline
  from robertax.data.remote import ChunkCache
  from robertax.data.source import open_source

  masking = Masking(
      mask_rate=config.mask_rate, random_rate=config.replace_random_rate,
      keep_rate=config.replace_keep_rate, specials=config.specials,
      vocab_size=VOCAB_SIZE, mask_id=MASK_ID, special_ids=SPECIAL_IDS)
  config = dataclasses.replace(config, remote_cache_dir=folder)
  above, name = os.path.split(manifest.folder)
  storage = fake_remote.mount(above, OPEN_SECONDS, BYTES_PER_SECOND)
  begin = time.perf_counter()
  source = open_source([dataclasses.replace(manifest, folder=f'fake://{name}')],
                       'train', 'numpy', config=config)
  pipeline = Pipeline(source, config, masking, seed=0, rows=rows)
  batches, kept, used, tokens = pipeline.batches(0), [], 0, 0
  for step in range(steps):
    batch = next(batches)
    if not step:
      first = time.perf_counter()
    elif step + 1 == steps:
      end = time.perf_counter()
    tokens += batch['input_ids'].size
    used += used_bytes(batch)
    if local is not None and step in range(0, steps, max(1, steps // compare)):
      kept.append((step, batch))
  read = storage.bytes_read
  batches.close()
  cache = ChunkCache.of(config)
  cache.close()
  peak, bound, on_disk = cache.peak, cache.limit, disk_bytes(folder)
  here = local and Pipeline(open_source([local], 'train', 'numpy'), config,
                            masking, seed=0, rows=rows)
  for step, batch in kept:
    want = here.make_batch(step)
    for name, value in want.items():
      np.testing.assert_array_equal(batch[name], value)
  return {
      'tokens_per_second': tokens * (steps - 1) / steps / (end - first),
      'first_batch_seconds': first - begin,
      'read_per_byte_used': read / used,
      'opens': storage.opens,
      'cache_peak_bytes': peak, 'cache_disk_bytes': on_disk,
      'cache_bound_bytes': bound, 'batches_compared': len(kept)}


def main(arguments: list[str] | None = None) -> None:
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--records', type=int, default=6 << 17)
  parser.add_argument('--batch', type=int, default=1024)
  parser.add_argument('--block', type=int, default=512,
                      help='data.shuffle_block')
  parser.add_argument('--window', type=int, default=64,
                      help='data.shuffle_window')
  parser.add_argument('--gib', type=float, default=0.1,
                      help='data.remote_cache_gib')
  parser.add_argument('--hosts', type=int, default=4)
  given = parser.parse_args(arguments)
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')

  from benchmarks.input import LENGTH, write_records
  from robertax.config import DataConfig
  from robertax.data.feed import host_rows

  with tempfile.TemporaryDirectory() as folder:
    records = os.path.join(folder, 'records')
    os.makedirs(records)
    manifest = write_records(records, given.records, array_record=False)
    config = DataConfig(
        backend='numpy', sequence_length=LENGTH, batch_size=given.batch,
        shuffle_block=given.block, shuffle_window=given.window,
        remote_cache_gib=given.gib)
    steps = given.records // given.batch  # An epoch.
    found = run(manifest, config, os.path.join(folder, 'cache'), steps,
                local=manifest)
    print(json.dumps(found), flush=True)
    # Several hosts, each with its rows of an epoch with fewer records.
    few = os.path.join(folder, 'few')
    os.makedirs(few)
    manifest = write_records(few, given.records // 12, array_record=False)
    ratios = {}
    for lanes in (1, given.hosts):
      laned = dataclasses.replace(config, shuffle_lanes=lanes)
      ratios[lanes] = [run(
          manifest, laned, os.path.join(folder, f'cache-{lanes}-{host}'),
          given.records // 12 // given.batch, local=manifest, compare=1,
          rows=host_rows(given.batch, 1, host, given.hosts)
      )['read_per_byte_used'] for host in range(given.hosts)]
    found |= {'hosts': given.hosts, 'read_per_byte_used_by_hosts': max(
        ratios[given.hosts]), 'without_lanes': max(ratios[1])}
    print(json.dumps(found))


if __name__ == '__main__':
  main()
