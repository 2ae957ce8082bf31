"""requirements*.txt and pyproject.toml: one set of versions, no machine's."""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
ON_TOP = ('test', 'oracle', 'tpu')
PYTHONS = ('3.11', '3.12', '3.13')


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


def test_all_pythons_get_the_same_versions():
  first, *others = (pins('requirements.txt', python) for python in PYTHONS)
  assert others == [first] * (len(PYTHONS) - 1)
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


def test_the_wheel_has_every_room_and_config():
  table = tomllib.loads((ROOT / 'pyproject.toml').read_text())
  listed = table['tool']['setuptools']['packages']
  places = {('robertax', *path.relative_to(ROOT).parts)[
      path.is_relative_to(ROOT / 'robertax'):]
            for folder in ('robertax', 'configs')
            for path in [ROOT / folder, *(ROOT / folder).iterdir()]
            if path.is_dir() and path.name != '__pycache__'}
  assert sorted(listed) == sorted(map('.'.join, places))


@pytest.fixture(scope='module')
def installed(tmp_path_factory):
  """A folder with what the wheel puts into site-packages."""
  folder = tmp_path_factory.mktemp('wheel')
  source = folder / 'source'
  source.mkdir()
  for name in ('robertax', 'configs'):
    shutil.copytree(ROOT / name, source / name,
                    ignore=shutil.ignore_patterns('__pycache__'))
  for name in ('pyproject.toml', 'README.md', 'LICENSE'):
    shutil.copy(ROOT / name, source)
  subprocess.run(
      [sys.executable, '-m', 'pip', 'wheel', '-q', '--no-deps', '--no-index',
       '--no-build-isolation', '-w', folder, source], check=True)
  (wheel,) = folder.glob('*.whl')
  with zipfile.ZipFile(wheel) as f:
    f.extractall(folder / 'site')
  return folder / 'site'


@pytest.mark.parametrize('command, code, says', [
    ('pretrain --config=quickstart:steps=5', 2, '--workdir=FOLDER is needed'),
    ('pretrain --config=configs/glue.py:task=mrpc', 2,
     '--workdir=FOLDER is needed'),
    ('main --config paper/table1', 2, '--workdir=FOLDER is needed'),
    ('aot --config=lamb_32k', 2, '--topology=CHIP:SHAPE is needed'),
    ('pretrain --config=quikstart', 2,
     'no such file. Did you mean --config=quickstart?'),
    ('paper --table=9', 2, 'robertax: error: '),
    ('pretain', 2, "unknown command 'pretain'. Did you mean 'pretrain'?"),
    ('sweep --help', 0, '--config.optim.learning_rate'),
    ('--help', 0, 'asks a model about each line of a file')])
def test_commands_of_a_wheel_find_its_configs(installed, tmp_path, command,
                                              code, says):
  """In an empty folder, by the script that pip makes of the entry point."""
  (entry,) = [line for path in installed.glob('*.dist-info/entry_points.txt')
              for line in path.read_text().splitlines() if '=' in line]
  name, module, function = re.fullmatch(r'(\w+) = ([\w.]+):(\w+)',
                                        entry).groups()
  script = tmp_path / name
  script.write_text(f'from {module} import {function}\n'
                    f'if __name__ == "__main__":\n  {function}()\n')
  found = subprocess.run(
      [sys.executable, script, *command.split()], cwd=tmp_path, text=True,
      capture_output=True, env=os.environ | {'PYTHONPATH': str(installed)})
  assert found.returncode == code, found.stderr
  assert says in found.stdout + found.stderr
  assert found.stderr.count('\n') <= 1


@pytest.mark.oracle  # Not because of its packages, but of its 20 seconds.
def test_a_wheel_trains_and_reports(installed, tmp_path):
  """Its worker processes, which import the door again, included."""
  def robertax(*command):
    return subprocess.run(
        [sys.executable, '-m', 'robertax', *command], cwd=tmp_path, text=True,
        check=True, capture_output=True,
        env=os.environ | {'PYTHONPATH': str(installed),
                          'XDG_CACHE_HOME': str(tmp_path / 'cache')})
  (tmp_path / 'text').mkdir()
  for number in range(4):
    (tmp_path / 'text' / f'{number}.txt').write_text('\n\n'.join(
        f'Line {n} of text {number} says so much. And a bit.'
        for n in range(200)))
  done = robertax(
      'pretrain', '--config=quickstart', '--workdir=w',
      '--config.train.steps=2', '--config.data.corpora=text',
      '--config.data.workers=2',
      '--config.tokenizer.vocab_size=300', '--config.train.eval_every=2',
      '--config.optim.warmup_steps=1')
  assert 'Report: w/report.html' in done.stdout
  assert robertax('report', '--workdir=w', '--out=r.html')
  assert (tmp_path / 'r.html').read_text().startswith('<!DOCTYPE html>')
