"""Table 1: static and dynamic masks; base as BERT, 1M steps of 256 sequences.

  python -m robertax.main --config=configs/paper/table1.py:row=dynamic \
      --workdir=runs/table1_dynamic \
      --config.data.corpora=wiki.jsonl.zst,books.jsonl.zst

`row=static` (ten masks, each seen again) or `row=dynamic`. All of the table,
fine-tuning included: `python -m robertax.paper --table=1 --scale=paper`.
Cost (expected): 1,000,000 steps x 256 x 512 tokens x 0.602 GFLOP a token
= 7.89e+19 FLOP: 13.5 hours on 32 TPU v5e at 26 % of their 197 TFLOP/s, as
compiled (8 rows a chip).
Expect (paper, Table 1; SQuAD 2.0 F1, MNLI-m, SST-2): static 78.3, 84.3, 92.5;
dynamic 78.7, 84.0, 92.9. The format is SEGMENT-PAIR with NSP: the dynamic row
has the figures of that row of Table 2. The warm-up is BERT's.
"""

from robertax.config import take_arg
from robertax.paper.scales import row_file

TABLE, ROW = '1', 'dynamic'


def get_config(arg=None):
  row, rest = take_arg(arg, 'row', ROW)
  return row_file(TABLE, row, rest)
