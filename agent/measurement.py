"""Warm up, measure, collect the evidence: counters before and after, a glance now and then in between."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Optional, Protocol

from agent import handler_stats, snapshot
from agent.gates import Evidence
from agent.handler_stats import HandlerStats
from agent.loading import Loaded
from agent.records import Counters, HandlerCount, Startup, TrialRequest
from agent.server import Server
from agent.snapshot import GroupSnapshot, SystemSnapshot
from agent.windows import Windows

_IDLE_PATIENCE_S = 0.5


class Load(Protocol):
    """Something that loads the server: a load generator on this host, or on another one."""

    def warm_up(self) -> None:
        """Load the server and forget the outcome."""

    def measure(self, windows: Windows) -> Loaded:
        """Load the server and watch its windows."""


class Measurement:
    """The loaded part of a trial.

    Parameters
    ----------
    request, server, load
        What is measured, where, and who makes the load.
    """

    def __init__(self, request: TrialRequest, server: Server, load: Load) -> None:
        self.request = request
        self.server = server
        self._load = load
        self.windows = Windows(server.stats_dir if request.processes > 0 else None)

    def warm_up(self) -> None:
        """Load the server, and wait until it has done with that."""
        self._load.warm_up()
        self.server.await_idle(_IDLE_PATIENCE_S)

    def measure(self) -> None:
        """Load the server between two looks at all counters.

        Raises
        ------
        LoadError
            The load generator failed.
        TrialProblem
            The lease ended.
        """
        server = self.server
        self._pids_before = server.handler_pids()
        self._stats_before = handler_stats.read_with_usage(server.stats_dir, self._pids_before)
        handlers_before = snapshot.group(server.handler_family(), self._stats_before)
        lighttpd_before = snapshot.group(server.front_pids)
        system_before = snapshot.system(self.request.server_cpus)
        self.load_since(system_before, lighttpd_before, handlers_before)

    def load_since(self, system: SystemSnapshot, lighttpd: GroupSnapshot, handlers: GroupSnapshot) -> None:
        """Load the server; all counters count from the snapshots."""
        server = self.server
        self._loaded = self._load.measure(self.windows)
        system_after = snapshot.system(self.request.server_cpus)
        lighttpd_after = snapshot.group(server.front_pids)
        self._pids_after = server.handler_pids()
        self._stats_after = handler_stats.read_with_usage(server.stats_dir, self._pids_after)
        handlers_after = snapshot.group(server.handler_family(), self._stats_after)
        self._counters = Counters(
            lighttpd=snapshot.group_between(lighttpd, lighttpd_after),
            handlers=snapshot.group_between(handlers, handlers_after),
            load=self._loaded.counters,
            system=snapshot.system_between(system, system_after),
        )

    @property
    def loaded(self) -> Loaded:
        """What came of the measurement where the load was made."""
        return self._loaded

    def startup(self) -> Optional[Startup]:
        """Return how the server came to its rate, where that was measured."""
        return None

    def evidence(self, complaints: tuple[str, ...], leftovers: tuple[str, ...]) -> Evidence:
        """Return all that is known about the measurement, given what showed when the server stopped."""
        return Evidence(
            request=self.request,
            load=self._loaded.report,
            asked_s=self._loaded.asked_s,
            counters=self._counters,
            handlers=handler_counts(self._stats_before, self._stats_after),
            windows=self.windows.done,
            pids_before=self._pids_before,
            pids_after=self._pids_after,
            header_bytes=self.server.header_bytes,
            complaints=complaints,
            leftovers=leftovers,
            load_host=self._loaded.host,
        )


def handler_counts(
    before: Mapping[int, HandlerStats], after: Mapping[int, HandlerStats]
) -> tuple[HandlerCount, ...]:
    """Return what each handler process served between two readings."""
    return tuple(_handler_count(before.get(pid), stats) for pid, stats in sorted(after.items()))


def _handler_count(before: Optional[HandlerStats], after: HandlerStats) -> HandlerCount:
    counts = after.connections > 0
    return HandlerCount(
        pid=after.pid,
        requests=after.done - (before.done if before else 0),
        peak_in_process=after.peak_in_flight,
        connections=after.connections - (before.connections if before else 0) if counts else None,
        highest_id=after.highest_id if counts else None,
        peak_ids_per_connection=after.peak_ids_per_connection if counts else None,
    )
