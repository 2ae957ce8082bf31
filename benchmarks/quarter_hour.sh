#!/usr/bin/env bash
# A quarter of an hour of a big GPU: kernels against float64, the train step
# against PyTorch, and a pretraining run of 29M parameters, in 12 minutes.
#
#   benchmarks/quarter_hour.sh --pack=DIR [--text=FILES]   first, with a network
#   benchmarks/quarter_hour.sh --data=DIR [--out=DIR] [--minutes=12] [--rehearse]
#
# DIR gets wheels, a tokenizer and compressed text (at most 40 MB; git should
# ignore it). The second line needs Python 3.11 or 3.12 with jax, flax, optax,
# orbax, numpy and tokenizers, and no network; what else is missing is taken
# from DIR. --rehearse does the same at a hundredth of the size, on a CPU.
# OUT gets results.jsonl (a line for each part), logs, and the checkpoint as
# checkpoint.tar.00, .01, ...: `cat checkpoint.tar.* | tar x` makes a folder for
# --config.init_from=hf:. A part that fails is recorded, and the next begins.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
python=${PYTHON:-python3}
data=''
for word in "$@"; do
  case $word in --data=*) data=${word#--data=} ;; esac
done
if [ -n "$data" ] && [ -d "$data/wheels" ]; then
  site=$(mktemp -d) || exit 1
  trap 'rm -rf "$site"' EXIT
  # Only what is missing: an installed package may be newer than ours.
  "$python" -m benchmarks.quarter_hour --missing="$data/wheels" |
    xargs -r "$python" -m pip install -q --no-index --no-deps --no-compile \
      --disable-pip-version-check --target "$site" || exit 1
  export PYTHONPATH=$site${PYTHONPATH:+:$PYTHONPATH}
fi
"$python" -m benchmarks.quarter_hour "$@"
