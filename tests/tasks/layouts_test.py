"""Every task lays a pair out as the tokenizer's own library does."""

import dataclasses
import json

import numpy as np
import pytest

from robertax import text
from robertax.config import DataConfig, ModelConfig
from robertax.data.finetuning import Examples, TuningBatches
from robertax.tasks import race, squad
from robertax.tasks.finetune import encode_texts
from robertax.tasks.squad_files import Question

A, B = 'who fell in the sea', 'the old mill fell in 1973'
TYPED = ModelConfig(num_types=2)


def with_template(tokenizer):
  from tokenizers import processors
  made = processors.TemplateProcessing(
      single='</s> $A', pair='</s> $A <mask> $B:1 <s>:1',
      special_tokens=[('</s>', tokenizer.eos_id), ('<s>', tokenizer.bos_id),
                      ('<mask>', tokenizer.mask_id)])
  return text.Tokenizer(json.loads(tokenizer.to_json()) | {
      'post_processor': json.loads(made.__getstate__())}, 'template')


@pytest.fixture(scope='module', name='tokenizers')
def _tokenizers():
  bpe = text.train_byte_bpe([f'{A} {B}'] * 9, 280)
  return {'roberta': bpe, 'typed': bpe.laid_out(TYPED),
          'bert': text.train_wordpiece(lambda: [f'{A} {B}'] * 9, 100),
          'template': with_template(bpe)}


@pytest.mark.parametrize('kind', ['roberta', 'typed', 'bert', 'template'])
def test_all_tasks_lay_out_as_the_library(tokenizers, kind):
  import tokenizers as library
  ours = tokenizers[kind]
  theirs = library.Tokenizer.from_str(ours.to_json()).encode(A, B)
  one = library.Tokenizer.from_str(ours.to_json()).encode(A)
  pairs = encode_texts(ours, [[A, B]], 99)
  asked = squad.encode_questions([Question('q', '', A, B, ())], ours)
  law = squad.Windowing.of(99, DataConfig(doc_stride=4, question_length=30),
                           ours.layout)
  windows = squad.make_windows(asked, law)
  raced = race.encode_questions([race.RaceQuestion(
      '', '', B, A.removesuffix(' the sea'), ('the sea',) * 2, None)], ours,
                                99).examples()
  for examples in (
      Examples.of(pairs.sequences, second_starts=pairs.second_starts),
      squad.window_examples(asked, windows, law, ours), raced):
    assert examples.sequence(0).tolist() == theirs.ids
    batch = TuningBatches(examples, batch_size=1, seed=0, max_length=99,
                          types=ours.layout.typed).make_batch(0)
    types = batch.get('type_ids', np.zeros((1, 99), int))[0]
    assert types[:len(theirs.ids)].tolist() == theirs.type_ids
  assert encode_texts(ours, [[A]], 99).sequences[0].tolist() == one.ids
  # The context begins where the library's second text does.
  assert windows[0].offset == theirs.sequence_ids.index(1)


@pytest.mark.parametrize('kind', ['typed', 'bert', 'template'])
def test_a_long_option_and_a_long_passage_keep_the_special_tokens(
    tokenizers, kind):
  ours = tokenizers[kind]
  question = race.RaceQuestion('', '', ' '.join([B] * 9), A, (A, B), None)
  found = race.encode_questions([question], ours, 40, 8)
  assert found.options_cut == 2 and found.sequences_cut == 2
  for sequence, second in zip(found.sequences, found.second_starts):
    assert len(sequence) == 40
    assert sequence[second - 1] == ours.layout.between[0] and second == 8
    assert sequence[-1] == ours.layout.after[0]


def test_which_model_has_which_layout(tokenizers):
  bpe, bert = tokenizers['roberta'], tokenizers['bert']
  assert bert.laid_out(TYPED) is bert and bpe.laid_out(ModelConfig()) is bpe
  assert bpe.laid_out(dataclasses.replace(
      TYPED, pair_layout='tokenizer')) is bpe
  # Older versions gave a model without types two separators, whatever its
  # tokenizer; of a masked LM that cannot be seen.
  assert bert.laid_out(ModelConfig(num_classes=2)) is bert
  old = ModelConfig(num_classes=2, pair_layout='types')
  assert bpe.laid_out(old) is bpe
  assert bert.laid_out(old).layout.between == (bert.eos_id,) * 2
  assert not bert.laid_out(old).layout.typed
  assert bert.laid_out(dataclasses.replace(old, num_classes=0)) is bert
  # What robertax pretrains on pairs: <s> A </s> B </s>, types 0 and 1.
  typed = bpe.laid_out(TYPED)
  assert typed.laid_out(TYPED) is typed
  assert typed.layout.typed and typed.layout.between == (bpe.eos_id,)
  assert typed.fingerprint == bpe.fingerprint
