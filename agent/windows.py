"""Completed requests a window at a time, by a glance at the handlers' counts; they tell a steady rate."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Optional

from agent.records import Window
from agent.steadiness import POINTS
from agent.tally import Tally

_LONGEST_S = 1.0
_POLL_S = 0.004


class Windows:
    """The windows of one measurement.

    Parameters
    ----------
    stats_dir
        Where the handler processes keep their numbers; None where there are none to look at.
    """

    def __init__(self, stats_dir: Optional[Path]) -> None:
        self._tally = None if stats_dir is None else Tally(stats_dir)
        self._ahead_s: list[float] = []
        self._began_s: Optional[float] = None
        self._served = 0
        self._done: list[Window] = []

    @property
    def done(self) -> tuple[Window, ...]:
        """The windows that were looked at."""
        return tuple(self._done)

    def begin(self, seconds: int) -> None:
        """Look out for the first request of a measurement of `seconds`: the clock starts with it.

        A load generator takes its time to start, and the first window must not look slow for that.
        """
        if self._tally is None:
            return
        window_s = min(_LONGEST_S, seconds / POINTS)
        self._ahead_s = [window_s * (i + 1) for i in range(round(seconds / window_s))]
        self._served = self._tally.read().done

    def pause_s(self) -> float:
        """Return the time until the next look; infinite after the last one."""
        if not self._ahead_s:
            return math.inf
        if self._began_s is None:
            return _POLL_S
        return max(0.0, self._began_s + self._ahead_s[0] - time.monotonic())

    def look(self) -> None:
        """Count what was completed, if a window has ended; one look does for windows that were missed."""
        if self._tally is None or not self._ahead_s:
            return
        if self._began_s is None:
            seen = self._tally.read()
            if seen.in_flight or seen.done > self._served:
                self._began_s, self._served = time.monotonic(), seen.done
            return
        passed_s = time.monotonic() - self._began_s
        if passed_s < self._ahead_s[0]:
            return
        self._ahead_s = [end_s for end_s in self._ahead_s if end_s > passed_s]
        served = self._tally.read().done
        self._done.append(Window(t_s=round(passed_s, 6), requests=served - self._served))
        self._served = served
