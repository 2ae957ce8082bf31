"""Table 3: batch size at equal passes over the data; base.

  python -m robertax.main --config=configs/paper/table3.py:row=2k \
      --workdir=runs/table3_2k \
      --config.data.corpora=wiki.jsonl.zst,books.jsonl.zst

`row=256`, `2k`, `8k`, and beyond the paper `32k` by LAMB. table3_256.py,
table3_2k.py, table3_8k.py and lamb_32k.py in configs/ are these rows with
another train.eval_every. The whole table, fine-tuning included:
`python -m robertax.paper --table=3 --scale=paper`.
Cost (expected): 256M sequences x 512 tokens x 0.602 GFLOP a token = 7.89e+19
FLOP each: 10 hours on 32 TPU v5e at 36 % of their 197 TFLOP/s; row 256, of 8
rows a chip, 13.5 at 26 %, as compiled.
Expect (paper, Table 3; held-out perplexity, MNLI-m, SST-2): 256 3.99, 84.7,
92.7; 2k 3.68, 85.2, 92.9; 8k 3.77, 84.6, 92.8.
"""

from robertax.config import take_arg
from robertax.paper.scales import row_file

TABLE, ROW = '3', '2k'


def get_config(arg=None):
  row, rest = take_arg(arg, 'row', ROW)
  return row_file(TABLE, row, rest)
