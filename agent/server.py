"""lighttpd and its handlers during a trial: start, proof that each answers, stop."""

from __future__ import annotations

import os
import re
import signal
import socket
import time
from pathlib import Path

from agent import handler_stats, marked, probe, procfs
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
    """The running server of a trial.

    Parameters
    ----------
    request
        What is to be measured; its work directory holds error.log, output.log, sock/ and stats/.
    process
        The lighttpd that was started.
    lease
        Ends every wait.
    """

    def __init__(self, request: TrialRequest, process: Process, lease: Lease) -> None:
        self._request = request
        self._work_dir = Path(request.work_dir)
        self._process = process
        self._lease = lease
        self.header_bytes = 0

    @property
    def pid(self) -> int:
        """The process id of lighttpd."""
        return self._process.pid

    @property
    def stats_dir(self) -> Path:
        """Where the handler processes keep their numbers."""
        return self._work_dir / "stats"

    def handler_pids(self) -> frozenset[int]:
        """Return the handler processes that run now."""
        return frozenset(pid for pid in handler_stats.read(self.stats_dir) if procfs.is_running(pid))

    def await_ready(self) -> None:
        """Wait until every handler process answers, and the service as a whole, with the very bytes expected.

        Raises
        ------
        TrialProblem
            `not_ready`: the reason says what is missing and quotes the log.
        """
        until_s = time.monotonic() + self._request.ready_timeout_s
        while len(self.handler_pids()) < self._request.processes or not self._listens():
            if self._process.has_ended:
                raise self._not_ready("lighttpd ended at once")
            if time.monotonic() > until_s:
                raise self._not_ready(self._progress())
            self._lease.wait([self._process.end_fd], _POLL_S)
        self._prove_each_handler()
        self._prove_service()

    def await_idle(self, patience_s: float) -> None:
        """Wait until no request is in work, so that the warm-up's last ones are not counted; not for ever."""
        until_s = time.monotonic() + patience_s
        while time.monotonic() < until_s:
            if not any(stats.in_flight for stats in handler_stats.read(self.stats_dir).values()):
                return
            self._lease.wait([self._process.end_fd], _POLL_S)

    def stop(self) -> tuple[str, ...]:
        """Stop lighttpd, which stops its handlers; return the processes that had to be killed."""
        handlers = self.handler_pids()
        self._process.signal(signal.SIGTERM)
        marked.await_end([self.pid, *handlers], _STOP_PATIENCE_S)
        self._process.kill()
        killed = marked.kill(self._request.prefix)
        marked.reap()
        return tuple(f"{each.pid} {each.cmd}" for each in killed)

    def complaints(self) -> tuple[str, ...]:
        """Return the lines of both logs that tell of something unusual."""
        lines = (self._tail("error.log") + "\n" + self._tail("output.log")).splitlines()
        return tuple(line for line in lines if line.strip() and not _USUAL.search(line))

    def _progress(self) -> str:
        listening = "listened" if self._listens() else "did not listen"
        return (
            f"after {self._request.ready_timeout_s:g} s {len(self.handler_pids())} of"
            f" {self._request.processes} handler processes ran and lighttpd {listening}"
        )

    def _listens(self) -> bool:
        try:
            with socket.create_connection((self._request.address, self._request.port), timeout=1.0):
                return True
        except OSError:
            return False

    def _prove_each_handler(self) -> None:
        request = self._request
        if request.processes == 0:
            return
        sockets = sorted((self._work_dir / "sock").iterdir())
        if len(sockets) != request.processes:
            raise self._not_ready(f"{len(sockets)} handler sockets for {request.processes} processes")
        for path in sockets:
            try:
                wrong = probe.fastcgi(path, request.url_path).differs_from(
                    request.expected_bytes, request.expected_sha256
                )
            except (OSError, ValueError) as error:
                wrong = f"nothing: {error}"
            if wrong:
                raise self._not_ready(f"the handler behind {path.name} answered with {wrong}")
        silent = [pid for pid, stats in handler_stats.read(self.stats_dir).items() if stats.done == 0]
        if silent:
            raise self._not_ready(f"handler process {silent[0]} has no socket of its own")

    def _prove_service(self) -> None:
        request = self._request
        try:
            answer = probe.http(request.address, request.port, request.url_path, request.load.keepalive)
            wrong = answer.differs_from(request.expected_bytes, request.expected_sha256)
        except (OSError, ValueError) as error:
            raise self._not_ready(f"lighttpd did not answer {request.url_path}: {error}") from error
        if wrong:
            raise self._not_ready(f"lighttpd answered {request.url_path} with {wrong}")
        self.header_bytes = answer.header_bytes

    def _not_ready(self, fact: str) -> TrialProblem:
        said = [line for line in self.complaints() if line.strip()]
        return TrialProblem("not_ready", f"{fact}; {'; '.join(said[-4:]) or 'its log says nothing'}"[:1000])

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
