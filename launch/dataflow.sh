#!/usr/bin/env bash
# Prepares text on Google Cloud Dataflow, ahead of training.
#
#   launch/dataflow.sh [--dry_run] --project=P --region=R --bucket=gs://B \
#       --image=I [--workers=N] [--machine=KIND] [--beam=OPTION] \
#       -- --config=F --config.data.corpora=gs://B/text/*.jsonl [...]
#
# This machine needs: pip install 'apache-beam[gcp]==2.77.0' and `gcloud auth
# application-default login`. --image is built from launch/beam.Dockerfile and
# pushed to a registry that the project can read. This machine reads all text
# once; the workers then tokenize and pack it into gs://B/robertax, which is
# --config.data.cache_dir of the run. After a kill or a failure the same command
# goes on from the finished shards. --beam is any option of Beam or Dataflow,
# and may be given several times.
set -euo pipefail

dry_run='' project='' region='' bucket='' image='' workers=16
machine=n2-standard-8 more=()
while (($#)); do
  case $1 in
    --dry_run) dry_run=1 ;;
    --project=*) project=${1#*=} ;;
    --region=*) region=${1#*=} ;;
    --bucket=*) bucket=${1#*=} ;;
    --image=*) image=${1#*=} ;;
    --workers=*) workers=${1#*=} ;;
    --machine=*) machine=${1#*=} ;;
    --beam=*) more+=("${1#*=}") ;;
    --) shift; break ;;
    *) echo "launch/dataflow.sh: $1? Its flags come before --, prepare's after."
       exit 2 ;;
  esac >&2
  shift
done
if [[ $# == 0 || -z $project || -z $region || $bucket != gs://* || -z $image ]]
then
  sed -n '2,16s/^# \{0,1\}//p' "$0" >&2
  exit 2
fi
run() {
  if [[ $dry_run ]]; then printf '%q ' "$@"; echo; else "$@"; fi
}
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# A process a core: Python runs one thread at a time.
options=(--runner=DataflowRunner --project="$project" --region="$region"
  --job_name=robertax-prepare --temp_location="$bucket/temp"
  --sdk_container_image="$image" --worker_machine_type="$machine"
  --num_workers="$workers" --max_num_workers="$workers"
  --experiments=use_runner_v2 --number_of_worker_harness_threads=1 "${more[@]}")
run python -m robertax.prepare --out="$bucket/robertax" "$@" \
  --beam="$(printf '%q ' "${options[@]}")"
