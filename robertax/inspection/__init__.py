"""What a model sees and says: show_batch(), load(), pictures, a run's end.

Floor 5: knows train and what is below it. Nothing is imported here: who loads a
model needs no plotting library.
"""
