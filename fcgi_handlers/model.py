"""What a concurrency model is, and what it promises."""

from __future__ import annotations

from typing import Callable, NamedTuple, Optional

from fcgi_handlers.counters import Counters
from fcgi_handlers.workload import Workload

Count = Callable[[], Counters]
"""Opens the counters of the process that calls it; one that serves calls it once."""


def runs_everywhere() -> str:
    """Say that nothing keeps a model from running."""
    return ""


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
    shares_socket
        Whether one socket serves all processes: the web server starts one, which starts as many as
        FCGI_SWEEP_CHILDREN says. Those are the processes of the model; the first one serves nobody.
    is_ceiling
        Whether it does nothing but answer, and so shows how far the path to a handler goes.
    absence
        Says why the model cannot run here; an empty string where it can.
    """

    summary: str
    serve: Callable[[Workload, Count], None]
    peak_in_process: Optional[int]
    multiplexes: bool
    shares_socket: bool = False
    is_ceiling: bool = False
    absence: Callable[[], str] = runs_everywhere
