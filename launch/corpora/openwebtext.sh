#!/usr/bin/env bash
# OpenWebText (Gokaslan and Cohen 2019), as parquet.
#
#   launch/corpora/openwebtext.sh [--dry_run] DIR
#
# fetches DIR/openwebtext/*.parquet. Then:
# --config.data.corpora=DIR/openwebtext
set -euo pipefail

dry_run=
if [[ ${1:-} == --dry_run ]]; then dry_run=1; shift; fi
if (($# != 1)); then sed -n '2,7s/^# \{0,1\}//p' "$0" >&2; exit 2; fi
run() { if [[ $dry_run ]]; then printf '%q ' "$@"; echo; else "$@"; fi; }

run hf download Skylion007/openwebtext --repo-type dataset \
    --include '*train-*.parquet' --local-dir "$1/openwebtext"
