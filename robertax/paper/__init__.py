"""Reproduces the paper's tables: `python -m robertax.paper --table=N`.

Floor 7, above the doors, and nothing imports it. `tables` has the paper's rows
and figures, `scales` the configs and costs of rows, `inputs` the text and
tasks, `run` makes a table, and `report` compares it with the paper's.
"""
