"""A trial of a start: the load begins as soon as requests are taken, long before all processes are up."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import replace
from typing import Optional

from agent import handler_stats, snapshot
from agent.gates import Evidence
from agent.load.report import LoadError, whole_seconds
from agent.measurement import Load, Measurement
from agent.problems import TrialProblem
from agent.records import Startup, TrialRequest
from agent.server import Server
from agent.snapshot import SystemSnapshot
from agent.start_windows import StartWindows, full_rate_s
from agent.trial import Trial

_NOTHING = snapshot.group([])


class StartTrial(Trial):
    """A trial under way; there is no warm-up, and the proof that every process answers comes afterwards."""

    def under_load(self, stack: ExitStack, load: Load) -> Measurement:
        """Start the server for the length of the stack, and load it from its first moment on."""
        frame = self.frame
        system_before, began_s = snapshot.system(self.request.server_cpus), time.monotonic()
        with frame.step("start"):
            server = stack.enter_context(self.arm.serving(frame))
            server.await_front()
        measurement = StartMeasurement(self.request, server, load, began_s, system_before)
        with frame.step("measure"):
            measurement.measure()
        with frame.step("ready"):
            measurement.prove()
        return measurement


class StartMeasurement(Measurement):
    """The loaded part of a start.

    Parameters
    ----------
    request, server, load
        As those of `Measurement`.
    began_s
        When the server was started, by the monotonic clock.
    system_before
        The host's counters at that moment.
    """

    def __init__(
        self,
        request: TrialRequest,
        server: Server,
        load: Load,
        began_s: float,
        system_before: SystemSnapshot,
    ) -> None:
        super().__init__(request, server, load)
        self._horizon_s = float(whole_seconds(request.load.measure_s))
        self._start_windows = StartWindows(server.stats_dir, began_s, self._horizon_s)
        self.windows = self._start_windows
        self._system_before = system_before

    def measure(self) -> None:
        """Load the server; all counters count from its start.

        Raises
        ------
        LoadError
            The load generator failed.
        TrialProblem
            The lease ended, or nothing was ever answered.
        """
        self._stats_before = {}
        load_problem: Optional[LoadError] = None
        try:
            self.load_since(self._system_before, _NOTHING, _NOTHING)
        except LoadError as error:
            load_problem = error
        if self._start_windows.first_answer_s is None:
            said = f" ({load_problem})" if load_problem else ""
            raise TrialProblem(
                "not_ready",
                f"nothing was answered in the first {self._horizon_s:g} s{said}; choose a longer measure_s",
            )
        if load_problem is not None:
            raise load_problem

    def prove(self) -> None:
        """Prove that every handler process answers, once all have started."""
        self.server.await_ready()
        # all that ever reported: one that died while it started would be missing from those that run
        self._pids_before = frozenset(handler_stats.read(self.server.stats_dir))
        self._pids_after = self.server.handler_pids()

    def startup(self) -> Optional[Startup]:
        """Return how the server came to its rate."""
        windows, first_answer_s = self.windows.done, self._start_windows.first_answer_s
        assert first_answer_s is not None  # noqa: S101  (measure looked)
        full_s = full_rate_s(windows)
        return Startup(
            first_answer_s=first_answer_s,
            horizon_s=self._horizon_s,
            # windows are coarser than the moment of the first answer
            full_rate_s=None if full_s is None else max(full_s, first_answer_s),
            cost_s=self.request.startup_cost_s,
            windows=windows,
        )

    def evidence(self, complaints: tuple[str, ...], leftovers: tuple[str, ...]) -> Evidence:
        """Return all that is known; the windows are none of a steady rate."""
        return replace(super().evidence(complaints, leftovers), windows=())
