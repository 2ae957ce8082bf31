"""Host batches -> arrays on the mesh, ahead of the step that needs them."""

from collections.abc import Callable, Iterable, Mapping

import jax
import numpy as np

from robertax.data.prefetch import Prefetch
from robertax.errors import InputError

Batch = dict[str, np.ndarray]
# Without x64, jax turns a large int64 into a wrong int32 in silence.
HOST_ONLY = frozenset({'example_ids'})


class Feed(Prefetch[dict[str, jax.Array]]):
  """Lays batches on devices in a thread of its own.

  Iterating gives dicts of global jax.Arrays; fields of `HOST_ONLY` are left
  out. Everything that making a batch raises is raised by the consumer's
  `next`. Close it, or use it in a `with`.

  Attributes:
    waited_seconds: time that the consumer has waited for batches.
  """

  def __init__(self, batches: Iterable[Batch],
               shardings: (jax.sharding.Sharding
                           | Mapping[str, jax.sharding.Sharding]
                           | Callable[[str], jax.sharding.Sharding]),
               depth: int = 2):
    """Starts the thread.

    Args:
      batches: this host's rows of each batch; closed with the feed.
      shardings: one for all fields, or by field name.
      depth: batches on the devices ahead of the consumer.
    """
    if isinstance(shardings, jax.sharding.Sharding):
      of = lambda name: shardings
    elif callable(shardings):
      of = shardings
    else:
      of = shardings.__getitem__

    def place(batch: Batch) -> dict[str, jax.Array]:
      return {name: jax.make_array_from_process_local_data(of(name), value)
              for name, value in batch.items() if name not in HOST_ONLY}

    super().__init__(batches, depth, place)


def host_rows(batch_size: int, micro_batches: int, process_index: int,
              process_count: int) -> np.ndarray:
  """The rows of the global batch that a host makes, in its order.

  Row r belongs to micro-batch r // (B / A), and within that to the host in
  whose part it lies: cut by `split_micro_batches`, a host's rows are what
  PartitionSpec(None, ('data', 'fsdp')) keeps on its devices.

  >>> host_rows(8, 2, process_index=1, process_count=2)
  array([2, 3, 6, 7])

  Args:
    batch_size: B, global.
    micro_batches: A.
    process_index, process_count: as jax has them.

  Returns:
    int64[B / process_count].

  Raises:
    InputError: B is not a multiple of A * process_count.
  """
  if batch_size % (micro_batches * process_count):
    raise InputError(
        f'data.batch_size={batch_size} is not a multiple of '
        f'{micro_batches} micro-batches x {process_count} hosts.')
  return np.arange(batch_size).reshape(
      micro_batches, process_count, -1)[:, process_index].ravel()


def local_rows(sharding: jax.sharding.Sharding, batch_size: int,
               micro_batches: int) -> np.ndarray:
  """The rows of the global batch that this process's devices keep.

  Where its devices stand next to each other on the mesh, these are
  `host_rows`. They need not (JAX lays a mesh along a TPU's links), and where a
  row's work is shared out over processes (mesh.model), several make the same.

  Args:
    sharding: of the batch, cut into micro-batches.
    batch_size: B, global.
    micro_batches: A.

  Returns:
    int64[b], in the order in which make_array_from_process_local_data takes
    them.

  Raises:
    InputError: B does not come out even.
  """
  processes = len({d.process_index for d in sharding.device_set})
  if processes == 1:
    return host_rows(batch_size, micro_batches, 0, 1)
  shape = (micro_batches, batch_size // micro_batches)
  try:
    parts = sharding.addressable_devices_indices_map(shape).values()
  except ValueError as e:
    raise InputError(
        f'data.batch_size={batch_size} does not come out even in '
        f'{micro_batches} micro-batches over {sharding.num_devices} devices '
        f'({e}).') from e
  columns = np.unique(np.concatenate(
      [np.arange(shape[1])[part[1]] for part in parts]))
  return np.arange(batch_size).reshape(shape)[:, columns].ravel()


def split_micro_batches(batch: Batch, micro_batches: int) -> Batch:
  """[b, ...] -> [A, b / A, ...] for every field, in the order of the rows.

  Args:
    batch: a host's rows, in the order of `host_rows`.
    micro_batches: A, which divides b.
  """
  return {name: value.reshape(micro_batches, -1, *value.shape[1:])
          for name, value in batch.items()}
