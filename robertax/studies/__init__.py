"""studies: many runs, or none. Floor 5.

Knows what the compiler says of a config's train step on devices that are not
here (estimate, from what compiled_program reads), and how a task is swept over
rates, batches and seeds (sweep).
"""
