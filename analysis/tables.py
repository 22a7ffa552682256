"""The tables behind figures and page: one DataFrame each, numbers with their unit in the name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import csv

from analysis.best_set import BestSet
from analysis.comparison import Comparison
from analysis.curves import Curve, FloatArray
from analysis.handlers import REFERENCE_HANDLER
from analysis.intervals import Interval, median_interval


def percent(log_ratio: float) -> float:
    """Return a log ratio as a difference in percent."""
    return float(100 * np.expm1(log_ratio))


def reference_log_rps(curve: Curve, curves: Iterable[Curve], trials: pd.DataFrame) -> FloatArray | None:
    """Return the host's own reference speed in each block of a curve.

    Parameters
    ----------
    curve : Curve
        Whose blocks are asked for.
    curves : iterable of Curve
        All curves of the run.
    trials : DataFrame
        All trials; the sentinels serve where the reference cell is not part of the sweep.

    Returns
    -------
    array or None
        Log goodput of `threaded` at processes = cores, by block; ``None`` when it was not measured.
    """
    for other in curves:
        same = other.host == curve.host and other.setting == curve.setting
        if same and other.model == REFERENCE_HANDLER and other.cores in other.processes:
            column = other.log_rps[:, int(np.flatnonzero(other.processes == other.cores)[0])]
            return _in_blocks(pd.Series(column, index=other.blocks), curve)
    sentinels = trials[
        (trials["role"] == "sentinel") & (trials["status"] == "valid") & (trials["host"] == curve.host)
    ]
    if sentinels.empty:
        return None
    by_block = sentinels.groupby("block")["goodput_rps"].median()
    return np.log(_in_blocks(by_block, curve))


def _in_blocks(values: pd.Series[float], curve: Curve) -> FloatArray:
    return np.asarray(values.reindex(curve.blocks).to_numpy(), dtype=np.float64)


def cell_table(
    curves: Sequence[Curve], best: Sequence[BestSet], trials: pd.DataFrame, labels: dict[str, str]
) -> pd.DataFrame:
    """Return one row a cell: median goodput with its interval, and the same on the host's own scale."""
    cells = trials[trials["role"] == "cell"]
    keys = ["host", "setting", "handler", "processes"]
    bad = cells[cells["status"] != "valid"].groupby(keys, observed=True).size()
    rows = []
    for curve, judged in zip(curves, best, strict=True):
        reference = reference_log_rps(curve, curves, trials)
        for column, count in enumerate(curve.processes):
            place = judged.index(int(count))
            speed = median_interval(curve.rps[:, column])
            relative = _relative(curve.log_rps[:, column], reference)
            rows.append(
                {
                    "host": curve.host,
                    "label": labels[curve.host],
                    "cores": curve.cores,
                    "concurrency": curve.concurrency,
                    "setting": curve.setting,
                    "handler": curve.handler,
                    "model": curve.model,
                    "processes": int(count),
                    "n": speed.n,
                    "without_valid": int(bad.get((curve.host, curve.setting, curve.handler, count), 0)),
                    "median_rps": speed.estimate,
                    "low_rps": speed.low,
                    "high_rps": speed.high,
                    "relative": relative.estimate,
                    "relative_low": relative.low,
                    "relative_high": relative.high,
                    "best_set": int(count) in judged.best_set,
                    "recommended": judged.recommended == int(count),
                    "p_best": float("nan") if place is None else float(judged.p_best[place]),
                }
            )
    frame = pd.DataFrame(rows)
    bounds = ["low_rps", "high_rps", "relative_low", "relative_high"]
    return frame.astype(dict.fromkeys(bounds, float)) if rows else frame


def _relative(log_rps: FloatArray, reference: FloatArray | None) -> Interval:
    if reference is None:
        return Interval(float("nan"), None, None, 0)
    return median_interval(np.exp(log_rps - reference))


def ratio_table(comparisons: Iterable[Comparison], labels: dict[str, str]) -> pd.DataFrame:
    """Return one row a host, pair of handlers and process count."""
    rows = [
        {
            "host": comparison.host,
            "label": labels[comparison.host],
            "setting": comparison.setting,
            "handler": comparison.handler,
            "reference": comparison.reference,
            "processes": row.processes,
            "n": row.log_ratio.n,
            "percent": percent(row.log_ratio.estimate),
            "low_percent": None if row.log_ratio.low is None else percent(row.log_ratio.low),
            "high_percent": None if row.log_ratio.high is None else percent(row.log_ratio.high),
            "low_all_percent": None if row.simultaneous is None else percent(row.simultaneous[0]),
            "high_all_percent": None if row.simultaneous is None else percent(row.simultaneous[1]),
            "p_holm": row.p_holm,
            "p_equivalence": row.p_equivalence,
            "cliffs_delta": row.dominance,
            "verdict": row.verdict,
            "blocks_needed": row.blocks_needed,
        }
        for comparison in comparisons
        for row in comparison.at_counts
    ]
    frame = pd.DataFrame(rows)
    bounds = ["low_percent", "high_percent", "low_all_percent", "high_all_percent"]
    numbers = [*bounds, "p_holm", "p_equivalence", "blocks_needed"]
    return frame.astype(dict.fromkeys(numbers, float)) if rows else frame


def order_table(trials: pd.DataFrame) -> pd.DataFrame:
    """Return one row a trial in run order: how far it lies from the median of its own cell.

    Parameters
    ----------
    trials : DataFrame
        One row a trial.

    Returns
    -------
    DataFrame
        host, order, block, role, epoch, status, deviation_percent.
    """
    keys = ["host", "role", "setting", "handler", "processes"]
    valid = trials[(trials["status"] == "valid") & (trials["goodput_rps"] > 0)].copy()
    medians = valid.groupby(keys, observed=True)["goodput_rps"].transform("median")
    valid["deviation_percent"] = 100 * (valid["goodput_rps"] / medians - 1)
    columns = [
        "trial",
        "host",
        "order",
        "block",
        "role",
        "epoch",
        "setting",
        "handler",
        "processes",
        "deviation_percent",
    ]
    return valid[columns].sort_values(["host", "order"]).reset_index(drop=True)


def latency_table(trials: pd.DataFrame) -> pd.DataFrame:
    """Return the median over server starts of each latency percentile, one row a cell."""
    cells = trials[(trials["role"] == "cell") & (trials["status"] == "valid")]
    keys = ["host", "setting", "concurrency", "handler", "processes"]
    columns = [f"latency_{name}_ms" for name in ("p50", "p90", "p99")]
    return cells.groupby(keys, observed=True)[columns].median().reset_index()


def write_csv(frame: pd.DataFrame, path: Path) -> None:
    """Write a DataFrame as CSV, every digit kept: text in quotes, missing values empty.

    Arrow's writer takes a fifth of the time of pandas' own.
    """
    csv.write_csv(pa.Table.from_pandas(frame, preserve_index=False), path)
