"""Eight CPU devices for every test, set before anything imports jax.

Only environment variables and Hypothesis: tests that use no JAX do not pay for
importing it. Commands that a test starts inherit the variables.
"""

import atexit
import os
import shutil
import tempfile

import hypothesis

from tests.xla_flags import EIGHT_DEVICES, FAST

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
