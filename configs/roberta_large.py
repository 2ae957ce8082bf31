"""RoBERTa large as in the paper's appendix (Table 9), 8K sequences a step.

  python -m robertax.main --config=configs/roberta_large.py \
      --workdir=runs/large --config.data.corpora=wiki.jsonl.zst,books.jsonl.zst

Cost (expected): 500K steps x 8,192 x 512 tokens x 2.010 GFLOP a token (6 N +
attention + head on masked positions) = 4.2e21 FLOP: 2.4 days on 256 TPU v5e at
41 % of their 197 TFLOP/s, as compiled.
Expect (paper, Table 4, 160 GB): SQuAD 1.1/2.0 F1 94.6/89.4, MNLI-m 90.2,
SST-2 96.4; GLUE dev of Table 5.
Set data.corpora to your text; launch/corpora fetches what is nearest.
"""

from robertax.config import defaults, with_arg


def get_config(arg=None):
  config = defaults()
  config.data.update(
      format='full_sentences', sequence_length=512, batch_size=8192,
      mask_rate=0.15, replace_random_rate=0.1, replace_keep_rate=0.1)
  config.tokenizer.vocab_size = 50_265
  config.model.update(
      hidden_size=1024, num_layers=24, num_heads=16, mlp_size=4096,
      max_positions=512, dropout_rate=0.1, attention_dropout_rate=0.1,
      dtype='bfloat16', remat='products')
  config.optim.update(
      name='adamw_fairseq', learning_rate=4e-4, warmup_steps=30_000,
      schedule='linear', b1=0.9, b2=0.98, eps=1e-6, weight_decay=0.01,
      weight_decay_on='all', clip_norm=0.0)
  config.train.update(
      steps=500_000, log_every=100, eval_every=5_000, checkpoint_every=1_000)
  return with_arg(config, arg)
