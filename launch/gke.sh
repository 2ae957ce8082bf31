#!/usr/bin/env bash
# A job on Google Kubernetes Engine, by JobSet (or any Kubernetes with it).
#
#   launch/gke.sh [--dry_run] --image=I --claim=C --tpu=KIND:TOPOLOGY \
#       [--slices=N] [--name=N] -- --config=F --workdir=/shared/W [...]
#   launch/gke.sh [--dry_run] --image=I --claim=C --gpu=KIND:HOSTSxGPUS ...
#   launch/gke.sh [--dry_run] --name=N log|delete
#
# --tpu=tpu-v5-lite-podslice:16x16 and --gpu=nvidia-h100-80gb:4x8 are the
# labels of the node pool; --image is built from launch/Dockerfile; --claim is
# a PersistentVolumeClaim that all pods may write (Filestore), mounted as
# /shared: W and data.cache_dir are there. A job that is evicted or fails is
# started again and resumes.
set -euo pipefail

dry_run='' image='' claim='' tpu='' gpu='' slices=1 name=robertax
while (($#)); do
  case $1 in
    --dry_run) dry_run=1 ;;
    --image=*) image=${1#*=} ;;
    --claim=*) claim=${1#*=} ;;
    --tpu=*) tpu=${1#*=} ;;
    --gpu=*) gpu=${1#*=} ;;
    --slices=*) slices=${1#*=} ;;
    --name=*) name=${1#*=} ;;
    --) shift; break ;;
    log | delete) break ;;
    *) echo "launch/gke.sh: $1? Its flags come before --, the run's after."
       exit 2 ;;
  esac >&2
  shift
done
run() {
  if [[ $dry_run ]]; then printf '%q ' "$@"; echo; else "$@"; fi
}
case ${1:-} in
  log)
    run kubectl logs --follow --selector \
      "jobset.sigs.k8s.io/jobset-name=$name,batch.kubernetes.io/job-completion-index=0,jobset.sigs.k8s.io/job-index=0"
    exit ;;
  delete)
    run kubectl delete jobset "$name"
    exit ;;
esac
if [[ $# == 0 || -z $image || -z $claim || -z $tpu$gpu ]]; then
  sed -n '2,14s/^# \{0,1\}//p' "$0" >&2
  exit 2
fi

kind=${tpu%%:*}${gpu%%:*}
shape=${tpu#*:}${gpu#*:}
if [[ $tpu ]]; then
  chips=1
  for side in ${shape//x/ }; do chips=$((chips * side)); done
  per_host=4  # Of every slice of more than one host.
  ((chips < per_host)) && per_host=$chips
  [[ $kind == *lite* && $chips == 8 ]] && per_host=8
  hosts=$((chips / per_host))
  resource=google.com/tpu
  selector="cloud.google.com/gke-tpu-accelerator: $kind
              cloud.google.com/gke-tpu-topology: $shape"
else
  hosts=${shape%x*} per_host=${shape#*x}
  resource=nvidia.com/gpu
  selector="cloud.google.com/gke-accelerator: $kind"
fi
# A JSON list is a YAML list. Python knows how to quote.
arguments=$(python3 -c 'import json, sys; print(json.dumps(sys.argv[1:]))' \
  -m robertax.main "$@")

job() {
  cat <<YAML
apiVersion: jobset.x-k8s.io/v1alpha2
kind: JobSet
metadata:
  name: $name
  annotations:
    alpha.jobset.sigs.k8s.io/exclusive-topology: cloud.google.com/gke-nodepool
spec:
  failurePolicy:
    maxRestarts: 100
    rules:
    - action: FailJobSet
      onJobFailureReasons: [PodFailurePolicy]
  replicatedJobs:
  - name: slice
    replicas: $slices
    template:
      spec:
        parallelism: $hosts
        completions: $hosts
        completionMode: Indexed
        backoffLimit: 0
        # Wrong input, or diverged: another start does not mend it.
        podFailurePolicy:
          rules:
          - action: FailJob
            onExitCodes:
              containerName: robertax
              operator: In
              values: [2, 3]
        template:
          spec:
            restartPolicy: Never
            # Time to save in, when the pod is evicted.
            terminationGracePeriodSeconds: 120
            nodeSelector:
              $selector
            containers:
            - name: robertax
              image: $image
              command: [python]
              args: $arguments
YAML
  if [[ $gpu ]]; then
    # TPUs find each other by what GKE says; GPUs by this, and by
    # JOB_COMPLETION_INDEX, which an indexed Job gives.
    cat <<YAML
              env:
              - name: JAX_COORDINATOR_ADDRESS
                value: $name-slice-0-0.$name:8476
              - name: JAX_NUM_PROCESSES
                value: "$hosts"
YAML
  fi
  cat <<YAML
              ports:
              - containerPort: 8476
              resources:
                limits:
                  $resource: $per_host
              volumeMounts:
              - name: shared
                mountPath: /shared
            volumes:
            - name: shared
              persistentVolumeClaim:
                claimName: $claim
YAML
}

if [[ $dry_run ]]; then
  job
else
  job | kubectl apply -f -
fi
