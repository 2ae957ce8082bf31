"""RACE: reading comprehension with four options, as the paper fine-tunes it.

  python -m robertax.main --config=configs/race.py --workdir=runs/race \
      --config.init_from=runs/large --config.data.dir=RACE

`:task=race/middle` or `race/high` takes that part alone. data.dir: the official
folder, {train,dev,test}/{middle,high}/*.txt, or one with the same as JSON
lines, {train,dev,test}-{middle,high}.jsonl (or .jsonl.zst, .jsonl.gz). A line
is an official file: an object with article, questions, options, answers, id.
`--config.finetune.predict_test=True` answers and scores the test split once.
Cost (expected): 87,866 questions x 4 x 346 tokens x 4 epochs = 4.9e8 tokens; 6
x 303M x tokens for large: 8.8e17 FLOP, 3.1 hours at 40 % of a v5e; base 0.9.
Expect (paper, Table 7, test, large): 83.2, middle 86.5, high 81.3. Runs that
stay at chance, 25, are common: results.json says so; take another seed.
The paper's numbers (appendix, Table 10): rate 1e-5, batch 16, weight decay .1,
4 epochs, linear decay, 6 % warm-up. fairseq's README has a fixed rate, 5 epochs
and weight decay .01 instead.
"""

from robertax.config import defaults, take_arg, with_arg
from robertax.errors import unknown

TASKS = ('race', 'race/middle', 'race/high')


def get_config(arg=None):
  name, rest = take_arg(arg, 'task', 'race')
  if name not in TASKS:
    raise unknown('task of configs/race.py', name, TASKS)
  config = defaults()
  config.task = name
  config.data.update(batch_size=16, sequence_length=512)
  config.model.update(dropout_rate=0.1, attention_dropout_rate=0.1)
  config.optim.update(
      name='adamw_fairseq', learning_rate=1e-5, schedule='linear',
      warmup_steps=0, warmup_rate=0.06, b1=0.9, b2=0.98, eps=1e-6,
      weight_decay=0.1, weight_decay_on='all', clip_norm=0.0)
  config.train.update(steps=0, log_every=10, eval_every=0, checkpoint_every=0,
                      keep_checkpoints=1)
  config.finetune.update(epochs=4, max_option_length=128)
  return with_arg(config, rest)
