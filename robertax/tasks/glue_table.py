"""GLUE: nine tasks, nine rows.

Label orders are fairseq's: a dictionary of the training labels, the most
frequent first (data/dictionary.py; examples/roberta/README.md:139 for MNLI).
Columns are those of the official files, and of TFDS's `glue/*`.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class GlueTask:
  """One task.

  Attributes:
    folder: of the official download.
    tfds: the builder of `glue/*`.
    columns: names of one or two texts in the official files.
    tfds_columns: in TFDS.
    label: column of the label in the official files.
    labels: in the order of the classes; empty: a score from 0 to 5.
    tfds_labels: what TFDS's integers stand for.
    metrics: rows of tasks.metrics.METRICS; the first decides.
    dev: names of the evaluation splits, files without their ending.
    test: likewise, each with the name of its submission.
    no_header: names of the columns where train and dev have no header.
    fields: where it is not 0, lines of train and dev with another number of
      fields are dropped, and counted (fairseq preprocess_GLUE_tasks.sh).
    rows: (train, dev), official sizes, for the docs.
    any_label: whether every label that is not empty is one; `labels` is not
      known yet.
  """
  folder: str
  tfds: str
  columns: tuple[str, ...]
  tfds_columns: tuple[str, ...]
  labels: tuple[str, ...]
  tfds_labels: tuple[str, ...]
  metrics: tuple[str, ...]
  rows: tuple[int, int]
  label: str = 'label'
  dev: tuple[str, ...] = ('dev',)
  test: tuple[tuple[str, str], ...] = ()
  no_header: tuple[str, ...] = ()
  fields: int = 0
  any_label: bool = False

  @property
  def tests(self) -> tuple[tuple[str, str], ...]:
    """(split, name of its submission file)."""
    return self.test or (('test', f'{self.folder}.tsv'),)


GLUE = {
    'cola': GlueTask(
        'CoLA', 'cola', ('sentence',), ('sentence',), ('1', '0'), ('0', '1'),
        ('matthews', 'accuracy'), (8551, 1043),
        no_header=('source', 'label', 'note', 'sentence')),
    'sst2': GlueTask(
        'SST-2', 'sst2', ('sentence',), ('sentence',), ('1', '0'), ('0', '1'),
        ('accuracy',), (67349, 872)),
    'mrpc': GlueTask(
        'MRPC', 'mrpc', ('#1 String', '#2 String'), ('sentence1', 'sentence2'),
        ('1', '0'), ('0', '1'), ('accuracy', 'f1'), (3668, 408),
        label='Quality'),
    'stsb': GlueTask(
        'STS-B', 'stsb', ('sentence1', 'sentence2'),
        ('sentence1', 'sentence2'), (), (), ('pearson', 'spearman'),
        (5749, 1500), label='score'),
    'qqp': GlueTask(
        'QQP', 'qqp', ('question1', 'question2'), ('question1', 'question2'),
        ('0', '1'), ('0', '1'), ('accuracy', 'f1'), (363846, 40430),
        label='is_duplicate', fields=6),
    'mnli': GlueTask(
        'MNLI', 'mnli', ('sentence1', 'sentence2'), ('premise', 'hypothesis'),
        ('contradiction', 'neutral', 'entailment'),
        ('entailment', 'neutral', 'contradiction'), ('accuracy',),
        (392702, 9815), label='gold_label',
        dev=('dev_matched', 'dev_mismatched'),
        test=(('test_matched', 'MNLI-m.tsv'),
              ('test_mismatched', 'MNLI-mm.tsv'), ('diagnostic', 'AX.tsv'))),
    'qnli': GlueTask(
        'QNLI', 'qnli', ('question', 'sentence'), ('question', 'sentence'),
        ('not_entailment', 'entailment'), ('entailment', 'not_entailment'),
        ('accuracy',), (104743, 5463)),
    'rte': GlueTask(
        'RTE', 'rte', ('sentence1', 'sentence2'), ('sentence1', 'sentence2'),
        ('entailment', 'not_entailment'), ('entailment', 'not_entailment'),
        ('accuracy',), (2490, 277)),
    'wnli': GlueTask(
        'WNLI', 'wnli', ('sentence1', 'sentence2'), ('sentence1', 'sentence2'),
        ('0', '1'), ('0', '1'), ('accuracy',), (635, 71)),
}
