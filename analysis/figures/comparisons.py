"""Handler against handler, and which count may be the best."""

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
    label_outer,
    legend_below,
    marks,
    sheet,
    spread,
    whole_numbers,
)


def ratio_figure(ratios: pd.DataFrame, indifference: float) -> Figure | None:
    """Draw each handler's speed over the reference handler's, host by host, with the zone of ±δ.

    Parameters
    ----------
    ratios : DataFrame
        `tables.ratio_table` of one setting.
    indifference : float
        δ as a fraction.

    Returns
    -------
    Figure or None
        ``None`` when there is nothing to compare.
    """
    if ratios.empty:
        return None
    hosts = list(dict.fromkeys(ratios["host"]))
    columns = min(3, len(hosts))
    rows = -(-len(hosts) // columns)
    figure, grid = sheet(
        rows, columns, width=max(8.4, 4.2 * columns), height=1.0 + 3.3 * rows, sharey=True, sharex=True
    )
    delta = 100 * indifference
    with mpl.rc_context(RC):
        for axes, host in zip(grid.flat, hosts, strict=False):
            own = ratios[ratios["host"] == host]
            axes.axhspan(
                -delta, delta, color="#dddddd", zorder=0, label=f"within ±{delta:g} %: no difference"
            )
            axes.axhline(0, color=MUTED, linewidth=1)
            _ratio_series(axes, own)
            whole_numbers(axes)
            axes.set_title(host)
        for axes in list(grid.flat)[len(hosts) :]:
            axes.remove()
        references = ratios["reference"].unique()
        other = str(references[0]) if len(references) == 1 else "the other"
        label_outer(
            grid, "processes\nbars: 95 % at a count; shaded: 95 % for all", f"goodput over {other} (%)"
        )
        legend_below(figure, grid[0, 0], columns=3)
    return figure


def _ratio_series(axes: Axes, own: pd.DataFrame) -> None:
    pairs = list(own[["handler", "reference"]].drop_duplicates().itertuples(index=False, name=None))
    several = len({reference for _, reference in pairs}) > 1
    names = {pair: f"{pair[0]} over {pair[1]}" if several else pair[0] for pair in pairs}
    look = marks([*names.values(), *([] if several else [pairs[0][1]])])
    shift = spread(names.values())
    for (handler, reference), name in names.items():
        rows = own[(own["handler"] == handler) & (own["reference"] == reference)].sort_values("processes")
        x = rows["processes"] + shift[name]
        axes.fill_between(
            x, rows["low_all_percent"], rows["high_all_percent"], color=look[name].colour, alpha=0.13,
            linewidth=0,
        )  # fmt: skip
        axes.plot(
            x, rows["percent"], color=look[name].colour, marker=look[name].marker, markersize=5,
            linestyle=look[name].dashes, linewidth=1.2, label=name,
        )  # fmt: skip
        errorbars(axes, x, rows["low_percent"], rows["high_percent"], mark=look[name])


def p_best_figure(cells: pd.DataFrame) -> Figure | None:
    """Draw how often each count comes out on top when the blocks are resampled.

    Parameters
    ----------
    cells : DataFrame
        `tables.cell_table` of one setting.

    Returns
    -------
    Figure or None
        One row of panels a host; counts of the best set are hatched. ``None`` without any.
    """
    usable = cells[cells["p_best"].notna()]
    if usable.empty:
        return None
    hosts = list(dict.fromkeys(usable["host"]))
    handlers = list(marks(usable["handler"].unique()))
    figure, grid = sheet(
        len(hosts), len(handlers), width=max(8.4, 3.9 * len(handlers)), height=0.9 + 2.3 * len(hosts),
        sharex=True, sharey=True,
    )  # fmt: skip
    look = marks(handlers)
    with mpl.rc_context(RC):
        for row, host in zip(grid, hosts, strict=True):
            for axes, handler in zip(row, handlers, strict=True):
                own = usable[(usable["host"] == host) & (usable["handler"] == handler)]
                seen = own[own["p_best"] > 0]
                bars = axes.bar(
                    seen["processes"], 100 * seen["p_best"], color=look[handler].colour, alpha=0.85, width=0.7
                )
                for bar, chosen in zip(bars, seen["best_set"], strict=True):
                    bar.set_hatch("///" if chosen else "")
                    bar.set_edgecolor("white" if chosen else look[handler].colour)
                _best_title(axes, f"{host}: {handler}", own)
                whole_numbers(axes)
            row[0].set_ylabel("resamples (%)")
        for axes in grid[-1]:
            axes.set_xlabel("processes (hatched: in the best set)")
        for axes in grid.flat:
            axes.set_xlim(usable["processes"].min() - 0.7, usable["processes"].max() + 0.7)
            axes.set_ylim(0, 100)
    return figure


def _best_title(axes: Axes, title: str, own: pd.DataFrame) -> None:
    if own.empty:
        axes.set_title(f"{title}: not measured", fontsize=9.5)
        return
    chosen = own.loc[own["best_set"], "processes"].to_list()
    text = "no best named" if not chosen else f"best set {{{', '.join(map(str, chosen))}}}"
    axes.set_title(
        f"{title}\n{text if len(text) < 44 else f'best set of {len(chosen)} counts'}", fontsize=9.5
    )


def forest_figure(rows: pd.DataFrame, indifference: float) -> Figure | None:
    """Draw every count minus the best of the others, with simultaneous intervals and the zone of ±δ.

    Parameters
    ----------
    rows : DataFrame
        host, handler, processes, difference_percent, low_percent, high_percent of suspected peaks.
    indifference : float
        δ as a fraction.

    Returns
    -------
    Figure or None
        ``None`` when there is no suspected peak.
    """
    if rows.empty:
        return None
    figure, grid = sheet(width=7.6, height=1.5 + 0.42 * len(rows))
    axes = grid[0, 0]
    delta = 100 * indifference
    y = np.arange(len(rows))[::-1]
    with mpl.rc_context(RC):
        axes.axvspan(-delta, delta, color="#dddddd", zorder=0)
        axes.axvline(0, color=MUTED, linewidth=1)
        axes.hlines(y, rows["low_percent"], rows["high_percent"], color="#0072B2", linewidth=2.2)
        axes.plot(rows["difference_percent"], y, "o", color="#0072B2")
        axes.set_yticks(y, [f"{r.host}: {r.handler}, {r.processes} processes" for r in rows.itertuples()])
        axes.set_ylim(-0.7, len(rows) - 0.3)
        axes.set_xlabel(f"lead over the best other count (%)\n95 % simultaneous; grey: ±{delta:g} %")
    return figure
