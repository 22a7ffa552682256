"""The load of a trial whose load generator runs on another host, as the server's host sees it."""

from __future__ import annotations

import math
from typing import Callable

from agent.dialogue import Begun, Order, Ready, RemoteLoad, await_order
from agent.lease import Lease
from agent.loading import Loaded
from agent.problems import TrialProblem
from agent.records import Record, TrialRequest
from agent.windows import Windows


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
        windows.begin(self._seconds)
        self._say(Begun())
        while (order := await_order(self._lease, self._say, "end", windows.pause_s())) is None:
            windows.look()
        load = _load_of(order)
        return Loaded(load.report, load.asked_s, load.counters, load.host)


def _load_of(order: Order) -> RemoteLoad:
    if order.load is None:
        raise TrialProblem("internal", "the order to end brings nothing from the load host")
    return order.load
