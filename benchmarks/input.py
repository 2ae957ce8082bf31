"""Times the input pipeline: `python -m benchmarks.input`.

Makes records of random ids in a temporary folder, without downloads, binds
itself to one core, and measures

  shard -> masked host batch, as in a run (data.pipeline);
  reading alone (which records, their bytes, arrays) and masking alone;
  the time to the first batch at step 0 and at step 400,000;
  if transformers is installed, DataCollatorForLanguageModeling on the same ids,
  in its fastest mode.

Rates are tokens per second of processor time, summed over threads, so other
programs on the machine hardly change them. The median of several rounds counts.
The last line is one JSON object.
"""

import argparse
import json
import os
import statistics
import tempfile
import time

VOCAB_SIZE, LENGTH, BATCH, SHARDS = 50265, 512, 256, 4
MASK_ID, SPECIAL_IDS = VOCAB_SIZE - 1, (0, 1, 2, 3, VOCAB_SIZE - 1)
FAR = 400_000


def one_core() -> None:
  """Binds this process to one core, before libraries count the cores."""
  for name in ('OMP', 'OPENBLAS', 'MKL'):
    os.environ[f'{name}_NUM_THREADS'] = '1'
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
  if hasattr(os, 'sched_setaffinity'):
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def write_records(folder: str, num_records: int, array_record: bool = True):
  """Writes shards, memory-mapped form and manifest of rows of random ids.

  Args:
    folder: an existing folder.
    num_records: rows.
    array_record: make the shards too.

  Returns:
    The corpus.records.Manifest.
  """
  import numpy as np

  from robertax.corpus import records, shards
  rng = np.random.default_rng(0)
  forms = ('memmap',)
  if array_record and records.array_record_module() is not None:
    forms = ('array_record', 'memmap')
  mapped = shards.ArraysWriter(folder, 'train', 'uint16')
  lengths, documents = np.array([[LENGTH], [0]], np.int32)
  sizes = [len(part) for part in np.array_split(range(num_records), SHARDS)]
  for index, size in enumerate(sizes):
    shard = None
    if 'array_record' in forms:
      shard = records.ShardWriter(
          records.shard_path(folder, 'train', index, SHARDS))
    for _ in range(size):
      ids = rng.integers(4, MASK_ID, LENGTH).astype(np.uint16)
      ids[[0, -1]] = 0, 2
      row = records.RecordRow(ids, lengths, documents)
      mapped.write(row)
      if shard:
        shard.write(records.encode_record(row))
    if shard:
      shard.close()
  mapped.close()
  split = records.SplitCounts(
      num_records=num_records, num_examples=num_records,
      num_tokens=num_records * LENGTH, shard_lengths=tuple(sizes))
  manifest = records.Manifest(
      folder=folder, version=records.VERSION, corpus='random',
      format='full_sentences', sentences='prose', sequence_length=LENGTH,
      max_examples_per_row=1, dtype='uint16', vocab_size=VOCAB_SIZE,
      tokenizer='none', forms=forms, splits={'train': split}, counts={},
      seconds=0.0)
  manifest.write()
  return manifest


def rate(function, rounds: int, calls: int) -> tuple[float, float]:
  """Measures tokens per second of processor time and of wall time.

  Both are medians over rounds.

  Args:
    function: makes, reads or masks one batch, given a number.
    rounds: number of timed rounds of `calls` calls; one more is not timed.
    calls: batches per round.
  """
  found, number = [], 0
  for _ in range(rounds + 1):
    cpu, clock = time.process_time(), time.perf_counter()
    for _ in range(calls):
      function(number)
      number += 1
    found.append((time.process_time() - cpu, time.perf_counter() - clock))
  tokens = BATCH * LENGTH * calls
  return tuple(tokens / statistics.median(column)
               for column in zip(*found[1:]))


def start_seconds(batches, step: int, rounds: int) -> float:
  """Seconds from requesting batches from `step` on to the first one."""
  found = []
  for _ in range(rounds):
    begin = time.perf_counter()
    iterator = batches(step)
    next(iterator)
    found.append(time.perf_counter() - begin)
    iterator.close()
  return statistics.median(found)


def collators(ids):
  """Yields each mode of Hugging Face's collator, on the same ids.

  Yields:
    (name, function of a number).

  Raises:
    ImportError: transformers is not installed.
  """
  import tokenizers
  import transformers

  names = {0: '<s>', 1: '<pad>', 2: '</s>', 3: '<unk>', MASK_ID: '<mask>'}
  vocab = {names.get(i, f't{i}'): i for i in range(VOCAB_SIZE)}
  tokenizer = transformers.PreTrainedTokenizerFast(
      tokenizer_object=tokenizers.Tokenizer(
          tokenizers.models.WordLevel(vocab, unk_token='<unk>')),
      bos_token='<s>', pad_token='<pad>', eos_token='</s>', unk_token='<unk>',
      mask_token='<mask>', cls_token='<s>', sep_token='</s>')
  special = (ids == 0) | (ids == 2)
  kinds = {'np': lambda x: x}
  try:
    import torch
    torch.set_num_threads(1)
    kinds['pt'] = torch.from_numpy
  except ImportError:
    print('torch is not installed: only the NumPy collator is timed')
  for kind, convert in kinds.items():
    collator = transformers.DataCollatorForLanguageModeling(
        tokenizer, mlm_probability=0.15, return_tensors=kind)
    for given in (False, True):
      rows = [{'input_ids': convert(row)} for row in ids]
      if given:  # Else it asks the tokenizer, row by row.
        for row, mask in zip(rows, special):
          row['special_tokens_mask'] = convert(mask.astype(ids.dtype))
      # It removes keys from its batch, not from the rows.
      yield (f'{kind}{", special_tokens_mask given" if given else ""}',
             lambda _, collator=collator, rows=rows: collator(list(rows)))


def measure(backend: str, num_records: int, rounds: int, calls: int,
            folder: str) -> dict[str, float | None]:
  """Makes all measurements, and prints each when it is done."""
  import numpy as np

  from robertax.config import DataConfig
  from robertax.data.hashing import train_keys
  from robertax.data.masking import Masking
  from robertax.data.order import Order
  from robertax.data.pipeline import Pipeline, segment_ids
  from robertax.data.source import open_source

  manifest = write_records(folder, num_records)
  if backend == 'tf' and 'array_record' not in manifest.forms:
    print("array_record is not installed: the backend is 'numpy'")
    backend = 'numpy'
  config = DataConfig(backend=backend, sequence_length=LENGTH, batch_size=BATCH)
  masking = Masking(
      mask_rate=config.mask_rate, random_rate=config.replace_random_rate,
      keep_rate=config.replace_keep_rate, specials=config.specials,
      vocab_size=VOCAB_SIZE, mask_id=MASK_ID, special_ids=SPECIAL_IDS)
  source = open_source([manifest], 'train', backend)
  batches = Pipeline(source, config, masking, seed=0).batches

  def timed(name, function, calls=calls):
    cpu, clock = rate(function, rounds, calls)
    print(f'{name}: {cpu / 1e6:.2f} M tokens per cpu second, '
          f'{clock / 1e6:.2f} M by the clock', flush=True)
    return cpu, clock

  iterator = batches(0)
  whole, clock = timed(f'shard -> masked batch ({backend})',
                       lambda _: next(iterator))
  iterator.close()
  order = Order(source.records_DK.sum(1), 0, config.shuffle_block,
                config.shuffle_window)
  read, _ = timed('reading alone', lambda number: source.gather(
      order.locate(number * BATCH, BATCH)[1]))
  rows = source.gather(np.arange(BATCH) % num_records)
  mask, _ = timed('masking alone', lambda number: masking.numpy(
      rows.ids, segment_ids(rows.lengths, LENGTH),
      train_keys(0, np.full(BATCH, number), rows.example_ids)))
  starts = [start_seconds(batches, step, rounds) for step in (0, FAR)]
  print(f'first batch at step 0: {starts[0]:.3f} s, at step {FAR}: '
        f'{starts[1]:.3f} s')
  ratio = None
  try:
    theirs = {name: timed(f'HF collator ({name})', function,
                          max(calls // 10, 1))[0]
              for name, function in collators(rows.ids.astype(np.int64))}
    ratio = whole / max(theirs.values())
  except ImportError as e:
    print(f'no comparison with the collator of Hugging Face: {e}')
  return {
      'tokens_per_second_per_core': whole, 'ratio_to_hf_collator': ratio,
      'start_at_step_0_seconds': starts[0],
      'start_at_step_400000_seconds': starts[1],
      'read_tokens_per_second': read, 'mask_tokens_per_second': mask,
      'tokens_per_second_by_the_clock': clock}


def main(arguments: list[str] | None = None) -> None:
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--backend', choices=('tf', 'numpy'), default='tf')
  parser.add_argument('--records', type=int, default=16384,
                      help='rows of 512 tokens to make')
  parser.add_argument('--rounds', type=int, default=7)
  parser.add_argument('--calls', type=int, default=40, help='batches per round')
  given = parser.parse_args(arguments)
  one_core()
  with tempfile.TemporaryDirectory() as folder:
    print(json.dumps(measure(given.backend, given.records,
                             given.rounds, given.calls, folder)))


if __name__ == '__main__':
  main()
