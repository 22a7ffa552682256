"""The first seconds of a server: what is completed a window at a time, and when the rate has settled."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

from agent.records import Window
from agent.tally import Tally
from agent.windows import Windows

STEP_S = 0.05
FULL = 0.90
"""Share of the final rate from which on a rate counts as full."""
TAIL = 0.25
"""Share of the time, at its end, whose rate counts as the final one."""
SHORTEST_S = 1.0
"""A rate that holds for less says nothing."""
_FIRST_POLL_S = 0.005


class StartWindows(Windows):
    """Windows whose clock runs from the server's start.

    Parameters
    ----------
    stats_dir
        Where the handler processes keep their numbers.
    began_s
        When the server was started, by the monotonic clock.
    horizon_s
        How long to look.
    """

    def __init__(self, stats_dir: Path, began_s: float, horizon_s: float) -> None:
        super().__init__(None)
        self._tally: Tally = Tally(stats_dir)
        self._began_s: float = began_s
        self._ahead_s = [STEP_S * (i + 1) for i in range(round(horizon_s / STEP_S))]
        self.first_answer_s: Optional[float] = None

    def begin(self, seconds: int) -> None:
        """Do nothing: the clock runs already."""

    def pause_s(self) -> float:
        """Return the time until the next look; soon as long as the first answer is awaited."""
        pause_s = super().pause_s()
        return min(pause_s, _FIRST_POLL_S) if self.first_answer_s is None else pause_s

    def look(self) -> None:
        """Count what was completed, if a window has ended, and note the first answer."""
        if self.first_answer_s is None and self._tally.read().done:
            self.first_answer_s = round(time.monotonic() - self._began_s, 6)
        super().look()


def full_rate_s(windows: Sequence[Window]) -> Optional[float]:
    """Return when the rate first was full and stayed so, in seconds since the start.

    The final rate is that of the last quarter. The rate is full from the first moment on after which, however
    far one looks but at least a second, the mean rate is 90 % of the final one or more; in the first tenth of
    a second half of it will do. None when there is no such moment before the last quarter begins: the rate
    never settled.
    """
    times, served = [0.0], [0]
    for window in windows:
        times.append(window.t_s)
        served.append(served[-1] + window.requests)
    tail_begins_s = times[-1] * (1 - TAIL)
    tail = next(i for i, t_s in enumerate(times) if t_s >= tail_begins_s)
    if tail == len(times) - 1 or served[-1] == served[tail]:
        return None
    wanted_rps = FULL * (served[-1] - served[tail]) / (times[-1] - times[tail])
    for first in range(tail + 1):
        spans = ((times[i] - times[first], served[i] - served[first]) for i in range(first + 1, len(times)))
        if all(requests >= _least(span_s, wanted_rps) for span_s, requests in spans):
            return times[first]
    return None


def _least(span_s: float, wanted_rps: float) -> float:
    """Return the fewest requests that a span of full rate may have."""
    if span_s >= SHORTEST_S:
        return wanted_rps * span_s
    return wanted_rps * span_s / 2 if span_s >= 2 * STEP_S else 0.0
