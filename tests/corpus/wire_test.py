import doctest

from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest

from robertax.corpus import wire
from robertax.corpus.wire import decode_record, encode_record

ROWS = [([0, 7, 2], [3], 0), ([5] * 300, [100, 200], 127), ([1], [1], 128),
        (list(range(512)), [512], 1 << 40), ([], [], 3)]


def test_worked_example():
  assert doctest.testmod(wire).failed == 0


@given(st.lists(st.integers(0, 65535), max_size=600),
       st.lists(st.integers(0, 2**31 - 1), max_size=40),
       st.integers(0, 2**62), st.sampled_from(['uint16', 'uint32']))
def test_reading_gives_what_was_written(ids, lengths, document, dtype):
  record = encode_record(np.array(ids, dtype), lengths, document)
  back = decode_record(record, dtype)
  assert (back[0].tolist(), back[1].tolist(), back[2]) == (
      ids, lengths, document)


@pytest.mark.parametrize('dtype', ['uint16', 'uint32'])
def test_tensorflow_writes_and_reads_the_same_bytes(dtype):
  tf = pytest.importorskip('tensorflow')
  for ids, lengths, document in ROWS:
    ids, lengths = np.array(ids, dtype), np.array(lengths, np.int32)
    feature = {
        'ids': tf.train.Feature(bytes_list=tf.train.BytesList(
            value=[ids.tobytes()])),
        'lengths': tf.train.Feature(bytes_list=tf.train.BytesList(
            value=[lengths.tobytes()])),
        'document': tf.train.Feature(int64_list=tf.train.Int64List(
            value=[document]))}
    theirs = tf.train.Example(features=tf.train.Features(feature=feature))
    ours = encode_record(ids, lengths, document)
    assert ours == theirs.SerializeToString(deterministic=True)
    parsed = tf.io.parse_single_example(ours, {
        'ids': tf.io.FixedLenFeature([], tf.string),
        'lengths': tf.io.FixedLenFeature([], tf.string),
        'document': tf.io.FixedLenFeature([], tf.int64)})
    assert parsed['ids'].numpy() == ids.tobytes()
    assert parsed['lengths'].numpy() == lengths.tobytes()
    assert parsed['document'].numpy() == document
