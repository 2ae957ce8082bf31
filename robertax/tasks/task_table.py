"""The tasks by name: a new one is a file and a row here."""

from robertax.tasks.glue import Glue
from robertax.tasks.glue_table import GLUE
from robertax.tasks.pretrain import Pretrain
from robertax.tasks.qnli import QnliRanking
from robertax.tasks.race import PARTS, Race
from robertax.tasks.squad import Squad
from robertax.tasks.text_classification import TextClassification
from robertax.tasks.wnli import Wnli
from robertax.tasks.wsc import Wsc

TASKS = {
    'pretrain': Pretrain, **{f'glue/{name}': Glue for name in GLUE},
    'text_classification': TextClassification,
    'qnli_ranking': QnliRanking, 'wnli_spans': Wnli, 'wsc': Wsc,
    **dict.fromkeys(PARTS, Race), 'squad': Squad, 'squad2': Squad}
