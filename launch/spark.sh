#!/usr/bin/env bash
# Prepares text on an Apache Spark cluster, ahead of training.
#
#   launch/spark.sh [--dry_run] --master=spark://HOST:7077 --image=I \
#       [--beam=OPTION] -- --config=F --out=/shared/robertax [...]
#
# This machine needs: pip install 'apache-beam==2.77.0', and Docker for Beam's
# job server. --image is built from launch/beam.Dockerfile and known to Docker
# on each worker. All of these see the text and --out under the same path:
# gs://, or a shared folder that the containers mount. With
# --beam=--environment_type=PROCESS or EXTERNAL robertax is installed on the
# machines themselves. After a kill or a failure the same command goes on from
# the finished shards.
set -euo pipefail

dry_run='' master='' image='' more=()
while (($#)); do
  case $1 in
    --dry_run) dry_run=1 ;;
    --master=*) master=${1#*=} ;;
    --image=*) image=${1#*=} ;;
    --beam=*) more+=("${1#*=}") ;;
    --) shift; break ;;
    *) echo "launch/spark.sh: $1? Its flags come before --, prepare's after."
       exit 2 ;;
  esac >&2
  shift
done
if [[ $# == 0 || $master != spark://* || -z $image ]]; then
  sed -n '2,14s/^# \{0,1\}//p' "$0" >&2
  exit 2
fi
run() {
  if [[ $dry_run ]]; then printf '%q ' "$@"; echo; else "$@"; fi
}
cd "$(dirname "${BASH_SOURCE[0]}")/.."
server=robertax-job-server
run docker run --rm --detach --net=host --name "$server" \
  apache/beam_spark3_job_server:2.77.0 --spark-master-url="$master"
trap 'run docker stop "$server"' EXIT
# The server listens on 8099; until it does, Beam waits for it.
options=(--runner=PortableRunner --job_endpoint=localhost:8099
  --job_server_timeout=120 --environment_type=DOCKER
  --environment_config="$image" "${more[@]}")
run python -m robertax.prepare "$@" --beam="$(printf '%q ' "${options[@]}")"
