"""What a concurrency model is, and what it promises."""

from __future__ import annotations

from typing import Callable, NamedTuple, Optional

from fcgi_handlers.counters import Counters
from fcgi_handlers.workload import Workload


class Model(NamedTuple):
    """A way to serve requests.

    Parameters
    ----------
    summary
        One line for a reader who chooses a model.
    serve
        Serves the FastCGI socket on descriptor 0 until SIGTERM.
    peak_in_process
        The most requests that one process ever works on at a time; None where the model sets no bound.
    multiplexes
        Whether it takes several requests at a time over one connection.
    """

    summary: str
    serve: Callable[[Workload, Counters], None]
    peak_in_process: Optional[int]
    multiplexes: bool
