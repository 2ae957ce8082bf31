"""The reference run: a curve to lay your own over, on five corpora.

  python -m robertax.main --config=configs/reference.py \
      --workdir=runs/reference --config.data.corpora='DIR/*.jsonl.zst'

DIR holds books, news, stories, web and wiki: 266 MB of text. Then
`python -m robertax.report --workdir=YOURS,runs/reference` shows both curves.

Cost: about an hour on two CPU cores, 2 GB of memory, no network.
Expect: benchmarks/RESULTS.md has its curve's ends and downstream scores.
Not a row of the paper: 2 layers x 256 (1.6M parameters, and 2.1M of ids), rows
of 256 tokens, less than an epoch, so there is nothing for dropout to prevent.
"""

from robertax.train.config import defaults, with_arg


def get_config(arg=None):
  config = defaults()
  config.data.update(
      corpora='*.jsonl.zst', mixture='alpha=0.5', sequence_length=256,
      batch_size=16)
  config.tokenizer.vocab_size = 8192
  config.model.update(
      hidden_size=256, num_layers=2, num_heads=4, mlp_size=1024,
      max_positions=256, dropout_rate=0.0, attention_dropout_rate=0.0,
      layers_unrolled=2)
  config.optim.update(learning_rate=1.5e-3, warmup_steps=400)
  config.train.update(
      steps=6_000, log_every=50, eval_every=1_000, eval_examples=400,
      checkpoint_every=250)
  return with_arg(config, arg)
