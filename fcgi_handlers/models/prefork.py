"""flup's preforking server: processes that take connections from one socket, and a parent that watches them.

The web server starts the parent only; it forks FCGI_SWEEP_CHILDREN processes and keeps that number. Each
takes one request at a time, whichever comes, where separate processes are bound to what the web server gave
them. As published, each waits in `select` (all wake up for a connection, one gets it) and tells the parent
when it begins and when it has done, which wakes the parent twice a request.

Three defects are mended. The parent compares what it is told, bytes, with a string: no process was ever busy
to it. Told to stop, it waits on in `select`, since Python resumes that after a signal (PEP 475). And its
processes, told to stop, drop the request they are at.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import time
from types import FrameType
from typing import Any, NoReturn, Optional

from fcgi_handlers.flup_server import (
    STOP_SIGNALS,
    WORK_GRACE_S,
    ClosingConnection,
    CountedHandler,
    StoppableSocket,
    exit_when_idle,
    sayable,
)
from fcgi_handlers.model import Count, Model
from fcgi_handlers.workload import Workload

from flup.server.fcgi_fork import WSGIServer  # isort: skip

_POLL_S = 0.002


class ToldToStop(Exception):
    """Ends the parent's wait for its children."""


class LineToChild(socket.socket):
    """The parent's end of its line to a child, in text: flup compares and sends strings."""

    def recv(self, bufsize: int, flags: int = 0) -> str:  # type: ignore[override]
        """Return what the child says, as text."""
        return super().recv(bufsize, flags).decode("latin-1")

    def send(self, data: str, flags: int = 0) -> int:  # type: ignore[override]
        """Tell the child something."""
        return super().send(data.encode("latin-1"), flags)


class PreforkServer(StoppableSocket, CountedHandler, WSGIServer):  # type: ignore[misc]
    """flup's preforking server around a workload.

    Parameters
    ----------
    workload
        What to answer.
    count
        Opens the counters of a child.
    children
        How many processes serve.
    """

    def __init__(self, workload: Workload, count: Count, children: int) -> None:
        super().__init__(application=None, minSpare=children, maxSpare=children, maxChildren=children)
        self._jobClass = ClosingConnection
        self.capability = sayable(self.capability)
        self.workload = workload
        self._count = count

    def run(self) -> None:
        """Watch over the children until SIGTERM, SIGINT or SIGHUP, then let them finish what has begun."""
        try:
            super().run()
        except ToldToStop:
            self._end_children()

    def obey_signals(self, listener: socket.socket) -> None:
        """Remember the socket; in the parent a signal ends the wait by an exception."""
        self._listener = listener

    def _intHandler(self, signum: int, frame: Optional[FrameType]) -> NoReturn:
        raise ToldToStop

    _hupHandler = _intHandler

    def _spawnChild(self, sock: socket.socket) -> bool:
        known = set(self._children)
        started: bool = super()._spawnChild(sock)
        for pid in set(self._children) - known:
            line = self._children[pid]["file"]
            self._children[pid]["file"] = LineToChild(fileno=line.detach())
        return started

    def _child(self, sock: socket.socket, parent: socket.socket) -> NoReturn:
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        self.counters = self._count()
        for number in STOP_SIGNALS:
            signal.signal(number, _heed)
        super().obey_signals(sock)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
        super()._child(sock, parent)  # returns when the parent is gone
        sys.stderr.flush()
        os._exit(0)

    def told_to_stop(self) -> None:
        """End a child when nobody waits any more and no connection that is kept open has a request."""
        exit_when_idle(self.counters)

    def _end_children(self) -> None:
        for number in STOP_SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RD)  # also for a child so young that it misses its signal
        _tell(self._children, signal.SIGTERM)
        until_s = time.monotonic() + WORK_GRACE_S
        while _has_children() and time.monotonic() < until_s:
            time.sleep(_POLL_S)
        _tell(self._children, signal.SIGKILL)


def _heed(signum: int, frame: Optional[FrameType]) -> None:
    """Leave it to the thread that waits for signals."""


def _tell(children: dict[int, Any], signum: signal.Signals) -> None:
    for pid in children:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signum)


def _has_children() -> bool:
    """Take the exit status of a child that has ended; tell whether any is left."""
    try:
        os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return False
    return True


def serve(workload: Workload, count: Count) -> None:
    """Serve with as many processes as FCGI_SWEEP_CHILDREN says, one without it."""
    PreforkServer(workload, count, int(os.environ.get("FCGI_SWEEP_CHILDREN", "1"))).run()


MODEL = Model(
    summary="processes that share one socket, each one request at a time (flup, mended)",
    serve=serve,
    peak_in_process=1,
    multiplexes=False,
    shares_socket=True,
)
