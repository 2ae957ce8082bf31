"""The door of predictions: a line in, a line out, by the model's own task."""

import dataclasses
import io
import json
import os
import re
import subprocess
import sys
import types

from absl import flags
import jax
import pytest

import robertax
from robertax import config, errors, predict
from robertax import model as modelling
from robertax.inspection import model as models
from robertax.inspection import opening
from robertax.interop import Pretrained
from robertax.text import train_byte_bpe

WORDS = 'Ann Bob and the cat dog he has it saw who'.split()
HEADS = {'pretrain': {}, 'glue/sst2': {'num_classes': 2},
         'glue/rte': {'num_classes': 2}, 'glue/stsb': {'num_classes': 1},
         'squad2': {'num_classes': 2, 'span_head': True},
         'race': {'num_classes': 1}, 'wsc': {}}
LINES = {
    'pretrain': ['Ann <mask> Bob.', 'the <mask> saw <mask>'],
    'glue/sst2': ['Ann saw\tBob', 'the cat', ''],
    'glue/rte': ['Ann saw\tBob', 'the cat\the'],
    'glue/stsb': ['Ann saw\tBob', 'the cat\the'],
    'squad2': ['who saw\tAnn saw Bob', 'who\tthe cat "has" it'],
    'race': ['Ann has it\twho _\tAnn\tBob', 'a\tb\tc\td\te'],
    'wsc': ['Ann saw Bob and [he] has it', '_Ann_ saw Bob and [he] has it']}


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """A workdir of random weights for each task."""
  folder = tmp_path_factory.mktemp('predict')
  tokenizer = train_byte_bpe([' ' + ' '.join(WORDS)] * 8, 300)
  for task, heads in HEADS.items():
    shape = config.ModelConfig(
        hidden_size=16, num_layers=1, num_heads=2, mlp_size=32,
        max_positions=64, vocab_size=tokenizer.vocab_size,
        **{'lm_head': not heads, **heads})
    made = config.Config(task=task, data=config.DataConfig(
        sequence_length=32, doc_stride=4, question_length=8))
    opening.write_workdir(f'{folder}/{task.replace("/", "-")}', Pretrained(
        modelling.create(shape, jax.random.key(1)), shape, tokenizer, '',
        history={'config': config.to_dict(made)}))
  return folder


def said(capsysbinary, monkeypatch, text, *args):
  """(exit code, lines of stdout, stderr) of the door, in this process."""
  if isinstance(text, str):
    text = text.encode()
  monkeypatch.setattr(sys, 'stdin', types.SimpleNamespace(
      buffer=io.BytesIO(text)))
  saved = flags.FLAGS.flag_values_dict()
  flags.FLAGS(['predict', *args])
  try:
    code = errors.door(predict.main)([]) or 0
  except SystemExit as e:
    code = e.code
  finally:
    for name in ('model', 'input', 'out', 'json', 'top_k'):
      flags.FLAGS[name].value = saved[name]
  found = capsysbinary.readouterr()
  return code, found.out.splitlines(), without_notice(found.err)


def without_notice(err):
  """Which attention was chosen is said once in a process."""
  return err.decode().replace('attention: xla on cpu\n', '')


def flag(folder, task):
  return f'--model={folder}/{task.replace("/", "-")}'


@pytest.mark.parametrize('task', LINES)
def test_each_task_has_its_own_question(folder, capsysbinary, monkeypatch,
                                        task):
  """What the method gives from Python; with Windows' marks, too."""
  model = robertax.load(flag(folder, task).partition('=')[2])
  code, out, err = said(capsysbinary, monkeypatch,
                        '\ufeff' + ''.join(
                            f'{line}\r\n' for line in LINES[task]),
                        flag(folder, task), '--top_k=3')
  assert (code, err, len(out)) == (0, '', len(LINES[task]))
  out = [json.loads(line) for line in out]
  first = LINES[task][0].split('\t')
  if task == 'pretrain':
    for line, found in zip(LINES[task], out):
      assert len(found['masks']) == line.count('<mask>')
      assert all(len(guesses) == 3 for guesses in found['masks'])
    wanted = model.fill_mask(LINES[task][0], 3)
    assert [g['text'] for g in out[0]['masks'][0]] == [g.text for g in wanted]
  elif task == 'glue/stsb':
    assert out[0]['rating'] == pytest.approx(model.rate(tuple(first)))
  else:
    wanted = {'glue/sst2': lambda: model.classify(LINES[task][0]),
              'glue/rte': lambda: model.classify(tuple(first)),
              'squad2': lambda: model.answer(*first),
              'race': lambda: model.choose(*first[:2], first[2:]),
              'wsc': lambda: model.resolve_pronoun(*first)}[task]()
    assert out[0].keys() == wanted._asdict().keys()
    assert out[0][wanted._fields[0]] == wanted[0]


def test_objects_of_json_in_batches_into_a_file(folder, tmp_path, capsysbinary,
                                                monkeypatch):
  monkeypatch.setattr(models, 'PREDICT_LINES', 2)
  asked = [{'context': 'Ann has it', 'question': 'who\t_', 'options': [
      'Ann', 'Bob', 'he'][:2 + n % 2], 'id': n} for n in range(5)]
  (tmp_path / 'in').write_text('\n'.join(map(json.dumps, asked)))
  code, out, err = said(
      capsysbinary, monkeypatch, '', flag(folder, 'race'), '--json',
      f'--input={tmp_path}/in', f'--out={tmp_path}/out')
  assert (code, out, err) == (0, [], '')
  found = [json.loads(line) for line in (tmp_path / 'out').open()]
  assert [len(one['probabilities']) for one in found] == [2, 3, 2, 3, 2]


@pytest.mark.parametrize('task, text, args, says, before', [
    ('squad2', 'who\tAnn\nwho\n', (),
     r"stdin, line 2: .* takes \(question, context\), not \('who',\)", 1),
    ('squad2', 'who\tAnn\nwho\t', (), 'stdin, line 2: .* has no tokens', 1),
    ('pretrain', b'<mask>\n\n', (), 'line 2: fill_mask needs a <mask>', 1),
    ('pretrain', b'<mask>\n\xff', (), 'line 2: not UTF-8', 1),
    ('wsc', '[he] ran', (), 'line 1: no phrase', 0),
    ('race', 'a\tb\tc', (), r"choose takes .*, not \('a', 'b', \['c'\]\)", 0),
    ('race', '{"context": "a"}', ('--json',), r"takes .*, not \('a',\)", 0),
    ('race', '{"context": "a", "question": "b", "options": 3}', ('--json',),
     r"line 1: .*not \('a', 'b', 3\)", 0),
    ('glue/rte', '{"text": 3, "text_pair": ""}', ('--json',),
     r"takes \(text, text_pair\), not \(3, ''\)", 0),
    ('glue/sst2', '{"text": 3}', ('--json',), r'takes \(text\), not \(3,\)', 0),
    ('squad2', '{"question": ["a", "b"]}', ('--json',),
     r"takes \(question, context\), not \(\['a', 'b'\],\)", 0),
    ('glue/rte', '{', ('--json',), 'line 1: this line: not JSON', 0),
    ('glue/rte', 'x', ('--input=/no/such',), 'cannot read /no/such', 0),
    ('glue/rte', 'x\ty', ('--out=/no/such',), 'cannot write /no/such', 0),
    ('none', 'x', (), 'none', 0),
    ('pretrain', 'x', ('--top_k=0',), '--top_k of at least 1', 0)])
def test_what_is_wrong_is_named_and_what_comes_before_is_said(
    folder, capsysbinary, monkeypatch, task, text, args, says, before):
  code, out, err = said(capsysbinary, monkeypatch, text, flag(folder, task),
                        *args)
  assert code == 2 and len(out) == before
  assert err.startswith('robertax: error: ') and err.count('\n') == 1
  assert re.search(says, err), err


def test_a_model_of_pairs_takes_no_single_text(folder):
  model = robertax.load(f'{folder}/glue-rte')
  with pytest.raises(errors.InputError, match=r'for glue/rte: classify '
                     r'takes \(text, text_pair\), not'):
    model.classify(['A text.'])
  single = robertax.load(f'{folder}/glue-sst2')
  with pytest.raises(errors.InputError, match=r'takes \(text\), not'):
    single.classify(('A text.', 'Another.'))


def test_a_short_model_of_others_answers_questions(folder):
  ours = robertax.load(f'{folder}/squad2')
  short = models.Model(ours.params, ours.config, ours.tokenizer, 0)
  assert short.answer('who saw', 'Ann saw Bob. ' * 20).text


def test_a_model_without_a_head_has_only_vectors(folder):
  loaded = robertax.load(f'{folder}/pretrain')
  bare = models.Model(loaded.params, dataclasses.replace(
      loaded.config, lm_head=False), loaded.tokenizer, 0)
  with pytest.raises(errors.InputError, match='model.encode'):
    next(models.predict(bare, [(1, b'x')], 'stdin'))
  with pytest.raises(errors.InputError, match='use model.encode'):
    bare.fill_mask('<mask>')


def test_a_closed_pipe_as_file_is_no_traceback(folder, capsysbinary,
                                               monkeypatch):
  reader, writer = os.pipe()
  os.close(reader)
  assert said(capsysbinary, monkeypatch, 'the <mask>', flag(
      folder, 'pretrain'), f'--out=/dev/fd/{writer}') == (1, [], '')
  os.close(writer)


def test_a_closed_pipe_is_no_traceback(folder):
  """As `python -m robertax.predict ... | head -0`."""
  reader, writer = os.pipe()
  os.close(reader)
  done = subprocess.run(
      [sys.executable, '-m', 'robertax.predict', flag(folder, 'pretrain')],
      input=b'<mask>\n', stdout=writer, stderr=subprocess.PIPE, timeout=200)
  os.close(writer)
  assert (done.returncode, without_notice(done.stderr)) == (1, '')
