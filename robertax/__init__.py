"""robertax: pretrain, fine-tune and use RoBERTa-style encoders in JAX.

Defaults are faithful to Liu et al. 2019. WORKSPACE.md describes the rooms.
"""


def load(path: str):
  """Opens a model as an inspection.model.Model.

  >>> robertax.load('runs/quickstart').fill_mask('The <mask> is closed.')

  Args:
    path: a workdir, a Hugging Face model folder, or `fairseq:FILE`.
  """
  from robertax.inspection import opening
  return opening.load(path)


def show_batch(config, step: int = 0, rows: int = 8):
  """Gives the batch of a training step for printing; see inspection.batches.

  >>> robertax.show_batch('configs/quickstart.py', step=5000)
  """
  from robertax.inspection import batches
  return batches.show_batch(config, step, rows)
