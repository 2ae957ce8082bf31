"""The first row of the paper's Table 3: base, 256 sequences a step.

  python -m robertax.main --config=configs/table3_256.py \
      --workdir=runs/table3_256 \
      --config.data.corpora=wiki.jsonl.zst,books.jsonl.zst

Cost (expected): 1,000,000 steps x 256 x 512 tokens x 0.602 GFLOP a token
= 7.89e+19 FLOP: 13.5 hours on 32 TPU v5e at 26 % of their 197 TFLOP/s, as
compiled (8 rows a chip).
Expect (paper, Table 3): held-out perplexity 3.99, MNLI-m 84.7, SST-2 92.7 on
Books + Wikipedia. The warm-up is BERT's; the paper names none for this table.
"""

from robertax.config import defaults, with_arg


def get_config(arg=None):
  config = defaults()
  config.data.update(
      format='full_sentences', sequence_length=512, batch_size=256,
      mask_rate=0.15, replace_random_rate=0.1, replace_keep_rate=0.1)
  config.tokenizer.vocab_size = 50_265
  config.model.update(
      hidden_size=768, num_layers=12, num_heads=12, mlp_size=3072,
      max_positions=512, dropout_rate=0.1, attention_dropout_rate=0.1,
      dtype='bfloat16', remat='products')
  config.optim.update(
      name='adamw_fairseq', learning_rate=1e-4, warmup_steps=10_000,
      schedule='linear', b1=0.9, b2=0.98, eps=1e-6, weight_decay=0.01,
      weight_decay_on='all', clip_norm=0.0)
  config.train.update(
      steps=1_000_000, log_every=100, eval_every=10_000,
      checkpoint_every=1_000)
  return with_arg(config, arg)
