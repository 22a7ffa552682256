"""flup's multiplexed server with the lifetime of its requests mended.

lighttpd closes its side as soon as it has the announced length, often before flup has written END_REQUEST
(three separate sends). The write then fails, `Connection.end_request` is left before it takes the request
off the connection's list, and the connection's own thread waits in `MultiplexedConnection._cleanupSocket`
for ever for that list to become empty: one thread and one descriptor lost. A request whose handler cannot
write is lost the same way, and so is one that waits for a body when its connection ends. The pool of threads
is mended, too (`flup_server.FairPool`). Nothing else differs from flup.
"""

from __future__ import annotations

import _thread

from fcgi_handlers.counters import Counters
from fcgi_handlers.flup_server import MendedServer
from fcgi_handlers.model import Count, Model
from fcgi_handlers.workload import Workload

from flup.server.fcgi_base import FCGI_OVERLOADED, MultiplexedConnection, Request  # isort: skip


class MendedRequest(Request):  # type: ignore[misc]
    """A request that is off its connection's list when it has run, however it ended."""

    def run(self) -> None:
        """Run the handler; a peer that has gone away ends the request like any other end."""
        try:
            super().run()
        except OSError:
            return  # The peer is gone: there is nobody left to tell.
        finally:
            self._conn.forget(self)


class MendedConnection(MultiplexedConnection):  # type: ignore[misc]
    """A connection that can always end."""

    def forget(self, req: MendedRequest) -> None:
        """Take a request off the list, where its regular end failed, and wake who waits for that."""
        with self._lock:
            # Not by the id alone: a client may have opened the next request under it.
            if self._requests.get(req.requestId) is req:
                del self._requests[req.requestId]
                self._lock.notify_all()

    def _start_request(self, req: MendedRequest) -> None:
        try:
            _thread.start_new_thread(req.run, ())
        except RuntimeError:  # flup names an exception that does not exist
            self.end_request(req, 0, FCGI_OVERLOADED, remove=True)

    def _cleanupSocket(self) -> None:
        with self._lock:
            for req in self._requests.values():
                req.aborted = True
                req.stdin.add_data(b"")  # the rest of the body will not come
        super()._cleanupSocket()


class MultiplexedServer(MendedServer):
    """The threaded server with the mended classes."""

    request_class = MendedRequest

    def __init__(self, workload: Workload, counters: Counters) -> None:
        super().__init__(workload, counters, multiplexed=True, connection_class=MendedConnection)


def serve(workload: Workload, count: Count) -> None:
    """Serve with a thread for every request, and a lock around every record."""
    MultiplexedServer(workload, count()).run()


MODEL = Model(
    summary="a thread for every request, a lock around every record (flup, its leak mended)",
    serve=serve,
    peak_in_process=None,
    multiplexes=True,
)
