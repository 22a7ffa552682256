"""Handlers without a web server: the agent starts them on their sockets, its own client drives them."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

from agent import preparation, process
from agent.frame import Frame
from agent.lease import Lease
from agent.load import fcgi
from agent.load.report import tool
from agent.loading import Loaded, LocalLoad
from agent.measurement import Load
from agent.records import Result, TrialRequest, WireSpec
from agent.server import Server
from agent.wire import gates
from agent.wire.capabilities import ask
from agent.wire.command import load_to_json
from agent.wire.probe import refusal
from agent.wire.protocol import web_request
from agent.wire.results import Expectation, WireLoad

LIGHTTPDS_OWN = {"PHP_FCGI_CHILDREN": "1"}
"""What lighttpd adds to the environment of every handler that it starts."""
_ANSWER_TIMEOUT_S = 5.0


class BareHandlers(Server):
    """Handler processes, running.

    Parameters
    ----------
    request, started, lease
        As those of `Server`.
    load
        What they are to be loaded with.
    """

    what = "a handler process"

    def __init__(
        self, request: TrialRequest, started: list[process.Process], lease: Lease, load: WireLoad
    ) -> None:
        super().__init__(request, started, lease)
        self._load = load

    @property
    def front_pids(self) -> tuple[int, ...]:
        """None: there is no web server."""
        return ()

    def missing(self) -> str:
        """Say nothing: the sockets were there before the handlers."""
        return ""

    def prove_service(self) -> None:
        """Ask the first handler what it can do, and prove that the load may be put on it.

        One that says, or promises, that it multiplexes is believed here: if it fails to, that is a finding of
        the measurement.

        Raises
        ------
        TrialProblem
            `not_ready`: the handler cannot do what is asked.
        """
        says = ask(self._load.addresses[0])
        if says.multiplexes is None and self._request.promise.multiplexes:
            says = dataclasses.replace(says, multiplexes=True)
        if reason := refusal(says, self._load):
            raise self.not_ready(f"{self._request.handler}: {reason}; leave the cell out")


class OnTheWire:
    """The arm of a trial in which nothing stands before the handlers.

    Parameters
    ----------
    request
        What is to be measured.
    wire
        Its part about the wire.
    lease
        How long it may take.
    """

    def __init__(self, request: TrialRequest, wire: WireSpec, lease: Lease) -> None:
        self._request = request
        self._wire = wire
        self._lease = lease
        count = 1 if request.promise.shares_socket else request.processes
        self._sockets = [Path(request.work_dir) / "sock" / f"handler-{number}" for number in range(count)]
        self._wire_load = WireLoad(
            addresses=tuple(map(str, self._sockets)),
            request=web_request(request.url_path),
            expectation=Expectation(request.expected_bytes, request.expected_sha256),
            connections=wire.connections,
            in_flight=wire.in_flight,
            keep_conn=wire.keep_conn,
            answer_timeout_s=_ANSWER_TIMEOUT_S,
        )
        self.programs = {"the handlers' interpreter": wire.command[0]}

    def prepare(self, frame: Frame) -> None:
        """Write what the client is to find."""
        preparation.make_server_directories(frame.work_dir)
        preparation.write_request_body(self._request, frame.environment)
        body = preparation.request_body(frame.work_dir, self._request.load)
        asked = web_request(self._request.url_path, body=body)
        self._wire_load = dataclasses.replace(self._wire_load, request=asked)
        document = json.dumps(load_to_json(self._wire_load))
        self._order(frame).write_text(document, encoding="utf-8")

    @contextlib.contextmanager
    def serving(self, frame: Frame) -> Iterator[Server]:
        """Run the handlers, each with its own socket, as lighttpd would start them."""
        command = self._wire.command
        environment = {**frame.environment, **LIGHTTPDS_OWN, **self._wire.environment}
        with contextlib.ExitStack() as stack:
            started = []
            for path in self._sockets:
                with _listening(path, self._wire.backlog) as listener:
                    running = process.running(
                        command,
                        environment,
                        frame.work_dir / "error.log",
                        self._request.server_cpus,
                        signal.SIGKILL,
                        stdin=listener.fileno(),
                        directory=Path(command[0]).parent,
                    )
                    started.append(stack.enter_context(running))
            yield BareHandlers(self._request, started, self._lease, self._wire_load)

    def load(self, frame: Frame) -> Load:
        """Return the client, in a process of its own."""
        return LocalLoad(
            self._request.load,
            tool(self._request.load.tool),
            f"{fcgi.SCHEME}{self._order(frame)}",
            cpus=self._request.load_cpus,
            work_dir=frame.work_dir,
            environment=frame.environment,
            lease=self._lease,
        )

    def judged(self, result: Result, loaded: Loaded) -> Result:
        """Return the result with what the client saw of the regime, and the gates about that."""
        assert loaded.output is not None  # noqa: S101  (the client runs on this host)
        found = fcgi.result(loaded.output)
        return dataclasses.replace(
            result,
            wire={**dataclasses.asdict(found.evidence), "faults": found.faults},
            gates=(*result.gates, *gates.judge(self._wire_load, found)),
        )

    def _order(self, frame: Frame) -> Path:
        return frame.work_dir / "load.json"


@contextlib.contextmanager
def _listening(path: Path, backlog: int) -> Iterator[socket.socket]:
    """Listen at a path for the handler that is started meanwhile; afterwards the socket is the handler's."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(os.fspath(path))
        listener.listen(backlog)
        yield listener
