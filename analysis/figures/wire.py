"""Handlers on the wire: speed by regime, and what re-use and interleaving buy."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures.style import (
    MUTED,
    RC,
    errorbars,
    from_zero,
    legend_below,
    marks,
    sheet,
    spread,
)
from analysis.interleaving import FRESH

PARTS = {
    "re-use of connections": "#0072B2",
    "a mixture": "#666666",
    "interleaving": "#D55E00",
    "both": "#000000",
    "instead of threads": "#009E73",
}
"""Parts of the decomposition and their colours."""


def regime_figure(regimes: pd.DataFrame, trials: pd.DataFrame) -> Figure | None:
    """Draw goodput by regime, from a fresh connection a request to one connection with all requests.

    Parameters
    ----------
    regimes : DataFrame
        `interleaving.regime_table` of one total of requests in flight, with ``series``.
    trials : DataFrame
        host, series, regime, goodput_rps of the valid trials.

    Returns
    -------
    Figure or None
        One panel a host, every trial a dot; ``None`` without a valid trial.
    """
    regimes = regimes.assign(kept=regimes["kind"] != FRESH)
    usable = regimes[regimes["n"] > 0]
    if usable.empty:
        return None
    names = list(dict.fromkeys(regimes.sort_values(["kept", "in_flight"])["regime"]))
    hosts = list(dict.fromkeys(usable["host"]))
    figure, grid = sheet(1, len(hosts), width=max(8.4, 4.6 * len(hosts)), height=4.8, sharey=True)
    with mpl.rc_context(RC):
        for axes, host in zip(grid[0], hosts, strict=True):
            _regimes(axes, usable[usable["host"] == host], trials[trials["host"] == host], names)
            axes.set_title(host)
            axes.set_xlabel("regime: connections x requests at once on each")
        grid[0, 0].set_ylabel("goodput (requests/s)")
        from_zero(grid)
        legend_below(figure, grid[0, 0])
    return figure


def _regimes(axes: Axes, own: pd.DataFrame, trials: pd.DataFrame, names: list[str]) -> None:
    shift = spread(own["series"].unique())
    rng = np.random.default_rng(0)
    for name, mark in marks(own["series"].unique()).items():
        rows = own[own["series"] == name].sort_values(["kept", "in_flight"])
        x = np.array([names.index(regime) for regime in rows["regime"]]) + shift[name]
        axes.plot(
            x, rows["median_rps"], color=mark.colour, marker=mark.marker, markersize=6, linewidth=1.2,
            linestyle=mark.dashes, label=f"{name}, median",
        )  # fmt: skip
        errorbars(axes, x, rows["low_rps"], rows["high_rps"], mark=mark)
        dots = trials[trials["series"] == name]
        places = np.array([names.index(regime) for regime in dots["regime"]])
        axes.scatter(
            places + shift[name] + rng.uniform(-0.03, 0.03, len(dots)), dots["goodput_rps"], s=14,
            marker=mark.marker, color=mark.colour, alpha=0.45, linewidths=0,
        )  # fmt: skip
    axes.set_xticks(range(len(names)), [name.replace(" ", "\n", 1) for name in names])
    axes.set_xlim(-0.5, len(names) - 0.5)


def decomposition_figure(rows: pd.DataFrame, indifference: float) -> Figure | None:
    """Draw what re-use and what interleaving buy, with 95 % intervals and the zone of ±δ.

    Parameters
    ----------
    rows : DataFrame
        `interleaving.decomposition_table`, with ``series``.
    indifference : float
        δ as a fraction.

    Returns
    -------
    Figure or None
        ``None`` without a ratio.
    """
    if rows.empty:
        return None
    figure, grid = sheet(width=8.4, height=1.6 + 0.36 * len(rows))
    axes = grid[0, 0]
    delta = 100 * indifference
    y = np.arange(len(rows))[::-1]
    with mpl.rc_context(RC):
        axes.axvspan(-delta, delta, color="#dddddd", zorder=0, label=f"within ±{delta:g} %: no difference")
        axes.axvline(0, color=MUTED, linewidth=1)
        for part, colour in PARTS.items():
            own = (rows["part"] == part).to_numpy()
            if own.any():
                axes.hlines(
                    y[own], rows["low_percent"][own], rows["high_percent"][own], color=colour, linewidth=2.2
                )
                axes.plot(rows["percent"][own], y[own], "o", color=colour, label=part)
        axes.set_yticks(
            y, [f"{row.host}, {row.series}:\n{row.ratio}" for row in rows.itertuples()], fontsize=8
        )
        axes.set_ylim(-0.7, len(rows) - 0.3)
        axes.set_xlabel("goodput ratio minus 1 (%), paired by block, 95 % interval")
        legend_below(figure, axes, columns=3)
    return figure
