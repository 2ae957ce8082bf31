"""The loss of spans against plain NumPy on the logits of each window."""

import jax
import numpy as np
import pytest

from robertax import text
from robertax.config import ModelConfig
from robertax.data.finetuning import TuningBatches, collect_answers
from robertax.tasks import squad
from robertax.tasks.squad_files import GoldAnswer, Question

CONTEXT = 'one two three four five six seven eight nine ten eleven twelve'
LAW = squad.Windowing(length=16, doc_stride=3, question_length=4)


@pytest.fixture(scope='module')
def tokenizer():
  return text.train_byte_bpe([CONTEXT + ' how many? who?'] * 20, 330)


@pytest.fixture(scope='module')
def examples(tokenizer):
  """Windows with an answer and without; the answer of b is in two."""
  encoded = squad.encode_questions([
      Question('a', '', 'how many?', CONTEXT, (GoldAnswer('two', 4),)),
      Question('b', '', 'who?', CONTEXT, (GoldAnswer('six', 24),)),
      Question('c', '', 'who?', CONTEXT[:20], ())], tokenizer)
  windows = squad.make_windows(encoded, LAW)
  return squad.window_examples(encoded, windows, LAW, tokenizer)


def test_examples_have_their_targets(examples, tokenizer):
  found = []
  for i in range(len(examples)):
    ids = examples.sequence(i)
    start, end = (examples.marks[f'span_{name}'][i] for name in ('starts',
                                                                 'ends'))
    has = examples.values['class_targets'][i]
    assert has == (end > 0) and (has or start == 0)
    # Type 1 begins with the context.
    assert ids[examples.second_starts[i] - 1] == tokenizer.eos_id
    assert ids[examples.second_starts[i]] != tokenizer.eos_id
    found.append(tokenizer.decode(ids[start:end + 1]).strip() if has else '')
  assert found.count('two') == 1 and found.count('six') >= 1
  assert found.count('') >= 2 and set(found) == {'two', 'six', ''}


@pytest.mark.parametrize('num_classes', [0, 2])
def test_the_loss_is_spans_plus_answerability(examples, tokenizer,
                                              num_classes):
  config = ModelConfig(
      hidden_size=16, num_layers=1, num_heads=2, mlp_size=32, max_positions=48,
      vocab_size=tokenizer.vocab_size, dropout_rate=0.,
      attention_dropout_rate=0., lm_head=False, span_head=True,
      num_classes=num_classes)
  objective = squad.SpanTuning(config, tokenizer.pad_id)
  rng = np.random.default_rng(0)
  params = jax.tree.map(
      lambda x: x + rng.normal(size=x.shape).astype(np.float32) / 5,
      objective.init(jax.random.key(0)))
  batches = TuningBatches(
      examples, batch_size=len(examples), seed=0, max_length=48,
      pad_id=tokenizer.pad_id)
  batch = batches.make_batch(0)
  assert batch['input_ids'].shape[0] < len(examples)  # Some share a row.

  @jax.jit
  def both(params, batch):
    totals = objective.totals(batch)
    return (objective.loss(params, batch, None, totals),
            objective.outputs(params, batch))

  (loss, sums), outputs = both(params, {
      name: value for name, value in batch.items() if name != 'example_ids'})
  found = collect_answers(examples, iter([(batch, outputs)]),
                          objective.token_outputs)

  nats, right = np.zeros(2), np.zeros(2)
  for i, (a, b) in enumerate(zip(examples.starts, examples.starts[1:])):
    hit = []
    for name in ('starts', 'ends'):
      logits = found[name][a:b].astype(np.float64)
      mark = examples.marks[f'span_{name}'][i]
      nats[0] += (np.log(np.exp(logits).sum()) - logits[mark]) / 2
      hit.append(logits.argmax() == mark)
    right[0] += all(hit)
    if num_classes:
      sign = 1 if examples.values['class_targets'][i] else -1
      odds = sign * float(found['answerable'][i])
      nats[1] += np.log1p(np.exp(-odds))
      right[1] += odds > 0
  assert float(loss) == pytest.approx(nats.sum() / len(examples), rel=1e-5)
  assert float(sums['loss_sum']) == pytest.approx(nats.sum(), rel=1e-5)
  assert (sums['weight_sum'], sums['correct_sum']) == (len(examples), right[0])
  if num_classes:
    assert sums['answerable_correct_sum'] == right[1]
  else:
    assert 'answerable' not in found
