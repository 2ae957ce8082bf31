"""robertax: pretrain, fine-tune and use RoBERTa-style encoders in JAX.

Defaults are faithful to Liu et al. 2019. A room imports only from lower floors
(WORKSPACE.md tells the story):

  7 paper       reproduces the paper's tables
  6 doors       the commands: main, prepare, convert, report, aot, score, sweep
  5 studies     sweeps, and estimates by the compiler
  5 inspection  load() and its Model, show_batch(), reports, conversion
  4 train       optimizer, step, loop, checkpoints, evaluation
  3 tasks       pretraining and the fine-tuning tasks
  2 interop     weights and tokenizers of Hugging Face and fairseq
  2 data        records -> batches: order, source, masking, pipeline, feed
  1 corpus      documents -> sentences -> input formats -> records
  1 model       ids -> vectors -> logits -> losses
  0 text        strings <-> ids
  0 parallel    mesh axes, sharding, processes
  0 kernels     hash dropout, attention, norm and gelu
  0 config      every section and key, beside the rooms
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
