"""What is asked of the model. Floor 3: knows text, corpus, data and model.

A task is a class that prepares its data, makes batches, and has an objective,
which turns a batch into sums of a loss; train/ knows nothing else of it. A new
task is one file and one row of TASKS.
"""

from robertax.tasks.glue import Glue
from robertax.tasks.glue_table import GLUE
from robertax.tasks.pretrain import Pretrain
from robertax.tasks.qnli import QnliRanking
from robertax.tasks.race import PARTS, Race
from robertax.tasks.squad import Squad
from robertax.tasks.wnli import Wnli
from robertax.tasks.wsc import Wsc

TASKS = {
    'pretrain': Pretrain, **{f'glue/{name}': Glue for name in GLUE},
    'qnli_ranking': QnliRanking, 'wnli_spans': Wnli, 'wsc': Wsc,
    **dict.fromkeys(PARTS, Race), 'squad': Squad, 'squad2': Squad}

__all__ = ['TASKS', 'Pretrain']
