"""How often the gate `steady` marks a trial: noise without a trend, and trends within noise, by simulation.

The rates of neighbouring windows depend on each other, as those of a busy machine do. Beside the gate stands
what a fixed limit of 20 % between the halves would do. It prints a table in Markdown.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from agent import steadiness

Series = npt.NDArray[np.float64]

NOISE = ((0.03, 0.0), (0.05, 0.3), (0.1, 0.3), (0.2, 0.6), (0.3, 0.7))
TIMES = (np.arange(steadiness.POINTS) + 0.5) / steadiness.POINTS
SHAPES: dict[str, Series] = {
    "no trend": np.ones(steadiness.POINTS),
    "climbs by 40 %, evenly": 0.8 + 0.4 * TIMES,
    "drops by 30 % half way": np.where(TIMES < 0.5, 1.0, 0.7),
    "collapses by 60 % at four fifths": np.where(TIMES < 0.8, 1.0, 0.4),
    "warms up from half speed": 1 - 0.5 * np.exp(-TIMES / 0.4),
}


def noise(series: int, scatter: float, correlation: float) -> Series:
    """Return rates round 1, a row a trial."""
    random = np.random.default_rng(1)
    fresh = random.standard_normal((series, steadiness.POINTS))
    found = fresh.copy()
    for i in range(1, steadiness.POINTS):
        found[:, i] = correlation * found[:, i - 1] + np.sqrt(1 - correlation**2) * fresh[:, i]
    rates: Series = np.exp(scatter * found)
    return rates


def gate(rates: Series) -> bool:
    """Return whether the gate marks a trial."""
    drift = steadiness.drift(list(rates))
    return drift is not None and abs(drift.change) > drift.limit


def fixed_limit(rates: Series) -> bool:
    """Return whether the halves differ by more than 20 %."""
    half = len(rates) // 2
    return bool(abs(rates[half:].mean() / rates[:half].mean() - 1) > 0.2)


def share(rule: Callable[[Series], bool], many: Series) -> str:
    """Return how many of the trials a rule marks."""
    return f"{np.mean([rule(each) for each in many]):.1%}".replace("%", " %")


def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--series", type=int, default=4000)
    series = parser.parse_args().series
    columns = ["scatter, correlation", "no trend, fixed limit", *(f"{name}, gate" for name in SHAPES)]
    print(f"| {' | '.join(columns)} |\n| {' | '.join(['---'] * len(columns))} |")
    for scatter, correlation in NOISE:
        base = noise(series, scatter, correlation)
        cells = [f"{scatter:.0%}, {correlation:g}".replace("%", " %"), share(fixed_limit, base)]
        print(f"| {' | '.join([*cells, *(share(gate, base * shape) for shape in SHAPES.values())])} |")


if __name__ == "__main__":
    main()
