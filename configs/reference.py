"""The reference run on five corpora, to compare your own curves with.

  python -m robertax.main --config=configs/reference.py \
      --workdir=runs/reference --config.data.corpora='DIR/*.jsonl.zst'

DIR holds books, news, stories, web and wiki: 266 MB of text. The figures of one
such run are in benchmarks/reference. This lays your run over it on one page:
`python -m robertax.report --workdir=YOURS,benchmarks/reference`.

Cost: 57 minutes on one CPU core, 2 GB of memory, no network.
Expect: eval perplexity 39; README.md says what it is worth downstream.
This is no row of the paper: 2 layers x 256 (1.7M parameters, and 1.0M in the
token table). Rows have 64 tokens and later 128, as BERT's were shorter at
first. So small a model stays at the unigram's loss until attention finds the
neighbours of a token, which it does sooner among few positions: rows of 64 left
that loss after 4M tokens; rows of 128 had not after 4M, nor rows of 256 after
11M (measured, 2 CPU cores, 2026-11-25).
It sees a fifth of the text, so there is no overfitting for dropout to prevent.
"""

from robertax.config import defaults, with_arg


def get_config(arg=None):
  config = defaults()
  config.data.update(
      corpora='*.jsonl.zst', mixture='alpha=0.5', sequence_length=128,
      first_sequence_length=64, first_sequence_steps=9_000, batch_size=16)
  config.tokenizer.vocab_size = 4096
  config.model.update(
      hidden_size=256, num_layers=2, num_heads=4, mlp_size=1024,
      max_positions=128, dropout_rate=0.0, attention_dropout_rate=0.0,
      layers_unrolled=2)
  config.optim.update(learning_rate=1.5e-3, warmup_steps=400)
  config.train.update(
      steps=13_000, log_every=100, eval_every=1_000, eval_examples=400,
      checkpoint_every=500)
  return with_arg(config, arg)
