"""Programs that were compiled once, kept for the next start of any run.

JAX names a program by what it does, its compiler's version and its devices, so
that none is taken for another. On CPUs it is off unless asked for: a program
may use instructions that another machine with the same folder lacks.
"""

import jax

from robertax import files
from robertax.config import Config
from robertax.corpus.preparation import default_cache_dir


def cache_dir(config: Config) -> str:
  """The folder of all caches: data.cache_dir, or its default."""
  return files.absolute(config.data.cache_dir or default_cache_dir())


def turn_on(config: Config):
  """Keeps compiled programs where train.compile_cache says.

  JAX_COMPILATION_CACHE_DIR, where it is set, goes before.

  Args:
    config: of the run.
  """
  chosen = config.train.compile_cache
  if chosen == 'auto':
    chosen = ('off' if jax.default_backend() == 'cpu' else
              files.join(cache_dir(config), 'compiled'))
  if chosen == 'off' or jax.config.jax_compilation_cache_dir:
    return
  jax.config.update('jax_compilation_cache_dir', files.absolute(chosen))
  if files.is_remote(chosen):
    # What XLA itself would keep beside JAX's programs it writes without etils.
    jax.config.update('jax_persistent_cache_enable_xla_caches', 'none')
