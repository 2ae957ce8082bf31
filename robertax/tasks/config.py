"""The `finetune` section of a config."""

import dataclasses

from robertax.errors import InputError
from robertax.sections import unknown

RANKING_LOSSES = ('margin', 'cross_entropy')


@dataclasses.dataclass(frozen=True)
class FinetuneConfig:
  """What only fine-tuning has.

  Attributes:
    epochs: passes over the training split, where train.steps is 0.
    max_train_examples: of the split, the first so many of a permutation; 0: all
      of it.
    subset_seed: of that permutation, the same for all seeds of a run.
    from_scratch: a random body is meant. Without it a run that has no weights
      to begin with is refused. With `init_from`, model and tokenizer are taken
      from there, and the weights are not.
    new_parameters: parts of the model that begin anew; what `init_from` has of
      them is dropped. Empty: the task's head must be there, and of its size.
    unused_parameters: parts that `init_from` may have and this model has not.
    eval_tokens: about how many tokens (padding included) a batch of evaluation
      has, on all devices.
    labels: names of the classes, in their order, with commas between; the task
      fills it in. Of text_classification it may be given; else it is of the
      training labels, the most frequent first.
    text_columns: of text_classification, the column of the text, or those of
      two with a comma between.
    label_column: likewise, of the label.
    predict_test: whether test splits are answered too: their files must be
      there.
    n_best: of SQuAD, spans that are kept of each question.
    max_answer_length: of SQuAD, most tokens of an answer.
    max_option_length: of RACE, most tokens of `<s> question+option </s>`.
    chunker: of WSC, a row of candidates.CHUNKERS: who finds noun phrases.
    ranking_loss: of WSC, 'margin' (the paper) or 'cross_entropy' (fairseq's
      later and better one).
    margin_alpha, margin_beta: of the margin loss.
    wsc_dir: of WNLI through spans, the WSC folder that is trained on; empty:
      WNLI's own rows are.
  """
  epochs: int = 10
  max_train_examples: int = 0
  subset_seed: int = 0
  from_scratch: bool = False
  new_parameters: str = 'classifier,span_head'
  unused_parameters: str = 'lm_head,nsp_head'
  eval_tokens: int = 8192
  predict_test: bool = False
  n_best: int = 20
  max_answer_length: int = 30
  max_option_length: int = 128
  chunker: str = 'rules'
  ranking_loss: str = 'margin'
  margin_alpha: float = 1.0
  margin_beta: float = 0.0
  wsc_dir: str = ''
  labels: str = ''
  text_columns: str = 'text'
  label_column: str = 'label'

  def __post_init__(self):
    for name, least in (('epochs', 1), ('max_train_examples', 0),
                        ('subset_seed', 0), ('eval_tokens', 1),
                        ('n_best', 1), ('max_answer_length', 1),
                        ('max_option_length', 3), ('margin_alpha', 0),
                        ('margin_beta', 0)):
      if getattr(self, name) < least:
        raise InputError(f'finetune.{name}={getattr(self, name)}: at least '
                         f'{least}.')
    if self.ranking_loss not in RANKING_LOSSES:
      raise unknown('finetune.ranking_loss', self.ranking_loss, RANKING_LOSSES)
