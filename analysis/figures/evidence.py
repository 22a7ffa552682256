"""Why a curve looks as it does: costs per request, run order, latency, models."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.drift import Drift
from analysis.explanation import COUNTERS
from analysis.figures.style import (
    MUTED,
    RASTER_FROM,
    RC,
    from_zero,
    label_outer,
    legend_below,
    marks,
    sheet,
    whole_numbers,
)
from analysis.models import ModelChoice

PERCENTILES = ("p50", "p90", "p99")


def counters_figure(counters: pd.DataFrame) -> Figure | None:
    """Draw what one request costs against the process count, one column a host.

    Parameters
    ----------
    counters : DataFrame
        `explanation.counter_table` of one setting.

    Returns
    -------
    Figure or None
        One row a counter that was sampled; ``None`` when none was.
    """
    names = [name for name in COUNTERS if counters[name].notna().any()]
    hosts = list(dict.fromkeys(counters["host"]))
    if not names or not hosts:
        return None
    figure, grid = sheet(
        len(names), len(hosts), width=max(8.4, 3.6 * len(hosts)), height=0.8 + 1.75 * len(names),
        sharex="col", sharey="row",
    )  # fmt: skip
    look = marks(counters["handler"].unique())
    with mpl.rc_context(RC):
        for column, host in enumerate(hosts):
            own = counters[counters["host"] == host]
            for row, name in enumerate(names):
                axes = grid[row, column]
                for handler, mark in look.items():
                    part = own[own["handler"] == handler].sort_values("processes")
                    axes.plot(
                        part["processes"], part[name], color=mark.colour, marker=mark.marker, markersize=4,
                        linestyle=mark.dashes, label=handler,
                    )  # fmt: skip
                if column == 0:
                    axes.set_ylabel(_two_lines(COUNTERS[name]), fontsize=8)
            grid[0, column].set_title(host)
            grid[-1, column].set_xlabel("processes")
            whole_numbers(grid[-1, column])
        from_zero(grid)
        legend_below(figure, grid[0, 0])
    return figure


def _two_lines(text: str) -> str:
    return text.replace(" (", "\n(") if " (" in text else text.replace(" a request", "\na request")


def order_figure(order: pd.DataFrame, drifts: dict[str, Drift]) -> Figure | None:
    """Draw every trial in run order: how far it lies from its own cell's median.

    Parameters
    ----------
    order : DataFrame
        `tables.order_table`.
    drifts : dict
        Host to its drift: change points are lines, flagged blocks are shaded.

    Returns
    -------
    Figure or None
        One panel a host; ``None`` without valid trials.
    """
    hosts = list(dict.fromkeys(order["host"]))
    if not hosts:
        return None
    figure, grid = sheet(len(hosts), 1, width=8.4, height=0.9 + 2.3 * len(hosts), sharey=True)
    with mpl.rc_context(RC):
        for axes, host in zip(grid.flat, hosts, strict=True):
            _order_panel(axes, order[order["host"] == host], drifts.get(host))
            axes.set_title(host)
            axes.set_ylabel("% from median")
        grid[-1, 0].set_xlabel("run order (attempts)")
        legend_below(figure, grid[0, 0])
    return figure


def _order_panel(axes: Axes, own: pd.DataFrame, drift: Drift | None) -> None:
    cells = own[own["role"] == "cell"]
    sentinels = own[own["role"] == "sentinel"]
    raster = len(own) > RASTER_FROM
    axes.axhline(0, color=MUTED, linewidth=1)
    axes.scatter(
        cells["order"], cells["deviation_percent"], s=9, color="#999999", alpha=0.6, linewidths=0,
        label="cells", rasterized=raster,
    )  # fmt: skip
    axes.plot(
        sentinels["order"], sentinels["deviation_percent"], "D-", color="#0072B2", markersize=4, linewidth=1,
        label="sentinels (same cell)", rasterized=raster,
    )  # fmt: skip
    for begin in own.groupby("epoch")["order"].min().iloc[1:]:
        axes.axvline(begin - 0.5, color="black", linewidth=1.5, label="seam (new epoch)")
    if drift is None:
        return
    for place in drift.change_orders:
        axes.axvline(place, color="#D55E00", linewidth=1.5, linestyle=(0, (4, 2)), label="change of level")
    for block in drift.flagged_blocks:
        orders = own.loc[own["block"] == block, "order"]
        axes.axvspan(orders.min() - 0.5, orders.max() + 0.5, color="#D55E00", alpha=0.12, linewidth=0)


def latency_figure(latency: pd.DataFrame) -> Figure | None:
    """Draw latency percentiles against the process count, under a closed loop: handlers in one panel.

    Parameters
    ----------
    latency : DataFrame
        `tables.latency_table` of one setting.

    Returns
    -------
    Figure or None
        ``None`` when the load generator reported no percentiles.
    """
    usable = latency.dropna(subset=["latency_p50_ms"])
    if usable.empty:
        return None
    hosts = list(dict.fromkeys(usable["host"]))
    figure, grid = sheet(
        len(hosts), len(PERCENTILES), width=3.9 * len(PERCENTILES), height=1.0 + 2.4 * len(hosts),
        sharex=True, sharey=True,
    )  # fmt: skip
    look = marks(usable["handler"].unique())
    concurrency = ", ".join(str(level) for level in sorted(usable["concurrency"].unique()))
    with mpl.rc_context(RC):
        for row, host in zip(grid, hosts, strict=True):
            for axes, name in zip(row, PERCENTILES, strict=True):
                for handler, mark in look.items():
                    own = usable[(usable["host"] == host) & (usable["handler"] == handler)]
                    own = own.sort_values("processes")
                    axes.plot(
                        own["processes"], own[f"latency_{name}_ms"], color=mark.colour, marker=mark.marker,
                        markersize=4.5, linestyle=mark.dashes, label=handler,
                    )  # fmt: skip
                axes.set_title(f"{host}: {name}", fontsize=9.5)
                whole_numbers(axes)
        from_zero(grid)
        label_outer(grid, f"processes; closed loop, c = {concurrency}", "latency (ms)")
        legend_below(figure, grid[0, 0])
    return figure


def model_figure(cells: pd.DataFrame, choices: dict[tuple[str, str], ModelChoice]) -> Figure | None:
    """Draw the chosen model through the medians, and what it misses, only where it was measured.

    Parameters
    ----------
    cells : DataFrame
        `tables.cell_table` of one setting.
    choices : dict
        (host, handler) to its model.

    Returns
    -------
    Figure or None
        ``None`` when no curve has a model.
    """
    if not choices:
        return None
    hosts = list(dict.fromkeys(host for host, _ in choices))
    figure, grid = sheet(
        2, len(hosts), width=max(8.4, 4.0 * len(hosts)), height=5.6, sharex="col", sharey="row",
        height_ratios=[3, 1.3],
    )  # fmt: skip
    look = marks({handler for _, handler in choices})
    with mpl.rc_context(RC):
        for column, host in enumerate(hosts):
            for handler, mark in look.items():
                choice = choices.get((host, handler))
                own = cells[(cells["host"] == host) & (cells["handler"] == handler) & (cells["n"] > 0)]
                if choice is None or own.empty:
                    continue
                n = own["processes"].to_numpy(dtype=np.float64)
                fine = np.linspace(*choice.range, 200)
                grid[0, column].plot(n, own["median_rps"], mark.marker, color=mark.colour, markersize=5)
                grid[0, column].plot(
                    fine, choice.fit.predict(fine), color=mark.colour, linestyle=mark.dashes,
                    label=f"{host}, {handler}: {choice.fit.model}",
                )  # fmt: skip
                miss = 100 * (own["median_rps"].to_numpy() / choice.fit.predict(n) - 1)
                grid[1, column].plot(
                    n, miss, mark.marker, color=mark.colour, linestyle=mark.dashes, markersize=4
                )
            grid[0, column].set_title(host)
            grid[1, column].axhline(0, color=MUTED, linewidth=1)
            grid[1, column].set_xlabel("processes\nfitted to the geometric means over blocks")
            whole_numbers(grid[1, column])
        grid[0, 0].set_ylabel("goodput (requests/s)")
        grid[1, 0].set_ylabel("median over\nmodel (%)")
        from_zero(grid[:1])
        _model_legend(figure, grid)
    return figure


def _model_legend(figure: Figure, grid: np.ndarray[tuple[int, int], np.dtype[np.object_]]) -> None:
    """Put one legend below: a column a host where all its handlers have a model."""
    handles, labels = [], []
    for axes in grid[0]:
        own_handles, own_labels = axes.get_legend_handles_labels()
        handles += own_handles
        labels += own_labels
    figure.legend(handles, labels, loc="outside lower center", ncols=max(2, grid.shape[1]))
