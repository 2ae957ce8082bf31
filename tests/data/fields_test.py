from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

from robertax.corpus.wire import encode_record
from robertax.data.fields import Damaged, Fields

ROWS = st.lists(st.tuples(
    st.lists(st.integers(0, 65535), max_size=300),
    st.lists(st.integers(0, 2**31 - 1), max_size=40),
    st.integers(0, 2**40)), min_size=1, max_size=6)


def encode(rows):
  return [encode_record(np.array(ids, np.uint16), lengths, document)
          for ids, lengths, document in rows]


@settings(max_examples=60, deadline=None)
@given(ROWS)
def test_reads_what_was_written(rows):
  fields = Fields(encode(rows))
  for number, (ids, lengths, document) in enumerate(rows):
    assert fields.documents[number] == document
    for (starts, sizes), kind, want in ((fields.ids, '<u2', ids),
                                        (fields.lengths, '<i4', lengths)):
      start, size = starts[number], sizes[number]
      assert fields.data[start:start + size].view(kind).tolist() == want


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_other_bytes_are_damage_or_still_inside(data):
  records = encode([([1, 2, 3], [3], 5), ([4] * 100, [40, 60], 300)])
  which = data.draw(st.integers(0, 1))
  record = bytearray(records[which])
  cut = data.draw(st.booleans())
  at = data.draw(st.integers(0, len(record) - 1))
  if cut:
    del record[at:]
  else:
    record[at] ^= data.draw(st.integers(1, 255))
  records[which] = bytes(record)
  try:
    fields = Fields(records)
  except Damaged as e:
    assert e.index == which
  else:
    assert not cut  # A flipped id is not seen here: array_record's hash does.
    for starts, sizes in (fields.ids, fields.lengths):
      assert (starts + sizes <= len(fields.data)).all() and (sizes >= 0).all()


def test_another_example_is_damage():
  with pytest.raises(Damaged) as e:
    Fields([encode_record(np.zeros(3, np.uint16), [3], 0), b'\x0a\x00'])
  assert e.value.index == 1
