"""The paper's tables as commands: `python -m robertax.paper --table=N`.

Floor 7, above the doors: it is made of the product, and nothing of the product
imports it. tables says what the paper compares, scales how large a row is made
here and what it costs, inputs which text and tasks are there or stand in, run
makes a table, report puts ours beside the paper's.
"""
