"""A classifier that is kept: its outputs and the data's classes, by name."""

import contextlib
import dataclasses
from unittest import mock

import jax
import numpy as np
import pytest

from robertax.config import Config, FinetuneConfig
from robertax.errors import InputError
from robertax.train import initial

NLI = ('contradiction', 'neutral', 'entailment')  # GLUE's order.


def params(value=0.0):
  return {'classifier': {
      'dense': {'kernel': np.full((2, 2), value, np.float32)},
      'output': {'kernel': value + np.arange(6, dtype=np.float32).reshape(2, 3),
                 'bias': value + np.arange(3, dtype=np.float32)}},
          'layers': np.zeros(2, np.float32)}


def kept(labels, there, problem_type='', new='span_head', kind=''):
  """What initial_params gives of a source whose classes are `there`."""
  config = Config(init_from='hf:some', task='text_classification',
                  finetune=FinetuneConfig(
                      labels=','.join(labels), new_parameters=new,
                      problem_type=problem_type))
  weights = initial.Weights('w', params(), lambda wanted: jax.tree.map(
      jax.numpy.asarray, params()), there, kind)

  @contextlib.contextmanager
  def opened(*_):
    yield weights
  with (mock.patch.object(initial, 'open_weights', opened),
        mock.patch.object(initial, 'describe_weights',
                          return_value=(config.model, config.tokenizer))):
    return initial.initial_params(config, jax.tree.map(
        jax.numpy.asarray, params(100.)))['classifier']['output']


@pytest.mark.parametrize('there, order', [
    (('entailment', 'neutral', 'contradiction'), [2, 1, 0]),
    (('CONTRADICTION', 'ENTAILMENT', 'NEUTRAL'), [0, 2, 1]),  # Some of the hub.
    (NLI, [0, 1, 2])])
def test_outputs_are_put_in_the_order_of_the_data(capsys, there, order):
  found = kept(NLI, there)
  np.testing.assert_array_equal(found['bias'], order)
  np.testing.assert_array_equal(found['kernel'], [order, np.add(order, 3)])
  said = ''.join(capsys.readouterr())
  assert ('are put in the order of the data' in said) == (order != [0, 1, 2])


def test_other_names_are_refused():
  with pytest.raises(InputError) as caught:
    kept(NLI, ('contradiction', 'neutral', 'yes'))
  words = str(caught.value)
  for part in ('contradiction, neutral, yes', 'contradiction, neutral, entail',
               'finetune.new_parameters=classifier'):
    assert part in words
  with pytest.raises(InputError):
    kept(NLI, NLI[:2])


@pytest.mark.parametrize('there', [(), ('LABEL_0', 'LABEL_1', 'LABEL_2')])
def test_unknown_names_are_said(capsys, there):
  np.testing.assert_array_equal(kept(NLI, there)['bias'], [0, 1, 2])
  said = ''.join(capsys.readouterr())
  assert 'does not name the classes' in said and ', '.join(NLI) in said


@pytest.mark.parametrize('wanted', [('2', '0', '1'),
                                    ('LABEL_2', 'LABEL_0', 'LABEL_1')])
def test_numbers_are_names(wanted):
  found = kept(wanted, ('LABEL_0', 'LABEL_1', 'LABEL_2'))
  np.testing.assert_array_equal(found['bias'], [2, 0, 1])


def test_a_new_classifier_asks_no_names(capsys):
  found = kept(NLI, ('a', 'b'), new='classifier')
  np.testing.assert_array_equal(found['bias'], [100, 101, 102])


def test_names_differ_by_case_alone():
  np.testing.assert_array_equal(
      kept(('a', 'A', 'b'), ('A', 'b', 'a'))['bias'], [2, 0, 1])


def test_another_problem_is_said(capsys):
  kept(NLI, NLI, 'single_label_classification', kind='regression')
  assert 'was for regression' in ''.join(capsys.readouterr())


def test_pretraining_goes_on_from_a_body():
  config = Config(init_from='hf:some', finetune=FinetuneConfig(
      new_parameters='lm_head', unused_parameters='classifier,adapter'))
  body = {'layers': np.ones(2, np.float32)}
  ours = body | {'lm_head': {'bias': np.full(3, 7, np.float32)}}
  theirs = jax.tree.map(lambda x: x + 1, body) | {
      'classifier': np.zeros(2, np.float32),
      'adapter': np.zeros(2, np.float32)}
  ours = jax.tree.map(jax.numpy.asarray, ours)

  def read(wanted):
    return jax.tree.map(lambda x, like: jax.device_put(x, like.sharding),
                        theirs, wanted)
  found = initial.fit_weights(config, ours, theirs, read)
  assert found['lm_head']['bias'].tolist() == [7, 7, 7]
  assert found['layers'].tolist() == [2, 2]
  plain = dataclasses.replace(config, finetune=FinetuneConfig())
  with pytest.raises(InputError, match='lm_head/bias is missing.*adapter is no'
                     '.*new_parameters='):
    initial.fit_weights(plain, ours, theirs, read)
