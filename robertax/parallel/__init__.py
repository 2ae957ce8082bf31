"""Where arrays lie: mesh axes, and one table from parameter path to them.

Floor 0. Knows names and shapes, not what a parameter does, and which processes
share a run (processes). Axes: `data`
(replicas), `fsdp` (replicas that share parameters out), `model` (one layer's
work shared out).
"""

from robertax.config import MeshConfig
from robertax.parallel.mesh import BATCH_AXES as BATCH
from robertax.parallel.mesh import (
    RULES,
    batch_sharding,
    make_mesh,
    param_shardings,
    state_shardings,
)

__all__ = ['BATCH', 'RULES', 'MeshConfig', 'batch_sharding',
           'make_mesh', 'param_shardings', 'state_shardings']
