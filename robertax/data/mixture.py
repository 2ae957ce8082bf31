"""Which corpus each row of the global batch is of, and which place in it.

Where `data.mixture` is set, every corpus is an endless sequence of its own
epochs, and the places of the run are dealt out among the corpora. Places come
in windows of 64. How many of the first w windows' places a corpus has is its
share, rounded; the difference of two such numbers is what it has in a window;
and a keyed permutation says where there. All is arithmetic on the place: so a
batch is the same on any number of hosts, and step 400,000 costs what step 0
does. At each window's end no corpus is further from its share than half as many
rows as there are corpora, however long the run; and no pattern repeats.

Example: corpora a and b with weights 3,1, were a window 4 places (seed 0):

  place             0  1  2  3 | 4  5  6  7 | 8  9 10 11
  corpus            a  a  a  b | a  a  b  a | b  a  a  a
  place in its own  0  2  1  0 | 3  4  1  5 | 2  7  6  8

The shares are shares of rows, and so of tokens as far as the rows of all
corpora are equally full. Each lane (data.order) is dealt for itself.
"""

from collections.abc import Sequence
import math

import numpy as np

from robertax.config import DataConfig
from robertax.data.hashing import fold, text_key
from robertax.data.order import Lanes, Order, permute
from robertax.data.source import Source
from robertax.errors import InputError

WINDOW = 64
_ONE = 1 << 30  # Shares are integers over this.
_WOULD_DO = ("'' (as they are), weights in the order of data.corpora ('4,12'), "
             "'name=weight' for each corpus ('wiki=4,web=12'), or 'alpha=0.5' "
             '(by size^alpha)')


def weights(mixture: str, names: Sequence[str],
            sizes: Sequence[int] | None = None) -> list[float]:
  """The weights of a mixture.

  >>> weights('4,12', ['news', 'web'])
  [4.0, 12.0]
  >>> weights('web=12,news=4', ['news', 'web'])
  [4.0, 12.0]
  >>> weights('alpha=0.5', ['news', 'web'], [100, 400])
  [10.0, 20.0]

  Args:
    mixture: the value of data.mixture, not empty.
    names: of the corpora, in their order.
    sizes: tokens of each, for 'alpha='; None: not known yet, all are 1.

  Raises:
    InputError: it is none of those, or does not go with the names.
  """
  def wrong(what):
    return InputError(f'data.mixture={mixture!r}: {what} (the corpora: '
                      f'{", ".join(names)}). What would do: {_WOULD_DO}.')

  def number(text):
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


class Mixture:
  """An `order.Order` over several corpora, in given shares.

  Attributes:
    names: of the corpora.
    shares: float64[K], of the rows; they sum to 1.
  """

  def __init__(self, names: Sequence[str],
               num_records: Sequence[int] | np.ndarray,
               weights: Sequence[float], seed: int, block: int = 64,
               window: int = 128, lanes: int = 1, batch_size: int = 1):
    """Nothing is computed yet.

    Args:
      names: of the corpora, no two alike.
      num_records: int[K] of each corpus, or int[D,K] of each of its
        duplicates; record numbers count through all of them, row by row.
      weights: of each corpus.
      seed: of the dealing, and of each corpus's order.
      block, window, lanes: as in Order.
      batch_size: rows of a global batch, which the lanes share.

    Raises:
      InputError: a corpus without a record and with a weight; more lanes than
        records.
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
    # A corpus is given its part of what those before it have left: each count
    # then grows by 0 or 1 with each place, and they sum to the places.
    left = np.cumsum(self.shares[::-1])[::-1]
    self._parts = [round(share / rest * _ONE) if rest else 0
                   for share, rest in zip(self.shares, left)]
    last = np.flatnonzero(self.shares)[-1]
    self._parts[last] = _ONE
    key = fold(text_key('mixture'), seed)
    self._keys = np.array([fold(key, lane) if lanes > 1 else key
                           for lane in range(lanes)], np.uint64)
    self._lanes = Lanes(lanes, batch_size)
    # What has no weight is never read: so many records that it may be cut.
    self._orders = [
        Order(sizes if share else np.maximum(lanes, sizes),
              fold(fold(text_key('mixed order'), seed), text_key(name)), block,
              window, lanes)
        for name, sizes, share in zip(names, sizes_DK.T, self.shares)]

  def counts(self, places: np.ndarray) -> np.ndarray:
    """How many of the first n places each corpus has, by its share.

    Exact at window's ends; within one, what it should have.

    Args:
      places: int64[n].

    Returns:
      int64[n, K]; rows sum to places, and columns never fall.
    """
    left = np.asarray(places, np.int64)
    counts = []
    for part in self._parts:
      whole, rest = np.divmod(left, _ONE)
      counts.append(whole * part + (rest * part + _ONE // 2) // _ONE)
      left = left - counts[-1]
    return np.stack(counts, -1)

  def deal(self, places: np.ndarray, lanes: np.ndarray | int = 0
           ) -> tuple[np.ndarray, np.ndarray]:
    """Corpora, and places in each one's own sequence.

    Args:
      places: int64[n], of each one's lane.
      lanes: int64[n].

    Returns:
      corpora int64[n], their places int64[n].
    """
    places = np.asarray(places, np.int64)
    number, offset = np.divmod(places, WINDOW)
    before = self.counts(number * WINDOW)
    ends = np.cumsum(self.counts((number + 1) * WINDOW) - before, -1)
    slots = permute(offset, np.full_like(offset, WINDOW),
                    fold(self._keys[lanes], number))
    corpora = (slots[:, None] >= ends).sum(-1)
    rows = np.arange(len(places))
    first = np.where(corpora > 0, ends[rows, np.maximum(corpora - 1, 0)], 0)
    return corpora, before[rows, corpora] + slots - first

  def at(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Epochs, each of its row's own corpus, and records: O(len(places)).

    Args:
      places: int64[n].

    Returns:
      epochs int64[n], records int64[n] counted through all corpora.
    """
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

  def blocks(self, records: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """As Order.blocks; a block is of one corpus."""
    first, stop = np.zeros_like(records), np.zeros_like(records)
    starts = self._starts_DK.ravel()
    # Of empty corpora, whose start is also the next one's, the last is right.
    part = np.searchsorted(starts, records, side='right') - 1
    duplicate, corpora = np.divmod(part, len(self.names))
    for number in np.unique(corpora):
      here, its = np.flatnonzero(corpora == number), self._orders[number]
      shift = starts[part[here]] - its.starts[duplicate[here]]
      ends = its.blocks(records[here] - shift)
      first[here], stop[here] = ends[0] + shift, ends[1] + shift
    return first, stop

  def epochs(self, places: int) -> dict[str, float]:
    """Passes over each corpus that so many places are."""
    return {name: its.passes(round(share * places)) for name, its, share
            in zip(self.names, self._orders, self.shares)}


class AsTheyAre(Order):
  """All records in one order, each once an epoch, whatever its corpus."""

  def __init__(self, names: Sequence[str], num_records: int | Sequence[int],
               seed: int, block: int, window: int, lanes: int = 1,
               batch_size: int = 1):
    """As Order; `names` of the corpora, rows of a global batch."""
    super().__init__(num_records, seed, block, window, lanes)
    self._split = Lanes(lanes, batch_size).split
    self.names = tuple(names)

  def at(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """As Order.at, at places of the run."""
    lanes, places = self._split(places)
    return super().at(places, lanes)

  def epochs(self, places: int) -> dict[str, float]:
    """Passes over each corpus: the same for all."""
    return dict.fromkeys(self.names, self.passes(places))


def order(source: Source, config: DataConfig, seed: int) -> Mixture | AsTheyAre:
  """The order that a config asks for.

  Args:
    source: of the training records.
    config: its mixture, shuffle_* and batch_size.
    seed: of the run.

  Raises:
    InputError: a mixture that does not go with the corpora; lanes that do not
      go with the batch or the records.
  """
  shuffle = (seed, config.shuffle_block, config.shuffle_window,
             config.shuffle_lanes, config.batch_size)
  if not config.mixture:
    return AsTheyAre(source.corpora, source.records_DK.sum(1), *shuffle)
  return Mixture(source.corpora, source.records_DK, weights(
      config.mixture, source.corpora, source.corpus_tokens), *shuffle)
