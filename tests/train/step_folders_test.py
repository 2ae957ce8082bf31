"""Where checkpoints lie: what orbax is given, and what is refused first."""

import os
import sys
import types

import orbax.checkpoint as ocp
import pytest

from robertax.config import Config
from robertax.errors import InputError
from robertax.train import checkpoint, session
from robertax.train.checkpoint import Checkpoints


@pytest.mark.parametrize('workdir, given', [
    ('gs://bucket/x', 'gs://bucket/x/checkpoints'),
    ('/some/run', '/some/run/checkpoints'),
    ('runs/x', os.path.abspath('runs/x/checkpoints'))])
def test_orbax_is_given_a_url_as_it_is(workdir, given, monkeypatch):
  """By etils' own classes: nothing here stands in for them."""
  seen = []
  monkeypatch.setattr(checkpoint, 'make_folder', lambda folder: None)
  monkeypatch.setattr(checkpoint.facts, 'read_facts', lambda folder, step: None)
  monkeypatch.setattr(ocp, 'CheckpointManager',
                      lambda place, **keys: seen.append(place))

  class Handler:

    def metadata(self, place):
      seen.append(place)
      return {}

    def restore(self, place, **keys):
      seen.append(place)
      return {}

  monkeypatch.setattr(ocp, 'StandardCheckpointHandler', Handler)
  checkpoints = Checkpoints(workdir, read_only=True)
  checkpoints._open()
  checkpoints.shapes(7)
  checkpoints.restore_params(7, {})
  item = f'{given}/7/params'
  # Once more when shapes are compared.
  assert list(map(str, seen)) == [given, item, item, item]
  assert list(map(os.fspath, seen)) == list(map(str, seen))


@pytest.mark.parametrize('scheme', ['s3', 'az', 'hf'])
def test_a_storage_that_orbax_does_not_write_to_is_refused(scheme):
  with pytest.raises(InputError, match=f'not to {scheme}://.*--workdir'):
    session.admit_run(Config(), f'{scheme}://bucket/x')


@pytest.fixture(name='google')
def google_fixture(monkeypatch):
  """google-cloud-storage, as far as it is asked; answers are set by tests."""
  def errors(*names):
    return types.SimpleNamespace(
        **{name: type(name, (Exception,), {}) for name in names})

  exceptions = errors('Unauthorized', 'Forbidden', 'NotFound')
  google = types.SimpleNamespace(exceptions=exceptions, answer=lambda name: 0)
  client = types.SimpleNamespace(get_bucket=lambda name: google.answer(name))
  storage = types.SimpleNamespace(Client=lambda: client)
  for name, module in {
      'google.api_core': types.SimpleNamespace(exceptions=exceptions),
      'google.auth': types.SimpleNamespace(),
      'google.auth.exceptions': errors('DefaultCredentialsError'),
      'google.cloud': types.SimpleNamespace(storage=storage)}.items():
    monkeypatch.setitem(sys.modules, name, module)
  return google


def test_a_bucket_is_looked_at_before_any_work(google):
  asked = []
  google.answer = asked.append
  checkpoint.check_storage('gs://bucket/x/y')
  checkpoint.check_storage('/some/run')
  assert asked == ['bucket']

  def forbidden(name):
    raise google.exceptions.Forbidden(f'403 no access to {name}\nmore')

  google.answer = forbidden
  with pytest.raises(InputError, match='storage.buckets.get') as e:
    checkpoint.check_storage('gs://bucket/x')
  assert '403 no access to bucket' in str(e.value)
  assert '\n' not in str(e.value)


def test_what_a_bucket_needs_is_named_with_the_command(google, monkeypatch):
  monkeypatch.setitem(sys.modules, 'google.cloud', None)
  with pytest.raises(InputError, match='pip install google-cloud-storage'):
    checkpoint.check_storage('gs://bucket/x')
