"""Did the host change while it was measured: sentinels, change points, the A/A pair, odd cells."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd
import ruptures
from scipy import stats

from analysis.curves import Curve, FloatArray
from analysis.intervals import BLOCKS_FOR_INTERVAL, Interval, mean_interval

SENTINELS_FOR_CHANGE = 12
ODD_LEVEL = 0.01
"""Family-wise level at which a cell is called odd."""


@dataclass(frozen=True)
class Drift:
    """What the repeated reference cell says about one host.

    Parameters
    ----------
    host : str
        Which host.
    sentinels : int
        Valid sentinel trials.
    change_orders : tuple of int
        Run-order positions at which the level changed.
    flagged_blocks : tuple of int
        Blocks outside the longest stretch of one level.
    trend_percent : float
        Theil-Sen slope over the whole run, percent from first to last.
    trend_p : float
        p of Spearman's correlation between order and speed.
    same_against_same : Interval or None
        Log ratio of the duplicate over the sentinel of the same block: an A/A pair.
    """

    host: str
    sentinels: int
    change_orders: tuple[int, ...]
    flagged_blocks: tuple[int, ...]
    trend_percent: float
    trend_p: float
    same_against_same: Interval | None


@dataclass(frozen=True)
class OddCell:
    """A cell whose trials do not spread like the others."""

    host: str
    setting: str
    handler: str
    processes: int
    finding: str


def drift_of(trials: pd.DataFrame, host: str) -> Drift:
    """Judge one host's sentinels.

    Parameters
    ----------
    trials : DataFrame
        One row a trial, with ``order``.
    host : str
        Which host.
    """
    of_host = (trials["host"] == host) & (trials["status"] == "valid")
    own = trials.loc[of_host, ["role", "block", "order", "goodput_rps"]]
    sentinels = own[own["role"] == "sentinel"].sort_values("order")
    orders = sentinels["order"].to_numpy(dtype=np.float64)
    logs = np.log(sentinels["goodput_rps"].to_numpy(dtype=np.float64))
    changes = change_points(logs)
    slope, p = _trend(orders, logs)
    return Drift(
        host=host,
        sentinels=len(logs),
        change_orders=tuple(int(orders[place]) for place in changes),
        flagged_blocks=_outside_longest(changes, sentinels["block"].to_numpy(dtype=np.int64)),
        trend_percent=slope,
        trend_p=p,
        same_against_same=_same_against_same(own),
    )


def change_points(logs: FloatArray) -> tuple[int, ...]:
    """Return where the level of a series changes (PELT on the mean).

    The penalty grows with the logarithm of the length; its factor keeps false alarms in a steady
    series of 30 to 90 values below 5 % (docs/statistics.md).
    """
    n = len(logs)
    if n < SENTINELS_FOR_CHANGE or np.ptp(logs) == 0:
        return ()
    noise = np.median(np.abs(np.diff(logs))) / (0.6745 * np.sqrt(2))
    if noise == 0:
        return ()
    scaled = (logs - logs.mean()) / noise
    # the linear kernel is the cost of a change in the mean, searched exactly by PELT in C
    search = ruptures.KernelCPD(kernel="linear", min_size=3).fit(scaled[:, None])
    places = search.predict(pen=5 * np.log(n))
    return tuple(int(place) for place in places[:-1])


def _outside_longest(
    changes: tuple[int, ...], blocks: np.ndarray[tuple[int], np.dtype[np.int64]]
) -> tuple[int, ...]:
    if not changes:
        return ()
    edges = [0, *changes, len(blocks)]
    longest = int(np.argmax(np.diff(edges)))
    kept = np.zeros(len(blocks), dtype=bool)
    kept[edges[longest] : edges[longest + 1]] = True
    # a block belongs to the stretch that holds most of its sentinels
    return tuple(int(block) for block in np.unique(blocks) if kept[blocks == block].mean() <= 0.5)


def _trend(orders: FloatArray, logs: FloatArray) -> tuple[float, float]:
    if len(logs) < BLOCKS_FOR_INTERVAL or np.ptp(logs) == 0:
        return float("nan"), float("nan")
    slope = stats.theilslopes(logs, orders).slope
    return float(100 * np.expm1(slope * np.ptp(orders))), float(stats.spearmanr(orders, logs).pvalue)


def _same_against_same(own: pd.DataFrame) -> Interval | None:
    by_block = own[own["role"].isin(["sentinel", "duplicate"])]
    table = (
        np.log(by_block["goodput_rps"]).groupby([by_block["block"], by_block["role"]], observed=True).mean()
    )
    wide = table.unstack("role")
    if "duplicate" not in wide or "sentinel" not in wide:
        return None
    return mean_interval((wide["duplicate"] - wide["sentinel"]).to_numpy(dtype=np.float64))


def odd_cells(curves: list[Curve]) -> list[OddCell]:
    """Return cells that spread unlike the rest of their curve, or that fall into two groups.

    Parameters
    ----------
    curves : list of Curve
        Curves with fewer than six blocks are not judged.
    """
    found = []
    for curve in curves:
        matrix = curve.log_rps
        if len(matrix) < BLOCKS_FOR_INTERVAL or not np.isfinite(matrix).all() or matrix.shape[1] < 3:
            continue
        level = ODD_LEVEL / matrix.shape[1]
        residuals = matrix - np.median(matrix, axis=1, keepdims=True)
        residuals = residuals - np.median(residuals, axis=0)
        for column, count in enumerate(curve.processes):
            own, rest = residuals[:, column], np.delete(residuals, column, axis=1).ravel()
            for odd, text in (
                (_spreads_more(own, rest, level), "spreads more than the other counts (heteroscedastic)"),
                (splits_in_two(own, level), "falls into two groups (bimodal)"),
            ):
                if odd:
                    found.append(OddCell(curve.host, curve.setting, curve.handler, int(count), text))
    return found


def _spreads_more(own: FloatArray, rest: FloatArray, level: float) -> bool:
    if np.ptp(own) == 0 or np.ptp(rest) == 0:
        return False
    wider = np.median(np.abs(own)) > np.median(np.abs(rest))
    return bool(wider and stats.levene(own, rest, center="median").pvalue < level)


def splits_in_two(values: FloatArray, level: float) -> bool:
    """Return whether values fall into two groups of at least three, beyond what normal noise does."""
    n = len(values)
    if n < 2 * BLOCKS_FOR_INTERVAL or np.ptp(values) == 0:
        return False
    return bool(_best_split(values[None, :])[0] < _split_threshold(n, round(level, 5)))


def _best_split(rows: FloatArray) -> FloatArray:
    """Return the smallest share of the variance that is left within two groups, for each row."""
    ordered = np.sort(rows, axis=1)
    n = ordered.shape[1]
    total = ((ordered - ordered.mean(axis=1, keepdims=True)) ** 2).sum(axis=1)
    sums, squares = ordered.cumsum(axis=1), (ordered**2).cumsum(axis=1)
    k = np.arange(3, n - 2)
    left = squares[:, k - 1] - sums[:, k - 1] ** 2 / k
    right = squares[:, -1:] - squares[:, k - 1] - (sums[:, -1:] - sums[:, k - 1]) ** 2 / (n - k)
    return np.asarray(((left + right) / total[:, None]).min(axis=1))


@lru_cache(maxsize=64)
def _split_threshold(n: int, level: float) -> float:
    rows = np.random.default_rng(n).normal(size=(20000, n))
    return float(np.quantile(_best_split(rows), level))
