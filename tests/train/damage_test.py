"""A run goes on from the newest checkpoint that is whole."""

import shutil

import pytest

from robertax.errors import InputError
from robertax.train import facts
from robertax.train.checkpoint import saved_steps
from robertax.train.clock import LogWindow
from robertax.train.initial import open_weights
from tests.train.finetune_test import killed_at
from tests.train.loop_test import changed, losses, one_device, tiny

__all__ = ['tiny']


@pytest.fixture(scope='module')
def stopped(tiny, tmp_path_factory):
  """A run as a kill behind step 28 leaves it, and its losses."""
  folder = tmp_path_factory.mktemp('stopped') / 'w'
  config = changed(tiny, train={'keep_every': 14, 'keep_checkpoints': 2,
                                'keep_best': True, 'eval_every': 15})
  one_device(config, folder)
  assert saved(folder) == ['14', '28', '30']
  assert [p.name for p in (folder / 'best').iterdir()]
  shutil.rmtree(folder / 'checkpoints' / '30')
  return config, folder, losses(folder)


def saved(folder):
  return sorted(p.name for p in (folder / 'checkpoints').iterdir())


def flip(folder, step):
  """One byte of an array's values."""
  path = max((folder / 'checkpoints' / str(step) / 'params').rglob('d/*'),
             key=lambda p: p.stat().st_size)
  content = bytearray(path.read_bytes())
  content[len(content) // 2] ^= 4
  path.write_bytes(content)


def test_what_is_damaged_is_set_aside_and_the_rest_is_the_same(
    stopped, tmp_path, capfd):
  config, folder, expected = stopped
  folder = shutil.copytree(folder, tmp_path / 'w')
  flip(folder, 28)
  for step in (29, 30, 77):
    (folder / 'checkpoints' / str(step)).mkdir()  # Empty: none.
  ended = one_device(config, folder)
  assert (ended.step, ended.trained) == (30, 16)
  said = capfd.readouterr().err
  assert 'checkpoints/28: this checkpoint is damaged' in said
  assert 'damaged-28-1' in saved(folder) and 'resuming at step 14' in said
  assert losses(folder) == expected
  # Empty folders are in no save's way.
  assert '77' not in saved(folder)
  assert (folder / 'checkpoints' / '30' / 'params').is_dir()


def test_no_one_takes_the_best_of_a_future_that_was_given_up(
    stopped, tmp_path):
  config, folder, expected = stopped
  folder = shutil.copytree(folder, tmp_path / 'w')

  def taken():
    with open_weights(str(folder)) as weights:
      return weights.description

  assert 'the best step 30' in taken()
  with killed_at(1):
    one_device(config, folder)
  assert 'the best step 15' in taken()
  (folder / 'checkpoints' / '28').rename(tmp_path / '28')
  with killed_at(1):
    one_device(config, folder)
  # Nothing was evaluated yet; and what was kept is not thrown away for that.
  assert 'weights of step 14' in taken()
  assert 'abandoned-15' in [p.name for p in (folder / 'best').iterdir()]
  one_device(config, folder)
  assert 'the best step 30' in taken()
  assert saved_steps(f'{folder}/best') == [15, 30]
  assert len(list((folder / 'best').iterdir())) == 2
  assert losses(folder) == expected


def test_steps_wait_for_a_save_where_they_are_told_to(
    stopped, tmp_path, monkeypatch):
  config, folder, expected = stopped
  config = changed(config, train={'save_in_background': False})
  folder = shutil.copytree(folder, tmp_path / 'w')
  add, there = LogWindow.add, {}

  def noted(self, number, sums):
    there[number] = saved_steps(f'{folder}/checkpoints')[-1]
    add(self, number, sums)

  monkeypatch.setattr(LogWindow, 'add', noted)
  (folder / 'checkpoints' / '28').rename(tmp_path / '28')
  one_device(config, folder)
  assert losses(folder) == expected
  # However soon a step comes, what is saved is there.
  assert there == {number: (number - 1) // 7 * 7 for number in range(15, 31)}


def test_where_none_is_left_it_does_not_begin_at_0(stopped, tmp_path):
  config, folder, _ = stopped
  folder = shutil.copytree(folder, tmp_path / 'w')
  for step in (14, 28):
    flip(folder, step)
  for _ in range(2):  # The second finds only what was set aside.
    with pytest.raises(InputError, match='no checkpoint is left') as e:
      one_device(config, folder)
    assert 'damaged-14-1, damaged-28-1' in str(e.value)
  assert len(losses(folder)) == 30


def test_a_state_of_another_code_or_text(stopped, tmp_path, monkeypatch):
  config, folder, expected = stopped
  folder = shutil.copytree(folder, tmp_path / 'w')
  monkeypatch.setattr(facts, 'CODE_VERSION', 99)
  with pytest.raises(InputError, match='code: 1 -> 99'):
    one_device(config, folder)
  one_device(changed(config, train={'allow_changed': 'code'}), folder)
  assert losses(folder) == expected


def test_the_text_was_changed_under_the_run(stopped, tiny, tmp_path):
  config, folder, _ = stopped
  folder = shutil.copytree(folder, tmp_path / 'w')
  text = tmp_path / 'counting.txt'
  with open(tiny['data']['corpora']) as f:
    whole = f.read()
  # The same text elsewhere and later is the same; one without its end is not.
  config = changed(config, data={'corpora': str(text)},
                   tokenizer={'path': str(folder / 'tokenizer.json')})
  text.write_text(whole)
  one_device(config, tmp_path / 'v')
  shutil.rmtree(tmp_path / 'v' / 'checkpoints' / '30')
  text.write_text(whole)
  assert one_device(config, tmp_path / 'v').trained == 2
  shutil.rmtree(tmp_path / 'v' / 'checkpoints' / '30')
  text.write_text(whole[:len(whole) // 2])
  with pytest.raises(InputError, match='data.counting/32/counts: .* -> ') as e:
    one_device(config, tmp_path / 'v')
  assert 'train.allow_changed=data' in str(e.value)
