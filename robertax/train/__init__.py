"""Training: state, optimizer, step, loop, checkpoints, evaluation, metrics.

Floor 4: knows tasks, data and parallel, and through a task the model. Nothing
is imported here: other rooms import the chapters that they need.
"""
