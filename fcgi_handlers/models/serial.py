"""flup's single-threaded server: one connection, one request at a time."""

from __future__ import annotations

from fcgi_handlers.counters import Counters
from fcgi_handlers.flup_server import (
    ClosingConnection,
    CountedHandler,
    StoppableSocket,
    exit_when_idle,
    sayable,
)
from fcgi_handlers.model import Count, Model
from fcgi_handlers.workload import Workload

from flup.server.fcgi_single import WSGIServer  # isort: skip


class SerialServer(StoppableSocket, CountedHandler, WSGIServer):  # type: ignore[misc]
    """flup's single-threaded server around a workload.

    A connection that is kept open but idle holds the server, as its model has it; when told to stop, the
    server leaves it.
    """

    def __init__(self, workload: Workload, counters: Counters) -> None:
        super().__init__(application=None)
        self._jobClass = ClosingConnection
        self.capability = sayable(self.capability)
        self.workload = workload
        self.counters = counters

    def told_to_stop(self) -> None:
        """End the process when the connection that holds the server has had no request for a while."""
        exit_when_idle(self.counters)

    def run(self) -> None:
        """Serve until SIGTERM, SIGINT or SIGHUP, then finish what has begun."""
        try:
            super().run()
        except OSError as error:
            if not self.is_end_of_queue(error):
                raise


def serve(workload: Workload, count: Count) -> None:
    """Serve one request at a time."""
    SerialServer(workload, count()).run()


MODEL = Model(
    summary="one request at a time, no threads (flup)",
    serve=serve,
    peak_in_process=1,
    multiplexes=False,
)
