"""BERT base as Devlin et al. 2019 pretrained it; RoBERTa started from it.

  python -m robertax.main --config=configs/bert_base.py \
      --workdir=runs/bert --config.data.corpora=wiki.jsonl.zst,books.jsonl.zst

WordPiece 30K, SEGMENT-PAIR + NSP, ten static masks, 128 tokens for the first
900K of 1M steps, Adam without bias correction, b2 .999, no decay on LayerNorm
and biases, gradients clipped to 1. Set tokenizer.path to BERT's vocab.txt to
use BERT's own vocabulary.
Cost (expected): 256 x (900K x 128 x 0.559 + 100K x 512 x 0.602) GFLOP = 2.4e19
FLOP: 4.1 hours on 32 TPU v5e at 26 % of their 197 TFLOP/s.
Expect (paper, Table 2, as published): SQuAD 1.1/2.0 F1 88.5/76.3, MNLI-m 84.3,
SST-2 92.8, RACE 64.3.
"""

from robertax.config import defaults, with_arg


def get_config(arg=None):
  config = defaults()
  config.data.update(
      format='segment_pair', sequence_length=512, batch_size=256,
      first_sequence_length=128, first_sequence_steps=900_000,
      pair_negatives='bert', pair_short_rate=0.1, pair_duplicates=10,
      masks='static', num_static_masks=10, masking_law='bert',
      max_predictions=77, specials='exclude', mask_rate=0.15,
      replace_random_rate=0.1, replace_keep_rate=0.1)
  config.tokenizer.update(kind='wordpiece', vocab_size=30_522)
  config.model.update(
      hidden_size=768, num_layers=12, num_heads=12, mlp_size=3072,
      max_positions=512, dropout_rate=0.1, attention_dropout_rate=0.1,
      layer_norm_eps=1e-12, dtype='bfloat16', remat='products')
  config.optim.update(
      name='adamw_bert', learning_rate=1e-4, warmup_steps=10_000,
      schedule='bert', b1=0.9, b2=0.999, eps=1e-6, weight_decay=0.01,
      weight_decay_on='matrices', clip_norm=1.0)
  config.train.update(
      steps=1_000_000, log_every=100, eval_every=10_000,
      checkpoint_every=1_000)
  return with_arg(config, arg)
