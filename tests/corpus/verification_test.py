
import dataclasses
import os

import pytest

from robertax.config import DataConfig, TokenizerConfig
from robertax.corpus.preparation import verify_config, verify_prepared
from robertax.errors import InputError
from robertax.files import checksum


def test_records_and_tokens_are_whole(prepare, txt, small_blocks, tmp_path,
                                      capsys):
  (manifest,) = prepare(txt, memmap=True).manifests
  (store,) = (tmp_path / 'cache' / 'tokens').iterdir()
  assert verify_prepared([manifest.folder, str(store)], progress=False)
  out = capsys.readouterr().out
  assert out.count('OK ') == 2 and '.tokens' not in out
  # Each file is in the manifest, as it is.
  names = set(os.listdir(manifest.folder)) - {'manifest.json', '.lock'}
  assert set(manifest.checksums) == names
  for name in names:
    assert checksum(f'{manifest.folder}/{name}') == manifest.checksums[name]


def test_what_is_wrong_is_printed(prepare, txt, small_blocks, capsys):
  (manifest,) = prepare(txt).manifests
  first, second, third = manifest.shard_paths('train')[:3]
  os.remove(first)
  os.truncate(second, os.path.getsize(second) - 1)
  with open(f'{manifest.folder}/stray', 'w') as f:
    f.write('x')
  assert not verify_prepared([manifest.folder], progress=False)
  out = capsys.readouterr().out.splitlines()
  assert len(out) == 3 and not any(third in line for line in out)
  assert f'{first}: missing' in out[0]
  assert f'{second} at byte ' in out[1] and 'truncated' in out[1]
  assert 'stray: not one of the files' in out[2]


def test_records_without_checksums_are_said_to_have_none(
    prepare, txt, capsys):
  (manifest,) = prepare(txt).manifests
  dataclasses.replace(manifest, checksums={}).write()
  assert not verify_prepared([manifest.folder], progress=False)
  assert 'it has no checksums' in capsys.readouterr().out
  # And another form of them still can be made.
  (manifest,) = prepare(txt, memmap=True).manifests
  assert manifest.forms == ('array_record', 'memmap')
  assert not manifest.checksums


def test_what_a_kill_left_half_is_no_damage_and_goes(prepare, txt):
  """As while the memory-mapped form is added to finished records."""
  (manifest,) = prepare(txt).manifests
  left = f'{manifest.folder}/train.ids.bin.1a2b3c4d.partial'
  open(left, 'w').close()
  assert verify_prepared([manifest.folder], progress=False)
  (manifest,) = prepare(txt, memmap=True).manifests
  assert not os.path.exists(left)
  assert verify_prepared([manifest.folder], progress=False)


def test_a_damaged_manifest_is_named(prepare, txt):
  (manifest,) = prepare(txt).manifests
  path = f'{manifest.folder}/manifest.json'
  text = open(path).read()
  with open(path, 'w') as f:
    f.write(text.replace('"num_records": ', '"num_records": 1'))
  with pytest.raises(InputError, match='its own checksum does not match'):
    verify_prepared([manifest.folder], progress=False)
  with pytest.raises(InputError, match='no finished records here'):
    verify_prepared([str(txt)], progress=False)


def test_what_a_config_names(prepare, txt, tmp_path, tokenizer_path, capsys):
  """Nothing is read or trained for it: what is not prepared is said so."""
  def config(**values):
    return DataConfig(corpora=str(txt), sequence_length=32,
                      cache_dir=str(tmp_path / 'cache'), **values)

  tokenizer = TokenizerConfig(path=tokenizer_path)
  with pytest.raises(InputError, match='animals: it is not prepared'):
    verify_config(config(), tokenizer)
  with pytest.raises(InputError, match='no tokenizer was trained'):
    verify_config(config(), TokenizerConfig(vocab_size=300))
  (manifest,) = prepare(txt).manifests
  assert verify_config(config(), tokenizer)
  assert f'OK {manifest.folder}' in capsys.readouterr().out
  with pytest.raises(InputError, match='no finished records here'):
    verify_config(config(format='doc_sentences'), tokenizer)
