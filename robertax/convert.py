"""Converts models from and to Hugging Face, and from fairseq.

  python -m robertax.convert --source=runs/mine --target=hf:exported --verify
  python -m robertax.convert --source=hf:roberta-base --target=runs/base

--source: a workdir, hf:FOLDER (safetensors, whole or in parts, or .bin) or
fairseq:FILE (a model.pt with dict.txt, encoder.json and vocab.bpe beside it).
--target: hf:FOLDER, for AutoModelForMaskedLM, AutoTokenizer and pipeline, or a
workdir, for robertax.load and init_from. --verify first compares ids, pairs and
logits with those of transformers, which reads what was read and what was
written; if anything differs, or transformers is missing, nothing is written.
--verify=self compares robertax with itself. The last line of stdout is JSON:
compared, not_compared, ids_equal, max_logit_difference.
"""

from absl import flags

from robertax.errors import InputError, print_result
from robertax.flags import run

_SOURCE = flags.DEFINE_string('source', '', 'A workdir, hf:DIR, fairseq:FILE.')
_TARGET = flags.DEFINE_string('target', '', 'hf:DIR or a workdir to create.')


class _Mode(flags.ArgumentParser):
  """Reads --verify, --noverify and --verify=MODE."""
  syntactic_help = 'self, or nothing'
  modes = {'true': 'full', 'full': 'full', 'self': 'self', 'false': ''}

  def parse(self, argument: str) -> str:
    if argument and argument not in self.modes:
      raise ValueError(f'--verify={argument}: --verify, or --verify=self, '
                       'would do')
    return self.modes[argument] if argument else ''


_VERIFY = flags.DEFINE_flag(flags.Flag(
    _Mode(), None, 'verify', '', 'Compare with transformers, then write; self: '
    'without transformers.', boolean=True))
_POSITIONS = flags.DEFINE_integer(
    'max_positions', 0, 'Extend the position table to this length, by copies.')
_TOKENS = flags.DEFINE_string(
    'add_tokens', '', 'A file with one new token per line.')


def main(argv):
  """Exits with 0 (written), 1 (not verified) or 2 (wrong input)."""
  del argv
  for flag in (_SOURCE, _TARGET):
    if not flag.value:
      raise InputError(f'--{flag.name} is needed, such as: python -m '
                       'robertax.convert --source=runs/quickstart '
                       '--target=hf:exported --verify')
  from robertax.inspection import conversion  # Not before: it loads JAX.
  from robertax.inspection.verification import Unverified
  try:
    print_result('\n'.join(conversion.convert(
        _SOURCE.value, _TARGET.value, _VERIFY.value, _POSITIONS.value,
        _TOKENS.value)))
  except Unverified as e:
    print_result(e.verdict.to_json(), saved=False)
    raise


if __name__ == '__main__':
  run(main)
