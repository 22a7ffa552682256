"""Servers measured from their start on: what is served while processes start, and where few of them win."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.comparison import ALPHA, RatioAtCount, paired_p, ratios_at_counts
from analysis.curves import FloatArray
from analysis.handlers import MULTIPLEXED, ONE_AT_A_TIME, REFERENCE_HANDLER, THREADED
from analysis.intervals import BLOCKS_FOR_INTERVAL, Interval, block_weights, expanded_tail, median_interval
from analysis.wording import plural

CROSSING_RESAMPLES = 2000
SECONDS = (1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0)
"""The report counts what is served in the first so many seconds, as far as was measured."""
CURVE_STEP_S = 0.05
CURVE_POINTS = 400

_GROUP = ["host", "background", "cost_s", "handler", "processes"]


@dataclass(frozen=True)
class Crossing:
    """From which start-up cost on few processes serve more than many.

    Parameters
    ----------
    host, background : str
        Where.
    cores : int
        Of the server.
    few, many : tuple of (str, int)
        Handler and process count.
    few_model, many_model : str
        The handlers without their interpreter.
    seconds : float
        From lighttpd's start; requests in this time are compared.
    ratios : tuple of (float, RatioAtCount)
        Start-up cost in seconds, and few over many at that cost.
    instead_of_threads : tuple of (float, RatioAtCount)
        Start-up cost, and few over as few ``threaded`` processes; empty where that is the same or was not
        measured.
    cost_s : Interval or None
        The crossing; ``None`` where none may be named.
    reason : str
        Why none is named; empty otherwise.
    """

    host: str
    background: str
    cores: int
    few: tuple[str, int]
    many: tuple[str, int]
    few_model: str
    many_model: str
    seconds: float
    ratios: tuple[tuple[float, RatioAtCount], ...]
    instead_of_threads: tuple[tuple[float, RatioAtCount], ...]
    cost_s: Interval | None
    reason: str


def start_trials(trials: pd.DataFrame) -> pd.DataFrame:
    """Return the valid cells whose start was measured, with ``cost_s``.

    The cost is what the workload says of itself, else its parameter in milliseconds, else 0.
    """
    cells = trials[(trials["role"] == "cell") & (trials["status"] == "valid")]
    cells = cells[cells["startup_horizon_s"].notna()]
    return cells.assign(
        cost_s=cells["startup_cost_s"].fillna(cells["workload"].map(_declared_s).astype(float))
    )


def _declared_s(workload: str) -> float:
    found = re.fullmatch(r"startup\((\d+)\)", str(workload))
    return int(found.group(1)) / 1000 if found else 0.0


def horizons(starts: pd.DataFrame) -> list[float]:
    """Return the seconds for which requests are counted: at most three, the last as far as all measured."""
    if starts.empty:
        return []
    last = float(starts["startup_horizon_s"].min())
    return [*[seconds for seconds in SECONDS if seconds < last][-2:], last]


def served(starts: pd.DataFrame, windows: pd.DataFrame, seconds: Sequence[float]) -> FloatArray:
    """Return the requests served from lighttpd's start on.

    Parameters
    ----------
    starts : DataFrame
        `start_trials`.
    windows : DataFrame
        `dataset.Run.starts`.
    seconds : sequence of float
        Ascending.

    Returns
    -------
    array, trials x seconds
        Within a window requests are taken to come evenly.
    """
    groups = dict(iter(windows.groupby(["trial", "attempt"])))
    rows = []
    for trial, attempt in zip(starts["trial"], starts["attempt"], strict=True):
        own = groups.get((trial, attempt))
        if own is None:
            rows.append(np.full(len(seconds), np.nan))
            continue
        ends = np.r_[0.0, own["t_s"].to_numpy(dtype=float)]
        rows.append(np.interp(seconds, ends, np.r_[0.0, own["requests"].to_numpy(dtype=float).cumsum()]))
    return np.array(rows).reshape(len(starts), len(seconds))


def start_table(starts: pd.DataFrame, windows: pd.DataFrame) -> pd.DataFrame:
    """Return one row an arrangement and start-up cost: medians over server starts with their intervals.

    Returns
    -------
    DataFrame
        host, background, cost_s, handler, processes, n; first_answer_s, full_rate_s with ``_low`` and
        ``_high``; full_rate_reached (starts that reached it); served_<T> with bounds for each horizon.
    """
    seconds = horizons(starts)
    counts = pd.DataFrame(
        served(starts, windows, seconds),
        index=starts.index,
        columns=[f"served_{each:g}_s" for each in seconds],
    )
    rows = []
    for key, own in starts.groupby(_GROUP, observed=True):
        row = dict(zip(_GROUP, key, strict=True)) | {"n": len(own)}
        row |= {"full_rate_reached": int(own["startup_full_rate_s"].notna().sum())}
        measured = {name: own[f"startup_{name}"] for name in ("first_answer_s", "full_rate_s")}
        for name, values in [*measured.items(), *counts.loc[own.index].items()]:
            middle = median_interval(values.to_numpy(dtype=float))
            row |= {str(name): middle.estimate, f"{name}_low": middle.low, f"{name}_high": middle.high}
        rows.append(row)
    table = pd.DataFrame(rows, columns=None if rows else [*_GROUP, "n"])
    bounds = [name for name in table if str(name).endswith(("_low", "_high"))]
    return table.astype(dict.fromkeys(bounds, float))


def curve_table(starts: pd.DataFrame, windows: pd.DataFrame) -> pd.DataFrame:
    """Return requests served since lighttpd's start against time, median over starts with its interval.

    Returns
    -------
    DataFrame
        One row an arrangement, start-up cost and moment: t_s, served, low, high.
    """
    if starts.empty:
        return pd.DataFrame()
    last = float(starts["startup_horizon_s"].min())
    moments = np.linspace(0, last, min(CURVE_POINTS, int(last / CURVE_STEP_S) + 1))
    counts = served(starts, windows, moments.tolist())
    places = pd.Series(np.arange(len(starts)), index=starts.index)
    frames = []
    for key, own in starts.groupby(_GROUP, observed=True):
        matrix = counts[places.loc[own.index]]
        middle = [median_interval(column) for column in matrix.T]
        frames.append(
            pd.DataFrame(
                {
                    **dict(zip(_GROUP, key, strict=True)),
                    "t_s": moments,
                    "served": [each.estimate for each in middle],
                    "low": np.array([each.low for each in middle], dtype=float),
                    "high": np.array([each.high for each in middle], dtype=float),
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


def crossings(starts: pd.DataFrame, windows: pd.DataFrame, indifference: float) -> list[Crossing]:
    """Compare few processes that serve several requests at once with many, at each start-up cost.

    Requests up to the shortest horizon are compared, paired by block.

    Parameters
    ----------
    starts : DataFrame
        `start_trials`.
    windows : DataFrame
        `dataset.Run.starts`.
    indifference : float
        δ as a fraction.
    """
    found = []
    seconds = horizons(starts)[-1:]
    counted = starts.assign(served=served(starts, windows, seconds)[:, 0] if seconds else np.nan)
    for (host, background), own in counted.groupby(["host", "background"], observed=True):
        for few, many in _pairs(own):
            ratios, matrix, costs = _few_over_many(own, few, many, indifference)
            cost, reason = crossing_cost(costs, matrix)
            found.append(
                Crossing(
                    host=str(host),
                    background=str(background),
                    cores=int(own["cores"].iloc[0]),
                    few=few,
                    many=many,
                    few_model=str(_rows(own, few)["model"].iloc[0]),
                    many_model=str(_rows(own, many)["model"].iloc[0]),
                    seconds=seconds[0],
                    ratios=ratios,
                    instead_of_threads=_over_threads(own, few, indifference),
                    cost_s=cost,
                    reason=reason,
                )
            )
    return found


def _over_threads(
    own: pd.DataFrame, few: tuple[str, int], indifference: float
) -> tuple[tuple[float, RatioAtCount], ...]:
    first = _rows(own, few).iloc[0]
    same = own[(own["python"] == first["python"]) & (own["processes"] == few[1])]
    rivals = same.loc[same["model"] == REFERENCE_HANDLER, "handler"]
    if first["model"] == REFERENCE_HANDLER or rivals.empty:
        return ()
    return _few_over_many(own, few, (str(rivals.iloc[0]), few[1]), indifference)[0]


def _pairs(own: pd.DataFrame) -> Iterator[tuple[tuple[str, int], tuple[str, int]]]:
    """Yield few processes of each handler with threads, against many of the same and of other handlers."""
    counts = own.groupby("handler", observed=True)["processes"].agg(["min", "max"])
    first = own.drop_duplicates("handler")
    models = dict(zip(first["handler"].astype(str), first["model"], strict=True))
    for handler, few in zip(counts.index.astype(str), counts["min"], strict=True):
        if models[handler] in ONE_AT_A_TIME:
            continue
        for rival, many in zip(counts.index.astype(str), counts["max"], strict=True):
            same_or_study = rival == handler or models[rival] in (THREADED, *ONE_AT_A_TIME)
            if same_or_study and many > few:
                yield (handler, int(few)), (rival, int(many))


def _rows(own: pd.DataFrame, arrangement: tuple[str, int]) -> pd.DataFrame:
    return own[(own["handler"] == arrangement[0]) & (own["processes"] == arrangement[1])]


def _log_served(own: pd.DataFrame, arrangement: tuple[str, int]) -> pd.DataFrame:
    rows = _rows(own, arrangement)
    # a start in which nothing was served yet counts as half a request: a ratio still exists
    logs = np.log(rows["served"].clip(lower=0.5))
    table: pd.DataFrame = logs.groupby([rows["block"], rows["cost_s"]]).mean().unstack("cost_s")
    return table


def _few_over_many(
    own: pd.DataFrame, few: tuple[str, int], many: tuple[str, int], indifference: float
) -> tuple[tuple[tuple[float, RatioAtCount], ...], FloatArray, FloatArray]:
    first, second = _log_served(own, few), _log_served(own, many)
    blocks, costs = first.index.intersection(second.index), first.columns.intersection(second.columns)
    first, second = first.loc[blocks, costs], second.loc[blocks, costs]
    rows = ratios_at_counts([few[1]] * len(costs), first.to_numpy(), second.to_numpy(), indifference)
    return (
        tuple(zip(map(float, costs), rows, strict=True)),
        (first - second).to_numpy(),
        costs.to_numpy(float),
    )


def crossing_cost(costs: FloatArray, matrix: FloatArray) -> tuple[Interval | None, str]:
    """Return the cost at which few overtake many, or why none may be named.

    Parameters
    ----------
    costs : array
        Start-up costs in seconds, ascending.
    matrix : array, blocks x costs
        Log ratio of the requests served, few over many.

    Returns
    -------
    Interval or None, str
        95 %, over blocks; between costs the mean log ratio is a straight line.
    """
    whole = matrix[np.isfinite(matrix).all(axis=1)]
    n = len(whole)
    if reason := _unnamable(costs, whole):
        return None, reason
    places = _only_upward_zeros(costs, block_weights(n, CROSSING_RESAMPLES) @ whole / n)
    (estimate,) = _only_upward_zeros(costs, whole.mean(axis=0, keepdims=True))
    known = np.isfinite(places)
    tail = expanded_tail(n)
    if not np.isfinite(estimate) or known.mean() < 1 - tail:
        return None, f"the ratio changes sign more than once between {costs[0]:g} and {costs[-1]:g} s"
    low, high = np.quantile(places[known], [tail, 1 - tail])
    return Interval(float(estimate), float(low), float(high), n), ""


def _unnamable(costs: FloatArray, whole: FloatArray) -> str:
    """Return why the ends do not enclose a crossing; empty when they do."""
    if len(costs) < 2:
        return "one start-up cost was measured: a crossing takes two or more"
    if len(whole) < BLOCKS_FOR_INTERVAL:
        return f"{plural(len(whole), 'complete block')}: an interval takes at least {BLOCKS_FOR_INTERVAL}"
    first, last = _shown_sign(whole[:, 0]), _shown_sign(whole[:, -1])
    if first > 0 and last > 0:
        return f"the few serve more at every cost from {costs[0]:g} s on: a crossing would lie below"
    if last <= 0:
        what = "the many serve more even" if last < 0 else "the few are not shown to serve more"
        return f"{what} at {costs[-1]:g} s, the highest cost measured"
    if first == 0:
        return f"the many are not shown to serve more at {costs[0]:g} s: a crossing may lie below"
    return ""


def _shown_sign(values: FloatArray) -> int:
    """Return 1 or -1 for a mean that differs from 0 at the 5 % level, else 0."""
    p = paired_p(values)
    return int(np.sign(values.mean())) if p is not None and p < ALPHA else 0


def _only_upward_zeros(costs: FloatArray, ratios: FloatArray) -> FloatArray:
    """Return where each broken line goes from below 0 to above, NaN unless it does so just once."""
    above = ratios >= 0
    up, down = ~above[:, :-1] & above[:, 1:], above[:, :-1] & ~above[:, 1:]
    rows, place = np.arange(len(ratios)), up.argmax(axis=1)
    before, after = ratios[rows, place], ratios[rows, place + 1]
    with np.errstate(invalid="ignore", divide="ignore"):
        zeros = costs[place] - before / (after - before) * (costs[place + 1] - costs[place])
    return np.where((up.sum(axis=1) == 1) & ~down.any(axis=1), zeros, np.nan)


def study_crossing(found: Sequence[Crossing], host: str, background: str) -> Crossing | None:
    """Return the comparison that claim 5 is about: few multiplexed processes against many threaded ones."""
    for item in found:
        models = (item.few_model, item.many_model)
        if (item.host, item.background) == (host, background) and models == (MULTIPLEXED, THREADED):
            return item
    return None
