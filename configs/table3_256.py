"""The first row of the paper's Table 3: base, 256 sequences a step.

  python -m robertax.main --config=configs/table3_256.py \
      --workdir=runs/table3_256 \
      --config.data.corpora=wiki.jsonl.zst,books.jsonl.zst

Cost (expected): 1,000,000 steps x 256 x 512 tokens x 0.602 GFLOP a token
= 7.89e+19 FLOP: 13.5 hours on 32 TPU v5e at 26 % of their 197 TFLOP/s, as
compiled (8 rows a chip).
Expect (paper, Table 3): held-out perplexity 3.99, MNLI-m 84.7, SST-2 92.7 on
Books + Wikipedia. The warm-up is BERT's; the paper names none for this table.
The numbers are those of configs/paper/table3.py:row=256.
"""

from robertax.paper.scales import row_file


def get_config(arg=None):
  return row_file('3', '256', arg, {
      'data.corpora': '', 'train.eval_every': 10_000})
