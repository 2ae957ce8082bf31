import doctest

from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest

from robertax.corpus import records
from robertax.corpus.records import RecordRow, decode_record, encode_record

ROWS = [([0, 7, 2], [3], [0]), ([5] * 300, [100, 200], [127, 128]),
        ([1], [1], [1 << 30]), (list(range(512)), [512], [4]), ([], [], []),
        ([0, 7, 2, 8, 2, 0, 9, 2, 3, 2], [5, 5], [4, 6], [3, 3], [4, 11])]


def test_worked_example():
  assert doctest.testmod(records).failed == 0


INT32 = st.integers(0, 2**31 - 1)


@given(st.lists(st.integers(0, 65535), max_size=600),
       st.lists(st.tuples(INT32, INT32, INT32, INT32), max_size=40),
       st.booleans(), st.sampled_from(['uint16', 'uint32']))
def test_reading_gives_what_was_written(ids, examples, pairs, dtype):
  fields = np.array(examples, np.int32).reshape(-1, 4).T
  row = RecordRow(np.array(ids, dtype), *fields[:4 if pairs else 2])
  back = decode_record(encode_record(row), dtype)
  for name, values in row._asdict().items():
    assert getattr(back, name).tolist() == values.tolist()
  assert back.ids.dtype == dtype


@pytest.mark.parametrize('dtype', ['uint16', 'uint32'])
def test_tensorflow_writes_and_reads_the_same_bytes(dtype):
  tf = pytest.importorskip('tensorflow')
  for ids, *examples in ROWS:
    row = RecordRow(np.array(ids, dtype),
                    *(np.array(x, np.int32) for x in examples))
    values = {name: getattr(row, name).tobytes()
              for name in (records.PAIR_FIELDS if len(examples) > 2
                           else records.ROW_FIELDS)}
    theirs = tf.train.Example(features=tf.train.Features(feature={
        name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
        for name, value in values.items()}))
    ours = encode_record(row)
    assert ours == theirs.SerializeToString(deterministic=True)
    parsed = tf.io.parse_single_example(ours, {
        name: tf.io.FixedLenFeature([], tf.string) for name in values})
    assert {name: value.numpy() for name, value in parsed.items()} == values
