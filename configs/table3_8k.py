"""The third row of the paper's Table 3: base, 8K sequences a step.

  python -m robertax.main --config=configs/table3_8k.py \
      --workdir=runs/table3_8k \
      --config.data.corpora=wiki.jsonl.zst,books.jsonl.zst

Cost (expected): 31,000 steps x 8,192 x 512 tokens x 0.602 GFLOP a token
= 7.83e+19 FLOP: 10 hours on 32 TPU v5e at 36 % of their 197 TFLOP/s.
Expect (paper, Table 3): held-out perplexity 3.77, MNLI-m 84.6, SST-2 92.8 on
Books + Wikipedia. The warm-up is 6 % of the run; the paper names none for this
table.
The numbers are those of configs/paper/table3.py:row=8k.
"""

from robertax.paper.scales import row_file


def get_config(arg=None):
  return row_file('3', '8k', arg, {
      'data.corpora': '', 'train.eval_every': 1_000})
