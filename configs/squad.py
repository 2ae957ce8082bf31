"""SQuAD 1.1 or 2.0, as the paper fine-tunes it (appendix, Table 10).

  python -m robertax.main --config=configs/squad.py:version=2.0 \
      --workdir=runs/squad2 --config.init_from=runs/base \
      --config.data.dir=SQuAD

data.dir is the folder of the official train-v2.0.json and dev-v2.0.json (or
those of v1.1, the default). data.train_files and data.eval_files name others,
with commas between; a file may be followed by a slice of its articles. So

  --config.data.train_files='train-v1.1.json[::14],dev-v2.0.json[::2]' \
      --config.data.eval_files='dev-v2.0.json[1::2]'

learns 2.0 from part of 1.1 and every other article of a dev set, and is scored
on the rest. It ends in predictions.json, nbest_predictions.json and, for 2.0,
na_prob.json, which robertax.score takes.
Cost (expected): 2 epochs of 1.1 are 88K windows of 173 tokens on average
(measured, GPT-2's BPE), twice: 30M tokens x 6 x 86M (base) = 1.6e16 FLOP, 4
minutes at 36 % of the 197 TFLOP/s of a TPU v5e; x 6 x 303M (large) = 5.5e16, 13
minutes. 2.0 has 1.5 times as many questions.
Expect (paper): base 90.6/79.7 F1 on dev 1.1/2.0 (Table 2, DOC-SENTENCES);
large EM/F1 88.9/94.6 on 1.1, 86.5/89.4 on 2.0 (Table 6). Others reached 88.3 on
2.0 with these numbers, and 89.6 with optim.layer_decay=0.75 at 3e-5.
"""

from robertax.config import defaults, take_arg, with_arg
from robertax.errors import InputError

TASKS = {'1.1': 'squad', '2.0': 'squad2'}


def get_config(arg=None):
  """`version=1.1` (the default) or `version=2.0`, beside any keys."""
  version, rest = take_arg(arg, 'version', '1.1')
  if version not in TASKS:
    raise InputError(f'configs/squad.py:version={version}: 1.1 or 2.0.')
  config = defaults()
  config.task = TASKS[version]
  config.data.update(batch_size=48, sequence_length=512)
  config.model.update(dropout_rate=0.1, attention_dropout_rate=0.1)
  config.optim.update(
      name='adamw_fairseq', learning_rate=1.5e-5, schedule='linear',
      warmup_steps=0, warmup_rate=0.06, b1=0.9, b2=0.98, eps=1e-6,
      weight_decay=0.01, weight_decay_on='all', clip_norm=0.0)
  config.train.update(steps=0, log_every=100, eval_every=0, checkpoint_every=0,
                      keep_checkpoints=1)
  config.finetune.update(epochs=2)
  return with_arg(config, rest)
