#!/usr/bin/env bash
# CC-News: Common Crawl's archive of news, a month at a time.
#
#   launch/corpora/cc_news.sh [--dry_run] DIR [YEAR/MONTH ...]
#
# puts the months' WARC files into DIR/cc_news (default: 2016/09 to 2019/02, the
# paper's; about 10 TB: give a few months first). Then (extra `warc`):
# --config.data.corpora=DIR/cc_news --config.data.drop_duplicates=True
#     --config.data.document_filter=launch.corpora.filters:is_english
set -euo pipefail

dry_run=
if [[ ${1:-} == --dry_run ]]; then dry_run=1; shift; fi
if (($# < 1)); then sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2; fi
run() { if [[ $dry_run ]]; then printf '%q ' "$@"; echo; else "$@"; fi; }

folder=$1/cc_news
shift
months=("$@")
if ((! $#)); then
  for year in 2016 2017 2018 2019; do
    for month in 01 02 03 04 05 06 07 08 09 10 11 12; do
      if [[ $year/$month > 2016/08 && $year/$month < 2019/03 ]]; then
        months+=("$year/$month")
      fi
    done
  done
fi
from=https://data.commoncrawl.org
run mkdir -p "$folder"
for month in "${months[@]}"; do
  if ! [[ $month =~ ^20[0-9]{2}/[01][0-9]$ ]]; then
    echo "$month: a month is written as 2016/09" >&2
    exit 2
  fi
  paths=$folder/${month/\//-}.paths.gz
  run curl --fail --retry 5 --output "$paths" \
      "$from/crawl-data/CC-NEWS/$month/warc.paths.gz"
  if [[ $dry_run ]]; then echo "curl ... each file of $paths"; continue; fi
  while read -r path; do
    file=$folder/${path##*/}
    # Named .part until it is whole, so that a second start goes on there.
    if [[ ! -e $file ]]; then
      curl --fail --retry 5 --continue-at - --output "$file.part" "$from/$path"
      mv "$file.part" "$file"
    fi
  done < <(gzip -dc "$paths")
done
