
import os

import pytest

from robertax import text
from robertax.config import TokenizerConfig
from robertax.corpus import preparation
from robertax.corpus.blocks import Survey
from robertax.corpus.documents import resolve
from robertax.errors import InputError


def blocks_of(corpus):
  survey = Survey()
  for document in corpus.documents():
    survey.add(len(document))
  return survey.blocks()


def texts(corpora, most=10**6):
  return [s for sentences in preparation._training_texts(
      corpora, blocks_of, str.splitlines, most, False) for s in sentences]


@pytest.fixture
def corpora(tmp_path):
  for name in 'ab':
    (tmp_path / f'{name}.txt').write_text(
        '\n\n'.join(f'{name} number {i}' for i in range(200)))
  return resolve(f'{tmp_path}/*.txt')


def test_only_training_text_is_seen(corpora):
  assert texts(corpora) == [
      f'{name} number {i}' for name in 'ab' for i in range(198)]


def test_one_document_keeps_its_tail(tmp_path):
  path = tmp_path / 'one.txt'
  path.write_text('\n'.join(map(str, range(100))))
  assert texts(resolve(str(path))) == [str(i) for i in range(95)]


@pytest.mark.parametrize('cap', [100, 1000, 3000])
def test_more_than_the_cap_is_thinned_evenly(corpora, cap):
  found = texts(corpora, cap)
  assert .8 * cap < sum(map(len, found)) < 1.2 * cap
  numbers = [int(s.split()[-1]) + 198 * (s[0] == 'b') for s in found]
  gaps = [b - a for a, b in zip([0, *numbers], [*numbers, 395])]
  assert max(gaps) <= 2 * 396 / len(numbers) + 2


def test_a_long_document_gives_its_share(tmp_path):
  path = tmp_path / 'one.txt'
  path.write_text('\n'.join(map(str, range(10000))))
  assert 600 < sum(map(len, texts(resolve(str(path)), 1000))) < 1000


def test_it_is_trained_once_and_kept(corpora, tmp_path, monkeypatch, capsys):
  config = TokenizerConfig(vocab_size=1000)

  def get(**changes):
    return preparation.tokenizer_for(
        config, corpora, blocks_of, changes.get('sentences', 'lines'),
        str(tmp_path / 'cache'), False)

  tokenizer, path = get()
  assert 'only, 1,000 were asked for' in capsys.readouterr().err
  monkeypatch.setattr(text, 'train', None)
  assert get()[0].fingerprint == tokenizer.fingerprint
  assert get()[1] == path
  with pytest.raises(TypeError):  # Other sentences: another tokenizer.
    get(sentences='prose')


@pytest.mark.parametrize('cap', [10**6, 2000])
def test_wordpiece_is_trained_and_kept(corpora, tmp_path, capsys, cap):
  def get(**changes):
    config = TokenizerConfig(**{'vocab_size': 120, 'kind': 'wordpiece',
                                'sample_chars': cap} | changes)
    return preparation.tokenizer_for(
        config, corpora, blocks_of, 'lines', str(tmp_path / 'cache'), False)

  tokenizer, path = get()
  assert tokenizer.kind == 'wordpiece'
  assert tokenizer.unk_id not in tokenizer.encode('B number 7')
  said = capsys.readouterr().err
  assert said.count('spread evenly') == (cap == 2000)
  assert get()[0].fingerprint == tokenizer.fingerprint and get()[1] == path
  assert get(lowercase=False)[1] != path
  assert get(path=path, kind='byte_bpe')[0].kind == 'wordpiece'
  with pytest.raises(InputError, match="tokenizer.kind.*'wordpiece'"):
    get(kind='wordpeice')


def test_a_damaged_tokenizer_of_ours_may_be_deleted(tmp_path, corpora):
  config = TokenizerConfig(vocab_size=270)

  def tokenizer():
    return preparation.tokenizer_for(
        config, corpora, blocks_of, 'lines', str(tmp_path), progress=False)

  first, path = tokenizer()
  with open(path, 'w') as f:
    f.write('{')
  with pytest.raises(InputError, match='Rename that file') as e:
    tokenizer()
  assert path in str(e.value)
  os.remove(path)
  assert tokenizer()[0].fingerprint == first.fingerprint
