#!/usr/bin/env bash
# Stories, for CC-Stories (Trinh and Le 2018): a part of C4, as JSON lines.
#
#   launch/corpora/stories.sh [--dry_run] DIR [FILES]
#
# puts the first FILES (256) of C4's 1,024 into DIR/stories/*.jsonl.gz. Then:
# --config.data.corpora=DIR/stories
#     --config.data.document_filter=launch.corpora.filters:is_story
set -euo pipefail

dry_run=
if [[ ${1:-} == --dry_run ]]; then dry_run=1; shift; fi
if (($# < 1 || $# > 2)) || ! [[ ${2:-256} =~ ^[1-9][0-9]*$ ]]; then
  sed -n '2,8s/^# \{0,1\}//p' "$0" >&2
  exit 2
fi
run() { if [[ $dry_run ]]; then printf '%q ' "$@"; echo; else "$@"; fi; }

run mkdir -p "$1/stories"
for ((i = 0; i < ${2:-256}; i++)); do
  name=$(printf 'c4-train.%05d-of-01024' "$i")
  # Named .part until it is whole, so that a second start goes on there.
  if [[ ! -e $1/stories/$name.jsonl.gz ]]; then
    run curl --fail --location --retry 5 --continue-at - \
        --output "$1/stories/$name.part" \
        "https://huggingface.co/datasets/allenai/c4/resolve/main/en/$name.json.gz"
    run mv "$1/stories/$name.part" "$1/stories/$name.jsonl.gz"
  fi
done
