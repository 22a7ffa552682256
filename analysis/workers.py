"""Other processes that share the work of a large run."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing.context import BaseContext
from multiprocessing.forkserver import ensure_running
from pathlib import Path

LARGE_JOURNAL_BYTES = 20_000_000
"""From here on it pays to start other processes: each needs seconds to load its libraries."""


@contextmanager
def workers(journal: Path, processes: int | None = None) -> Iterator[Executor | None]:
    """Start processes that read the journal, compute and draw with this one.

    Parameters
    ----------
    journal : Path
        The larger it is, the more there is to do.
    processes : int, optional
        How many; by default one a core for a large journal, else none.

    Yields
    ------
    Executor or None
        ``None`` where this process does all itself.
    """
    # matrices are small here: threads of the linear algebra would only wait for one another, busily
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if processes is None:
        large = journal.is_file() and journal.stat().st_size >= LARGE_JOURNAL_BYTES
        processes = len(os.sched_getaffinity(0)) if large else 1
    if processes < 2:
        yield None
        return
    with ProcessPoolExecutor(processes, mp_context=_context()) as pool:
        yield pool


def _context() -> BaseContext:
    """Return how processes are started: not as copies of this one, which may hold its libraries' locks."""
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    # a process of its own loads the libraries once, from now on; the others become copies of that one
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["analysis.writing"])
    ensure_running()
    return context
