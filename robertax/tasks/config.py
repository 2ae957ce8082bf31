"""The `finetune` section of a config."""

import dataclasses

from robertax.errors import InputError


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
      fills it in.
    predict_test: whether test splits are answered too: their files must be
      there.
  """
  epochs: int = 10
  max_train_examples: int = 0
  subset_seed: int = 0
  from_scratch: bool = False
  new_parameters: str = 'classifier,span_head'
  unused_parameters: str = 'lm_head,nsp_head'
  eval_tokens: int = 8192
  predict_test: bool = False
  labels: str = ''

  def __post_init__(self):
    for name, least in (('epochs', 1), ('max_train_examples', 0),
                        ('subset_seed', 0), ('eval_tokens', 1)):
      if getattr(self, name) < least:
        raise InputError(f'finetune.{name}={getattr(self, name)}: at least '
                         f'{least}.')
