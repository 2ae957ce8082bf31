"""Looks at runs and models: show_batch(), load(), pictures, a run's end.

Floor 5, above train. This page imports nothing, because loading a model needs
no plotting library.
"""
