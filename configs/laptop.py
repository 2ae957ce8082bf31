"""Your own text on a laptop: a small RoBERTa, an hour on two CPU cores.

  python -m robertax.main --config=configs/laptop.py \
      --workdir=runs/mine --config.data.corpora='news.jsonl.zst,books/'

The model and the recipe are those of configs/reference.py, for any text: 2
layers x 256, rows of 64 tokens and later 128, 27M tokens in all.
Cost (expected): 57 minutes on one core, as long as the reference run took, with
2 GB of memory; two cores take less. Preparing the text comes first.
Expect: eval/loss begins to fall below eval/unigram_loss after some 4M tokens
(4,000 steps). benchmarks/reference has the whole curve of five corpora:
`python -m robertax.report --workdir=runs/mine,benchmarks/reference`.
A text of less than 10 MB is seen many times: then shorten train.steps.
"""

from robertax.config import defaults, with_arg


def get_config(arg=None):
  config = defaults()
  config.data.update(
      sequence_length=128, first_sequence_length=64,
      first_sequence_steps=9_000, batch_size=16)
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
