"""Table 4: more text and more steps; large, 8K sequences a step.

  python -m robertax.main --config=configs/paper/table4.py:row=two \
      --workdir=runs/table4_two \
      --config.data.corpora=wiki.jsonl.zst,books.jsonl.zst

`row=two` (Books + Wikipedia, 100K steps), `five` (all corpora, 100K), `longer`
(300K) or `longest` (500K). All of the table, fine-tuning included:
`python -m robertax.paper --table=4 --scale=paper`.
Cost (expected): 100K steps x 8,192 x 512 tokens x 2.010 GFLOP a token = 8.4e20
FLOP, `longest` 4.2e21: 0.5 and 2.4 days on 256 TPU v5e at 40 % of their 197
TFLOP/s.
Expect (paper, Table 4; SQuAD 1.1/2.0 F1, MNLI-m, SST-2): two 93.6/87.3, 89.0,
95.3; five 94.0/87.7, 89.3, 95.6; longer 94.4/88.7, 90.0, 96.1; longest
94.6/89.4, 90.2, 96.4. Rate and warm-up are the appendix's for 500K steps: the
paper names no other for the shorter runs.
"""

from robertax.config import take_arg
from robertax.paper.scales import row_file

TABLE, ROW = '4', 'two'


def get_config(arg=None):
  row, rest = take_arg(arg, 'row', ROW)
  return row_file(TABLE, row, rest)
