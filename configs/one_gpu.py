"""Your own text on one GPU: RoBERTa base, 256 sequences a step.

  python -m robertax.main --config=configs/one_gpu.py \
      --workdir=runs/mine --config.data.corpora='news.jsonl.zst,books/'

The model is the paper's base, and the batch that of BERT; a step computes 32
sequences at a time (train.micro_batches=8), which 16 GB of memory hold. With
more memory a smaller number of micro-batches is faster and gives the same.
Cost (expected): 100K steps x 256 x 512 tokens x 0.602 GFLOP a token = 7.89e18
FLOP: 20 hours on an A100 at 35 % of its 312 TFLOP/s.
Expect: never run, since no GPU was at hand. The paper's Table 3 has the row of
256 sequences with ten times these steps: held-out perplexity 3.99.
For less text, such as 1 GB, take fewer steps or a smaller model.
"""

from robertax.config import defaults, with_arg


def get_config(arg=None):
  config = defaults()
  config.data.update(sequence_length=512, batch_size=256)
  config.tokenizer.vocab_size = 50_265
  config.model.update(
      hidden_size=768, num_layers=12, num_heads=12, mlp_size=3072,
      max_positions=512, dropout_rate=0.1, attention_dropout_rate=0.1,
      dtype='bfloat16', remat='products')
  config.optim.update(
      name='adamw_fairseq', learning_rate=2e-4, warmup_steps=6_000,
      schedule='linear', b1=0.9, b2=0.98, eps=1e-6, weight_decay=0.01,
      weight_decay_on='all', clip_norm=0.0)
  config.train.update(
      steps=100_000, micro_batches=8, log_every=100, eval_every=5_000,
      checkpoint_every=1_000)
  return with_arg(config, arg)
