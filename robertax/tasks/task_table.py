"""The tasks by name: a new one is a class and a row here."""

from robertax.tables import Table

TASKS = Table({
    'pretrain': 'robertax.tasks.pretrain:Pretrain',
    **dict.fromkeys(
        ('glue/cola', 'glue/sst2', 'glue/mrpc', 'glue/stsb', 'glue/qqp',
         'glue/mnli', 'glue/qnli', 'glue/rte', 'glue/wnli'),
        'robertax.tasks.glue:Glue'),
    'text_classification': (
        'robertax.tasks.text_classification:TextClassification'),
    'qnli_ranking': 'robertax.tasks.qnli:QnliRanking',
    'wnli_spans': 'robertax.tasks.wnli:Wnli',
    'wsc': 'robertax.tasks.wsc:Wsc',
    **dict.fromkeys(('race', 'race/middle', 'race/high'),
                    'robertax.tasks.race:Race'),
    **dict.fromkeys(('squad', 'squad2'), 'robertax.tasks.squad:Squad')})
