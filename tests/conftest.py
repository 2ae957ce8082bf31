"""Eight CPU devices for every test, set before anything imports jax.

Only environment variables and Hypothesis: tests that use no JAX do not pay for
importing it. Commands that a test starts inherit the variables.
"""

import atexit
import gc
import os
import shutil
import tempfile

import hypothesis
import pytest

from tests.xla_flags import EIGHT_DEVICES, FAST

# What takes longest begins first: the other process would else wait for it at
# the end. A list of measured files, longest first; the rest keep their order.
LONGEST = '''
train/finetune_test train/loop_test kernels/attention_fused_test
train/reshard_test launch/local_test tasks/squad_test corpus/pair_records_test
paper/run_test train/divergence_test paper/door_test tasks/race_test
train/processes_test train/damage_test train/checkpoint_test
data/pipeline_test tasks/tuning_test tasks/text_classification_test
'''.split()

# Their conftest trains a model once in each process that needs it.
TOGETHER = {'tests/inspection'}

# A machine that does other work besides is no finding.
hypothesis.settings.register_profile('any machine', deadline=None)
hypothesis.settings.load_profile('any machine')
os.environ['JAX_PLATFORMS'] = 'cpu'
for _flag in (EIGHT_DEVICES, *FAST.split()):
  if _flag.split('=')[0] not in os.environ.get('XLA_FLAGS', ''):
    os.environ['XLA_FLAGS'] = f'{os.environ.get("XLA_FLAGS", "")} {_flag}'
# What one process has compiled, the other and all commands find. The folder is
# the session's: the first process, which has no PYTEST_XDIST_WORKER, makes it.
if 'ROBERTAX_TEST_COMPILED' not in os.environ:
  _compiled = tempfile.mkdtemp(prefix='robertax-compiled-')
  atexit.register(shutil.rmtree, _compiled, ignore_errors=True)
  os.environ |= {
      'ROBERTAX_TEST_COMPILED': _compiled,
      'JAX_COMPILATION_CACHE_DIR': _compiled,
      'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
      'JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES': '-1'}


@pytest.hookimpl(wrapper=True)
def pytest_collection():
  """What is imported stays: collecting garbage finds none, for seconds."""
  gc.disable()
  try:
    return (yield)
  finally:
    gc.freeze()
    gc.enable()


def pytest_ignore_collect(collection_path, config):
  """Without the oracles' tests their torch and transformers are not loaded."""
  if collection_path.name == 'oracle' and 'not oracle' in (
      config.option.markexpr):
    return True


def pytest_collection_modifyitems(items):
  places = {f'tests/{name}.py': place for place, name in enumerate(LONGEST)}
  items.sort(key=lambda item: places.get(
      item.nodeid.split('::')[0], len(places)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
  """A file's tests, or a room's with a trained model, go to one process."""
  from xdist.scheduler import LoadScopeScheduling

  class ByFile(LoadScopeScheduling):
    def _split_scope(self, nodeid):
      file = nodeid.split('::')[0]
      room = file.rsplit('/', 1)[0]
      return room if room in TOGETHER else file

  return ByFile(config, log)
