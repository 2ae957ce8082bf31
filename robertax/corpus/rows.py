"""Which examples share a row.

The paper enlarges the batch where examples are short (section 4.2). Shapes are
fixed here, so a row takes several instead, and a batch of as many rows has
about as many tokens. Decided at preparation, inside a block: a record is a row,
and batch k is found without looking at any other.
"""

from collections.abc import Sequence

# Rows that wait for an example that fits. More would hardly fill rows better
# and spread neighbouring documents wider. Padding of DOC-SENTENCES at 512
# tokens, GPT-2's BPE, and how many documents lie between a row's first and last
# on average, in 21 MB of news, 30 MB of web text and 75 MB of books:
#
#                          news            web             books
#   alone                  55.6 %          40.2 %          3.4 %
#   next-fit               22.4 %   0.7    18.2 %   0.4    3.4 %   0
#   best-fit of 4          10.4 %   1.9     9.4 %   0.9    3.4 %   0
#   of 16, oldest closed    6.5 %   4.8     6.0 %   2.2    3.4 %   0
#   of 16, fullest closed   5.1 %  15.2     4.3 %   8.6    3.3 %   0
#   of 64, fullest closed   4.8 %  26.5     4.2 %  15.3    3.3 %   0
#   of all in the block     4.8 %  34.3     4.2 %  19.8    3.3 %   0
#
# Another number changes bytes: records.VERSION would have to be raised.
OPEN_ROWS = 16


def fill_rows(sizes: Sequence[int], sequence_length: int, max_examples: int
              ) -> list[list[int]]:
  """Best-fit over a window of open rows, example by example, in order.

  An example goes to the open row that it leaves the least room in, the oldest
  of equal ones, or opens one. A row closes when it has its most examples, or
  when OPEN_ROWS + 1 are open and it is the fullest, the oldest of equal ones.

  >>> fill_rows([6, 5, 2, 3, 8], sequence_length=8, max_examples=4)
  [[0, 2], [1, 3], [4]]

  Args:
    sizes: tokens of each example, at most `sequence_length`.
    sequence_length: most tokens of a row.
    max_examples: most examples of a row, P.

  Returns:
    The numbers of each row's examples, ascending; rows in the order of their
    first one. Each example stands in exactly one row.
  """
  rows, waiting = [], []  # Of open rows, oldest first: [room, examples].
  for number, size in enumerate(sizes):
    # Of equal ones, `min` takes the first.
    row = min((row for row in waiting if row[0] >= size),
              key=lambda row: row[0], default=None)
    if row is None:
      row = [sequence_length, []]
      rows.append(row[1])
      waiting.append(row)
    row[0] -= size
    row[1].append(number)
    if len(row[1]) == max_examples:
      waiting = [other for other in waiting if other is not row]
    elif len(waiting) > OPEN_ROWS:
      fullest = min(waiting, key=lambda row: row[0])
      waiting = [other for other in waiting if other is not fullest]
  return rows
