"""The order in which the records of corpora are read: one order, or a mixture.

An epoch is a permutation of all records or, if the records have several
duplicates, of one duplicate after another. Chunks of contiguous records are
permuted, and only the records of `window` consecutive chunks are mixed with
each other, so that disks and buckets are read in large pieces. Both
permutations are keyed Feistel networks, which give the record at any place of
any epoch by arithmetic: no list is shuffled, kept, or skipped through.

Example: 10 records, chunks of 3, windows of 2 chunks. If the chunks 012 345 678
9 come in the order 678 9 | 012 345, records mix within a window:

  7 9 6 8 | 4 0 1 3 5 2

Hosts that read a bucket would all need every chunk, because a window's records
may be anywhere in a batch. `lanes` separates the hosts: the records are cut
into L equal parts, and lane l is an endless sequence of epochs of part l alone,
which fills the l-th of L equal ranges of each batch's rows. A host reads only
the parts of the lanes that its rows belong to. The batch is still the same on
any number of hosts, since lanes belong to the order and not to the hosts.
"""

from collections.abc import Sequence
import math

import numpy as np

from robertax.config import DataConfig
from robertax.data.hashing import fold_key, mix64, text_key
from robertax.data.source import Source
from robertax.errors import InputError

# Constants of the rounds of a permutation. Four rounds are already
# pseudorandom (Luby and Rackoff 1988); six are used.
_ROUNDS = mix64(np.arange(6))


class Order:
  """Says which record is at which place."""

  def __init__(self, num_records: int | Sequence[int], seed: int,
               block: int = 64, window: int = 128, lanes: int = 1):
    """Computes nothing yet; InputError for numbers below 1 or too many lanes.

    Args:
      num_records: of the corpus, or of each of its D duplicates. Epoch e has
        the records of duplicate e mod D; records are numbered through all
        duplicates.
      seed: of the permutations.
      block: contiguous records of a chunk, which stay in one window.
      window: chunks whose records are mixed.
      lanes: L, parts of the records that are read separately.
    """
    lengths = np.atleast_1d(np.asarray(num_records, np.int64))
    for name, value in (('the number of records', lengths.min()),
                        ('data.shuffle_block', block),
                        ('data.shuffle_window', window),
                        ('data.shuffle_lanes', lanes)):
      if value < 1:
        raise InputError(f'{name} is {value}: at least 1 is needed.')
    if lanes > lengths.min():
      raise InputError(f'data.shuffle_lanes={lanes}: there are only '
                       f'{lengths.min()} records, and each lane needs one.')
    # int64[D + 1]: the first record of each duplicate, and the total.
    self.starts = np.concatenate([[0], np.cumsum(lengths)])
    # Where the lanes of each duplicate begin, and where the last one ends.
    self._cuts = (self.starts[:-1, None]
                  + lengths[:, None] * np.arange(lanes + 1) // lanes)
    self._lengths = np.diff(self._cuts)
    self._lane_ends = np.cumsum(self._lengths, 0)
    self._block, self._window = block, window
    key = fold_key(text_key('order'), seed)
    # A single lane has the key of an order without lanes.
    self._keys = np.array([fold_key(key, lane) if lanes > 1 else key
                           for lane in range(lanes)], np.uint64)

  def locate(self, start: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Epochs and records, int64[count] each, at places start, start + 1, ..."""
    return self.at(np.arange(start, start + count, dtype=np.int64))

  def at(self, places: np.ndarray, lanes: np.ndarray | int = 0
         ) -> tuple[np.ndarray, np.ndarray]:
    """Epochs int64[n] and records int64[n] at any places int64[n], in O(n).

    Places and epochs are counted within each lane.
    """
    block, window = self._block, self._window
    lanes = np.broadcast_to(lanes, np.shape(places))
    epochs, place, duplicate = self._epochs(places, lanes)
    key = fold_key(self._keys[lanes], epochs)
    length = self._lengths[duplicate, lanes]
    # The last chunk of the corpus may be short. It gets a random place among
    # the others in each epoch; windows after it begin `missing` places early.
    full, rest = np.divmod(length, block)
    blocks = full + (rest > 0)
    missing = np.where(rest > 0, block - rest, 0)
    short = fold_key(fold_key(key, 1), 0) % blocks.astype(np.uint64)
    short = np.where(rest > 0, short.astype(np.int64), blocks)
    short_window = short // window

    behind = place >= (short_window + 1) * window * block - missing
    place = place + missing * behind
    number = place // (window * block)  # Of the window.
    first = number * window
    num_blocks = np.minimum(window, blocks - first)
    is_short = (number == short_window) & (rest > 0)
    size = num_blocks * block - missing * is_short
    slot = permute(place - first * block, size,
                   fold_key(fold_key(key, 2), number))

    # The short chunk comes last in its window, where mixing hides it.
    turn, offset = np.divmod(slot, block)
    turn_place = first + turn
    last = is_short & (turn == num_blocks - 1)
    turn_place = np.where(
        last, short, turn_place + (is_short & (turn_place >= short)))
    index = turn_place - (turn_place > short)
    index = np.where(turn_place == short, 0, index)
    chosen = permute(index, np.maximum(full, 1), fold_key(key, 3))
    chosen = np.where(turn_place == short, full, chosen)
    return epochs, self._cuts[duplicate, lanes] + chosen * block + offset

  def chunks(self, records: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """int64[n] each: the first record of each record's chunk, and its stop."""
    cuts = np.append(self._cuts[:, :-1].ravel(), self.starts[-1])
    part = np.searchsorted(cuts, records, side='right') - 1
    first = cuts[part] + (records - cuts[part]) // self._block * self._block
    return first, np.minimum(first + self._block, cuts[part + 1])

  def passes(self, places: int) -> float:
    """How many epochs are in `places` places of all lanes together."""
    cycles, rest = divmod(int(places), int(self.starts[-1]))
    duplicate = int(np.searchsorted(self.starts, rest, side='right')) - 1
    first, end = self.starts[duplicate:duplicate + 2].tolist()
    return (cycles * len(self._lengths) + duplicate
            + (rest - first) / (end - first))

  def _epochs(self, places: np.ndarray, lanes: np.ndarray
              ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Epochs, places in the duplicates of these epochs, and the duplicates."""
    ends = self._lane_ends[:, lanes]
    cycles, rest = np.divmod(np.asarray(places, np.int64), ends[-1])
    if len(ends) == 1:
      return cycles, rest, np.zeros_like(cycles)
    duplicate = (rest >= ends).sum(0)
    before = (ends - self._lengths[:, lanes])[duplicate, np.arange(len(rest))]
    return cycles * len(ends) + duplicate, rest - before, duplicate


class Lanes:
  """Says which lane a place of the run belongs to, and its place in that lane.

  Example: batches of 4 rows and 2 lanes:

    place           0  1  2  3 | 4  5  6  7 | 8
    lane            0  0  1  1 | 0  0  1  1 | 0
    place in it     0  1  0  1 | 2  3  2  3 | 4
  """

  def __init__(self, lanes: int, batch_size: int):
    """Raises InputError if the lanes do not divide the global batch."""
    if batch_size % lanes:
      raise InputError(f'data.batch_size={batch_size} is not a multiple of '
                       f'data.shuffle_lanes={lanes}.')
    self._batch, self._rows = batch_size, batch_size // lanes

  def split(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lanes int64[n], and places int64[n] within them."""
    steps, rows = np.divmod(np.asarray(places, np.int64), self._batch)
    lanes, rows = np.divmod(rows, self._rows)
    return lanes, steps * self._rows + rows


def permute(x: np.ndarray, size: np.ndarray, key: np.ndarray) -> np.ndarray:
  """int64[n]: a keyed permutation of 0 .. size - 1, elementwise.

  It is a Feistel network on pairs of digits (left < a, right < b, a * b >=
  size; the generalised network of Black and Rogaway 2002), with cycle walking
  for the few results that are not below `size`. Equal size int64[n] and key
  uint64[n] give the same permutation.
  """
  x, size = x.astype(np.uint64), size.astype(np.uint64)
  a = np.ceil(np.sqrt(size.astype(np.float64))).astype(np.uint64)
  b = (size + a - np.uint64(1)) // a
  result = np.empty_like(x)
  todo = np.arange(len(x))
  while len(todo):
    left, right = np.divmod(x, b)
    for number in range(0, len(_ROUNDS), 2):
      left = (left + mix64(key + _ROUNDS[number] ^ right) % a) % a
      right = (right + mix64(key + _ROUNDS[number + 1] ^ left) % b) % b
    x = left * b + right
    done = x < size
    result[todo[done]] = x[done]
    walk = ~done
    todo, x, size, key, a, b = (
        v[walk] for v in (todo, x, size, key, a, b))
  return result.astype(np.int64)


# A mixture decides from which corpus each row of the global batch comes.
#
# Where `data.mixture` is set, every corpus is an endless sequence of its own
# epochs, and the places of the run are dealt to the corpora in windows of 64. A
# corpus gets its rounded share of the places of the first w windows. The
# difference of two such numbers is its count in one window, and a keyed
# permutation says at which places of it. All of this is arithmetic: a batch is
# the same on any number of hosts, and step 400,000 costs as much as step 0. At
# each window's end no corpus is further from its share than half as many rows
# as there are corpora, however long the run is, and no pattern repeats.
#
# Example: corpora a and b with weights 3,1 and windows of 4 places (seed 0):
#
#   place             0  1  2  3 | 4  5  6  7 | 8  9 10 11
#   corpus            a  a  a  b | a  a  b  a | b  a  a  a
#   place in its own  0  2  1  0 | 3  4  1  5 | 2  7  6  8
#
# Shares count rows. They are shares of tokens too if the rows of all corpora
# are equally full. Each lane is dealt separately.

WINDOW = 64
_ONE = 1 << 30  # Shares are integers over this.
_WOULD_DO = ("'' (as they are), weights in the order of data.corpora ('4,12'), "
             "'name=weight' for each corpus ('wiki=4,web=12'), or 'alpha=0.5' "
             '(by size^alpha)')


def mixture_weights(mixture: str, names: Sequence[str],
                    sizes: Sequence[int] | None = None) -> list[float]:
  """The weights of a mixture.

  >>> mixture_weights('4,12', ['news', 'web'])
  [4.0, 12.0]
  >>> mixture_weights('web=12,news=4', ['news', 'web'])
  [4.0, 12.0]
  >>> mixture_weights('alpha=0.5', ['news', 'web'], [100, 400])
  [10.0, 20.0]

  Args:
    mixture: the value of data.mixture, not empty; InputError if it is wrong.
    names: of the corpora, in their order.
    sizes: tokens of each, for 'alpha='; None (not known yet) makes all 1.
  """
  def wrong(what: str) -> InputError:
    return InputError(f'data.mixture={mixture!r}: {what} (the corpora: '
                      f'{", ".join(names)}). What would do: {_WOULD_DO}.')

  def number(text: str) -> float:
    try:
      value = float(text)
    except ValueError:
      value = math.nan
    if not 0 <= value < math.inf:
      raise wrong(f'{text.strip()!r} is not a number from 0 up')
    return value

  parts = [part.strip() for part in mixture.split(',')]
  if mixture.strip().startswith('alpha=') and list(names) != ['alpha']:
    power = number(mixture.partition('=')[2])
    return [size ** power for size in sizes or [1] * len(names)]
  if not any('=' in part for part in parts):
    if len(parts) != len(names):
      raise wrong(f'{len(parts)} weights for {len(names)} corpora')
    found = [number(part) for part in parts]
  else:
    given = {}
    for part in parts:
      name, equals, value = part.rpartition('=')
      if not equals or name not in names or name in given:
        raise wrong(f'{part!r} is not one weight of one corpus')
      given[name] = number(value)
    missing = [name for name in names if name not in given]
    if missing:
      raise wrong(f'no weight for {", ".join(missing)}')
    found = [given[name] for name in names]
  if not sum(found):
    raise wrong('all weights are 0')
  return found


def mixture_of(mixture: str, names: Sequence[str], left: Sequence[str]) -> str:
  """The mixture of the corpora that are left of those that it was given for.

  >>> mixture_of('4,12,1', ['news', 'empty', 'web'], ['news', 'web'])
  'news=4.0,web=1.0'
  """
  weights = mixture_weights(mixture, names)
  if list(left) == list(names) or mixture.strip().startswith('alpha='):
    return mixture
  return ','.join(f'{name}={weight!r}' for name, weight in zip(names, weights)
                  if name in left)


class Mixture:
  """An order over several corpora, in given shares of the rows."""

  def __init__(self, names: Sequence[str],
               num_records: Sequence[int] | np.ndarray,
               weights: Sequence[float], seed: int, block: int = 64,
               window: int = 128, lanes: int = 1, batch_size: int = 1):
    """Takes Order's arguments for several corpora with different names.

    `num_records` is int[K], one for each corpus, or int[D,K] with one for each
    of its duplicates; records are numbered through all of them, row by row.
    """
    self.names = tuple(names)
    self.shares = np.array(weights, np.float64) / sum(weights)
    sizes_DK = np.atleast_2d(np.asarray(num_records, np.int64))
    for name, size, share in zip(names, sizes_DK.min(0), self.shares):
      if share and not size:
        raise InputError(
            f'data.mixture: {name} has no training record: its text is too '
            'short. Leave it out, give it more text or the weight 0.')
    ends = np.cumsum(sizes_DK).reshape(sizes_DK.shape)
    self._starts_DK = ends - sizes_DK
    # Each corpus gets its part of what the corpora before it have left. Then
    # each count grows by 0 or 1 with each place, and they sum to the places.
    left = np.cumsum(self.shares[::-1])[::-1]
    self._parts = [round(share / rest * _ONE) if rest else 0
                   for share, rest in zip(self.shares, left)]
    last = np.flatnonzero(self.shares)[-1]
    self._parts[last] = _ONE
    key = fold_key(text_key('mixture'), seed)
    self._keys = np.array([fold_key(key, lane) if lanes > 1 else key
                           for lane in range(lanes)], np.uint64)
    self._lanes = Lanes(lanes, batch_size)
    # A corpus without weight is never read, but must have a record per lane.
    self._orders = [
        Order(sizes if share else np.maximum(lanes, sizes),
              fold_key(fold_key(text_key('mixed order'), seed), text_key(name)),
              block, window, lanes)
        for name, sizes, share in zip(names, sizes_DK.T, self.shares)
    ]

  def counts(self, places: np.ndarray) -> np.ndarray:
    """int64[n,K]: how many of the first `places` int64[n] each corpus has."""
    # Rows sum to places, and columns never fall.
    left = np.asarray(places, np.int64)
    counts = []
    for part in self._parts:
      whole, rest = np.divmod(left, _ONE)
      counts.append(whole * part + (rest * part + _ONE // 2) // _ONE)
      left = left - counts[-1]
    return np.stack(counts, -1)

  def deal(self, places: np.ndarray, lanes: np.ndarray | int = 0
           ) -> tuple[np.ndarray, np.ndarray]:
    """The corpora int64[n] at places of lanes, and the places within them."""
    places = np.asarray(places, np.int64)
    number, offset = np.divmod(places, WINDOW)
    before = self.counts(number * WINDOW)
    ends = np.cumsum(self.counts((number + 1) * WINDOW) - before, -1)
    slots = permute(offset, np.full_like(offset, WINDOW),
                    fold_key(self._keys[lanes], number))
    corpora = (slots[:, None] >= ends).sum(-1)
    rows = np.arange(len(places))
    first = np.where(corpora > 0, ends[rows, np.maximum(corpora - 1, 0)], 0)
    return corpora, before[rows, corpora] + slots - first

  def at(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Order.at for places of the run; epochs are counted within each corpus."""
    lanes, places = self._lanes.split(places)
    corpora, own = self.deal(places, lanes)
    epochs, records = np.zeros_like(own), np.zeros_like(own)
    for number in np.unique(corpora):
      here, its = np.flatnonzero(corpora == number), self._orders[number]
      epochs[here], local = its.at(own[here], lanes[here])
      duplicate = epochs[here] % len(self._starts_DK)
      records[here] = (self._starts_DK[duplicate, number]
                       + local - its.starts[duplicate])
    return epochs, records

  def chunks(self, records: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Order.chunks; a chunk belongs to one corpus."""
    first, stop = np.zeros_like(records), np.zeros_like(records)
    starts = self._starts_DK.ravel()
    # Empty corpora start where the next one does, so the last one is taken.
    part = np.searchsorted(starts, records, side='right') - 1
    duplicate, corpora = np.divmod(part, len(self.names))
    for number in np.unique(corpora):
      here, its = np.flatnonzero(corpora == number), self._orders[number]
      shift = starts[part[here]] - its.starts[duplicate[here]]
      ends = its.chunks(records[here] - shift)
      first[here], stop[here] = ends[0] + shift, ends[1] + shift
    return first, stop

  def epochs(self, places: int) -> dict[str, float]:
    """The passes over each corpus after `places` places."""
    return {name: its.passes(round(share * places)) for name, its, share
            in zip(self.names, self._orders, self.shares)}


class AsTheyAre:
  """All records in one order, each once an epoch, whatever its corpus."""

  def __init__(self, names: Sequence[str], num_records: int | Sequence[int],
               seed: int, block: int, window: int, lanes: int = 1,
               batch_size: int = 1):
    """Takes Order's arguments, the corpora's names and the global batch."""
    self.names = tuple(names)
    self._order = Order(num_records, seed, block, window, lanes)
    self._lanes = Lanes(lanes, batch_size)

  def at(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """See Mixture.at."""
    lanes, places = self._lanes.split(places)
    return self._order.at(places, lanes)

  def chunks(self, records: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """See Order.chunks."""
    return self._order.chunks(records)

  def epochs(self, places: int) -> dict[str, float]:
    """The passes over each corpus, which are the same for all."""
    return dict.fromkeys(self.names, self._order.passes(places))


def open_order(source: Source, config: DataConfig,
               seed: int) -> Mixture | AsTheyAre:
  """The order that a config's mixture, shuffle_* and batch_size give."""
  shuffle = (seed, config.shuffle_block, config.shuffle_window,
             config.shuffle_lanes, config.batch_size)
  if not config.mixture:
    return AsTheyAre(source.corpora, source.records_DK.sum(1), *shuffle)
  return Mixture(source.corpora, source.records_DK, mixture_weights(
      config.mixture, source.corpora, source.corpus_tokens), *shuffle)
