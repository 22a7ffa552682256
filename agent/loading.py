"""A load generator at work on this host: warm-up, measurement, and what came of it."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from agent import preparation, probe, process, snapshot
from agent.lease import Lease
from agent.load.report import LoadError, LoadReport, Output, Tool, order, whole_seconds
from agent.process import Ended
from agent.records import GroupCounters, LoadHost, LoadSpec
from agent.server import tail
from agent.windows import Windows

_GRACE_S = 10.0


@dataclass(frozen=True)
class Loaded:
    """What came of a measurement where the load is made.

    `counters` are the load generator's; `host` is None where it ran beside the server, and `output`, all that
    it said, where it did not.
    """

    report: LoadReport
    asked_s: int
    counters: GroupCounters
    host: Optional[LoadHost] = None
    output: Optional[Output] = None


class LocalLoad:
    """A load generator that runs on this host.

    Parameters
    ----------
    spec, tool
        What is asked of it, and which one it is.
    url
        What it asks for.
    cpus
        Where it may run; None for anywhere.
    work_dir
        Where its output goes.
    environment
        Carries the marks of the trial.
    lease
        Ends every wait.
    """

    def __init__(
        self,
        spec: LoadSpec,
        tool: Tool,
        url: str,
        *,
        cpus: Optional[Sequence[int]],
        work_dir: Path,
        environment: Mapping[str, str],
        lease: Lease,
    ) -> None:
        self._spec = spec
        self._tool = tool
        self._url = url
        self._cpus = cpus
        self._work_dir = work_dir
        self._environment = environment
        self._lease = lease

    def warm_up(self) -> None:
        """Load the server with a process of its own, and forget the outcome.

        One that counts whole seconds is told more and ended when the warm-up is over. What it had under way
        then may reach the handlers so late that they count it with the measurement. One that takes fractions
        ends by itself: what both ends say of the measurement is the same to the last connection.
        """
        warmup_s, ends_itself = self._spec.warmup_s, self._tool.takes_fractions
        if warmup_s > 0:
            told_s = warmup_s if ends_itself else whole_seconds(warmup_s)
            with self._running(told_s) as (load, output):
                if self._lease.wait([load.end_fd], warmup_s + (_GRACE_S if ends_itself else 0)):
                    self._tool.parse(output(load.reap()))

    def measure(self, windows: Windows) -> Loaded:
        """Load the server and watch its windows.

        Raises
        ------
        LoadError
            The load generator failed.
        TrialProblem
            The lease ended.
        """
        seconds = whole_seconds(self._spec.measure_s)
        with self._running(seconds) as (load, output):
            windows.begin(seconds)
            self._await_end(load, seconds, windows)
            end = load.reap()
            said = output(end)
        return Loaded(self._tool.parse(said), seconds, snapshot.ended(end), output=said)

    @contextmanager
    def _running(self, seconds: float) -> Iterator[tuple[process.Process, Callable[[Ended], Output]]]:
        """Run the load generator; it is killed if it still runs at the end of the block."""
        text, csv = self._work_dir / "load.txt", self._work_dir / "load.csv"
        body = preparation.request_file(self._work_dir, self._spec)
        command = self._tool.command(order(self._spec, self._url, seconds, csv, body))
        text.unlink(missing_ok=True)
        with process.running(command, self._environment, text, self._cpus, signal.SIGKILL) as load:
            yield load, lambda end: Output(text=tail(text), csv=tail(csv), status=end.status)

    def _await_end(self, load: process.Process, seconds: int, windows: Windows) -> None:
        limit_s = seconds + _GRACE_S
        until_s = time.monotonic() + limit_s
        while not self._lease.wait([load.end_fd], min(windows.pause_s(), until_s - time.monotonic())):
            if time.monotonic() >= until_s:
                raise LoadError(
                    f"{self._tool.name} did not end within {limit_s:g} s; it was told {seconds} s"
                )
            windows.look()


def http_url(address: str, port: int, url_path: str) -> str:
    """Return the URL of a service."""
    return f"http://{probe.url_host(address)}:{port}{url_path}"
