"""QNLI's questions as groups, against brute force."""

import collections
import os
import pathlib

import numpy as np
import pytest

from robertax.tasks import qnli


def test_pairs():
  questions = ['a', ' b', 'a', 'c', 'a', 'b ', 'c', 'd']
  labels = [0, 1, 1, 0, 0, 0, 0, 1]
  found = qnli.pair_rows(questions, labels)
  assert found == [(0, 2), (4, 2), (5, 1), (3,), (6,), (7,)]


def test_the_highest_of_a_question_is_entailment():
  questions = ['a', 'b', 'a', 'c', 'a', 'd']
  scores = np.array([-3.0, 0.5, -2.0, -1.0, -2.0, 0.2])
  found = qnli.predict_rows(questions, scores, 0.3)
  assert found.tolist() == [1, 0, 0, 1, 1, 1]


@pytest.mark.parametrize('seed', range(8))
def test_threshold_against_brute_force(seed):
  rng = np.random.default_rng(seed)
  questions = [str(q) for q in rng.integers(0, 30, 40)]
  scores = rng.normal(size=40).round(1)  # With ties.
  labels = rng.integers(0, 2, 40)
  found = qnli.best_threshold(questions, scores, labels)
  right = [(qnli.predict_rows(questions, scores, t) == labels).sum()
           for t in np.arange(-5, 5, 0.025)]
  assert (qnli.predict_rows(questions, scores, found)
          == labels).sum() == max(right)


def test_threshold_where_none_is_needed():
  questions, labels = ['a', 'a', 'b'], np.array([0, 1, 0])
  assert qnli.best_threshold(
      questions, np.array([1.0, 2.0, 0.5]), labels) == 0.0
  assert qnli.best_threshold(
      questions[:2], np.array([1.0, 2.0]), labels[:2]) == 0.0


def test_what_dev_allows():
  data = os.environ.get('ROBERTAX_TEST_DATA')
  path = pathlib.Path(data or '') / 'glue' / 'QNLI' / 'dev.tsv'
  if not data or not path.is_file():
    pytest.skip('ROBERTAX_TEST_DATA names no folder with glue/QNLI in it')
  rows = [line.split('\t') for line in path.read_text().splitlines()[1:]]
  questions = [row[1] for row in rows]
  labels = [int(row[3] == 'not_entailment') for row in rows]
  found = qnli.pair_rows(questions, labels)
  sizes = collections.Counter(map(len, qnli.by_question(questions)))
  assert sizes == {1: 2738, 2: 1361, 3: 1}
  assert collections.Counter(map(len, found)) == {2: 1363, 1: 2738}
