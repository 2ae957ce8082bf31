#!/usr/bin/env bash
# jax: JAX_PLATFORMS=cuda without the CUDA plugin is a bare AssertionError.
#
# With JAX_PLATFORMS=tpu and no libtpu, jax.devices() raises a RuntimeError that
# names the backend and the way out. With JAX_PLATFORMS=cuda and jax installed
# without its CUDA plugin, the same call raises an AssertionError without any
# words, from inside xla_bridge, so a program that catches the RuntimeError does
# not see it, and its user reads nothing but a file and a line.
#
# Seen on Linux x86_64, Python 3.11, without a GPU:
#   jax 0.10.2 tpu: RuntimeError: Unable to initialize backend 'tpu': ...
#   jax 0.10.2 cuda: AssertionError: ''
#
# Exit code 0: jax still does this; 1: it has changed. Needs python3 and pip.
set -euo pipefail
room=$(mktemp -d)
trap 'rm -rf "$room"' EXIT
cd "$room"
python3 -m venv venv
venv/bin/pip install -q jax==0.10.2 jaxlib==0.10.2 2>/dev/null
cat > ask.py <<'P'
import os
import sys

import jax

platform = os.environ['JAX_PLATFORMS']
try:
  print(jax.devices())
  sys.exit(f'{platform} is here: nothing can be seen')
except (RuntimeError, AssertionError) as error:
  kind, words = type(error).__name__, str(error)[:60]
print(f'jax {jax.__version__} {platform}: {kind}: {words!r}')
expected = {'tpu': 'RuntimeError', 'cuda': 'AssertionError'}[platform]
sys.exit(kind != expected or bool(words) != (platform == 'tpu'))
P
export TPU_SKIP_MDS_QUERY=1
for platform in tpu cuda; do
  JAX_PLATFORMS=$platform venv/bin/python ask.py
done
