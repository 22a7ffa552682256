"""Warm up, measure, collect the evidence: counters before and after, a glance a second in between."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from agent import handler_stats, process, snapshot
from agent.gates import Evidence
from agent.handler_stats import HandlerStats
from agent.lease import Lease
from agent.load.report import LoadError, LoadReport, Order, Output, Tool, order
from agent.process import Ended
from agent.records import Counters, HandlerCount, TrialRequest, Window
from agent.server import Server, tail

_LOAD_GRACE_S = 10.0
_IDLE_PATIENCE_S = 0.5
_FEWEST_WINDOWS = 5


class Measurement:
    """The loaded part of a trial.

    Parameters
    ----------
    request, server, tool, lease
        What is measured, where, with what and for how long.
    environment
        For the load generator; carries the marks of the trial.
    """

    def __init__(
        self,
        request: TrialRequest,
        server: Server,
        tool: Tool,
        lease: Lease,
        environment: Mapping[str, str],
    ) -> None:
        self._request = request
        self._server = server
        self._tool = tool
        self._lease = lease
        self._work_dir = Path(request.work_dir)
        self._environment = environment
        self._windows: list[Window] = []

    def warm_up(self) -> None:
        """Load the server with a process of its own, and forget the outcome.

        Load generators count whole seconds, so this one is told more and ended when the warm-up is over.
        """
        warmup_s = self._request.load.warmup_s
        if warmup_s > 0:
            with self._load(warmup_s) as (load, _, output):
                if self._lease.wait([load.end_fd], warmup_s):
                    self._tool.parse(output(load.reap()))
        self._server.await_idle(_IDLE_PATIENCE_S)

    def measure(self) -> None:
        """Load the server between two looks at all counters.

        Raises
        ------
        LoadError
            The load generator failed.
        TrialProblem
            The lease ended.
        """
        stats_dir, lighttpd = self._server.stats_dir, self._server.pid
        self._pids_before = self._server.handler_pids()
        self._stats_before = handler_stats.read_with_usage(stats_dir, self._pids_before)
        handlers_before = snapshot.group(self._pids_before, self._stats_before)
        lighttpd_before = snapshot.group([lighttpd])
        system_before = snapshot.system()

        self._report, end = self._run_load(self._request.load.measure_s)

        system_after = snapshot.system()
        lighttpd_after = snapshot.group([lighttpd])
        self._pids_after = self._server.handler_pids()
        self._stats_after = handler_stats.read_with_usage(stats_dir, self._pids_after)
        handlers_after = snapshot.group(self._pids_after, self._stats_after)
        self._counters = Counters(
            lighttpd=snapshot.group_between(lighttpd_before, lighttpd_after),
            handlers=snapshot.group_between(handlers_before, handlers_after),
            load=snapshot.ended(end),
            system=snapshot.system_between(system_before, system_after),
        )

    def evidence(self, complaints: tuple[str, ...], leftovers: tuple[str, ...]) -> Evidence:
        """Return all that is known about the measurement, given what showed when the server stopped."""
        return Evidence(
            request=self._request,
            load=self._report,
            asked_s=self._seconds,
            counters=self._counters,
            handlers=handler_counts(self._stats_before, self._stats_after),
            windows=tuple(self._windows),
            pids_before=self._pids_before,
            pids_after=self._pids_after,
            header_bytes=self._server.header_bytes,
            complaints=complaints,
            leftovers=leftovers,
        )

    def _run_load(self, duration_s: float) -> tuple[LoadReport, Ended]:
        with self._load(duration_s) as (load, due, output):
            self._seconds = due.seconds
            self._await_end(load, due.seconds, self._request.processes > 0)
            end = load.reap()
        return self._tool.parse(output(end)), end

    @contextmanager
    def _load(self, duration_s: float) -> Iterator[tuple[process.Process, Order, Callable[[Ended], Output]]]:
        """Run the load generator; it is killed if it still runs at the end of the block."""
        request = self._request
        text, csv = self._work_dir / "load.txt", self._work_dir / "load.csv"
        host = f"[{request.address}]" if ":" in request.address else request.address
        due = order(request.load, f"http://{host}:{request.port}{request.url_path}", duration_s, csv)
        command = self._tool.command(due)
        with process.running(command, self._environment, text, request.load_cpus, signal.SIGKILL) as load:
            yield load, due, lambda end: Output(text=tail(text), csv=tail(csv), status=end.status)

    def _await_end(self, load: process.Process, seconds: int, watched: bool) -> None:
        """Sleep until the load generator ends; if `watched`, look at the handlers' counts once a window."""
        began_s = time.monotonic()
        limit_s = seconds + _LOAD_GRACE_S
        window_s = min(1.0, seconds / _FEWEST_WINDOWS)
        ahead = [window_s * (i + 1) for i in range(int(seconds / window_s + 0.5))] if watched else []
        counted = self._served() if watched else 0
        while True:
            passed_s = time.monotonic() - began_s
            if self._lease.wait([load.end_fd], max(0.0, (ahead[0] if ahead else limit_s) - passed_s)):
                return
            passed_s = time.monotonic() - began_s
            if passed_s >= limit_s:
                raise LoadError(
                    f"{self._tool.name} did not end within {limit_s:g} s; it was told {seconds} s"
                )
            if ahead:
                ahead.pop(0)
                served = self._served()
                self._windows.append(Window(t_s=round(passed_s, 6), requests=served - counted))
                counted = served

    def _served(self) -> int:
        return sum(stats.done for stats in handler_stats.read(self._server.stats_dir).values())


def handler_counts(
    before: Mapping[int, HandlerStats], after: Mapping[int, HandlerStats]
) -> tuple[HandlerCount, ...]:
    """Return what each handler process served between two readings."""
    return tuple(
        HandlerCount(
            pid=pid,
            requests=stats.done - (before[pid].done if pid in before else 0),
            peak_in_process=stats.peak_in_flight,
        )
        for pid, stats in sorted(after.items())
    )
