"""flup's threaded server: a thread for every connection, the study's "non-multiplexed"."""

from __future__ import annotations

from fcgi_handlers.flup_server import ClosingConnection, MendedServer
from fcgi_handlers.model import Count, Model
from fcgi_handlers.workload import Workload


def serve(workload: Workload, count: Count) -> None:
    """Serve with a thread for every connection."""
    MendedServer(workload, count(), multiplexed=False, connection_class=ClosingConnection).run()


MODEL = Model(
    summary="a thread for every connection (flup)",
    serve=serve,
    peak_in_process=None,
    multiplexes=False,
)
