"""flup's threaded server: a thread for every connection, the study's "non-multiplexed"."""

from __future__ import annotations

from fcgi_handlers.counters import Counters
from fcgi_handlers.flup_server import ThreadedServer
from fcgi_handlers.model import Model
from fcgi_handlers.workload import Workload


def serve(workload: Workload, counters: Counters) -> None:
    """Serve with a thread for every connection."""
    ThreadedServer(workload, counters, multiplexed=False).run()


MODEL = Model(
    summary="a thread for every connection (flup)",
    serve=serve,
    peak_in_process=None,
    multiplexes=False,
)
