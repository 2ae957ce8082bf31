"""Eight CPU devices for every test, set before anything imports jax.

Only environment variables and Hypothesis: tests that use no JAX do not pay for
importing it. Commands that a test starts inherit the variables.
"""

import os

import hypothesis

# A machine that does other work besides is no finding.
hypothesis.settings.register_profile('any machine', deadline=None)
hypothesis.settings.load_profile('any machine')
os.environ['JAX_PLATFORMS'] = 'cpu'
for _flag in (
    '--xla_force_host_platform_device_count=8',
    # Compiling is most of what these tests do: half the time without LLVM's
    # optimizer, which small shapes do not miss.
    '--xla_backend_optimization_level=0'):
  if _flag.split('=')[0] not in os.environ.get('XLA_FLAGS', ''):
    os.environ['XLA_FLAGS'] = f'{os.environ.get("XLA_FLAGS", "")} {_flag}'
