"""The paper's tables as commands: `python -m robertax.paper --table=N`.

Floor 7, above the doors: it is made of the product, and nothing of the product
imports it. tables says what the paper compared, scales how large a row is made
here, inputs which text and tasks stand in, run makes a table, cost what it
would take on a pod, report puts ours beside the paper's.
"""
