#!/usr/bin/env bash
# etils: epath.Path('gs://bucket/x').absolute() becomes a local path.
#
# `absolute` (new in etils 1.14) and `resolve` treat a URL as a relative local
# path and prepend the current folder, although `is_absolute()` of the same
# object is True. A program that makes paths absolute before it passes them on,
# for example to orbax, then writes to $PWD/gs:/bucket/x without any message.
# In pathlib `absolute` leaves an absolute path unchanged.
#
# Seen with etils 1.14.0 and 1.15.0, Python 3.11, in /tmp/x:
#   1.13.0 is_absolute True, absolute (none), resolve /tmp/x/gs:/bucket/y
#   1.14.0 is_absolute True, absolute /tmp/x/gs:/bucket/y, resolve the same
#   1.15.0 is_absolute True, absolute /tmp/x/gs:/bucket/y, resolve the same
#
# Exit code 0: etils still does this; 1: it has changed. Needs python3 and pip.
set -euo pipefail
room=$(mktemp -d)
trap 'rm -rf "$room"' EXIT
cd "$room"
python3 -m venv venv
for version in 1.13.0 1.14.0 1.15.0; do
  venv/bin/pip install -q "etils[epath]==$version" 2>/dev/null
  venv/bin/python - "$version" <<'P'
import importlib.metadata
import os
import sys

from etils import epath

version = importlib.metadata.version('etils')
path = epath.Path('gs://bucket/y')
local = f'{os.getcwd()}/gs:/bucket/y'
absolute = str(path.absolute()) if hasattr(path, 'absolute') else '(none)'
resolved = str(path.resolve())
print(f'etils {version}: {path} is_absolute {path.is_absolute()}, absolute '
      f'{absolute}, resolve {resolved}')
expected = '(none)' if version == '1.13.0' else local
sys.exit(not (version == sys.argv[1] and path.is_absolute()
              and absolute == expected and resolved == local))
P
done
