#!/usr/bin/env bash
# Prepares text on an Apache Flink cluster, ahead of training.
#
#   launch/flink.sh [--dry_run] --master=HOST:8081 --image=I [--parallelism=N] \
#       [--beam=OPTION] -- --config=F --out=/shared/robertax [...]
#
# This machine needs: pip install 'apache-beam==2.77.0', and Java for Beam's job
# server. --image is built from launch/beam.Dockerfile and known to Docker on
# each task manager. All of these see the text and --out under the same path:
# gs://, or a shared folder that the containers mount. With
# --beam=--environment_type=PROCESS or EXTERNAL robertax is installed on the
# machines themselves. After a kill or a failure the same command goes on from
# the finished shards.
set -euo pipefail

dry_run='' master='' image='' parallelism=16 more=()
while (($#)); do
  case $1 in
    --dry_run) dry_run=1 ;;
    --master=*) master=${1#*=} ;;
    --image=*) image=${1#*=} ;;
    --parallelism=*) parallelism=${1#*=} ;;
    --beam=*) more+=("${1#*=}") ;;
    --) shift; break ;;
    *) echo "launch/flink.sh: $1? Its flags come before --, prepare's after."
       exit 2 ;;
  esac >&2
  shift
done
if [[ $# == 0 || -z $master || -z $image ]]; then
  sed -n '2,14s/^# \{0,1\}//p' "$0" >&2
  exit 2
fi
run() {
  if [[ $dry_run ]]; then printf '%q ' "$@"; echo; else "$@"; fi
}
cd "$(dirname "${BASH_SOURCE[0]}")/.."
options=(--runner=FlinkRunner --flink_master="$master"
  --parallelism="$parallelism" --environment_type=DOCKER
  --environment_config="$image" "${more[@]}")
run python -m robertax.prepare "$@" --beam="$(printf '%q ' "${options[@]}")"
