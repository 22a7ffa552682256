"""The load of a trial whose load generator runs on another host, as the server's host sees it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Callable, Optional

from agent import handler_stats
from agent.dialogue import Begun, Order, Ready, RemoteLoad, await_order
from agent.lease import Lease
from agent.loading import Loaded
from agent.problems import TrialProblem
from agent.records import Record, TrialRequest
from agent.windows import Windows

_POLL_S = 0.004


class LoadFromElsewhere:
    """A load that the controller has made on another host.

    Parameters
    ----------
    request, lease
        What is measured, and for how long at most.
    say
        Where `ready`, `begun` and `time` go.
    """

    def __init__(self, request: TrialRequest, lease: Lease, say: Callable[[Record], None]) -> None:
        self._stats_dir = Path(request.work_dir) / "stats"
        self._seconds = math.ceil(request.load.measure_s)
        self._lease = lease
        self._say = say

    def warm_up(self) -> None:
        """Say that the server is ready, and wait for the order to begin."""
        self._say(Ready())
        await_order(self._lease, self._say, "begin")

    def measure(self, windows: Windows) -> Loaded:
        """Say that the counters were read; return what the order to end brings.

        Raises
        ------
        TrialProblem
            The lease ended, or the order makes no sense.
        """
        done = sum(stats.done for stats in handler_stats.read(self._stats_dir).values())
        self._say(Begun())
        while (order := self._next(windows)) is None:
            if windows.has_begun:
                windows.look()
            elif self._is_loaded(done):
                windows.begin(self._seconds)
        load = _load_of(order)
        return Loaded(load.report, load.asked_s, load.counters, load.host)

    def _next(self, windows: Windows) -> Optional[Order]:
        """Wait for the order to end, but no longer than until there is something to look at."""
        pause_s = windows.pause_s() if windows.has_begun else _POLL_S
        return await_order(self._lease, self._say, "end", pause_s)

    def _is_loaded(self, done: int) -> bool:
        """Whether the first request has come: the windows count from there, not from the order."""
        stats = handler_stats.read(self._stats_dir).values()
        return sum(each.done for each in stats) > done or any(each.in_flight for each in stats)


def _load_of(order: Order) -> RemoteLoad:
    if order.load is None:
        raise TrialProblem("internal", "the order to end brings nothing from the load host")
    return order.load
