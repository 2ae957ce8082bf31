"""WSC: which phrase a pronoun stands for, as fairseq fine-tunes it.

  python -m robertax.main --config=configs/wsc.py --workdir=runs/wsc \
      --config.init_from=runs/large --config.data.dir=WSC

data.dir: SuperGLUE's folder with train.jsonl, val.jsonl and test.jsonl.
`:task=wnli_spans` answers WNLI in the same way: data.dir is GLUE's folder (or
WNLI's). It is trained on WSC with `--config.finetune.wsc_dir=WSC`, and without
that on WNLI's own rows, laid out as spans.
`--config.finetune.ranking_loss=margin` is the loss of the paper (Kocijan et al.
2019: margin_alpha 1, margin_beta 0). cross_entropy, the default here, is
fairseq's later one, with 92.3 on val where the margin has about 90.
`--config.finetune.chunker=spacy` takes candidates from spaCy (pip install
'.[spacy]', and its model en_core_web_lg) instead of our rules.
Cost (expected): the 259 positive rows with their candidates are 89,378 tokens;
2,000 updates of 64 rows are 400 epochs, 3.6e7 tokens; 6 x 303M x tokens for
large: 6.5e16 FLOP, 14 minutes at 40 % of a v5e.
Expect (fairseq's README, val, large): 91.3, and 92.3 for the best of many.
Seeds differ much: the paper submits the best seven of a hundred runs of a sweep
over {1,2,3}e-5 x {16,32,64} x {500, ..., 3000} updates. WNLI's test set: 89.0
(paper, Table 5, ensemble).
fairseq's batches of 64 have negative rows too, which have no loss; here all 64
rows are positive.
"""

from robertax.config import defaults, take_arg, with_arg
from robertax.errors import unknown

TASKS = ('wsc', 'wnli_spans')


def get_config(arg=None):
  name, rest = take_arg(arg, 'task', 'wsc')
  if name not in TASKS:
    raise unknown('task of configs/wsc.py', name, TASKS)
  config = defaults()
  config.task = name
  config.data.update(batch_size=64, sequence_length=512)
  config.model.update(dropout_rate=0.1, attention_dropout_rate=0.1)
  config.optim.update(
      name='adamw_fairseq', learning_rate=2e-5, schedule='linear',
      warmup_steps=250, b1=0.9, b2=0.98, eps=1e-6, weight_decay=0.01,
      weight_decay_on='all', clip_norm=0.0)
  # Four parts: each masked token has a logit for each id.
  config.train.update(steps=2_000, micro_batches=4, log_every=10,
                      eval_every=50, checkpoint_every=500, keep_checkpoints=1)
  config.finetune.update(ranking_loss='cross_entropy', chunker='rules')
  return with_arg(config, rest)
