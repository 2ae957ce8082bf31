#!/usr/bin/env bash
# A SLURM job over nodes with GPUs.
#
#   launch/slurm.sh [--dry_run] [--nodes=N] [--gpus=N] [--time=T] [--sbatch=F] \
#       -- --config=F --workdir=W [...]
#
# There is one process a GPU; they find each other by SLURM's variables. Two
# minutes before its time is up the job saves and goes back into the queue, as
# after a failed node. W and data.cache_dir are on a file system that all nodes
# share. --sbatch=F is a flag of sbatch (-A, -p ...); give it several times.
set -euo pipefail

dry_run='' nodes=1 gpus=8 time=24:00:00 sbatch=()
while (($#)); do
  case $1 in
    --dry_run) dry_run=1 ;;
    --nodes=*) nodes=${1#*=} ;;
    --gpus=*) gpus=${1#*=} ;;
    --time=*) time=${1#*=} ;;
    --sbatch=*) sbatch+=("#SBATCH ${1#*=}") ;;
    --) shift; break ;;
    *) echo "launch/slurm.sh: $1? Its flags come before --, the run's after."
       exit 2 ;;
  esac >&2
  shift
done
if (($# == 0)); then
  sed -n '2,11s/^# \{0,1\}//p' "$0" >&2
  exit 2
fi
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
printf -v command ' %q' "$@"

job() {
  cat <<JOB
#!/usr/bin/env bash
#SBATCH --job-name=robertax
#SBATCH --nodes=$nodes
#SBATCH --ntasks-per-node=$gpus
#SBATCH --gres=gpu:$gpus
#SBATCH --time=$time
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=robertax-%j.log
JOB
  if ((${#sbatch[@]})); then printf '%s\n' "${sbatch[@]}"; fi
  cat <<JOB
set -uo pipefail
cd $(printf %q "$root") || exit 1
. .venv/bin/activate
srun --kill-on-bad-exit=1 python -m robertax.main$command
code=\$?
# 0: done. 2: wrong input, 3: diverged, which another start does not mend.
if ((code != 0 && code != 2 && code != 3)); then scontrol requeue "\$SLURM_JOB_ID"; fi
exit \$code
JOB
}

if [[ $dry_run ]]; then
  job
else
  job | sbatch
fi
