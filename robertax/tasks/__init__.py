"""What is asked of the model. Floor 3: knows text, corpus, data and model.

A task is a class that prepares its data, makes batches, and has an objective,
which turns a batch into sums of a loss; train/ knows nothing else of it. A new
task is one file and one row of TASKS, which is imported when it
is chosen.
"""

from robertax.tasks.task import TASKS

__all__ = ['TASKS']
