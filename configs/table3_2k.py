"""The second row of the paper's Table 3: base, 2K sequences a step.

  python -m robertax.main --config=configs/table3_2k.py \
      --workdir=runs/table3_2k \
      --config.data.corpora=wiki.jsonl.zst,books.jsonl.zst

Cost (expected): 125,000 steps x 2,048 x 512 tokens x 0.602 GFLOP a token
= 7.89e+19 FLOP: 10 hours on 32 TPU v5e at 36 % of their 197 TFLOP/s.
Expect (paper, Table 3): held-out perplexity 3.68, MNLI-m 85.2, SST-2 92.9 on
Books + Wikipedia. The warm-up is fairseq's recipe for 2K x 125K; the paper
names none for this table.
The numbers are those of configs/paper/table3.py:row=2k.
"""

from robertax.paper.scales import row_file


def get_config(arg=None):
  return row_file('3', '2k', arg, {
      'data.corpora': '', 'train.eval_every': 1_250})
