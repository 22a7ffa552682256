"""Intervals: exact for medians, block bootstrap for means of log ratios."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import special, stats

from analysis.curves import FloatArray

SEED = 2007
RESAMPLES = 9999
CONFIDENCE = 0.95
BLOCKS_FOR_INTERVAL = 6
"""Five values cannot bracket a median with 95 % confidence: 2 x 0.5**5 = 6 %."""


@dataclass(frozen=True)
class Interval:
    """An estimate with its interval.

    Parameters
    ----------
    estimate : float
        NaN when there is no value at all.
    low, high : float or None
        ``None`` below six values: no interval is drawn then.
    n : int
        Server starts behind it.
    """

    estimate: float
    low: float | None
    high: float | None
    n: int

    @property
    def drawn(self) -> bool:
        """Whether there is an interval to draw."""
        return self.low is not None


@lru_cache(maxsize=256)
def median_ranks(n: int, confidence: float = CONFIDENCE) -> tuple[int, int] | None:
    """Return the ranks (from 0) of the order statistics that bracket the median.

    Parameters
    ----------
    n : int
        Number of values.
    confidence : float
        At least this much, exactly from the binomial distribution.

    Returns
    -------
    tuple of int or None
        ``None`` when no pair of order statistics reaches the confidence.
    """
    below = int(stats.binom.ppf((1 - confidence) / 2, n, 0.5))
    while below > 0 and 2 * stats.binom.cdf(below - 1, n, 0.5) > 1 - confidence:
        below -= 1
    return (below - 1, n - below) if below > 0 else None


def median_interval(values: FloatArray, confidence: float = CONFIDENCE) -> Interval:
    """Return the median with its exact binomial interval.

    Parameters
    ----------
    values : array
        One value a server start; NaN are left out.
    confidence : float
        The interval covers the median at least this often, whatever the distribution.

    Returns
    -------
    Interval
        In the unit of the values.
    """
    finite = np.sort(values[np.isfinite(values)])
    n = len(finite)
    if n == 0:
        return Interval(float("nan"), None, None, 0)
    ranks = median_ranks(n, confidence) if n >= BLOCKS_FOR_INTERVAL else None
    median = float(np.median(finite))
    if ranks is None:
        return Interval(median, None, None, n)
    return Interval(median, float(finite[ranks[0]]), float(finite[ranks[1]]), n)


@lru_cache(maxsize=32)
def block_weights(n_blocks: int, resamples: int = RESAMPLES, seed: int = SEED) -> FloatArray:
    """Return how often each block occurs in each bootstrap resample.

    Parameters
    ----------
    n_blocks, resamples, seed : int
        The same numbers give the same resamples, so a report is reproducible.

    Returns
    -------
    array, resamples x blocks
        Non-negative counts; each row sums to ``n_blocks``.
    """
    rng = np.random.default_rng([seed, n_blocks])
    weights = rng.multinomial(n_blocks, np.full(n_blocks, 1 / n_blocks), size=resamples).astype(np.float64)
    weights.setflags(write=False)
    return weights


def resampled_means(matrix: FloatArray, resamples: int = RESAMPLES, seed: int = SEED) -> FloatArray:
    """Return the column means of each block resample.

    Parameters
    ----------
    matrix : array, blocks x columns
        NaN are left out of their column's mean.
    resamples, seed : int
        See `block_weights`.

    Returns
    -------
    array, resamples x columns
        NaN where a resample holds no value of a column.
    """
    weights = block_weights(len(matrix), resamples, seed)
    present = np.isfinite(matrix)
    if present.all():
        return np.asarray(weights @ matrix / len(matrix))
    sums = weights @ np.where(present, matrix, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(sums / (weights @ present.astype(np.float64)))


@lru_cache(maxsize=256)
def expanded_tail(n: int, confidence: float = CONFIDENCE) -> float:
    """Return the bootstrap tail that gives a t-like width at small n.

    A plain percentile interval is too short by sqrt((n-1)/n) and by z against t; reading the
    bootstrap distribution further out mends both (Hesterberg 2015, "expanded percentile").
    """
    t = stats.t.ppf((1 + confidence) / 2, n - 1)
    return float(special.ndtr(-np.sqrt(n / (n - 1)) * t))


def mean_interval(
    values: FloatArray, confidence: float = CONFIDENCE, resamples: int = RESAMPLES, seed: int = SEED
) -> Interval:
    """Return the mean with its BCa interval over blocks, widened for small n.

    Parameters
    ----------
    values : array
        One value a block, usually a log ratio; NaN are left out.
    confidence, resamples, seed
        See `block_weights` and `expanded_tail`.

    Returns
    -------
    Interval
        Without bounds below six blocks.
    """
    finite = values[np.isfinite(values)]
    n = len(finite)
    if n < BLOCKS_FOR_INTERVAL:
        return Interval(float(finite.mean()) if n else float("nan"), None, None, n)
    estimate = float(finite.mean())
    if np.ptp(finite) == 0:
        return Interval(estimate, estimate, estimate, n)
    means = block_weights(n, resamples, seed) @ finite / n
    low, high = bca_bounds(means, finite, estimate, expanded_tail(n, confidence))
    return Interval(estimate, low, high, n)


def bca_bounds(means: FloatArray, values: FloatArray, estimate: float, tail: float) -> tuple[float, float]:
    """Return bias-corrected and accelerated bounds of a mean.

    Parameters
    ----------
    means : array
        Bootstrap distribution of the mean.
    values : array
        The sample itself, for the acceleration.
    estimate : float
        The sample's mean.
    tail : float
        Share of the distribution outside each bound.
    """
    below = (means < estimate).mean() + (means == estimate).mean() / 2
    bias = special.ndtri(np.clip(below, 1e-4, 1 - 1e-4))
    centred = values - values.mean()
    # the jackknife of a mean is its skewness, up to a factor
    acceleration = (centred**3).sum() / (6 * ((centred**2).sum()) ** 1.5)
    edges = bias + special.ndtri(tail) * np.array([1.0, -1.0])
    shares = special.ndtr(bias + edges / (1 - acceleration * edges))
    low, high = np.quantile(means, shares)
    return float(low), float(high)
