"""Handlers behind lighttpd: one process that starts them, and answers for them over HTTP."""

from __future__ import annotations

import contextlib
import signal
import socket
from collections.abc import Iterator
from typing import Callable

from agent import preparation, probe, process
from agent.frame import Frame
from agent.lease import Lease
from agent.load.report import tool
from agent.loading import Loaded, LocalLoad, http_url
from agent.measurement import Load
from agent.records import Record, Result, TrialRequest
from agent.server import Server


class LighttpdServer(Server):
    """lighttpd, running."""

    what = "lighttpd"

    @property
    def front_pids(self) -> tuple[int, ...]:
        """The process id of lighttpd."""
        return tuple(each.pid for each in self._started)

    def missing(self) -> str:
        """Say that lighttpd does not listen, unless it does."""
        try:
            with socket.create_connection((self._request.address, self._request.port), timeout=1.0):
                return ""
        except OSError:
            return " and lighttpd did not listen"

    def prove_service(self) -> None:
        """Prove that lighttpd answers with the very bytes expected.

        Raises
        ------
        TrialProblem
            `not_ready`.
        """
        request = self._request
        try:
            answer = probe.http(
                request.address, request.port, request.url_path, request.load.keepalive, self.request_body
            )
            wrong = answer.differs_from(request.expected_bytes, request.expected_sha256)
        except (OSError, ValueError) as error:
            raise self.not_ready(f"lighttpd did not answer {request.url_path}: {error}") from error
        if wrong:
            raise self.not_ready(f"lighttpd answered {request.url_path} with {wrong}")
        self.header_bytes = answer.header_bytes


class BehindLighttpd:
    """The arm of a trial in which lighttpd stands before the handlers.

    Parameters
    ----------
    request
        What is to be measured.
    lease
        How long it may take.
    say
        Where events before the result go.
    """

    def __init__(self, request: TrialRequest, lease: Lease, say: Callable[[Record], None]) -> None:
        self._request = request
        self._lease = lease
        self._say = say
        self.programs = {"lighttpd": request.lighttpd}
        if request.load_from is None:
            self.programs["the load generator"] = request.load.path

    def prepare(self, frame: Frame) -> None:
        """Write what lighttpd is to find."""
        preparation.write_server_files(self._request, frame.environment)
        preparation.require_free_port(self._request.address, self._request.port)

    @contextlib.contextmanager
    def serving(self, frame: Frame) -> Iterator[Server]:
        """Run lighttpd, which starts the handlers."""
        request = self._request
        command = [request.lighttpd, "-D", "-f", str(frame.work_dir / "lighttpd.conf")]
        output = frame.work_dir / "output.log"
        with process.running(
            command, frame.environment, output, request.server_cpus, signal.SIGTERM
        ) as running:
            yield LighttpdServer(request, [running], self._lease)

    def load(self, frame: Frame) -> Load:
        """Return what loads lighttpd."""
        request = self._request
        if request.load_from is not None:
            # what the usual trial does without costs its start nothing
            from agent.remote_load import LoadFromElsewhere  # noqa: PLC0415

            return LoadFromElsewhere(request, self._lease, self._say)
        return LocalLoad(
            request.load,
            tool(request.load.tool),
            http_url(request.address, request.port, request.url_path),
            cpus=request.load_cpus,
            work_dir=frame.work_dir,
            environment=frame.environment,
            lease=self._lease,
        )

    def judged(self, result: Result, loaded: Loaded) -> Result:
        """Return the result as it is: its gates are all there are."""
        return result
