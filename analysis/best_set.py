"""Which process counts may be the best: multiple comparisons with the best, never an argmax."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import optimize, special, stats

from analysis.curves import FloatArray, IntArray
from analysis.intervals import CONFIDENCE, resampled_means

BLOCKS_FOR_BEST = 10
"""Below ten blocks no signed-rank comparison with 19 rivals can survive Holm (2 / 2**9 x 19 > 5 %)."""

JUDGED_FROM = 0.8
"""Share of the blocks in which a count needs a valid trial to be judged."""

BEST_RESAMPLES = 4000


@dataclass(frozen=True)
class BestSet:
    """What can be said about the best process count of one curve.

    Parameters
    ----------
    processes : array of int
        The counts that were judged.
    log_means : array
        Block-adjusted mean log goodput of each.
    residual_sd : float
        Residual standard deviation of one trial, as a fraction of its speed.
    margin : array
        Half-width of the simultaneous 95 % interval of each count minus the best of the others.
    shortfall : array
        Each count minus the best of the others, log scale.
    p_best : array
        Share of block resamples in which the count comes out on top.
    best_set : tuple of int
        Counts that are not shown to be worse than the best; empty when ``reason`` is set.
    recommended : int or None
        The smallest count within the indifference zone of the best.
    blocks : int
        Blocks behind the judgement.
    left_out : tuple of int
        Counts with too few valid trials to be judged.
    reason : str or None
        Why no best count is named.
    """

    processes: IntArray
    log_means: FloatArray
    residual_sd: float
    margin: FloatArray
    shortfall: FloatArray
    p_best: FloatArray
    best_set: tuple[int, ...]
    recommended: int | None
    blocks: int
    left_out: tuple[int, ...]
    reason: str | None

    @property
    def leader(self) -> int | None:
        """The count with the highest mean: for further questions, never a verdict by itself."""
        return int(self.processes[self.log_means.argmax()]) if len(self.processes) else None

    def index(self, processes: int) -> int | None:
        """Return where a count stands in the arrays."""
        places = np.flatnonzero(self.processes == processes)
        return int(places[0]) if len(places) else None


@lru_cache(maxsize=512)
def dunnett_critical(k: int, df: int, confidence: float = CONFIDENCE) -> float:
    """Return the one-sided critical value for k - 1 comparisons with a common control.

    Parameters
    ----------
    k : int
        Number of counts compared, at least 2.
    df : int
        Residual degrees of freedom.
    confidence : float
        Simultaneous confidence.

    Returns
    -------
    float
        d with P(max of k-1 equicorrelated (0.5) t variables ≤ d) = confidence.
    """
    z, z_weights = np.polynomial.hermite_e.hermegauss(64)
    z_weights = z_weights / z_weights.sum()
    # the distribution of s over its true value, cut into 200 equally likely slices
    scales = np.sqrt(stats.chi2.ppf((np.arange(200) + 0.5) / 200, df) / df)

    def excess(d: float) -> float:
        inside = special.ndtr(np.sqrt(2) * d * scales[:, None] + z[None, :]) ** (k - 1)
        return float((inside @ z_weights).mean() - confidence)

    return float(optimize.brentq(excess, 0.0, 50.0))


def additive_fit(matrix: FloatArray) -> tuple[FloatArray, float, int]:
    """Fit log goodput = block + count.

    Parameters
    ----------
    matrix : array, blocks x counts
        Log goodput; NaN where a trial is missing.

    Returns
    -------
    means : array
        Block-adjusted mean of each count.
    residual_sd : float
        Residual standard deviation.
    df : int
        Residual degrees of freedom.
    """
    blocks, counts = matrix.shape
    present = np.isfinite(matrix)
    if present.all():
        means = matrix.mean(axis=0)
        residuals = matrix - matrix.mean(axis=1, keepdims=True) - means + means.mean()
        df = (blocks - 1) * (counts - 1)
        return means, float(np.sqrt((residuals**2).sum() / df)), df
    rows, columns = np.nonzero(present)
    design = np.zeros((len(rows), blocks + counts))
    design[np.arange(len(rows)), rows] = 1
    design[np.arange(len(rows)), blocks + columns] = 1
    values = matrix[present]
    solution, _, rank, _ = np.linalg.lstsq(design, values)
    df = max(len(rows) - int(rank), 1)
    residual_sd = float(np.sqrt(((values - design @ solution) ** 2).sum() / df))
    return solution[blocks:] + solution[:blocks].mean(), residual_sd, df


def compare_with_best(
    matrix: FloatArray, confidence: float = CONFIDENCE
) -> tuple[FloatArray, FloatArray, FloatArray, float]:
    """Compare each count with the best of the others, simultaneously.

    Parameters
    ----------
    matrix : array, blocks x counts
        Log goodput, at least two counts and two blocks.
    confidence : float
        Of all statements together.

    Returns
    -------
    means, shortfall, margin : array
        A count is in the best set when ``shortfall + margin > 0`` and is the only best one when
        ``shortfall - margin > 0``.
    residual_sd : float
        Of one trial.
    """
    means, residual_sd, df = additive_fit(matrix)
    n = np.isfinite(matrix).sum(axis=0)
    critical = dunnett_critical(matrix.shape[1], df, confidence)
    rivals = np.where(np.eye(len(means), dtype=bool), -np.inf, means[None, :])
    rival = rivals.argmax(axis=1)
    shortfall = means - means[rival]
    margin = critical * residual_sd * np.sqrt(1 / n + 1 / n[rival])
    return means, shortfall, margin, residual_sd


def blocks_for_difference(residual_sd: float, difference: float) -> int:
    """Return the blocks that name one best of about 20 counts with 80 % power.

    Parameters
    ----------
    residual_sd : float
        Of one trial, as a fraction.
    difference : float
        The difference worth finding, as a fraction.

    Returns
    -------
    int
        n ≈ 45 (sd / difference)², at least 10.
    """
    return max(BLOCKS_FOR_BEST, int(np.ceil(45 * (residual_sd / difference) ** 2)))


def best_set(processes: IntArray, matrix: FloatArray, indifference: float) -> BestSet:
    """Judge which counts may be the best.

    Parameters
    ----------
    processes : array of int
        Process counts.
    matrix : array, blocks x counts
        Log goodput; NaN where a trial is missing.
    indifference : float
        δ as a fraction.

    Returns
    -------
    BestSet
        With ``reason`` and an empty set below ten blocks.
    """
    n = np.isfinite(matrix).sum(axis=0)
    blocks = int(np.isfinite(matrix).any(axis=1).sum())
    needed = max(2, int(np.ceil(JUDGED_FROM * blocks)))
    judged = n >= needed
    left_out = tuple(int(count) for count in processes[~judged])
    if judged.sum() < 2 or blocks < 2:
        return _nothing(processes[judged], matrix[:, judged], blocks, left_out)
    part = matrix[:, judged]
    counts = processes[judged]
    means, shortfall, margin, residual_sd = compare_with_best(part)
    p_best = _selection_frequency(part)
    within = means >= means.max() + np.log1p(-indifference)
    reason = None
    if blocks < BLOCKS_FOR_BEST:
        reason = f"a best process count is named from {BLOCKS_FOR_BEST} blocks on, here are {blocks}"
    chosen = shortfall + margin > 0
    return BestSet(
        processes=counts,
        log_means=means,
        residual_sd=residual_sd,
        margin=margin,
        shortfall=shortfall,
        p_best=p_best,
        best_set=() if reason else tuple(int(count) for count in counts[chosen]),
        recommended=None if reason else int(counts[within][0]),
        blocks=blocks,
        left_out=left_out,
        reason=reason,
    )


def _selection_frequency(matrix: FloatArray) -> FloatArray:
    means = resampled_means(matrix, BEST_RESAMPLES)
    winners = np.where(np.isfinite(means), means, -np.inf).argmax(axis=1)
    return np.bincount(winners, minlength=matrix.shape[1]) / len(winners)


def _nothing(processes: IntArray, matrix: FloatArray, blocks: int, left_out: tuple[int, ...]) -> BestSet:
    with np.errstate(invalid="ignore"):
        means = np.array([np.nanmean(column) for column in matrix.T])
    empty = np.full(len(processes), np.nan)
    reason = (
        f"blocks: {blocks}, process counts with enough valid trials: {len(processes)}; nothing to compare"
    )
    return BestSet(processes, means, float("nan"), empty, empty, empty, (), None, blocks, left_out, reason)
