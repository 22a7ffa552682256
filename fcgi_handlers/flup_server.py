"""flup's servers, run as FCGI (`handler(req)`), counted, and stopped at once without losing a request.

flup waits for connections in `select` with a time limit of one second or none, and Python resumes such a
wait after a signal (PEP 475): a server told to stop would sleep on. So SIGTERM shuts the listening socket
down for reading: the kernel refuses new connections from then on and still hands out those that wait,
flup's own loop takes them one by one, and leaves with EINVAL when none is left.
"""

from __future__ import annotations

import errno
import os
import signal
import socket
import threading
import time
import warnings
from types import FrameType
from typing import Any, Optional

from fcgi_handlers.counters import Counters
from fcgi_handlers.workload import Workload

# setDaemon, notifyAll and currentThread; the program's own warnings stay loud.
warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"flup\.")

from flup.server.fcgi import WSGIServer  # noqa: E402
from flup.server.fcgi_base import (  # noqa: E402
    FCGI_REQUEST_COMPLETE,
    FCGI_RESPONDER,
    FCGI_UNKNOWN_ROLE,
    Connection,
)

# How long a stopping process waits for requests in work, and for connections that have sent none.
WORK_GRACE_S = 5.0
IDLE_GRACE_S = 0.05
_POLL_S = 0.002
_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class CountedHandler:
    """The part that flup's servers share here: answer a request and count it."""

    workload: Workload
    counters: Counters

    def handler(self, req: Any) -> tuple[int, int]:
        """Answer one request; flup calls this as its server's `handler`."""
        if req.role != FCGI_RESPONDER:
            return FCGI_UNKNOWN_ROLE, 0
        done, connection = 0, req._conn
        known = "carried" in connection.__dict__
        self.counters.enter(req.requestId, len(connection._requests), not known)
        if not known:
            connection.carried = True
        try:
            req.stdout.write(self.workload.respond(req.stdin))
            done = 1
        finally:
            self.counters.leave(done)
        return FCGI_REQUEST_COMPLETE, 0

    def error(self, req: Any) -> None:
        """Say 500 without flup's page, which needs a module that Python 3.13 dropped."""
        req.stdout.write(b"Status: 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n")


class ClosingConnection(Connection):  # type: ignore[misc]
    """A connection that is closed when it has run, however it ended.

    As published, a peer that goes before its answer leaves the descriptor open until the garbage collector
    finds it, and takes the single-threaded server down with it.
    """

    def run(self) -> None:
        """Serve the connection to its end."""
        try:
            super().run()
        except OSError:
            return  # The peer is gone: there is nobody left to tell.
        finally:
            self._requests.clear()
            self._sock.close()


class StoppableSocket:
    """The part of the accept loop's owner that ends it: see the module's text.

    A thread of its own waits for the signal, because one that comes just before `select` does not end it.
    """

    _stopping = False

    def _setupSocket(self) -> socket.socket:
        listener: socket.socket = super()._setupSocket()  # type: ignore[misc]
        signals, wakeup = os.pipe()
        os.set_blocking(wakeup, False)
        signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
        threading.Thread(target=self._await_stop, args=(signals, listener), daemon=True).start()
        return listener

    def _await_stop(self, signals: int, listener: socket.socket) -> None:
        while os.read(signals, 1)[0] not in _STOP_SIGNALS:
            pass
        self._stopping = True
        listener.shutdown(socket.SHUT_RD)
        self.told_to_stop()

    def told_to_stop(self) -> None:
        """Do what else is needed for the loop to end; called in the thread that waits for the signal."""

    def _intHandler(self, signum: int, frame: Optional[FrameType]) -> None:
        """Leave it to the thread; flup would only set a mark that its loop reads too late."""

    _hupHandler = _intHandler

    def is_end_of_queue(self, error: OSError) -> bool:
        """Tell whether `error` is how a listener that was shut down says that nobody waits any more."""
        return self._stopping and error.errno == errno.EINVAL


class ThreadedServer(StoppableSocket, CountedHandler, WSGIServer):  # type: ignore[misc]
    """flup's threaded server around a workload.

    Parameters
    ----------
    workload, counters
        What to answer, and where to count it.
    multiplexed
        Which of flup's two connection classes to use.
    """

    def __init__(self, workload: Workload, counters: Counters, multiplexed: bool) -> None:
        super().__init__(application=None, multiplexed=multiplexed)
        if not multiplexed:
            self._jobClass = ClosingConnection
        self.workload = workload
        self.counters = counters

    def run(self) -> None:
        """Serve until SIGTERM, SIGINT or SIGHUP, then finish what has begun."""
        try:
            super().run()
        except OSError as error:
            if not self.is_end_of_queue(error):
                raise
        self._finish()

    def _finish(self) -> None:
        """Wait for the connections that have a request in work; leave those that only stand open."""
        pool = self._threadPool
        until_s = time.monotonic() + WORK_GRACE_S
        idle_s = self.counters.idle_since()
        while pool._workQueue or pool._idleCount < pool._workerCount:
            if (idle_s() > IDLE_GRACE_S and not pool._workQueue) or time.monotonic() > until_s:
                break
            time.sleep(_POLL_S)
