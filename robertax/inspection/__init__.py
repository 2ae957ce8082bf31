"""What a trained model is and says: load(), pictures, the end of a run.

Floor 5: knows train and what is below it. Nothing is imported here: who loads a
model needs no plotting library.
"""
