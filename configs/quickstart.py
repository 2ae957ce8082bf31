"""Quickstart: a small RoBERTa on the documentation of your own Python.

  python -m robertax.main --config=configs/quickstart.py \
      --workdir=runs/quickstart

Cost: about 4 minutes on two CPU cores, 1.3 GB of memory, no network.
Expect: eval/loss 2.6 nats below eval/unigram_loss (README.md has a run).
This is no row of the paper: 2 layers x 128 and a vocabulary of 2,048. It takes
many small steps, since with few large ones so small a model stays at the loss
of the unigram. The text comes with every Python (corpus `python`). It is seen
less than twice, so there is no overfitting for dropout to prevent.
"""

from robertax.config import defaults, with_arg


def get_config(arg=None):
  config = defaults()
  config.data.update(
      corpora='python', sequence_length=64, batch_size=16)
  config.tokenizer.vocab_size = 2048
  config.model.update(
      hidden_size=128, num_layers=2, num_heads=2, mlp_size=512,
      max_positions=64, dropout_rate=0.0, attention_dropout_rate=0.0,
      layers_unrolled=2)
  config.optim.update(learning_rate=2e-3, warmup_steps=400)
  config.train.update(
      steps=6_000, log_every=100, eval_every=1_000, checkpoint_every=500)
  return with_arg(config, arg)
