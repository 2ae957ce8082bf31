"""robertax: pretrain, fine-tune and use RoBERTa-style encoders in JAX.

Faithful to Liu et al. 2019 by default. The floor plan, where a room imports
only from lower floors (WORKSPACE.md tells the story):

  7 paper       the paper's tables, made of the product
  6 doors       main, prepare, convert, report, aot, score, sweep: flags
  5 studies     many runs or none: sweeps, the compiled estimate
  5 inspection  load() and its Model, show_batch(), pictures, a run's last words
  4 train       time: state, optimizer, step, loop, checkpoint, evaluation
  3 tasks       what is asked of the model
  2 interop     other people's names for our arrays
  2 data        records -> batches: order, source, masking, pipeline, feed
  1 corpus      documents -> sentences -> input formats -> records
  1 model       ids -> vectors -> logits -> losses
  0 text        strings <-> ids
  0 parallel    mesh axes, where arrays lie
  0 kernels     hash dropout, attention, norm and gelu
  0 config      every section and key, beside the rooms
"""


def load(path: str):
  """Opens a model for use: see inspection.model.Model.

  >>> robertax.load('runs/quickstart').fill_mask('The <mask> is closed.')

  Args:
    path: a workdir, a Hugging Face model folder, or `fairseq:FILE`.
  """
  from robertax.inspection import opening
  return opening.load(path)


def show_batch(config, step: int = 0, rows: int = 8):
  """Any batch of a training step, to be printed: see inspection.batches.

  >>> robertax.show_batch('configs/quickstart.py', step=5000)
  """
  from robertax.inspection import batches
  return batches.show_batch(config, step, rows)
