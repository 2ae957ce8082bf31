"""GLUE, one task at a time, as the paper and fairseq fine-tune it.

  python -m robertax.main --config=configs/glue.py:task=rte --workdir=runs/rte \
      --config.init_from=runs/base --config.data.dir=GLUE

task: cola, sst2, mrpc, stsb, qqp, mnli, qnli, rte (the default), wnli.
data.dir: the official folder of all tasks or of this one, or `tfds:`.
In the paper RTE, MRPC and STS-B begin with an MNLI model:
--config.init_from=runs/mnli takes its encoder and drops its head.
Cost (expected): base, 6 x 86M FLOP a token; 10 epochs of RTE (2,490 x 66
tokens) are 8.5e14 FLOP, 11 seconds of a v5e at 40 %, of MNLI (392,702 x 39)
7.9e16, 17 minutes.
Expect (fairseq's README, dev, RoBERTa base): MNLI 87.6, QNLI 92.8, QQP 91.9,
RTE 78.7, SST-2 94.8, MRPC 90.2, CoLA 63.6, STS-B 91.2.
Rates and batches are fairseq's (examples/roberta/config/finetuning).
robertax.sweep runs the paper's sweep: {1,2,3}e-5 x {16,32} x five seeds.
"""

from robertax.config import defaults, take_arg, with_arg
from robertax.errors import unknown
from robertax.paper.scales import GLUE, PAPER_TASKS

TASKS = {name: task for name, task in PAPER_TASKS.items()
         if task.folder == GLUE}


def get_config(arg=None):
  name, rest = take_arg(arg, 'task', 'rte')
  if name not in TASKS:
    raise unknown('task of configs/glue.py', name, TASKS)
  task = TASKS[name]
  config = defaults()
  config.task = task.task
  config.data.update(batch_size=task.batch)
  config.model.update(dropout_rate=0.1, attention_dropout_rate=0.1)
  config.optim.update(
      name='adamw_fairseq', learning_rate=task.rate, schedule='linear',
      warmup_steps=0, warmup_rate=task.warmup, b1=0.9, b2=0.98, eps=1e-6,
      weight_decay=task.weight_decay, weight_decay_on='all', clip_norm=0.0)
  config.train.update(steps=0, log_every=10, eval_every=0, checkpoint_every=0,
                      keep_checkpoints=1)
  config.finetune.update(epochs=task.epochs)
  return with_arg(config, rest)
