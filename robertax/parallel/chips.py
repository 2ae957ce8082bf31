"""What a chip can do, from its maker's data sheet."""

import dataclasses

GIB = 2**30
# Bytes a second that a device sends to another slice: a host's 100 Gbit/s,
# which its four devices share. An assumption: no data sheet says it of all.
NETWORK = 100e9 / 8 / 4


@dataclasses.dataclass(frozen=True)
class Chip:
  """Limits of one device, as JAX counts devices.

  Attributes:
    kind: what `device.device_kind` begins with.
    flops: dense bf16 FLOP a second of the matrix units.
    memory: bytes that a program may use.
    bandwidth: of that memory, bytes a second.
    clock: of a TPU's core, 1 / second; 0: not a TPU.
    vector: elementwise 32-bit operations a second of a TPU's vector unit (8 x
      128 lanes x 4 slots a cycle); 0: not a TPU.
    tile: side of a TPU's matrix unit.
    links: bytes a second that one device sends to its neighbours in a slice.
  """
  kind: str
  flops: float
  memory: float
  bandwidth: float
  clock: float = 0
  vector: float = 0
  tile: int = 128
  links: float = 0


def _tpu(kind, flops, memory, bandwidth, clock, links, tile=128):
  return Chip(kind, flops, memory * GIB, bandwidth, clock,
              8 * 128 * 4 * clock, tile, links)


# A name by which a person asks -> the chip. TPU clocks: FLOP/s over what the
# matrix units do in a cycle (v5e 197e12 / (4 x 128^2 x 2)). v4 and v5p have two
# cores, which JAX shows as one device. Usable memory of v5e and v6e is what the
# compiler enforces, of the others the data sheet's.
CHIPS = {
    'v4': _tpu('TPU v4', 275e12, 32, 1200e9, 1.05e9, 270e9),
    'v5e': _tpu('TPU v5 lite', 197e12, 15.75, 819e9, 1.5e9, 180e9),
    'v5p': _tpu('TPU v5', 459e12, 95.74, 2765e9, 1.75e9, 540e9),
    'v6e': _tpu('TPU v6 lite', 918e12, 31.25, 1640e9, 1.75e9, 360e9, 256),
    'a100': Chip('NVIDIA A100', 312e12, 79 * GIB, 2039e9),
    'h100': Chip('NVIDIA H100', 989e12, 79 * GIB, 3350e9),
    'h200': Chip('NVIDIA H200', 989e12, 139 * GIB, 4800e9),
}


def chip_of(device_kind: str) -> Chip | None:
  """The chip whose kind the device's begins with; None: not known."""
  found = [chip for chip in CHIPS.values()
           if device_kind.startswith(chip.kind)]
  return max(found, key=lambda chip: len(chip.kind), default=None)
