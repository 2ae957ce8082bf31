"""studies: many runs, or none. Floor 5.

Knows what the compiler says of a config's train step on devices that are not
here (estimate), with our kernels counted from what they do (kernel_costs).
"""

from robertax.studies.estimate import Estimate, estimate
from robertax.studies.search import largest_micro_batch, search

__all__ = ['Estimate', 'estimate', 'largest_micro_batch', 'search']
