"""From a run's journal to statistics, figures and a report."""

import os

# the matrices are small: a second thread costs more than it gains, and makes the order of sums, so the
# last digits, a matter of the machine; numpy reads this when it is loaded
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
