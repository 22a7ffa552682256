"""One handler against another: paired by block at each count, and best against best."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special

from analysis.curves import Curve, FloatArray, IntArray
from analysis.intervals import (
    BLOCKS_FOR_INTERVAL,
    CONFIDENCE,
    RESAMPLES,
    SEED,
    Interval,
    block_weights,
    expanded_tail,
    mean_interval,
)

GAIN, LOSS, NO_DIFFERENCE, INCONCLUSIVE = "gain", "loss", "no difference", "inconclusive"
ALPHA = 1 - CONFIDENCE
SELECTION_RESAMPLES = 2000
POWER = 0.8


@dataclass(frozen=True)
class RatioAtCount:
    """One handler over another at one process count.

    Parameters
    ----------
    processes : int
        The count.
    log_ratio : Interval
        Natural logarithm of the goodput ratio, 95 % pointwise.
    simultaneous : tuple of float or None
        Bounds of the log ratio that hold for all counts together with 95 % (Bonferroni t).
    p_holm : float or None
        Paired t over blocks, Holm-adjusted over the counts.
    p_equivalence : float or None
        Two one-sided tests against ±δ, not adjusted (all parts must hold).
    dominance : float
        Cliff's delta, -1 to 1.
    verdict : str
        gain, loss, no difference or inconclusive.
    blocks_needed : int or None
        Blocks in all that would settle an inconclusive comparison.
    """

    processes: int
    log_ratio: Interval
    simultaneous: tuple[float, float] | None
    p_holm: float | None
    p_equivalence: float | None
    dominance: float
    verdict: str
    blocks_needed: int | None


@dataclass(frozen=True)
class BestAgainstBest:
    """The ratio of two handlers, each at the count that the measurement itself would choose.

    Parameters
    ----------
    log_ratio : Interval
        95 %, over blocks, with both choices made anew in each resample.
    bounds_90 : tuple of float or None
        The interval of the equivalence test.
    choice, reference_choice : int
        Count with the highest mean in all blocks.
    verdict : str
        gain, loss, no difference or inconclusive.
    blocks_needed : int or None
        Blocks in all that would settle an inconclusive comparison.
    """

    log_ratio: Interval
    bounds_90: tuple[float, float] | None
    choice: int
    reference_choice: int
    verdict: str
    blocks_needed: int | None


@dataclass(frozen=True)
class Comparison:
    """Everything about one handler against the reference handler in one host and setting."""

    host: str
    setting: str
    handler: str
    reference: str
    at_counts: tuple[RatioAtCount, ...]
    best: BestAgainstBest | None


def compare(curve: Curve, reference: Curve, indifference: float) -> Comparison:
    """Compare two curves of the same host and setting.

    Parameters
    ----------
    curve, reference : Curve
        Blocks and counts that both have are used.
    indifference : float
        δ as a fraction.
    """
    counts = np.intersect1d(curve.processes, reference.processes).astype(np.int64)
    blocks = np.intersect1d(curve.blocks, reference.blocks).astype(np.int64)
    first = _part(curve, blocks, counts)
    second = _part(reference, blocks, counts)
    return Comparison(
        host=curve.host,
        setting=curve.setting,
        handler=curve.handler,
        reference=reference.handler,
        at_counts=ratios_at_counts(counts.tolist(), first, second, indifference),
        best=best_against_best(counts.tolist(), first, second, indifference),
    )


def _part(curve: Curve, blocks: IntArray, counts: IntArray) -> FloatArray:
    return np.asarray(curve.log_rps[np.isin(curve.blocks, blocks)][:, np.isin(curve.processes, counts)])


def ratios_at_counts(
    counts: list[int],
    first: FloatArray,
    second: FloatArray,
    indifference: float,
    resamples: int = RESAMPLES,
) -> tuple[RatioAtCount, ...]:
    """Compare two handlers at each count.

    Parameters
    ----------
    counts : list of int
        Process counts.
    first, second : array, blocks x counts
        Log goodput of the same blocks.
    indifference : float
        δ as a fraction.
    resamples : int
        Bootstrap resamples of each interval; the verdicts do not depend on it.
    """
    zone = float(np.log1p(indifference))
    differences = [column[np.isfinite(column)] for column in (first - second).T]
    p_values = [paired_p(difference) for difference in differences]
    adjusted = holm({index: p for index, p in enumerate(p_values) if p is not None})
    rows = []
    for index, (count, values) in enumerate(zip(counts, differences, strict=True)):
        p_holm = adjusted.get(index)
        p_equal = equivalence_p(values, zone)
        verdict = _verdict_from_p(values, p_holm, p_equal)
        rows.append(
            RatioAtCount(
                processes=int(count),
                log_ratio=mean_interval(values, resamples=resamples),
                simultaneous=simultaneous_bounds(values, len(counts)),
                p_holm=p_holm,
                p_equivalence=p_equal,
                dominance=cliffs_delta(first[:, index], second[:, index]),
                verdict=verdict,
                blocks_needed=blocks_to_settle(values, zone) if verdict == INCONCLUSIVE else None,
            )
        )
    return tuple(rows)


def holm(p_values: dict[int, float]) -> dict[int, float]:
    """Return p values adjusted for their number by Holm's step-down method, under the same keys."""
    ordered = sorted(p_values, key=lambda key: p_values[key])
    adjusted: dict[int, float] = {}
    largest = 0.0
    for place, key in enumerate(ordered):
        largest = max(largest, min(1.0, (len(ordered) - place) * p_values[key]))
        adjusted[key] = largest
    return adjusted


def paired_p(values: FloatArray) -> float | None:
    """Return the two-sided p of a paired t over blocks, ``None`` below six blocks."""
    if len(values) < BLOCKS_FOR_INTERVAL:
        return None
    if np.ptp(values) == 0:
        return 1.0 if values[0] == 0 else 0.0
    error = values.std(ddof=1) / np.sqrt(len(values))
    return float(2 * special.stdtr(len(values) - 1, -abs(values.mean()) / error))


def simultaneous_bounds(values: FloatArray, comparisons: int) -> tuple[float, float] | None:
    """Return t bounds of a mean that hold for so many comparisons together, ``None`` below six blocks."""
    n = len(values)
    if n < BLOCKS_FOR_INTERVAL:
        return None
    half = -special.stdtrit(n - 1, ALPHA / (2 * comparisons)) * values.std(ddof=1) / np.sqrt(n)
    return float(values.mean() - half), float(values.mean() + half)


def equivalence_p(values: FloatArray, zone: float) -> float | None:
    """Return the p of two one-sided t tests against ±zone, ``None`` below six blocks."""
    if len(values) < BLOCKS_FOR_INTERVAL:
        return None
    if np.ptp(values) == 0:
        return 0.0 if abs(values[0]) < zone else 1.0
    error = values.std(ddof=1) / np.sqrt(len(values))
    return float(special.stdtr(len(values) - 1, -(zone - abs(values.mean())) / error))


def _verdict_from_p(values: FloatArray, p_holm: float | None, p_equal: float | None) -> str:
    if p_holm is None or p_equal is None:
        return INCONCLUSIVE
    if p_equal < ALPHA:
        return NO_DIFFERENCE
    if p_holm < ALPHA:
        return GAIN if values.mean() > 0 else LOSS
    return INCONCLUSIVE


def cliffs_delta(first: FloatArray, second: FloatArray) -> float:
    """Return how much more often the first handler is faster than the second, -1 to 1."""
    a, b = first[np.isfinite(first)], second[np.isfinite(second)]
    if not len(a) or not len(b):
        return float("nan")
    return float(np.sign(a[:, None] - b[None, :]).mean())


def blocks_to_settle(values: FloatArray, zone: float) -> int | None:
    """Return the blocks in all that would settle a comparison with 80 % power.

    Parameters
    ----------
    values : array
        Log ratios, one a block.
    zone : float
        Half-width of the indifference zone, log scale.

    Returns
    -------
    int or None
        The cheaper of showing the difference seen and showing that it is below δ, if it stays as it
        is; ``None`` with fewer than two blocks.
    """
    n = len(values)
    if n < 2:
        return None
    spread, effect = float(values.std(ddof=1)), abs(float(values.mean()))
    shown = (special.ndtri(1 - ALPHA / 2) + special.ndtri(POWER)) * spread / max(effect, 1e-9)
    room = zone - effect
    equal = (special.ndtri(1 - ALPHA) + special.ndtri(POWER)) * spread / room if room > 0 else np.inf
    return max(n + 1, BLOCKS_FOR_INTERVAL, int(np.ceil(min(shown, equal) ** 2)))


def decide(bounds_95: tuple[float, float], bounds_90: tuple[float, float], zone: float) -> str:
    """Return the verdict of an interval: equivalence first, then the sign, else inconclusive."""
    if -zone < bounds_90[0] and bounds_90[1] < zone:
        return NO_DIFFERENCE
    if bounds_95[0] > 0:
        return GAIN
    return LOSS if bounds_95[1] < 0 else INCONCLUSIVE


def best_against_best(
    counts: list[int],
    first: FloatArray,
    second: FloatArray,
    indifference: float,
    resamples: int = SELECTION_RESAMPLES,
) -> BestAgainstBest | None:
    """Compare two handlers, each at its own best count.

    The maximum of noisy means is biased upward, and more so for a flat curve than for a peaked one.
    So each resample of blocks chooses both counts anew, and the choice is judged on the blocks that
    the resample left out: that is the estimate. The spread of the re-selected maxima over the
    resamples gives the width. `calibrated` widens both intervals until the error rates hold for flat,
    peaked and plateau-shaped curves alike (docs/statistics.md).

    Parameters
    ----------
    counts : list of int
        Process counts.
    first, second : array, blocks x counts
        Log goodput of the same blocks.
    indifference : float
        δ as a fraction.
    resamples : int
        Bootstrap resamples of blocks.

    Returns
    -------
    BestAgainstBest or None
        ``None`` when there are fewer than two blocks with valid trials of both handlers.
    """
    usable = np.isfinite(first).any(axis=1) & np.isfinite(second).any(axis=1)
    first, second = first[usable], second[usable]
    n = len(first)
    if n < 2:
        return None
    means = _column_means(first), _column_means(second)
    best, reference_best = int(means[0].argmax()), int(means[1].argmax())
    choices = int(counts[best]), int(counts[reference_best])
    if n < BLOCKS_FOR_INTERVAL:
        interval = Interval(float(means[0].max() - means[1].max()), None, None, n)
        return BestAgainstBest(interval, None, *choices, INCONCLUSIVE, None)
    weights = block_weights(n, resamples, SEED)
    maxima, judged = _reselected(first, weights)
    reference_maxima, reference_judged = _reselected(second, weights)
    estimate = float(np.nanmean(judged) - np.nanmean(reference_judged))
    spread = maxima - reference_maxima
    spread = spread - spread.mean()
    bounds_95 = _bounds(estimate, spread, n, CONFIDENCE)
    bounds_90 = _bounds(estimate, spread, n, 1 - 2 * ALPHA)
    zone = float(np.log1p(indifference))
    verdict = decide(bounds_95, bounds_90, zone)
    needed = None
    if verdict == INCONCLUSIVE:
        paired = first[:, best] - second[:, reference_best]
        paired = paired[np.isfinite(paired)]
        needed = blocks_to_settle(paired - paired.mean() + estimate, zone)
    return BestAgainstBest(Interval(estimate, *bounds_95, n), bounds_90, *choices, verdict, needed)


def calibrated(confidence: float) -> float:
    """Return the nominal level that makes the re-selected interval reach a confidence (0.95 → 0.97)."""
    return confidence + 0.4 * (1 - confidence)


def _bounds(estimate: float, spread: FloatArray, n: int, confidence: float) -> tuple[float, float]:
    tail = expanded_tail(n, calibrated(confidence))
    low, high = np.quantile(spread, [tail, 1 - tail])
    return estimate + float(low), estimate + float(high)


def _column_means(matrix: FloatArray) -> FloatArray:
    present = np.isfinite(matrix)
    with np.errstate(invalid="ignore"):
        means = np.where(present, matrix, 0.0).sum(axis=0) / present.sum(axis=0)
    return np.where(np.isfinite(means), means, -np.inf)


def _reselected(matrix: FloatArray, weights: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return each resample's highest mean, and that count's mean over the blocks left out."""
    present = np.isfinite(matrix).astype(np.float64)
    filled = np.where(present > 0, matrix, 0.0)
    outside = (weights == 0).astype(np.float64)
    rows = np.arange(len(weights))
    with np.errstate(invalid="ignore", divide="ignore"):
        means = (weights @ filled) / (weights @ present)
        chosen = np.where(np.isfinite(means), means, -np.inf).argmax(axis=1)
        judged = (outside @ filled)[rows, chosen] / (outside @ present)[rows, chosen]
    return means[rows, chosen], judged
