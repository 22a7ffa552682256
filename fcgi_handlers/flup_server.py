"""flup's servers, run as FCGI (`handler(req)`), counted, and stopped at once without losing a request.

flup waits for connections in `select` with a time limit of one second or none, and Python resumes such a
wait after a signal (PEP 475): a server told to stop would sleep on. So SIGTERM shuts the listening socket
down for reading: the kernel refuses new connections from then on and still hands out those that wait,
flup's own loop takes them one by one, and leaves with EINVAL when none is left.
"""

from __future__ import annotations

import contextlib
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
from flup.server.threadpool import ThreadPool  # noqa: E402

# How long a stopping process waits for requests in work, and for connections that have sent none.
WORK_GRACE_S = 5.0
IDLE_GRACE_S = 0.05
_POLL_S = 0.002
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class CountedHandler:
    """The part that flup's servers share here: answer a request and count it."""

    workload: Workload
    counters: Counters
    capability: dict[Any, int]

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
        self.obey_signals(listener)
        return listener

    def obey_signals(self, listener: socket.socket) -> None:
        """Stop at the next SIGTERM, SIGINT or SIGHUP; each must have a handler in Python."""
        signals, wakeup = os.pipe()
        os.set_blocking(wakeup, False)
        signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
        threading.Thread(target=self._await_stop, args=(signals, listener), daemon=True).start()

    def _await_stop(self, signals: int, listener: socket.socket) -> None:
        while os.read(signals, 1)[0] not in STOP_SIGNALS:
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


def exit_when_idle(counters: Counters) -> None:
    """End the process when it has had no request for a while.

    A server that works on one connection at a time cannot leave one that is kept open but idle: told to stop,
    it ends so.
    """
    idle_s = counters.idle_since()
    while idle_s() < IDLE_GRACE_S:
        time.sleep(IDLE_GRACE_S / 10)
    os._exit(0)


class FairPool(ThreadPool):  # type: ignore[misc]
    """A pool that starts a thread when a connection would otherwise wait for one that never comes free.

    As published, `addJob` counts a thread as idle until it has woken up, so that connections which arrive
    together are promised the same one. With connections that end, the second waits a moment; with kept ones
    for ever: of 8 that a client opened at once 3 were never answered. Here the thread that wakes up last sees
    who still waits. (To count a thread as busy at once would start and end threads all the time: a fifth of
    the rate with 32 fresh connections.) Nothing else differs from flup.
    """

    def _worker(self) -> None:
        lock = self._lock
        with lock:
            while True:
                while not self._workQueue and not self._stop:
                    lock.wait()
                if self._stop:
                    return
                job = self._workQueue.pop(0)
                self._idleCount -= 1
                if self._workQueue and not self._idleCount:
                    self._add_thread()
                lock.release()
                try:
                    job.run()
                except Exception:  # noqa: S110 - as published: nobody is left to be told
                    pass
                finally:
                    lock.acquire()
                if self._idleCount == self._maxSpare:
                    break
                self._idleCount += 1
            self._threads.remove(threading.current_thread())
            self._workerCount -= 1

    def _add_thread(self) -> None:
        if self._workerCount < self._maxThreads:
            with contextlib.suppress(
                RuntimeError
            ):  # no more threads: who waits gets the next that comes free
                self._start_new_thread()
                self._workerCount += 1
                self._idleCount += 1


def sayable(capability: dict[Any, int]) -> dict[Any, int]:
    """Return what a server can do, by names that a GET_VALUES finds.

    As published, the names asked for are bytes and are looked up among strings: the answer is empty.
    """
    return {name.encode(): value for name, value in capability.items()}


class ThreadedServer(StoppableSocket, CountedHandler, WSGIServer):  # type: ignore[misc]
    """flup's threaded server around a workload, its connections and threads as published.

    Parameters
    ----------
    workload, counters
        What to answer, and where to count it.
    multiplexed
        Which of flup's two connection classes to use.
    pool
        Settings of flup's pool of threads.
    """

    def __init__(self, workload: Workload, counters: Counters, multiplexed: bool, **pool: int) -> None:
        super().__init__(application=None, multiplexed=multiplexed, **pool)
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


class MendedServer(ThreadedServer):
    """The threaded server with its pool and its answer to GET_VALUES mended.

    Parameters
    ----------
    workload, counters, multiplexed
        As for `ThreadedServer`.
    connection_class
        What serves a connection; a mended one.
    """

    def __init__(
        self, workload: Workload, counters: Counters, *, multiplexed: bool, connection_class: type[Connection]
    ) -> None:
        super().__init__(workload, counters, multiplexed, maxSpare=0)  # its own pool starts no threads
        self._jobClass = connection_class
        self._threadPool = FairPool()
        self.capability = sayable(self.capability)
