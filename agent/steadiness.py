"""Does a rate climb or fall while it is measured? Pure.

A few windows on a small, busy machine scatter by several per cent, so a change must be large to count on its
own; a smaller one counts when the windows lie on a slope far beyond their scatter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional

LARGE_CHANGE = 0.20
TREND_CHANGE = 0.10
FEWEST_WINDOWS = 4

# Two-sided 1 % points of Student's distribution by degrees of freedom, 2 and more; beyond the table its last.
_STUDENT = (9.925, 5.841, 4.604, 4.032, 3.707, 3.499, 3.355, 3.250, 3.169, 3.106, 3.055)


@dataclass(frozen=True)
class Drift:
    """The second half's rate against the first half's, minus one, and how large it may be."""

    change: float
    is_trend: bool

    @property
    def limit(self) -> float:
        """The change from which on the rate counts as not steady."""
        return TREND_CHANGE if self.is_trend else LARGE_CHANGE


def drift(rates: Sequence[float]) -> Optional[Drift]:
    """Return the drift of rates in equal windows; None where they are too few or nothing was served."""
    if len(rates) < FEWEST_WINDOWS:
        return None
    half = len(rates) // 2
    first, second = sum(rates[:half]) / half, sum(rates[-half:]) / half
    if first + second == 0:
        return None
    change = second / first - 1 if first else 1.0
    return Drift(change=change, is_trend=_has_trend(rates))


def _has_trend(rates: Sequence[float]) -> bool:
    """Return whether a straight line's slope differs from zero at the 1 % level."""
    count = len(rates)
    middle, mean = (count - 1) / 2, sum(rates) / count
    spread = sum((i - middle) ** 2 for i in range(count))
    slope = sum((i - middle) * (rate - mean) for i, rate in enumerate(rates)) / spread
    residual = sum((rate - mean - slope * (i - middle)) ** 2 for i, rate in enumerate(rates))
    freedom = count - 2
    critical = _STUDENT[min(freedom - 2, len(_STUDENT) - 1)]
    return slope**2 * spread * freedom > critical**2 * residual
