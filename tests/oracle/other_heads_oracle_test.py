"""Heads, pairs and labels against transformers, on folders it has saved."""

import dataclasses
import json

import numpy as np
import pytest

import robertax
from robertax.config import ModelConfig
from robertax.data.finetuning import Examples
from robertax.inspection import conversion
from robertax.interop import Pretrained, huggingface
from robertax.tasks import race, squad
from tests.interop.conftest import filled
from tests.tasks import tuning_run

torch = pytest.importorskip('torch')
transformers = pytest.importorskip('transformers')
pytestmark = pytest.mark.oracle

TEXTS = ['a man sleeps on the street', 'he is awake and the man is not',
         'go to the city now', 'the mill', 'who fell']
PAIRS = [tuple(TEXTS[i:i + 2]) for i in range(4)]
SIZES = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
             intermediate_size=32, max_position_embeddings=62,
             initializer_range=.5)


def saved(path, name, types, **config):
  """A random model of a class of transformers, and its tokenizer's files."""
  bert = name.startswith('Bert')
  tokenizer = (robertax.text.train_wordpiece(lambda: TEXTS * 9, 120) if bert
               else robertax.text.train_byte_bpe(TEXTS * 9, 290))
  config = getattr(transformers, 'BertConfig' if bert else 'RobertaConfig')(
      vocab_size=tokenizer.vocab_size, type_vocab_size=types,
      pad_token_id=tokenizer.pad_id, **SIZES, **config)
  torch.manual_seed(0)
  model = getattr(transformers, name)(config).eval()
  with torch.no_grad():  # Its row is zero at first only by chance.
    model.base_model.embeddings.token_type_embeddings.weight += .5
  model.save_pretrained(path)
  for file, content in huggingface.tokenizer_files(tokenizer, 60).items():
    (path / file).write_text(content)
  return model, transformers.AutoTokenizer.from_pretrained(path)


@pytest.mark.parametrize('kind, types', [
    ('Roberta', 1), ('Roberta', 2), ('Bert', 2)])
@pytest.mark.parametrize('problem, names', [
    (None, ('no', 'yes')), ('single_label_classification', ('a', 'b', 'c')),
    ('multi_label_classification', ('toxic', 'insult', 'threat')),
    ('multi_label_classification', ('toxic',)), ('regression', ('score',)),
    ('regression', ('joy', 'fear'))])
def test_answers_are_the_pipelines(tmp_path, kind, types, problem, names):
  saved(tmp_path / 'theirs', f'{kind}ForSequenceClassification', types,
        id2label=dict(enumerate(names)), problem_type=problem,
        label2id={name: i for i, name in enumerate(names)})
  conversion.convert(f'hf:{tmp_path}/theirs', str(tmp_path / 'w'))
  conversion.convert(str(tmp_path / 'w'), f'hf:{tmp_path}/again')
  for folder in ('theirs', 'w', 'again'):
    path = str(tmp_path / ('again' if folder == 'again' else 'theirs'))
    pipe = transformers.pipeline('text-classification', path, top_k=None)
    ours = robertax.load(str(tmp_path / folder))
    for texts in (TEXTS, PAIRS):
      found = getattr(ours, ours.method)(texts)
      wanted = pipe([t if isinstance(t, str) else {
          'text': t[0], 'text_pair': t[1]} for t in texts])
      for one, entries in zip(found, wanted):
        there = {entry['label']: entry['score'] for entry in entries}
        if problem != 'regression':
          assert list(one.probabilities) == [e['label'] for e in entries]
        one = (one.probabilities if ours.method == 'classify' else
               one if isinstance(one, dict) else {names[0]: one})
        assert one == pytest.approx(there, abs=1e-5)


@pytest.mark.parametrize('kind, types', [
    ('Roberta', 1), ('Roberta', 2), ('Bert', 2)])
def test_questions_are_laid_out_as_theirs(tmp_path, kind, types):
  theirs, tokenizer = saved(tmp_path, f'{kind}ForQuestionAnswering', types)
  ours = robertax.load(str(tmp_path))
  batch = tokenizer(*PAIRS[0], return_tensors='pt')
  with torch.no_grad():
    wanted = theirs(**batch)
  encoded = squad.encode_questions(
      [squad.Question('q', '', *PAIRS[0], ())], ours.tokenizer)
  law = squad.Windowing.of(ours.longest, ours.recipe.data,
                           ours.tokenizer.layout)
  windows = squad.make_windows(encoded, law)
  found = ours.outputs(squad.SpanTuning, squad.window_examples(
      encoded, windows, law, ours.tokenizer))
  np.testing.assert_allclose(found['starts'], wanted.start_logits[0], atol=1e-5)
  np.testing.assert_allclose(found['ends'], wanted.end_logits[0], atol=1e-5)


@pytest.mark.parametrize('kind, types', [
    ('Roberta', 1), ('Roberta', 2), ('Bert', 2)])
def test_options_are_laid_out_as_theirs(tmp_path, kind, types):
  theirs, tokenizer = saved(tmp_path, f'{kind}ForMultipleChoice', types)
  ours = robertax.load(str(tmp_path))
  options = ['a man', 'the city', 'he']
  texts = [race.question_option('who fell', o) for o in options]
  batch = tokenizer(texts, [TEXTS[1]] * 3, return_tensors='pt', padding=True)
  with torch.no_grad():
    wanted = theirs(**{k: v[None] for k, v in batch.items()}).logits[0]
  found = ours.choose(TEXTS[1], 'who fell', options)
  np.testing.assert_allclose(found.probabilities, wanted.softmax(-1), atol=1e-5)


def test_a_model_pretrained_on_pairs_exports_its_layout(tmp_path):
  tokenizer = robertax.text.train_byte_bpe(TEXTS * 9, 290)
  config = ModelConfig(
      vocab_size=tokenizer.vocab_size, hidden_size=16, num_layers=1,
      num_heads=2, mlp_size=32, max_positions=60, num_types=2, num_classes=2,
      lm_head=False)
  ours = Pretrained(filled(config), config, tokenizer.laid_out(config), 'x',
                    labels=('no', 'yes'))
  huggingface.write_folder(ours, str(tmp_path))
  theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
  for pair in PAIRS:
    found = theirs(*pair)
    ids, types = ours.tokenizer.layout.join(*tokenizer.encode_batch(list(pair)))
    assert found['input_ids'] == ids.tolist()
    assert found['token_type_ids'] == types.tolist()
  assert sorted(set(types)) == [0, 1]
  again = robertax.load(str(tmp_path))
  pipe = transformers.pipeline('text-classification', str(tmp_path), top_k=None)
  for pair in PAIRS:
    wanted = {e['label']: e['score'] for e in pipe(
        {'text': pair[0], 'text_pair': pair[1]})}
    assert again.classify(pair).probabilities == pytest.approx(wanted, abs=1e-5)


WORDS = {'x': 'alpha', 'y': 'beta'}


@pytest.mark.parametrize('problem', ['multi_label_classification',
                                     'regression'])
def test_trained_exported_and_answered(tmp_path, problem):
  several = problem.startswith('multi')
  rng, rows = np.random.default_rng(0), []
  for _ in range(64):
    labels = [name for name in WORDS if rng.random() < .5]
    rows.append({'text': ' '.join(['the', *map(WORDS.get, labels), 'end']),
                 'label': labels if several else len(labels) - .5})
  for split in ('train', 'dev'):
    (tmp_path / f'{split}.jsonl').write_text(''.join(
        json.dumps(row) + '\n' for row in rows))
  config = tuning_run.config(
      'text_classification', tmp_path, tuning_run.tokenizer(
          tmp_path, [*WORDS.values(), 'the', 'end']), steps=60,
      learning_rate=1e-2, finetune={'problem_type': problem})
  found = tuning_run.run(config, tmp_path / 'w')
  assert found['value'] > 80
  assert found['metric'] == ('f1_micro' if several else 'pearson')
  conversion.convert(str(tmp_path / 'w'), f'hf:{tmp_path}/hf')
  assert json.loads((tmp_path / 'hf/config.json').read_text())[
      'problem_type'] == problem
  pipe = transformers.pipeline('text-classification', str(tmp_path / 'hf'),
                               top_k=None)
  model = robertax.load(tmp_path / 'w')
  for text in ('the alpha beta end', 'the alpha end', 'the end'):
    there = {e['label']: e['score'] for e in pipe([text])[0]}
    if several:
      one = model.classify(text).probabilities
      assert {n for n, p in one.items() if p > .5} == {
          n for n, word in WORDS.items() if word in text}
    else:
      one = {'LABEL_0': model.rate(text)}
    assert one == pytest.approx(there, abs=1e-5)


def test_a_table_of_theirs_that_is_longer(tmp_path):
  """resize_token_embeddings pads; the logits of real ids stay the same."""
  theirs, tokenizer = saved(tmp_path, 'RobertaForMaskedLM', 1)
  theirs.resize_token_embeddings(pad_to_multiple_of=64)
  theirs.save_pretrained(tmp_path)
  ours = robertax.load(str(tmp_path))
  ids = len(tokenizer)
  assert theirs.config.vocab_size == 320 > ids == ours.config.vocab_size
  batch = tokenizer(TEXTS[0], return_tensors='pt')
  with torch.no_grad():
    wanted = theirs(**batch).logits[0, :, :ids].log_softmax(-1)
  rows = batch['input_ids'].numpy().astype(np.int32)
  found = ours.log_probs(rows, np.ones_like(rows),
                         np.arange(rows.shape[1], dtype=np.int32)[None])
  np.testing.assert_allclose(found[0], wanted, atol=1e-4)


def test_wrapped_and_compiled_modules(tmp_path):
  theirs, tokenizer = saved(tmp_path, 'RobertaForMaskedLM', 1)
  expected = robertax.load(str(tmp_path)).encode(TEXTS[0])
  (tmp_path / 'model.safetensors').unlink()
  theirs.roberta.encoder = torch.compile(theirs.roberta.encoder)
  wrapped = torch.nn.DataParallel(theirs)
  names = list(wrapped.state_dict())
  assert any('module.roberta.encoder._orig_mod.layer' in n for n in names)
  torch.save(wrapped.state_dict(), tmp_path / 'pytorch_model.bin')
  np.testing.assert_array_equal(
      robertax.load(str(tmp_path)).encode(TEXTS[0]), expected)


def test_quotes_as_pandas_reads_them(tmp_path):
  pandas = pytest.importorskip('pandas')
  texts = ['He said "no", twice.', '"Quoted."', 'a\ttab', 'two\nlines', '""']
  table = pandas.DataFrame({'text': texts, 'label': list('ynyny')})
  for split in ('train', 'dev'):
    table.to_csv(tmp_path / f'{split}.tsv', sep='\t', index=False)
  config = tuning_run.config('text_classification', tmp_path,
                             tuning_run.tokenizer(tmp_path, ['a']), steps=1)
  from robertax.tasks.glue import TextClassification
  made = TextClassification(dataclasses.replace(config), 1)
  assert [r.texts[0] for r in made.splits['train'].rows] == list(
      pandas.read_csv(tmp_path / 'train.tsv', sep='\t')['text']) == texts


def test_types_of_batches_are_theirs(tmp_path):
  _, tokenizer = saved(tmp_path, 'BertForSequenceClassification', 2)
  ours = robertax.load(str(tmp_path))
  from robertax.data.finetuning import TuningBatches
  from robertax.tasks.finetune import encode_texts
  encoded = encode_texts(ours.tokenizer, PAIRS[:1], 60)
  batch = TuningBatches(Examples.of(
      encoded.sequences, second_starts=encoded.second_starts), batch_size=1,
                        seed=0, max_length=60, types=True).make_batch(0)
  wanted = tokenizer(*PAIRS[0])
  size = len(wanted['input_ids'])
  assert batch['input_ids'][0, :size].tolist() == wanted['input_ids']
  assert batch['type_ids'][0, :size].tolist() == wanted['token_type_ids']
