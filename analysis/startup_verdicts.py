"""Statements about servers that start: what is served meanwhile, and where few processes win."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.comparison import RatioAtCount
from analysis.handlers import REFERENCE_HANDLER
from analysis.intervals import Interval
from analysis.startup import Crossing
from analysis.wording import place_text, plural, ratio_text

MANY_TIMES = 10
"""From here on a ratio of requests served says that the one has served next to nothing."""


def crossing_line(crossing: Crossing) -> str:
    """Say from which start-up cost on few processes serve more than many."""
    where = place_text(crossing.host, crossing.cores, crossing.background)
    return f"{where}: {crossing_text(crossing)}"


def crossing_text(crossing: Crossing) -> str:
    """Return the comparison of few with many processes, without the place."""
    pair = f"{_arrangement(crossing.few)} against {_arrangement(crossing.many)}"
    text = f"{pair}, requests in the first {crossing.seconds:g} s: {_at_costs(crossing.ratios)}"
    cost = crossing.cost_s
    if cost is None or cost.low is None or cost.high is None:
        text += f"; no crossing is named: {crossing.reason}"
    else:
        text += (
            f"; the few serve more where a process takes over {cost.estimate:.2f} s"
            f" [{cost.low:.2f}, {cost.high:.2f}] to start"
        )
    if crossing.instead_of_threads:
        rival = f"{plural(crossing.few[1], f'{REFERENCE_HANDLER} process', f'{REFERENCE_HANDLER} processes')}"
        text += f"; against {rival}: {_at_costs(crossing.instead_of_threads)}"
    return text


def _arrangement(arrangement: tuple[str, int]) -> str:
    handler, processes = arrangement
    return f"{plural(processes, f'{handler} process', f'{handler} processes')}"


def _at_costs(ratios: tuple[tuple[float, RatioAtCount], ...]) -> str:
    return ", ".join(f"{_more_or_less(ratio.log_ratio)} at {cost:g} s" for cost, ratio in ratios)


def _more_or_less(log_ratio: Interval) -> str:
    """Return a ratio in percent, or in words where one of the two has hardly served anything."""
    if abs(log_ratio.estimate) < np.log(MANY_TIMES):
        return ratio_text(log_ratio)
    return f"over {MANY_TIMES} times {'as many' if log_ratio.estimate > 0 else 'fewer'}"


def start_lines(table: pd.DataFrame) -> list[str]:
    """Say how long each arrangement takes to its first answer and its full rate, at the dearest start.

    Parameters
    ----------
    table : DataFrame
        `startup.start_table`.
    """
    lines = []
    for (host, background), own in table.groupby(["host", "background"], observed=True):
        dearest = own[own["cost_s"] == own["cost_s"].max()]
        where = f"{host}, {background}" if background else str(host)
        parts = [_times(row) for row in dearest.to_dict(orient="records")]
        lines.append(
            f"{where}: where a process takes {dearest['cost_s'].iloc[0]:g} s to start: {'; '.join(parts)}"
        )
    return lines


def _times(row: dict[object, object]) -> str:
    name = _arrangement((str(row["handler"]), int(str(row["processes"]))))
    full = f"full rate after {row['full_rate_s']:.2f} s"
    if row["full_rate_reached"] != row["n"]:
        full = f"full rate in {row['full_rate_reached']} of {row['n']} starts"
    return f"{name}: first answer after {row['first_answer_s']:.2f} s, {full}"
