#!/usr/bin/env bash
# Books, for BookCorpus: PG-19 (Rae et al. 2019), as parquet.
#
#   launch/corpora/books.sh [--dry_run] DIR
#
# fetches DIR/books/*.parquet. Then: --config.data.corpora=DIR/books
set -euo pipefail

dry_run=
if [[ ${1:-} == --dry_run ]]; then dry_run=1; shift; fi
if (($# != 1)); then sed -n '2,6s/^# \{0,1\}//p' "$0" >&2; exit 2; fi
run() { if [[ $dry_run ]]; then printf '%q ' "$@"; echo; else "$@"; fi; }

run hf download emozilla/pg19 --repo-type dataset \
    --include 'data/train-*.parquet' --local-dir "$1/books"
