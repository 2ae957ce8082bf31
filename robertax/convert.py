"""Converts models from and to Hugging Face, and from fairseq.

  python -m robertax.convert --source=runs/mine --target=hf:exported --verify
  python -m robertax.convert --source=hf:roberta-base --target=runs/base

--source: a workdir, hf:FOLDER (safetensors, whole or in parts, or .bin) or
fairseq:FILE (a model.pt with dict.txt, encoder.json and vocab.bpe beside it).
--target: hf:FOLDER, for AutoModelForMaskedLM, AutoTokenizer and pipeline, or a
workdir, for robertax.load and init_from. --verify first compares the logits of
both models on real sentences, and writes nothing if they differ.
"""

from absl import flags

from robertax.errors import InputError, print_result
from robertax.flags import run

_SOURCE = flags.DEFINE_string('source', '', 'A workdir, hf:DIR, fairseq:FILE.')
_TARGET = flags.DEFINE_string('target', '', 'hf:DIR or a workdir to create.')
_VERIFY = flags.DEFINE_bool('verify', False, 'Compare logits, then write.')
_POSITIONS = flags.DEFINE_integer(
    'max_positions', 0, 'Extend the position table to this length, by copies.')
_TOKENS = flags.DEFINE_string(
    'add_tokens', '', 'A file with one new token per line.')


def main(argv):
  """Exits with 0 (written) or 2 (wrong input, or logits that differ)."""
  del argv
  for flag in (_SOURCE, _TARGET):
    if not flag.value:
      raise InputError(f'--{flag.name} is needed, such as: python -m '
                       'robertax.convert --source=runs/quickstart '
                       '--target=hf:exported --verify')
  from robertax.inspection import conversion  # Not before: it loads JAX.
  print_result('\n'.join(conversion.convert(
      _SOURCE.value, _TARGET.value, _VERIFY.value, _POSITIONS.value,
      _TOKENS.value)))


if __name__ == '__main__':
  run(main)
