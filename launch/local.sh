#!/usr/bin/env bash
# Several processes of one run on this machine, such as a pod's hosts.
#
#   launch/local.sh [--dry_run] N --config=F --workdir=W [...]
#
# starts `python -m robertax.main` N times with the same flags. Process 0 prints
# and writes. Ctrl-C or SIGTERM here, or to any of them, stops all at the same
# step, which is saved. The exit code is the first that is not 0; a process that
# is left 90 s later (PATIENCE) is killed.
set -euo pipefail
set -m  # A group for each: Ctrl-C comes here, and is passed on once.

dry_run=
if [[ ${1:-} == --dry_run ]]; then dry_run=1; shift; fi
if ! [[ ${1:-} =~ ^[1-9][0-9]*$ ]] || (($# < 2)); then
  sed -n '2,9s/^# \{0,1\}//p' "$0" >&2
  exit 2
fi
processes=$1
shift
python=${PYTHON:-python}
port=${PORT:-$("$python" -c '
import socket
with socket.socket() as s:
  s.bind(("127.0.0.1", 0))
  print(s.getsockname()[1])')}

command=("$python" -m robertax.main "$@"
         "--coordinator=127.0.0.1:$port" "--num_processes=$processes")
if [[ $dry_run ]]; then
  for ((i = 0; i < processes; i++)); do
    printf '%q ' "${command[@]}" "--process_id=$i"
    echo '&'
  done
  exit 0
fi

if ! command -v "$python" >/dev/null; then
  echo "launch/local.sh: there is no $python here: set PYTHON." >&2
  exit 2
fi
pids=()
# shellcheck disable=SC2329  # The traps call it.
pass_on() {
  for pid in "${pids[@]}"; do kill "-$1" "$pid" 2>/dev/null || true; done
}
trap 'pass_on INT' INT
trap 'pass_on TERM' TERM
for ((i = 0; i < processes; i++)); do
  "${command[@]}" "--process_id=$i" </dev/null &
  pids+=("$!")
done

code=0 left=("${pids[@]}") since=0
exec 9<> <(:)  # Never has anything to read: a sleep that signals break off.
while :; do
  still=()
  for pid in "${left[@]}"; do
    if kill -0 "$pid" 2>/dev/null; then still+=("$pid"); continue; fi
    wait "$pid" && ended=0 || ended=$?
    ((ended == 127)) && ended=0
    if ((ended && !code)); then code=$ended since=$SECONDS; fi
  done
  ((${#still[@]})) || break
  left=("${still[@]}")
  # One that is stopped (SIGSTOP) or hangs does not see that the others ended.
  if ((code && SECONDS - since > ${PATIENCE:-90})); then
    kill -KILL "${left[@]}" 2>/dev/null || true
  fi
  read -r -t 0.2 -u 9 _ || true
done
exit "$code"
