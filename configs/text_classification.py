"""Your own labels: each text, or pair of texts, has one of several classes.

  python -m robertax.main --config=configs/text_classification.py \
      --workdir=runs/reviews --config.init_from=runs/mine --config.data.dir=DIR

DIR has train and dev, each .tsv, .csv or .jsonl, with the columns `text` and
`label`. --config.finetune.text_columns=question,answer and
--config.finetune.label_column=LABEL name others; two texts are a pair. With
--config.finetune.predict_test=True the run also answers test, which needs no
labels, in predictions.test.jsonl.
Labels are those of train, the most frequent first; accuracy and macro F1 are of
dev. Then, from Python: robertax.load('runs/reviews').classify('A text.').
Cost (expected): 6 x 86M FLOP a token for base; 10 epochs of 10,000 texts of 100
tokens 5.2e15 FLOP, 65 seconds of a v5e at 40 %.
Expect: what your data allow. robertax.sweep takes this config too; the paper's
ranges are rates of {1,2,3}e-5 and batches of {16,32}.
"""

from robertax.config import defaults, with_arg


def get_config(arg=None):
  config = defaults()
  config.task = 'text_classification'
  config.data.update(batch_size=32)
  config.model.update(dropout_rate=0.1, attention_dropout_rate=0.1)
  config.optim.update(
      name='adamw_fairseq', learning_rate=2e-5, schedule='linear',
      warmup_steps=0, warmup_rate=0.06, b1=0.9, b2=0.98, eps=1e-6,
      weight_decay=0.1, weight_decay_on='all', clip_norm=0.0)
  config.train.update(steps=0, log_every=10, eval_every=0, checkpoint_every=0,
                      keep_checkpoints=1)
  config.finetune.update(epochs=10)
  return with_arg(config, arg)
