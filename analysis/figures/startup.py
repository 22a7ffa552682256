"""Servers that start: requests served from the start on, and few processes against many."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from analysis.figures.style import MUTED, RC, errorbars, from_zero, label_outer, legend_below, marks, sheet
from analysis.startup import Crossing

MOST_TIMES = 8.0
"""Ratios beyond this are drawn at the edge: one of the two has served next to nothing."""


def served_figure(curves: pd.DataFrame) -> Figure | None:
    """Draw requests served since lighttpd's start, one row a host and one column a start-up cost.

    Parameters
    ----------
    curves : DataFrame
        `startup.curve_table` with ``place`` and ``series``.

    Returns
    -------
    Figure or None
        Medians over server starts, shaded by their 95 % interval; ``None`` without a start.
    """
    if curves.empty:
        return None
    places, costs = list(dict.fromkeys(curves["place"])), sorted(curves["cost_s"].unique())
    figure, grid = sheet(
        len(places), len(costs), width=max(8.4, 3.2 * len(costs)), height=1.2 + 2.9 * len(places),
        sharex=True, sharey="row",
    )  # fmt: skip
    look = marks(curves["series"].unique())
    with mpl.rc_context(RC):
        for row, place in zip(grid, places, strict=True):
            for axes, cost in zip(row, costs, strict=True):
                own = curves[(curves["place"] == place) & (curves["cost_s"] == cost)]
                for name, mark in look.items():
                    part = own[own["series"] == name]
                    axes.plot(
                        part["t_s"], part["served"], color=mark.colour, linestyle=mark.dashes, linewidth=1.8,
                        label=name,
                    )  # fmt: skip
                    axes.fill_between(
                        part["t_s"], part["low"], part["high"], color=mark.colour, alpha=0.18, linewidth=0
                    )
                axes.set_title(f"{place}: {cost:g} s a process", fontsize=9.5)
        from_zero(grid)
        label_outer(grid, "seconds since lighttpd's start", "requests served")
        legend_below(figure, grid[0, 0])
    return figure


def crossing_figure(found: list[Crossing], indifference: float) -> Figure | None:
    """Draw few over many processes against the start-up cost, with the crossing where one may be named.

    Parameters
    ----------
    found : list of Crossing
        `startup.crossings`.
    indifference : float
        δ as a fraction.

    Returns
    -------
    Figure or None
        One panel a comparison; ``None`` without any.
    """
    if not found:
        return None
    columns = min(3, len(found))
    rows = -(-len(found) // columns)
    figure, grid = sheet(
        rows, columns, width=max(8.4, 4.0 * columns), height=1.2 + 3.0 * rows, sharex=True, sharey=True
    )
    with mpl.rc_context(RC):
        for axes, item in zip(grid.flat, found, strict=False):
            _times_scale(axes)
            _crossing_panel(axes, item, indifference)
        for axes in list(grid.flat)[len(found) :]:
            axes.remove()
        label_outer(grid, "start-up cost of a process (s)", "requests, few over many")
        legend_below(figure, grid[0, 0], columns=3)
    return figure


def _crossing_panel(axes: Axes, item: Crossing, indifference: float) -> None:
    (mark,) = marks([item.few[0]]).values()
    costs = [cost for cost, _ in item.ratios]
    nan = float("nan")
    times = [
        [nan if bound is None else np.exp(bound) for bound in (each.low, each.estimate, each.high)]
        for each in (ratio.log_ratio for _, ratio in item.ratios)
    ]
    low, middle, high = np.clip(np.array(times), 1 / MOST_TIMES, MOST_TIMES).T
    axes.axhspan(
        1 / (1 + indifference), 1 + indifference, color="#dddddd", zorder=0,
        label=f"within ±{100 * indifference:g} %: no difference",
    )  # fmt: skip
    axes.axhline(1, color=MUTED, linewidth=1)
    axes.plot(
        costs, middle, color=mark.colour, marker=mark.marker, label="few over many, 95 % interval over blocks"
    )
    errorbars(axes, costs, low, high, mark=mark)
    if item.cost_s is not None and item.cost_s.low is not None and item.cost_s.high is not None:
        axes.axvspan(
            item.cost_s.low, item.cost_s.high, color="#009E73", alpha=0.25, zorder=0, label="crossing, 95 %"
        )
        axes.axvline(item.cost_s.estimate, color="#009E73", linewidth=1.5)
    few, many = (f"{handler} x {count}" for handler, count in (item.few, item.many))
    axes.set_title(f"{item.host}: {few}\nover {many}, first {item.seconds:g} s", fontsize=9)


def _times_scale(axes: Axes) -> None:
    axes.set_yscale("log", base=2)
    axes.set_ylim(0.85 / MOST_TIMES, 1.18 * MOST_TIMES)
    steps = [2.0**power for power in range(-4, 5) if 1 / MOST_TIMES <= 2.0**power <= MOST_TIMES]
    axes.yaxis.set_major_locator(FixedLocator(steps))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(_times_text))


def _times_text(value: float, _: object) -> str:
    text = f"{value:g}" if value >= 1 else f"1/{1 / value:g}"
    if value >= MOST_TIMES:
        return f"{text} or more"
    return f"{text} or less" if value <= 1 / MOST_TIMES else text
