"""Does a rate climb, fall or break while it is measured, beyond what its own noise explains? Pure.

On a busy machine a second of a handler's work scatters by tens of per cent, and neighbouring windows scatter
together: the scatter of single windows says little about how far two halves may differ by chance. So the
series is taken apart into slow waves, the half-period that fits into the measurement once, twice, … eight
times. Noise without a trend is as strong in each of them. A trend is not: a slope or a step fixes how much of
each wave there must be. It is proven when the waves agree with one of these shapes better than those of noise
do in 99 of 100 series (`AGREEMENT`). This needs no estimate of the noise and no assumption about its
strength.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Optional

POINTS = 20
WAVES = 8
STEPS_AT = (0.20, 0.35, 0.50, 0.65, 0.80)
# The largest squared cosine between eight equally strong, independent normal waves and the shapes exceeds
# this in one of 100 series (quantile of a million draws).
AGREEMENT = 0.773
TREND_CHANGE = 0.10
# A factor of two: no single number describes such a trial, whatever made it so.
LARGEST_FALL, LARGEST_CLIMB = 0.50, 1.00
FEWEST_POINTS = 4


@dataclass(frozen=True)
class Drift:
    """The second half's rate against the first half's, minus one, and how large it may be."""

    change: float
    is_trend: bool

    @property
    def limit(self) -> float:
        """The change from which on the rate counts as not steady."""
        if self.is_trend:
            return TREND_CHANGE
        return LARGEST_CLIMB if self.change > 0 else LARGEST_FALL


def drift(rates: Sequence[float]) -> Optional[Drift]:
    """Return the drift of rates in equal windows; None where they are too few or nothing was served."""
    if len(rates) < FEWEST_POINTS:
        return None
    half = len(rates) // 2
    first, second = sum(rates[:half]) / half, sum(rates[-half:]) / half
    if first + second == 0:
        return None
    change = second / first - 1 if first else math.inf
    return Drift(change=min(change, 1e3), is_trend=agreement(rates) > AGREEMENT)


def equal_windows(counts: Iterable[tuple[float, int]]) -> list[float]:
    """Return rates in equal windows, given the end and the count of windows that are only nearly equal.

    A look that came late makes one window longer and the next one shorter; what was served is taken to be
    spread evenly over each.
    """
    ends, served = [0.0], [0.0]
    for end_s, count in counts:
        if end_s > ends[-1]:
            ends.append(end_s)
            served.append(served[-1] + count)
        else:
            served[-1] += count
    windows = min(POINTS, len(ends) - 1)
    if windows < 1:
        return []
    width_s = ends[-1] / windows
    marks = [_interpolated(ends, served, width_s * i) for i in range(windows + 1)]
    return [(marks[i + 1] - marks[i]) / width_s for i in range(windows)]


def agreement(rates: Sequence[float]) -> float:
    """Return how well the slow waves of a series agree with the best of the shapes, from 0 to 1."""
    count = len(rates)
    if count <= WAVES:
        return 0.0
    found = _waves(rates)
    strength = sum(each * each for each in found)
    # equal rates leave nothing but the rounding of floating-point numbers
    if strength <= (1e-9 * sum(rates)) ** 2:
        return 0.0
    return max(sum(a * b for a, b in zip(found, shape)) ** 2 for shape in _shapes(count)) / strength  # noqa: B905


def _waves(series: Sequence[float]) -> list[float]:
    """Return the first coefficients of the cosine transform, without that of the mean."""
    angle = math.pi / len(series)
    return [
        sum(value * math.cos(angle * wave * (i + 0.5)) for i, value in enumerate(series))
        for wave in range(1, WAVES + 1)
    ]


@lru_cache(maxsize=4)
def _shapes(count: int) -> tuple[tuple[float, ...], ...]:
    times = [(i + 0.5) / count for i in range(count)]
    series = [times, *([float(time > at) for time in times] for at in STEPS_AT)]
    shapes = []
    for each in series:
        found = _waves(each)
        length = math.sqrt(sum(value * value for value in found))
        shapes.append(tuple(value / length for value in found))
    return tuple(shapes)


def _interpolated(ends: Sequence[float], served: Sequence[float], at_s: float) -> float:
    for i in range(1, len(ends)):
        if at_s <= ends[i]:
            share = (at_s - ends[i - 1]) / (ends[i] - ends[i - 1])
            return served[i - 1] + share * (served[i] - served[i - 1])
    return served[-1]
