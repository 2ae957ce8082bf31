#!/usr/bin/env bash
# pyarrow decodes no dictionary whose words are views.
#
# DictionaryArray.dictionary_decode() works for string, large_string and binary,
# but not for string_view and binary_view. Categoricals and enums that Polars
# writes as Arrow are dictionaries of string_view, so they can be read but not
# decoded; casting the words first, and then decoding, works.
#
# Seen with pyarrow 25.0.1: "Function 'array_take' has no kernel matching input
# types (string_view, uint32)".
#
# Exit code 0: as seen; 1: the behaviour has changed. Needs python3 and pip.
set -euo pipefail
room=$(mktemp -d)
trap 'rm -rf "$room"' EXIT
python3 -m venv "$room/venv"
"$room/venv/bin/pip" install -q pyarrow==25.0.1 2>/dev/null
"$room/venv/bin/python" - <<'P'
import importlib.metadata

import pyarrow as pa

print('pyarrow', importlib.metadata.version('pyarrow'))
failed = []
for kind in (pa.string(), pa.large_string(), pa.binary(), pa.string_view(),
             pa.binary_view()):
  words = pa.array(['a', 'b']).cast(pa.binary()).cast(kind)
  column = pa.DictionaryArray.from_arrays(pa.array([1, 0], pa.uint32()), words)
  try:
    print(kind, column.dictionary_decode().to_pylist())
  except pa.ArrowNotImplementedError as e:
    print(kind, e)
    failed.append(kind)
raise SystemExit(failed != [pa.string_view(), pa.binary_view()])
P
