"""studies: many runs, or none. Floor 5.

Knows what the compiler says of a config's train step on devices that are not
here (estimate), with our kernels counted from what they do (kernel_costs); how
a task is swept over rates, batches and seeds (sweep, ensemble); and the paper's
tables: what each compares (paper_tables), how large it is made (paper_scales),
how (paper_run), what it says (paper_report) and costs (paper_cost).
"""

from robertax.studies.estimate import Estimate, estimate
from robertax.studies.search import largest_micro_batch, search

__all__ = ['Estimate', 'estimate', 'largest_micro_batch', 'search']
