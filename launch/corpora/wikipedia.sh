#!/usr/bin/env bash
# Wikipedia, in English: the dump of a day.
#
#   launch/corpora/wikipedia.sh [--dry_run] DIR [DATE]
#
# fetches enwiki's dump of DATE (such as 20260101; default: latest) and checks
# its sum. Then: --config.data.corpora=DIR/enwiki-DATE-pages-articles.xml.bz2
# (needs the extra `wiki`). WikiExtractor's JSON lines are much faster on many
# cores: README.md has the commands.
set -euo pipefail

dry_run=
if [[ ${1:-} == --dry_run ]]; then dry_run=1; shift; fi
if (($# < 1 || $# > 2)) || ! [[ ${2:-latest} =~ ^(latest|[0-9]{8})$ ]]; then
  sed -n '2,9s/^# \{0,1\}//p' "$0" >&2
  exit 2
fi
run() { if [[ $dry_run ]]; then printf '%q ' "$@"; echo; else "$@"; fi; }

date=${2:-latest}
file=enwiki-$date-pages-articles.xml.bz2
from=https://dumps.wikimedia.org/enwiki/$date
run mkdir -p "$1"
run curl --fail --location --retry 5 --continue-at - --output "$1/$file" \
    "$from/$file"
run curl --fail --location --retry 5 --output "$1/enwiki-$date-sha1sums.txt" \
    "$from/enwiki-$date-sha1sums.txt"
# `latest` is a link, and the sums name the day: so the sum is looked for.
if [[ $dry_run ]]; then
  echo "sha1sum $1/$file"
else
  echo "$file: checking"
  sum=$(sha1sum "$1/$file")
  if ! grep -q "^${sum%% *} .*pages-articles.xml.bz2\$" \
      "$1/enwiki-$date-sha1sums.txt"; then
    echo "$1/$file: not the file that Wikimedia has: delete it, begin again" >&2
    exit 1
  fi
fi
