#!/usr/bin/env bash
# A TPU pod on Google Cloud, from a person's own machine with gcloud.
#
#   launch/tpu_pod.sh [--dry_run] FLAGS create|setup|run|log|stop|delete|keep \
#       [-- --config=F --workdir=/mnt/shared/W [...]]
#
#   --name=N --zone=Z       of the pod; --project=P, else gcloud's own
#   --type=v5litepod-256    the slice; --slices=2 for two of them
#   --spot                  cheaper, and may be taken away at any time
#   --nfs=HOST:/SHARE       a Filestore share, mounted on every worker as
#                           /mnt/shared, for W and data.cache_dir
#
# create requests the pod and waits for it; setup copies this checkout (what is
# committed) and installs; run starts all workers; log follows the log; stop
# saves and ends the run; delete ends the pod and its cost. keep does all of
# this, and again when the pod is taken away, until the run is complete.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

dry_run='' name=robertax zone='' project='' type='' slices=1 spot='' nfs=''
action=
while (($#)); do
  case $1 in
    --dry_run) dry_run=1 ;;
    --name=*) name=${1#*=} ;;
    --zone=*) zone=${1#*=} ;;
    --project=*) project=${1#*=} ;;
    --type=*) type=${1#*=} ;;
    --slices=*) slices=${1#*=} ;;
    --spot) spot=--spot ;;
    --nfs=*) nfs=${1#*=} ;;
    create | setup | run | log | stop | delete | keep) action=$1 ;;
    --) shift; break ;;
    *) echo "launch/tpu_pod.sh: $1? Its flags come before --, the run's after."
       exit 2 ;;
  esac >&2
  shift
done
usage() {
  sed -n '2,18s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2
  exit 2
}
if [[ -z $action || -z $zone ]]; then usage; fi
if [[ $action =~ ^(create|keep)$ && -z $type ]]; then usage; fi
if [[ $action =~ ^(run|keep)$ ]] && (($# == 0)); then usage; fi

place=(--zone "$zone")
if [[ $project ]]; then place+=(--project "$project"); fi
nodes=("$name")
if ((slices > 1)); then
  nodes=()
  for ((i = 0; i < slices; i++)); do nodes+=("$name-$i"); done
fi
printf -v command ' %q' "$@"

run() {
  if [[ $dry_run ]]; then printf '%q ' "$@"; echo; else "$@"; fi
}
on_all() {  # on_all COMMAND: on every worker of every slice.
  for node in "${nodes[@]}"; do
    run gcloud compute tpus tpu-vm ssh "$node" "${place[@]}" --worker=all \
      --command "$1"
  done
}
on_first() {
  run gcloud compute tpus tpu-vm ssh "${nodes[0]}" "${place[@]}" --worker=0 \
    --command "$1"
}
state() {
  gcloud compute tpus queued-resources describe "$name" "${place[@]}" \
    --format='value(state.state)' 2>/dev/null || echo ABSENT
}

create() {
  local image
  case $type in
    v5litepod-*) image=v2-alpha-tpuv5-lite ;;
    v5p-*) image=v2-alpha-tpuv5 ;;
    v6e-*) image=v2-alpha-tpuv6e ;;
    *) image=tpu-ubuntu2204-base ;;
  esac
  local how=(--node-id "$name")
  if ((slices > 1)); then
    how=(--node-count "$slices" --node-prefix "$name")
  fi
  run gcloud compute tpus queued-resources create "$name" "${place[@]}" \
    --accelerator-type "$type" --runtime-version "$image" "${how[@]}" \
    ${spot:+"$spot"}
  if [[ $dry_run ]]; then
    echo "# until it is ACTIVE:"
    run gcloud compute tpus queued-resources describe "$name" "${place[@]}" \
      --format='value(state.state)'
    return
  fi
  local now
  until now=$(state) && [[ $now == ACTIVE ]]; do
    if [[ $now =~ FAILED|SUSPENDED|ABSENT ]]; then
      echo "launch/tpu_pod.sh: $name is $now" >&2
      return 1
    fi
    echo "$(date -u +%FT%TZ) $name is $now" >&2
    sleep 30
  done
}

setup() {
  local archive=/tmp/robertax-$name.tar.gz
  run git -C "$root" archive --format=tar.gz --output="$archive" HEAD
  for node in "${nodes[@]}"; do
    run gcloud compute tpus tpu-vm scp "$archive" "$node:robertax.tar.gz" \
      "${place[@]}" --worker=all
  done
  # The images have Python 3.10; uv brings 3.11.
  on_all 'set -e
mkdir -p robertax && tar -xzf robertax.tar.gz -C robertax && cd robertax
python3 -m pip install -q --user uv
test -d .venv || python3 -m uv venv -q --python 3.11 .venv
python3 -m uv pip install -q -p .venv -r requirements.txt -r requirements-tpu.txt'
  if [[ $nfs ]]; then
    on_all "set -e
mountpoint -q /mnt/shared && exit 0
sudo apt-get install -qq -y nfs-common
sudo mkdir -p /mnt/shared
sudo mount -t nfs $(printf %q "$nfs") /mnt/shared
sudo chmod a+rwx /mnt/shared"
  fi
}

start() {
  on_all "cd robertax && rm -f ended
setsid nohup bash -c '
  .venv/bin/python -m robertax.main \"\$@\" & echo \$! > pid
  wait \$!; echo \$? > ended' robertax$command >> robertax.log 2>&1 < /dev/null &"
}

ended() {  # The run's exit code on the first worker, or nothing.
  gcloud compute tpus tpu-vm ssh "${nodes[0]}" "${place[@]}" --worker=0 \
    --command 'cat robertax/ended 2>/dev/null' 2>/dev/null || true
}

delete() {
  run gcloud compute tpus queued-resources delete "$name" "${place[@]}" \
    --force --quiet
}

keep() {
  if [[ $dry_run ]]; then
    create; setup; start
    echo '# every minute: is it done, or has the pod been taken away?'
    run gcloud compute tpus queued-resources describe "$name" "${place[@]}" \
      --format='value(state.state)'
    on_first 'cat robertax/ended'
    echo '# taken away: all of it again. done:'
    delete
    return
  fi
  local code failures=0
  while :; do
    case $(state) in
      ACTIVE) ;;
      ABSENT) create || { sleep 60; continue; }; setup; start ;;
      *) delete || true; sleep 60; continue ;;
    esac
    code=$(ended)
    # Done; or wrong input, or diverged, which another start does not mend.
    if [[ $code =~ ^[023]$ ]]; then
      on_first 'tail -n 20 robertax/robertax.log'
      delete
      return "$code"
    elif [[ $code ]]; then
      # Its own failures are few; a pod's end is not one.
      failures=$((failures + 1))
      if ((failures > 10)); then
        echo "launch/tpu_pod.sh: failed $failures times, last with $code" >&2
        return 1
      fi
      sleep 60  # The others end when they miss its heartbeat.
      # But for one that hangs.
      # shellcheck disable=SC2016  # The workers' shells expand it.
      on_all 'grep -qs robertax.main "/proc/$(cat robertax/pid)/cmdline" &&
kill -KILL "$(cat robertax/pid)"; true'
      start
    fi
    sleep 60
  done
}

# shellcheck disable=SC2016  # The workers' shells expand what is quoted.
case $action in
  create) create ;;
  setup) setup ;;
  run) start ;;
  log) on_first 'tail -n 100 -F robertax/robertax.log' ;;
  stop) on_all 'kill -TERM "$(cat robertax/pid)"' ;;
  delete) delete ;;
  keep) keep ;;
esac
