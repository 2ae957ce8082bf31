"""Beyond the paper: base, 32K sequences a step by LAMB (You et al. 2020).

  python -m robertax.main --config=configs/lamb_32k.py \
      --workdir=runs/lamb_32k \
      --config.data.corpora=wiki.jsonl.zst,books.jsonl.zst

Cost (expected): 7,812 steps x 32,768 x 512 tokens x 0.602 GFLOP a token
= 7.89e+19 FLOP: 10 hours on 32 TPU v5e at 36 % of their 197 TFLOP/s.
Expect: as many passes over the data as the rows of Table 3 (1M x 256 / 32,768
updates), and their quality if LAMB does for RoBERTa what it did for BERT. The
rate of 5e-3 and the warm-up of a fifth of the run are its authors' for 32K
sequences. This is not in the paper, and was never run.
The numbers are those of configs/paper/table3.py:row=32k.
"""

from robertax.paper.scales import row_file


def get_config(arg=None):
  return row_file('3', '32k', arg, {
      'data.corpora': '', 'train.eval_every': 1_000})
