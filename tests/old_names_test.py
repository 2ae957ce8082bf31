"""People's own config files import what earlier versions had them import."""

from robertax import config, errors
from robertax.errors import InputError
from robertax.sections import take_arg, unknown
from robertax.train.config import defaults, with_arg


def get_config(arg=None):
  """As configs/ of version 0.1 were written."""
  name, rest = take_arg(arg, 'task', 'rte')
  if name != 'rte':
    raise unknown('task', name, ['rte'])
  made = defaults()
  made.train.update(steps=7)
  return with_arg(made, rest)


def test_a_config_file_of_an_earlier_version_works():
  made = config.parse(get_config('task=rte,train.log_every=3'))
  assert (made.train.steps, made.train.log_every) == (7, 3)
  assert isinstance(unknown('x', 'y', ['z']), InputError)


def test_the_old_names_are_the_new_ones():
  assert (defaults, with_arg, take_arg) == (
      config.defaults, config.with_arg, config.take_arg)
  assert unknown is errors.unknown
