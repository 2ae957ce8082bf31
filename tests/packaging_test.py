"""requirements*.txt and pyproject.toml: one set of versions, no machine's."""

import pathlib
import re
import tomllib

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
ON_TOP = ('test', 'oracle', 'tpu')
PYTHONS = ('3.11', '3.12')


def lines(name: str) -> list[str]:
  """The lines of a requirements file, without comments."""
  found = [re.sub(r'(^|\s)#.*', '', line).strip()
           for line in (ROOT / name).read_text().splitlines()]
  return [line for line in found if line]


def pins(name: str, python: str = '3.11') -> dict[str, str]:
  """{package: version} as pip on x86-64 Linux with that Python sees it."""
  where = {'python_version': python, 'python_full_version': f'{python}.9',
           'sys_platform': 'linux', 'platform_machine': 'x86_64'}
  found = {}
  for line in lines(name):
    if line == '-c requirements.txt':
      continue
    one = Requirement(line)
    if one.marker is None or one.marker.evaluate(where):
      (only,) = one.specifier
      assert only.operator == '==', f'{name}: {line} is not pinned'
      assert canonicalize_name(one.name) not in found, f'{name}: {line} twice'
      found[canonicalize_name(one.name)] = only.version
  return found


def project() -> dict:
  return tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']


def test_both_pythons_get_the_same_versions():
  first, second = (pins('requirements.txt', python) for python in PYTHONS)
  assert first == second
  assert first['jax'] == first['jaxlib']


def test_each_dependency_is_pinned_within_its_range():
  core = pins('requirements.txt')
  for line in project()['dependencies']:
    one = Requirement(line)
    if one.marker and not one.marker.evaluate(
        {'sys_platform': 'linux', 'platform_machine': 'x86_64'}):
      continue
    version = core.get(canonicalize_name(one.name))
    assert version, f'{line}: not in requirements.txt'
    assert one.specifier.contains(version), f'{line}: pinned {version}'


def test_requirements_in_is_where_the_pins_come_from():
  core = pins('requirements.txt')
  for line in lines('requirements.in'):
    one = Requirement(line)
    version = core.get(canonicalize_name(one.name))
    if one.marker is None:
      assert version and one.specifier.contains(version), line


@pytest.mark.parametrize('name', ON_TOP)
def test_what_goes_on_top_does_not_move_the_core(name):
  name = f'requirements-{name}.txt'
  assert lines(name)[0] == '-c requirements.txt'
  core = pins('requirements.txt')
  for package, version in pins(name).items():
    assert core.get(package, version) == version, f'{name}: {package}'


def test_extras_agree_with_the_requirements():
  known = pins('requirements.txt')
  for name in ON_TOP:
    known |= pins(f'requirements-{name}.txt')
  extras = project()['optional-dependencies']
  assert {'cuda13', 'tpu', 'beam', 'hf'} <= set(extras)
  for extra, found in extras.items():
    for one in map(Requirement, found):
      version = known.get(canonicalize_name(one.name))
      assert version is None or one.specifier.contains(version), (
          f'{extra}: {one}, but requirements pin {version}')


def test_nothing_names_a_machine_or_an_index():
  for path in [*ROOT.glob('requirements*'), ROOT / 'pyproject.toml']:
    text = path.read_text()
    assert not re.search(r'://|(^|[\s"\'=])/\w|--hash|find-links|index-url',
                         text), path.name
  assert 'libtpu' not in pins('requirements-tpu.txt')


def test_the_license_is_apache():
  text = (ROOT / 'LICENSE').read_text()
  assert project()['license'] == 'Apache-2.0'
  assert 'Version 2.0, January 2004' in text
  assert 'END OF TERMS AND CONDITIONS' in text
