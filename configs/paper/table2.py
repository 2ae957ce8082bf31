"""Table 2: the four input formats; base, 1M steps of 256 sequences.

  python -m robertax.main --config=configs/paper/table2.py:row=doc_sentences \
      --workdir=runs/table2_doc_sentences \
      --config.data.corpora=wiki.jsonl.zst,books.jsonl.zst

`row=segment_pair`, `sentence_pair` (both with NSP), `full_sentences` or
`doc_sentences`. All of the table, fine-tuning included:
`python -m robertax.paper --table=2 --scale=paper`.
Cost (expected): 1,000,000 steps x 256 x 512 tokens x 0.602 GFLOP a token
= 7.89e+19 FLOP: 13.5 hours on 32 TPU v5e at 26 % of their 197 TFLOP/s, as
compiled (8 rows a chip).
Expect (paper, Table 2; SQuAD 1.1/2.0 F1, MNLI-m, SST-2, RACE): SEGMENT-PAIR
90.4/78.7, 84.0, 92.9, 64.2; SENTENCE-PAIR 88.7/76.2, 82.9, 92.1, 63.0;
FULL-SENTENCES 90.4/79.1, 84.7, 92.5, 64.8; DOC-SENTENCES 90.6/79.7, 84.7, 92.7,
65.6. The warm-up is BERT's. Short examples are packed into rows, so that every
format fills its batch.
"""

from robertax.config import take_arg
from robertax.paper.scales import row_file

TABLE, ROW = '2', 'full_sentences'


def get_config(arg=None):
  row, rest = take_arg(arg, 'row', ROW)
  return row_file(TABLE, row, rest)
