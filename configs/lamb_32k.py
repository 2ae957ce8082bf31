"""Beyond the paper: base, 32K sequences a step by LAMB (You et al. 2020).

  python -m robertax.main --config=configs/lamb_32k.py \
      --workdir=runs/lamb_32k \
      --config.data.corpora=wiki.jsonl.zst,books.jsonl.zst

Cost (expected): 7,812 steps x 32,768 x 512 tokens x 0.602 GFLOP a token
= 7.89e+19 FLOP: 10 hours on 32 TPU v5e at 36 % of their 197 TFLOP/s.
Expect: as many passes over the data as the rows of Table 3 (1M x 256 / 32,768
updates), and their quality if LAMB does for RoBERTa what it did for BERT. The
rate of 5e-3 and the warm-up of a fifth of the run are its authors' for 32K
sequences. This is not in the paper, and was never run.
"""

from robertax.config import defaults, with_arg


def get_config(arg=None):
  config = defaults()
  config.data.update(
      format='full_sentences', sequence_length=512, batch_size=32768,
      mask_rate=0.15, replace_random_rate=0.1, replace_keep_rate=0.1)
  config.tokenizer.vocab_size = 50_265
  config.model.update(
      hidden_size=768, num_layers=12, num_heads=12, mlp_size=3072,
      max_positions=512, dropout_rate=0.1, attention_dropout_rate=0.1,
      dtype='bfloat16', remat='products')
  config.optim.update(
      name='lamb', learning_rate=5e-3, warmup_steps=1_562, schedule='linear',
      b1=0.9, b2=0.999, eps=1e-6, weight_decay=0.01,
      weight_decay_on='matrices', clip_norm=1.0)
  config.train.update(
      steps=7_812, log_every=100, eval_every=1_000,
      checkpoint_every=1_000, micro_batches=2)  # On v5e:16x16 one does not fit.
  return with_arg(config, arg)
