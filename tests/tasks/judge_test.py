"""Numbers that judge: what is refused before a run's first step, and why."""

import dataclasses
import json
import re

import numpy as np
import pytest

from robertax import text
from robertax.config import (
    Config,
    DataConfig,
    FinetuneConfig,
    ModelConfig,
    OptimConfig,
    TokenizerConfig,
    TrainConfig,
)
from robertax.corpus import preparation, records, tokens
from robertax.errors import InputError
from robertax.tasks.glue import TextClassification
from robertax.tasks.pretrain import Pretrain
from robertax.text import wordpiece
from robertax.train import optimizer

LETTERS = 'abcdefgh'
KNOWN = [*wordpiece.SPECIALS, *LETTERS, *(f'##{c}' for c in LETTERS), '[MASK]']


@pytest.fixture
def vocab(tmp_path):
  """A vocabulary of eight letters, with which every word of them is known."""
  path = tmp_path / 'vocab.txt'
  path.write_text('\n'.join(KNOWN) + '\n')
  return TokenizerConfig(path=str(path))


def written(folder, words, name='text', documents=40, sentences=6):
  rng = np.random.default_rng(0)
  (folder / f'{name}.txt').write_text('\n\n'.join(
      '\n'.join(' '.join(rng.choice(words, 12)) for _ in range(sentences))
      for _ in range(documents)))
  return str(folder / f'{name}.txt')


def task(folder, tokenizer, corpora, **data):
  return Pretrain(0, DataConfig(**(dict(
      corpora=corpora, sequence_length=64, batch_size=8, backend='numpy',
      workers=1, cache_dir=str(folder / 'cache')) | data)), tokenizer,
                  ModelConfig(hidden_size=8, num_layers=1, num_heads=1,
                              mlp_size=8, max_positions=64))


def test_unknown_words_are_counted_and_stop_the_preparation(tmp_path, vocab):
  corpora = written(tmp_path, ['abc', 'bad', 'gah', 'was', 'xyz'])
  with pytest.raises(InputError, match='data.corpora: text: ') as e:
    task(tmp_path, vocab, corpora)
  # Two of five words hold a letter without an id, each [UNK].
  loaded = text.load(vocab.path)
  ids = np.concatenate(loaded.encode_batch(open(corpora).read().split('\n')))
  share = (ids == loaded.unk_id).mean()
  assert f'{share:.1%} of its {len(ids):,} tokens are [UNK]' in str(e.value)
  assert "'xyz'" in str(e.value) and "'was'" in str(e.value)
  assert 'max_unknown_share=' in str(e.value)
  allowed = float(re.search(r'max_unknown_share=([\d.]+)', str(e.value))[1])
  made = task(tmp_path, dataclasses.replace(
      vocab, max_unknown_share=allowed), corpora)
  counts = made._manifests[0].counts
  assert counts['text_tokens'] == len(ids)
  assert counts['unknown_tokens'] == (ids == loaded.unk_id).sum()
  with pytest.raises(InputError, match='max_unknown_share'):  # It is made now.
    task(tmp_path, vocab, corpora)


def test_what_earlier_versions_prepared(tmp_path, vocab, monkeypatch, capsys):
  """A store without the count is read for it; records are only said so."""
  corpora = written(tmp_path, ['abc', 'bad', 'xyz'])
  write = tokens.write_json
  monkeypatch.setattr(tokens, 'write_json', lambda path, values: write(
      path, {k: v for k, v in values.items() if k != 'unknown'}))
  with pytest.raises(InputError, match='text: 15.0% of its 6,644 tokens'):
    task(tmp_path, vocab, corpora)
  monkeypatch.undo()
  monkeypatch.setattr(preparation, '_judge_unknown', lambda *_, **__: None)
  folder = task(tmp_path, vocab, corpora)._manifests[0].folder
  monkeypatch.undo()
  manifest = records.Manifest.read(folder)
  dataclasses.replace(manifest, counts={
      k: n for k, n in manifest.counts.items() if 'tokens' not in k}).write()
  capsys.readouterr()
  task(tmp_path, vocab, corpora)
  assert 'did not count unknown tokens' in capsys.readouterr().err


def test_whole_words_in_text_without_spaces(tmp_path, vocab):
  words = [''.join(w) for w in np.random.default_rng(1).choice(
      list(LETTERS), (50, 40))]
  (tmp_path / 'zh.txt').write_text('\n\n'.join(words * 10))
  for unit in ('token', 'span', 'whole_word'):
    made = task(tmp_path, vocab, str(tmp_path / 'zh.txt'), masking_unit=unit,
                format='doc_sentences')
    if unit == 'whole_word':
      with pytest.raises(InputError, match="'token' or 'span' would do"):
        made.judge()
    else:
      made.judge()
  # Where another corpus hides it, the corpus is named.
  (tmp_path / 'zh.txt').write_text('\n\n'.join(words * 70))
  other = written(tmp_path, ['abc', 'bad'], 'other')
  made = task(tmp_path, vocab, f'{other},{tmp_path}/zh.txt', mixture='9,1',
              masking_unit='whole_word', format='doc_sentences')
  with pytest.raises(InputError, match="^zh: data.masking_unit='whole_word'"):
    made.judge()


def test_one_target_teaches_nothing(tmp_path, vocab):
  made = task(tmp_path, vocab, written(tmp_path, ['a']), specials='exclude')
  with pytest.raises(InputError, match='of .* are  a: a model'):
    made.judge()
  task(tmp_path, vocab, written(tmp_path, ['a', 'b'], 'two')).judge()


def test_pairs_of_one_class(tmp_path, vocab):
  """With one document there is nobody to take a random B from."""
  corpora = written(tmp_path, ['abc', 'bad'], documents=1, sentences=99)
  made = task(tmp_path, vocab, corpora, format='sentence_pair')
  with pytest.raises(InputError, match='pairs are of one class.*B follows A'):
    made.judge()
  task(tmp_path, vocab, written(tmp_path, ['abc', 'bad'], 'more'),
       format='sentence_pair').judge()


def rows(folder, label):
  for split in ('train', 'dev'):
    (folder / f'{split}.tsv').write_text('text\tlabel\n' + ''.join(
        f'abc {"xyz" * (i % 2)} bad\t{label(i if split == "train" else 1)}\n'
        for i in range(30)))


@pytest.mark.parametrize('share, label, words', [
    (.03, lambda i: i % 2, r'unknown_share=0.\d+ .now 0.03'),
    (1., lambda i: 1, 'have one label'), (1., lambda i: i % 2, '')])
def test_fine_tuning(tmp_path, vocab, capsys, share, label, words):
  rows(tmp_path, lambda i: f'class{label(i)}')
  made = TextClassification(Config(
      task='text_classification', data=DataConfig(
          dir=str(tmp_path), batch_size=4, sequence_length=32),
      finetune=FinetuneConfig(from_scratch=True, labels='class0,class1'),
      tokenizer=dataclasses.replace(vocab, max_unknown_share=share),
      model=ModelConfig(hidden_size=8, num_layers=1, num_heads=1, mlp_size=8,
                        max_positions=32)), 1)
  if words:
    with pytest.raises(InputError, match=words):
      made.judge()
  else:
    made.judge()
  said = capsys.readouterr().err
  assert 'train: 15 of' in said
  assert words or 'a score on dev says nothing' in said


@pytest.mark.parametrize('schedule, longer', [
    ('constant', True), ('inverse_sqrt', True), ('linear', False),
    ('cosine', False), ('bert', False)])
def test_a_run_that_does_not_decay_may_be_lengthened(schedule, longer):
  def config(steps, **optim):
    return Config(train=TrainConfig(steps=steps), optim=OptimConfig(
        schedule=schedule, **({'warmup_steps': 4} | optim)))
  assert optimizer.may_lengthen(config(20), config(30)) == longer
  assert not optimizer.may_lengthen(config(30), config(20))
  # A warm-up that is a share of the run, or was cut, is another one then.
  assert not optimizer.may_lengthen(config(20, warmup_rate=.2),
                                    config(30, warmup_rate=.2))


def test_a_longer_constant_run_resumes(tmp_path):
  from robertax.config import to_dict
  from robertax.train import workdir
  saved = Config(train=TrainConfig(steps=20), optim=OptimConfig(
      schedule='constant', warmup_steps=4))
  (tmp_path / 'config.json').write_text(json.dumps(to_dict(saved)))
  more = dataclasses.replace(saved, train=TrainConfig(steps=30))
  assert workdir.check_config(str(tmp_path), more).train.steps == 30
  with pytest.raises(InputError, match='seed'):
    workdir.check_config(str(tmp_path), dataclasses.replace(more, seed=1))
