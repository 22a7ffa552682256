"""Completed requests a window at a time, by a glance at the handlers' counts; they tell a steady rate."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Optional

from agent import handler_stats
from agent.records import Window

_LONGEST_S = 1.0
_FEWEST = 5


class Windows:
    """The windows of one measurement.

    Parameters
    ----------
    stats_dir
        Where the handler processes keep their numbers; None where there are none to look at.
    """

    def __init__(self, stats_dir: Optional[Path]) -> None:
        self._stats_dir = stats_dir
        self._ahead_s: list[float] = []
        self._began_s = 0.0
        self._served = 0
        self._done: list[Window] = []

    @property
    def done(self) -> tuple[Window, ...]:
        """The windows that were looked at."""
        return tuple(self._done)

    @property
    def has_begun(self) -> bool:
        """Whether the clock runs, or there is nothing to look at."""
        return self._began_s > 0 or self._stats_dir is None

    def begin(self, seconds: int) -> None:
        """Start the clock of a measurement of `seconds`."""
        if self._stats_dir is None:
            return
        window_s = min(_LONGEST_S, seconds / _FEWEST)
        self._ahead_s = [window_s * (i + 1) for i in range(int(seconds / window_s + 0.5))]
        self._began_s = time.monotonic()
        self._served = self._count()

    def pause_s(self) -> float:
        """Return the time until the next look; infinite after the last one."""
        if not self._ahead_s:
            return math.inf
        return max(0.0, self._began_s + self._ahead_s[0] - time.monotonic())

    def look(self) -> None:
        """Count what was completed, if a window has ended."""
        passed_s = time.monotonic() - self._began_s
        if not self._ahead_s or passed_s < self._ahead_s[0]:
            return
        self._ahead_s.pop(0)
        served = self._count()
        self._done.append(Window(t_s=round(passed_s, 6), requests=served - self._served))
        self._served = served

    def _count(self) -> int:
        assert self._stats_dir is not None  # noqa: S101  (begin looked)
        return sum(stats.done for stats in handler_stats.read(self._stats_dir).values())
