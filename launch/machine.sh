#!/usr/bin/env bash
# One machine, with what it has: GPUs, a TPU, or its CPU.
#
#   launch/machine.sh [--dry_run] --config=F --workdir=W [...]
#
# makes .venv with what the machine needs, unless it exists, and starts
# robertax.main. The same command resumes. In a Colab notebook, from a clone:
#   !bash launch/machine.sh --config=configs/quickstart.py --workdir=/content/w
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

dry_run=
if [[ ${1:-} == --dry_run ]]; then dry_run=1; shift; fi
if (($# == 0)); then
  sed -n '2,8s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2
  exit 2
fi
run() {
  if [[ $dry_run ]]; then printf '%q ' "$@"; echo; else "$@"; fi
}

packages=(-r requirements.txt)
if command -v nvidia-smi >/dev/null && nvidia-smi -L >/dev/null 2>&1; then
  packages+=("jax[cuda13]==0.10.2")
elif [[ -e /dev/accel0 || -e /dev/vfio/0 ]]; then
  packages+=(-r requirements-tpu.txt)
fi
python=
for name in python3.11 python3.12 python3; do
  if "$name" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))
' 2>/dev/null; then python=$name; break; fi
done
if [[ -z $python ]]; then
  echo 'robertax needs Python 3.11 or 3.12, and finds neither.' >&2
  exit 2
fi
# The mark comes last: an installation that was broken off is made again.
if [[ ! -e .venv/robertax-is-installed ]]; then
  run "$python" -m venv .venv
  run .venv/bin/pip install -q "${packages[@]}"
  run touch .venv/robertax-is-installed
fi
if [[ $dry_run ]]; then
  run .venv/bin/python -m robertax.main "$@"
else
  exec .venv/bin/python -m robertax.main "$@"
fi
