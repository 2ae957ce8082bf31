"""The tasks that a model is trained on. Floor 3: text, corpus, data, model.

A task prepares its data, makes batches, and has an objective, which turns a
batch into sums of a loss. The rest of robertax knows it by the protocols of
`task`. A new task is one file and one row of TASKS, which is imported when it
is chosen.
"""

from robertax.tasks.task import TASKS, FinetuningTask, PretrainingTask, Task

__all__ = ['TASKS', 'FinetuningTask', 'PretrainingTask', 'Task']
