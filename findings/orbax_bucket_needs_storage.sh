#!/usr/bin/env bash
# orbax-checkpoint 0.12.8: CheckpointManager('gs://...') needs a package that it
# neither depends on nor names.
#
# Before orbax lists the steps of a folder in gs://, and before it removes one,
# it asks google-cloud-storage whether the bucket has a hierarchical namespace
# (gcs_utils.is_hierarchical_namespace_enabled). orbax does not require that
# package, so after `pip install orbax-checkpoint` the first save raises an
# ImportError, although tensorstore alone writes the arrays. The call also needs
# the permission storage.buckets.get, which roles/storage.objectUser lacks.
#
# Seen with orbax-checkpoint 0.12.8, etils 1.15.0, jax 0.10.2, Python 3.11:
#   gs://bucket/x: ModuleNotFoundError: No module named 'google.cloud'
# (if another package has installed google.cloud: ImportError: cannot import
# name 'storage' from 'google.cloud').
#
# Exit code 0: orbax still does this; 1: it has changed. Needs python3 and pip.
set -euo pipefail
room=$(mktemp -d)
trap 'rm -rf "$room"' EXIT
cd "$room"
python3 -m venv venv
venv/bin/pip install -q orbax-checkpoint==0.12.8 'etils[epath]==1.15.0' \
  jax==0.10.2 tensorstore==0.1.86 fsspec==2026.9.0 2>/dev/null
venv/bin/python - <<'P'
import importlib.metadata
import sys

from etils import epath
import fsspec
from fsspec.implementations.memory import MemoryFileSystem
import orbax.checkpoint as ocp

names = 'orbax-checkpoint', 'etils', 'jax', 'tensorstore'
print(', '.join(f'{name} {importlib.metadata.version(name)}' for name in names))
# A bucket that exists, without a network or Google's packages.
fsspec.register_implementation('gcs', MemoryFileSystem, clobber=True)
epath.Path('gs://bucket/x').mkdir(parents=True)
try:
  ocp.CheckpointManager(epath.Path('gs://bucket/x'))
except ImportError as e:
  print(f'gs://bucket/x: {type(e).__name__}: {e}')
  sys.exit('google' not in str(e))
sys.exit('no ImportError')
P
