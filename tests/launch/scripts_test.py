"""The scripts of launch/: sound shell, and --dry_run says what they would do.

Nothing of the clouds is here: `gcloud` and the like are stand-ins that write
down how they were called.
"""

import os
import pathlib
import shlex
import shutil
import subprocess
import sys

import pytest
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCRIPTS = sorted((ROOT / 'launch').glob('*.sh'))
RUN = ['--', '--config=configs/roberta_large.py', '--workdir=/mnt/shared/my w']
POD = ['launch/tpu_pod.sh', '--zone=us-west4-a', '--type=v5litepod-256']


@pytest.fixture
def outside(tmp_path):
  """A folder of stand-ins, first on PATH; `calls` is what they were asked."""
  for name in ('gcloud', 'kubectl', 'sbatch', 'scontrol', 'srun', 'pip'):
    stand_in = tmp_path / name
    stand_in.write_text('#!/bin/bash\n'
                        f'echo "{name} $*" >> {tmp_path}/calls\n')
    stand_in.chmod(0o755)
  return tmp_path


def launch(outside, *command, **env):
  return subprocess.run(
      ['bash', *command], cwd=ROOT, capture_output=True, text=True, timeout=60,
      env=os.environ | {'PATH': f'{outside}:{os.environ["PATH"]}'} | env)


def dry(outside, script, *arguments):
  done = launch(outside, script, '--dry_run', *arguments)
  assert done.returncode == 0, done.stderr
  assert not (outside / 'calls').exists()
  return done.stdout


def test_there_are_scripts():
  assert {path.name for path in SCRIPTS} >= {
      'tpu_pod.sh', 'gke.sh', 'slurm.sh', 'machine.sh', 'local.sh'}


@pytest.mark.parametrize('path', SCRIPTS, ids=lambda path: path.name)
def test_shellcheck(path):
  beside = pathlib.Path(sys.executable).parent / 'shellcheck'
  shellcheck = str(beside) if beside.exists() else shutil.which('shellcheck')
  if not shellcheck:
    pytest.skip('no shellcheck: pip install -r requirements-test.txt')
  done = subprocess.run([shellcheck, path], capture_output=True, text=True)
  assert done.returncode == 0, done.stdout


@pytest.mark.parametrize('path', SCRIPTS, ids=lambda path: path.name)
def test_without_a_command_it_says_how(outside, path):
  done = launch(outside, str(path))
  assert done.returncode == 2 and path.name in done.stderr
  assert '--dry_run' in done.stderr and '--config=F' in done.stderr
  assert not (outside / 'calls').exists()


def test_a_tpu_pod_from_creation_to_deletion(outside):
  said = dry(outside, *POD, '--slices=2', '--spot', '--nfs=10.0.0.2:/x', 'keep',
             *RUN)
  order = ['queued-resources create robertax --zone us-west4-a '
           '--accelerator-type v5litepod-256 --runtime-version '
           'v2-alpha-tpuv5-lite --node-count 2 --node-prefix robertax --spot',
           'git -C', 'scp', 'robertax-1:robertax.tar.gz',
           'requirements-tpu.txt', 'mount -t nfs 10.0.0.2:/x /mnt/shared',
           'robertax.main', 'queued-resources delete robertax']
  places = [said.index(words) for words in order]
  assert places == sorted(places)
  assert '/mnt/shared/my' in said


@pytest.mark.parametrize('action, words', [
    ('log', '--worker=0 --command tail'), ('stop', 'kill'),
    ('delete', 'queued-resources delete'), ('run', '--worker=all')])
def test_one_action_of_a_tpu_pod(outside, action, words):
  said = dry(outside, *POD, action, *RUN)
  assert words in said
  assert all(line.startswith('gcloud ') for line in said.splitlines()
             if 'gcloud' in line)


GCLOUD = '''#!/bin/bash
# A spot pod: taken away once while the run is under way, then let be.
cd {folder} || exit 1
echo "$*" >> calls
case "$*" in
  *'queued-resources create'*) echo 1 >> created ;;
  *'queued-resources delete'*) rm -f created.now; echo ABSENT > state ;;
  *'queued-resources describe'*)
    created=$(wc -l < created 2>/dev/null || echo 0)
    looks=$(($(cat looks 2>/dev/null || echo 0) + 1)); echo $looks > looks
    if ((created == 0)); then exit 1; fi
    if ((created == 1 && looks > 4)); then
      if grep -q delete calls; then exit 1; fi
      echo SUSPENDED; exit
    fi
    echo ACTIVE ;;
  *'cat robertax/ended'*)
    if (($(wc -l < created) == 2)); then echo 0; fi ;;
esac
'''


def test_a_pod_that_was_taken_away_is_made_again(outside):
  (outside / 'gcloud').write_text(GCLOUD.format(folder=outside))
  (outside / 'sleep').write_text('#!/bin/bash\n')
  (outside / 'sleep').chmod(0o755)
  done = launch(outside, *POD, '--spot', '--name=mine', 'keep', *RUN)
  assert done.returncode == 0, done.stderr
  calls = (outside / 'calls').read_text()
  assert calls.count('queued-resources create') == 2
  assert calls.count('-m robertax.main') == 2
  assert calls.count('queued-resources delete') == 2
  assert 'queued-resources delete' in calls.strip().splitlines()[-1]


@pytest.mark.parametrize('flags, hosts, each, resource', [
    (['--tpu=tpu-v5-lite-podslice:16x16', '--slices=2'], 64, 4,
     'google.com/tpu'),
    (['--tpu=tpu-v5-lite-podslice:2x4'], 1, 8, 'google.com/tpu'),
    (['--tpu=tpu-v5p-slice:4x4x8'], 32, 4, 'google.com/tpu'),
    (['--tpu=tpu-v6e-slice:2x2'], 1, 4, 'google.com/tpu'),
    (['--gpu=nvidia-h100-80gb:4x8'], 4, 8, 'nvidia.com/gpu')])
def test_a_gke_job(outside, flags, hosts, each, resource):
  said = dry(outside, 'launch/gke.sh', '--image=r/robertax', '--claim=disk',
             *flags, *RUN)
  job = yaml.safe_load(said)
  assert job['kind'] == 'JobSet' and job['metadata']['name'] == 'robertax'
  (slices,) = job['spec']['replicatedJobs']
  assert slices['replicas'] == (2 if '--slices=2' in flags else 1)
  spec = slices['template']['spec']
  assert spec['completionMode'] == 'Indexed'
  assert spec['parallelism'] == spec['completions'] == hosts
  pod = spec['template']['spec']
  (container,) = pod['containers']
  assert container['args'] == ['-m', 'robertax.main', *RUN[1:]]
  assert container['resources']['limits'] == {resource: each}
  assert pod['volumes'][0]['persistentVolumeClaim']['claimName'] == 'disk'
  env = {e['name']: e['value'] for e in container.get('env', ())}
  assert ('JAX_COORDINATOR_ADDRESS' in env) == (resource == 'nvidia.com/gpu')
  if env:
    assert env['JAX_NUM_PROCESSES'] == str(hosts)


def test_a_gke_job_is_followed_and_deleted(outside):
  assert 'kubectl logs --follow' in dry(
      outside, 'launch/gke.sh', '--name=mine', 'log')
  assert 'kubectl delete jobset mine' in dry(
      outside, 'launch/gke.sh', '--name=mine', 'delete')


def test_a_slurm_job(outside):
  said = dry(outside, 'launch/slurm.sh', '--nodes=2', '--gpus=4',
             '--sbatch=--partition=gpu', *RUN)
  directives = [line for line in said.splitlines()
                if line.startswith('#SBATCH')]
  assert {'#SBATCH --nodes=2', '#SBATCH --ntasks-per-node=4',
          '#SBATCH --gres=gpu:4', '#SBATCH --partition=gpu',
          '#SBATCH --signal=TERM@120'} <= set(directives)
  # Directives count only before the first command.
  body = said.splitlines()
  assert max(body.index(line) for line in directives) < body.index(
      'set -uo pipefail')
  job = outside / 'job.sh'
  job.write_text(said)
  assert not subprocess.run(['bash', '-n', job]).returncode


@pytest.mark.parametrize('code, again', [
    (0, False), (2, False), (3, False), (75, True), (143, True)])
def test_a_slurm_job_that_was_stopped_goes_back(outside, code, again):
  said = dry(outside, 'launch/slurm.sh', *RUN)
  (outside / 'srun').write_text(f'#!/bin/bash\nexit {code}\n')
  job = outside / 'job.sh'
  job.write_text(said.replace('. .venv/bin/activate', ':'))
  done = launch(outside, str(job), SLURM_JOB_ID='77')
  assert done.returncode == code, done.stderr
  calls = outside / 'calls'
  assert (calls.exists() and 'requeue 77' in calls.read_text()) == again


def test_one_machine(outside):
  said = dry(outside, 'launch/machine.sh', *RUN[1:])
  assert 'pip install' in said or (ROOT / '.venv').exists()
  assert said.splitlines()[-1].startswith('.venv/bin/python -m robertax.main')


def test_one_machine_with_gpus(outside):
  (outside / 'nvidia-smi').write_text('#!/bin/bash\n')
  (outside / 'nvidia-smi').chmod(0o755)
  said = dry(outside, 'launch/machine.sh', *RUN[1:])
  assert 'cuda13' in said or (ROOT / '.venv').exists()


def test_several_processes_of_one_machine(outside):
  said = dry(outside, 'launch/local.sh', '3', *RUN[1:]).splitlines()
  assert [f'--num_processes=3 --process_id={i} &' in line
          for i, line in enumerate(said)] == [True] * 3
  assert len({line.partition('--coordinator=')[2].split()[0]
              for line in said}) == 1


PREPARE = ['--', '--config=configs/roberta_large.py',
           '--config.data.corpora=gs://b/my text/*.jsonl']
BEAM = {
    'dataflow': ['--project=p', '--region=r', '--bucket=gs://b', '--image=i'],
    'flink': ['--master=host:8081', '--image=i'],
    'spark': ['--master=spark://host:7077', '--image=i']}


@pytest.mark.parametrize('name', BEAM)
def test_beam_gets_its_options_and_prepare_its_own(outside, name):
  """What the shell hands on is what Beam's own parser understands."""
  stand_in = outside / 'python'
  stand_in.write_text(f'#!/bin/bash\nprintf "%s\\n" "$@" > {outside}/asked\n')
  stand_in.chmod(0o755)
  (outside / 'docker').write_text(
      f'#!/bin/bash\necho "docker $*" >> {outside}/calls\n')
  (outside / 'docker').chmod(0o755)
  done = launch(outside, f'launch/{name}.sh', *BEAM[name],
                '--beam=--labels=a b', *PREPARE)
  assert done.returncode == 0, done.stderr
  asked = (outside / 'asked').read_text().splitlines()
  assert asked[:2] == ['-m', 'robertax.prepare']
  assert set(PREPARE[1:]) < set(asked)
  assert ('--out=gs://b/robertax' in asked) == (name == 'dataflow')
  options = shlex.split(asked[-1].removeprefix('--beam='))
  assert '--labels=a b' in options and options[0] == '--runner=' + dict(
      dataflow='DataflowRunner', flink='FlinkRunner',
      spark='PortableRunner')[name]
  if name == 'spark':
    assert (outside / 'calls').read_text().count('docker stop') == 1


@pytest.mark.parametrize('name', BEAM)
def test_a_dry_run_of_beam_prints_the_command(outside, name):
  said = dry(outside, f'launch/{name}.sh', *BEAM[name], *PREPARE)
  assert 'python -m robertax.prepare' in said
