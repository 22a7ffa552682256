"""What answers during a trial: proof that each handler process does, its complaints, its end."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Sequence
from pathlib import Path

from agent import handler_stats, marked, preparation, probe, procfs
from agent.lease import Lease
from agent.problems import TrialProblem
from agent.process import Process
from agent.records import TrialRequest

_POLL_S = 0.004
_STOP_PATIENCE_S = 2.0
_TAIL_BYTES = 65536
# What lighttpd logs in a life without events.
_USUAL = re.compile(r"server (started|stopped)|(?:^|: )(?:\[note\]|graceful shutdown)")


class Server:
    """The handler processes of a trial and what stands before them, running.

    What stands before them makes the difference: see `agent.lighttpd` and `agent.bare_handlers`.

    Parameters
    ----------
    request
        What is to be measured; its work directory holds error.log, output.log, sock/ and stats/.
    started
        The processes that the agent started; they may have started others.
    lease
        Ends every wait.
    """

    what = ""
    """What the agent started, in words."""
    header_bytes = 0

    def __init__(self, request: TrialRequest, started: Sequence[Process], lease: Lease) -> None:
        self._request = request
        self._work_dir = Path(request.work_dir)
        self._started = tuple(started)
        self._lease = lease

    @property
    def front_pids(self) -> tuple[int, ...]:
        """The web server's processes."""
        raise NotImplementedError

    def missing(self) -> str:
        """Say, as a clause, what besides handler processes is not there yet; nothing when all is."""
        raise NotImplementedError

    def prove_service(self) -> None:
        """Prove what is to be proven about the whole, once each handler process has answered.

        Raises
        ------
        TrialProblem
            `not_ready`.
        """
        raise NotImplementedError

    @property
    def stats_dir(self) -> Path:
        """Where the handler processes keep their numbers."""
        return self._work_dir / "stats"

    def handler_pids(self) -> frozenset[int]:
        """Return the handler processes that run now."""
        return frozenset(pid for pid in handler_stats.read(self.stats_dir) if procfs.is_running(pid))

    def handler_family(self) -> frozenset[int]:
        """Return the handler processes that run now, and those besides the web server that started them."""
        handlers = self.handler_pids()
        found = [procfs.stat(pid) for pid in handlers]
        parents = {each.ppid for each in found if each is not None}
        return handlers | (parents - {os.getpid(), *self.front_pids})

    @property
    def request_body(self) -> bytes:
        """The body of every request."""
        return preparation.request_body(self._work_dir, self._request.load)

    def await_front(self) -> None:
        """Wait until requests are taken, whether or not a handler process is there to answer them.

        Raises
        ------
        TrialProblem
            `not_ready`.
        """
        until_s = time.monotonic() + self._request.ready_timeout_s
        while self.missing():
            self._wait_on(until_s)

    def await_ready(self) -> None:
        """Wait until every handler process answers, and the service as a whole, with the very bytes expected.

        Raises
        ------
        TrialProblem
            `not_ready`: the reason says what is missing and quotes the log.
        """
        until_s = time.monotonic() + self._request.ready_timeout_s
        while len(self.handler_pids()) < self._request.processes or self.missing():
            self._wait_on(until_s)
        self._prove_each_handler(until_s)
        self.prove_service()

    def await_idle(self, patience_s: float) -> None:
        """Wait until no request is in work, so that the warm-up's last ones are not counted; not for ever."""
        until_s = time.monotonic() + patience_s
        while time.monotonic() < until_s:
            if not any(stats.in_flight for stats in handler_stats.read(self.stats_dir).values()):
                return
            self._pause()

    def stop(self) -> tuple[str, ...]:
        """Tell what was started to stop, and its handlers with it; return what had to be killed."""
        handlers = self.handler_family()
        for each in self._started:
            each.signal(signal.SIGTERM)
        marked.await_end({*(each.pid for each in self._started), *handlers}, _STOP_PATIENCE_S)
        killed = marked.kill(self._request.prefix)
        for each in self._started:
            each.kill()
        marked.reap()
        return tuple(f"{each.pid} {each.cmd}" for each in killed)

    def complaints(self) -> tuple[str, ...]:
        """Return the lines of both logs that tell of something unusual."""
        lines = (self._tail("error.log") + "\n" + self._tail("output.log")).splitlines()
        return tuple(line for line in lines if line.strip() and not _USUAL.search(line))

    def not_ready(self, fact: str) -> TrialProblem:
        """Return the problem that the server does not do its part, with the last lines of its logs."""
        said = [line for line in self.complaints() if line.strip()]
        return TrialProblem("not_ready", f"{fact}; {'; '.join(said[-4:]) or 'its log says nothing'}"[:1000])

    def _wait_on(self, until_s: float) -> None:
        if any(each.has_ended for each in self._started):
            raise self.not_ready(f"{self.what} ended at once")
        if time.monotonic() > until_s:
            raise self.not_ready(self._progress())
        self._pause()

    def _progress(self) -> str:
        found = f"{len(self.handler_pids())} of {self._request.processes} handler processes ran"
        return f"after {self._request.ready_timeout_s:g} s {found}{self.missing()}"

    def _pause(self) -> None:
        self._lease.wait([each.end_fd for each in self._started], _POLL_S)

    def _prove_each_handler(self, until_s: float) -> None:
        request, shares = self._request, self._request.promise.shares_socket
        if request.processes == 0:
            return
        sockets = sorted((self._work_dir / "sock").iterdir())
        if len(sockets) != (1 if shares else request.processes):
            raise self.not_ready(f"{len(sockets)} handler sockets for {request.processes} processes")
        for path in sockets:
            self._prove_socket(path, together=request.processes if shares else 1)
        # where they share one, a process that has just begun may have been too late for its request
        while shares and self._silent() and time.monotonic() < until_s:
            self._prove_socket(sockets[0], together=request.processes)
        if silent := self._silent():
            raise self.not_ready(f"handler process {silent[0]} has no socket of its own, or takes no request")

    def _prove_socket(self, path: Path, together: int) -> None:
        request = self._request
        try:
            answers = probe.fastcgi(path, request.url_path, self.request_body, together)
            found = [each.differs_from(request.expected_bytes, request.expected_sha256) for each in answers]
        except (OSError, ValueError) as error:
            found = [f"nothing: {error}"]
        if wrong := next(filter(None, found), ""):
            raise self.not_ready(f"the handler behind {path.name} answered with {wrong}")

    def _silent(self) -> list[int]:
        running = self.handler_pids()
        found = handler_stats.read(self.stats_dir).items()
        return [pid for pid, stats in found if stats.done == 0 and pid in running]

    def _tail(self, name: str) -> str:
        return tail(self._work_dir / name)


def tail(path: Path) -> str:
    """Return the end of a file, at most 64 KiB; empty when there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
            return file.read().decode(errors="replace")
    except FileNotFoundError:
        return ""
