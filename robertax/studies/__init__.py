"""Studies that make many runs, or none. Floor 5.

`estimate` compiles a train step for devices that this machine lacks,
`compiled_program` reads the result, and `sweep` runs a fine-tuning task over
rates, batches and seeds.
"""
