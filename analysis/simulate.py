"""`python -m analysis.simulate`: the error rates of the statistics, known by simulation.

The numbers come from a random generator and are about the methods, never about a host.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from analysis.best_set import compare_with_best
from analysis.comparison import (
    GAIN,
    LOSS,
    NO_DIFFERENCE,
    best_against_best,
    ratios_at_counts,
    simultaneous_bounds,
)
from analysis.curves import FloatArray
from analysis.drift import change_points
from analysis.intervals import mean_interval, median_interval
from analysis.startup import crossing_cost

SEED = 20071123
SWEEPS = 1000
NOISE = 0.02
INDIFFERENCE = 0.02
COUNTS = 16
MARKERS = "<!-- rates: begin -->", "<!-- rates: end -->"


@dataclass(frozen=True)
class Rate:
    """One known rate.

    Parameters
    ----------
    question, setting : str
        What was asked of which truth.
    hits, sweeps : int
        How often it came out.
    low, high : float
        Bounds that the rate must keep, as shares.
    """

    question: str
    setting: str
    hits: float
    sweeps: int
    low: float
    high: float

    @property
    def share(self) -> float:
        """Hits over sweeps."""
        return self.hits / self.sweeps

    @property
    def kept(self) -> bool:
        """Whether the rate is within its bounds."""
        return self.low <= self.share <= self.high


def sweep(rng: np.random.Generator, blocks: int, counts: int = COUNTS, noise: float = NOISE) -> FloatArray:
    """Return log goodput of identical cells: block effects and independent noise."""
    return rng.normal(0, noise, (blocks, counts)) + rng.normal(0, noise, (blocks, 1))


def pair(rng: np.random.Generator, blocks: int) -> tuple[FloatArray, FloatArray]:
    """Return two handlers measured in the same blocks: what a block does, it does to both."""
    common = rng.normal(0, NOISE, (blocks, 1))
    first, second = (common + rng.normal(0, NOISE, (blocks, COUNTS)) for _ in range(2))
    return first, second


def _rng(name: str) -> np.random.Generator:
    return np.random.default_rng([SEED, *name.encode()])


def unique_best(sweeps: int, blocks: int, lead: float) -> int:
    """Count sweeps in which one count is called the only best, with one true lead (0: identical cells)."""
    rng = _rng(f"unique best {blocks} {lead}")
    hits = 0
    for _ in range(sweeps):
        matrix = sweep(rng, blocks, counts=20)
        matrix[:, 12] += np.log1p(lead)
        _, shortfall, margin, _ = compare_with_best(matrix)
        only = shortfall - margin > 0
        hits += bool(only[12] if lead else only.any())
    return hits


def false_difference_at_counts(sweeps: int, blocks: int) -> dict[str, int]:
    """Count sweeps of identical handlers in which a gain, or any difference, is claimed at any count."""
    rng = _rng(f"at counts {blocks}")
    hits = {GAIN: 0, LOSS: 0}
    for _ in range(sweeps):
        rows = ratios_at_counts(list(range(COUNTS)), *pair(rng, blocks), INDIFFERENCE, resamples=50)
        for kind in hits:
            hits[kind] += any(row.verdict == kind for row in rows)
    return hits


def gain_at_count(sweeps: int, blocks: int, lead: float) -> int:
    """Count sweeps in which a true difference at one count is found after Holm over all counts."""
    rng = _rng(f"gain {blocks} {lead}")
    hits = 0
    for _ in range(sweeps):
        first, second = pair(rng, blocks)
        first[:, 3] += np.log1p(lead)
        rows = ratios_at_counts(list(range(COUNTS)), first, second, INDIFFERENCE, resamples=50)
        hits += rows[3].verdict == GAIN
    return hits


def _flat(matrix: FloatArray) -> FloatArray:
    return matrix


def _peaked(matrix: FloatArray) -> FloatArray:
    matrix[:, [place for place in range(matrix.shape[1]) if place != COUNTS // 2]] -= 0.05
    return matrix


def _plateau(matrix: FloatArray) -> FloatArray:
    return matrix + np.minimum(0, np.arange(matrix.shape[1]) - COUNTS // 3) * 0.05


SHAPES: dict[str, tuple[Callable[[FloatArray], FloatArray], Callable[[FloatArray], FloatArray]]] = {
    "both flat": (_flat, _flat),
    "flat against peaked": (_flat, _peaked),
    "both peaked": (_peaked, _peaked),
    "plateau against peaked": (_plateau, _peaked),
}


def best_against_best_verdicts(sweeps: int, blocks: int, shape: str, lead: float = 0.0) -> dict[str, int]:
    """Count the verdicts on two handlers whose best counts differ by a true lead."""
    rng = _rng(f"best {blocks} {shape} {lead}")
    make_first, make_second = SHAPES[shape]
    verdicts: dict[str, int] = {}
    for _ in range(sweeps):
        first, second = pair(rng, blocks)
        first, second = make_first(first), make_second(second)
        found = best_against_best(list(range(COUNTS)), first + np.log1p(lead), second, INDIFFERENCE, 400)
        if found is not None:
            verdicts[found.verdict] = verdicts.get(found.verdict, 0) + 1
    return verdicts


def median_coverage(sweeps: int, blocks: int) -> int:
    """Count exact median intervals that hold the true median of a skewed distribution."""
    rng = _rng(f"median {blocks}")
    hits = 0
    for _ in range(sweeps):
        interval = median_interval(np.exp(rng.normal(0, 0.3, blocks)))
        hits += interval.low is not None and interval.high is not None and interval.low <= 1 <= interval.high
    return hits


def ratio_coverage(sweeps: int, blocks: int) -> int:
    """Count BCa intervals of a paired log ratio that hold the true ratio."""
    rng = _rng(f"ratio {blocks}")
    hits = 0
    for _ in range(sweeps):
        values = rng.normal(0, NOISE, blocks) - rng.normal(0, NOISE, blocks)
        interval = mean_interval(values, resamples=1999)
        hits += interval.low is not None and interval.high is not None and interval.low <= 0 <= interval.high
    return hits


def simultaneous_coverage(sweeps: int, blocks: int) -> int:
    """Count sweeps in which the bounds for all counts together hold the true ratio at every count."""
    rng = _rng(f"simultaneous {blocks}")
    hits = 0
    for _ in range(sweeps):
        first, second = pair(rng, blocks)
        bounds = [simultaneous_bounds(column, COUNTS) for column in (first - second).T]
        hits += all(each is not None and each[0] <= 0 <= each[1] for each in bounds)
    return hits


def crossing_coverage(sweeps: int, blocks: int) -> tuple[int, int]:
    """Count named crossings, and those whose interval holds the true start-up cost."""
    rng = _rng(f"crossing {blocks}")
    costs = np.array([0.0, 0.2, 1.0, 3.0])
    truth = np.interp(costs, [0.0, 0.5, 3.0], [-0.1, 0.0, 0.5])
    true_cost = float(np.interp(0.0, truth, costs))
    named = hits = 0
    for _ in range(sweeps):
        interval, _ = crossing_cost(costs, truth + rng.normal(0, NOISE * np.sqrt(2), (blocks, len(costs))))
        if interval is not None and interval.low is not None and interval.high is not None:
            named += 1
            hits += interval.low <= true_cost <= interval.high
    return named, hits


def false_crossing(sweeps: int, blocks: int) -> int:
    """Count sweeps in which a crossing is named although few and many serve alike at every cost."""
    rng = _rng(f"no crossing {blocks}")
    costs = np.array([0.0, 0.2, 1.0, 3.0])
    return sum(
        crossing_cost(costs, rng.normal(0, NOISE * np.sqrt(2), (blocks, len(costs))))[0] is not None
        for _ in range(sweeps)
    )


def false_change(sweeps: int, sentinels: int) -> int:
    """Count steady sentinel series in which a change of level is claimed."""
    rng = _rng(f"change {sentinels}")
    return sum(bool(change_points(rng.normal(0, NOISE, sentinels))) for _ in range(sweeps))


def all_rates(sweeps: int = SWEEPS) -> list[Rate]:
    """Run every simulation.

    Parameters
    ----------
    sweeps : int
        Simulated sweeps a rate.
    """
    rates = []
    for blocks in (10, 20):
        hits = unique_best(sweeps, blocks, 0.0)
        rates.append(
            Rate("a unique best is claimed", f"20 identical cells, {blocks} blocks", hits, sweeps, 0, 0.05)
        )
    for blocks in (10, 20):
        at_counts = false_difference_at_counts(sweeps, blocks)
        for kind, hits in at_counts.items():
            setting = f"identical handlers, {COUNTS} counts, {blocks} blocks"
            rates.append(Rate(f"a {kind} is claimed at any count", setting, hits, sweeps, 0, 0.05))
    for shape in SHAPES:
        for blocks in (10, 20):
            verdicts = best_against_best_verdicts(sweeps, blocks, shape)
            wrong = verdicts.get(GAIN, 0) + verdicts.get(LOSS, 0)
            setting = f"equal best speeds, {shape}, {blocks} blocks"
            rates.append(Rate("best against best: gain or loss is claimed", setting, wrong, sweeps, 0, 0.05))
            equal = verdicts.get(NO_DIFFERENCE, 0)
            rates.append(Rate("best against best: no difference is shown", setting, equal, sweeps, 0, 1))
    verdicts = best_against_best_verdicts(sweeps, 20, "both peaked", INDIFFERENCE)
    wrong = verdicts.get(NO_DIFFERENCE, 0)
    rates.append(
        Rate(
            "best against best: no difference is shown",
            "true difference δ, 20 blocks",
            wrong,
            sweeps,
            0,
            0.05,
        )
    )
    rates.append(
        Rate(
            "the unique best is found",
            "true lead 3 %, 20 blocks",
            unique_best(sweeps, 20, 0.03),
            sweeps,
            0.75,
            1,
        )
    )
    hits = gain_at_count(sweeps, 20, 0.03)
    rates.append(Rate("the gain is found at its count", "true gain 3 %, 20 blocks", hits, sweeps, 0.75, 1))
    for shape in ("both flat", "both peaked"):
        verdicts = best_against_best_verdicts(sweeps, 20, shape, 0.03)
        setting = f"true gain 3 %, {shape}, 20 blocks"
        rates.append(
            Rate("best against best: the gain is found", setting, verdicts.get(GAIN, 0), sweeps, 0.75, 1)
        )
    for blocks in (6, 10, 20):
        hits = median_coverage(sweeps, blocks)
        rates.append(Rate("median interval covers", f"skewed values, n = {blocks}", hits, sweeps, 0.94, 1))
    for blocks in (10, 20):
        hits = ratio_coverage(4 * sweeps, blocks)
        rates.append(Rate("ratio interval covers", f"paired, {blocks} blocks", hits, 4 * sweeps, 0.93, 0.97))
    for blocks in (10, 20):
        hits = simultaneous_coverage(sweeps, blocks)
        setting = f"identical handlers, {COUNTS} counts, {blocks} blocks"
        rates.append(Rate("the bounds for all counts together cover", setting, hits, sweeps, 0.94, 1))
    named, hits = crossing_coverage(4 * sweeps, 10)
    rates.append(Rate("crossing interval covers", "true crossing, 10 blocks", hits, named, 0.93, 0.98))
    hits = false_crossing(sweeps, 10)
    rates.append(Rate("a crossing is named", "few and many serve alike, 10 blocks", hits, sweeps, 0, 0.05))
    for sentinels in (30, 60):
        hits = false_change(sweeps, sentinels)
        rates.append(
            Rate("a change of level is claimed", f"{sentinels} steady sentinels", hits, sweeps, 0, 0.05)
        )
    return rates


def markdown(rates: list[Rate]) -> str:
    """Return the rates as a Markdown table."""
    lines = [
        f"Noise {100 * NOISE:g} % a trial, δ = {100 * INDIFFERENCE:g} %, seed {SEED}.",
        "",
        "| what | truth | rate | must be | sweeps |",
        "| --- | --- | ---: | --- | ---: |",
    ]
    for rate in rates:
        bounds = (
            f"{100 * rate.low:g} to {100 * rate.high:g} %" if (rate.low, rate.high) != (0, 1) else "(shown)"
        )
        lines.append(
            f"| {rate.question} | {rate.setting} | {100 * rate.share:.1f} % | {bounds} | {rate.sweeps} |"
        )
    return "\n".join(lines)


def main(
    sweeps: Annotated[int, typer.Option(help="Simulated sweeps a rate.")] = SWEEPS,
    write: Annotated[Path | None, typer.Option(help="Markdown file whose marked table is replaced.")] = None,
) -> None:
    """Print the table of known error rates, or write it into a page; exit 1 when a bound is broken."""
    rates = all_rates(sweeps)
    table = markdown(rates)
    if write is None:
        typer.echo(table)
    else:
        before, _, rest = write.read_text(encoding="utf-8").partition(MARKERS[0])
        _, _, after = rest.partition(MARKERS[1])
        text = f"{before}{MARKERS[0]}\n{table}\n{MARKERS[1]}{after}"
        write.write_text(text, encoding="utf-8")
    broken = [rate for rate in rates if not rate.kept]
    for rate in broken:
        typer.echo(f"out of bounds: {rate.question}, {rate.setting}: {100 * rate.share:.1f} %", err=True)
    raise typer.Exit(1 if broken else 0)


if __name__ == "__main__":
    typer.run(main)
