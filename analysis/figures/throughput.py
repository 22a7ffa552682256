"""Speed against process count: the study's figure, and hosts side by side on their own scale."""

from __future__ import annotations

from collections.abc import Iterator

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from analysis.figures.style import (
    MUTED,
    RASTER_FROM,
    RC,
    Mark,
    errorbars,
    from_zero,
    label_outer,
    legend_below,
    marks,
    sheet,
    spread,
    whole_numbers,
    wrapped,
)
from analysis.handlers import LIMIT
from analysis.wording import plural

NEAR_CEILING = 1.6
"""A ceiling this many times above the fastest trial is named, not drawn: the data would be squeezed."""


def host_figure(
    cells: pd.DataFrame,
    trials: pd.DataFrame,
    ceiling_rps: float | None,
    bounds: pd.DataFrame | None = None,
) -> Figure:
    """Draw requests/s against processes for one host and setting, as the study did.

    Parameters
    ----------
    cells : DataFrame
        Rows of `tables.cell_table` for this host and setting.
    trials : DataFrame
        The host's attempts of role ``cell`` in this setting, valid or not.
    ceiling_rps : float or None
        Median of the static file, in requests/s.
    bounds : DataFrame, optional
        Rows of `bounds.bounds_table` for this host and setting.

    Returns
    -------
    Figure
        Every trial a dot, invalid ones hollow, median line, interval, marks at cores and concurrency;
        ceilings in grey, queueing bounds thin and dotted.
    """
    drawn_bounds = bounds is not None and not bounds.empty
    figure, grid = sheet(width=8.4, height=6.2 if drawn_bounds else 5.4)
    axes = grid[0, 0]
    first = cells.iloc[0]
    limit = cells[(cells["model"] == LIMIT) & (cells["n"] > 0)]
    handlers = trials[trials["model"] != LIMIT]
    if len(limit) < len(cells):
        cells, trials = cells[cells["model"] != LIMIT], handlers
    with mpl.rc_context(RC):
        _dots(axes, cells, trials)
        _medians(axes, cells)
        _vertical_marks(axes, cells)
        whole_numbers(axes)
        axes.set_ylim(bottom=0)
        if bounds is not None and not bounds.empty:
            _bounds(axes, bounds, marks(cells["handler"].unique()))
        axes.set_ylabel("goodput (requests/s)")
        setting = f" — {first['setting']}" if first["setting"] else ""
        axes.set_title(f"{first['label']}{setting}")
        notes = [_ceiling(axes, cells, trials, ceiling_rps), *_limit(axes, cells, trials, limit)]
        legend_below(figure, axes)
        axes.set_xlabel(wrapped(figure, _note(cells, "; ".join(notes))))
    return figure


def _bounds(axes: Axes, bounds: pd.DataFrame, look: dict[str, Mark]) -> None:
    """Draw queueing bounds where they are near the data; the scale stays that of the data."""
    top = axes.get_ylim()[1]
    for handler, own in bounds.groupby("handler", observed=True):
        rows, colour = own.sort_values("processes"), look[str(handler)].colour
        axes.plot(
            rows["processes"], rows["cores_rps"], color=colour, linewidth=1.1, linestyle=(0, (1, 1)),
            label=f"{handler}: cores / CPU demand",
        )  # fmt: skip
        if rows["process_rps"].notna().any():
            axes.plot(
                rows["processes"], rows["process_rps"], color=colour, linewidth=1.1,
                linestyle=(0, (4, 1, 1, 1)), label=f"{handler}: {rows['process_text'].iloc[0]}",
            )  # fmt: skip
    near = bounds.loc[bounds["cores_rps"] <= NEAR_CEILING * top, "cores_rps"]
    axes.set_ylim(top=max(top, 1.06 * near.max()) if len(near) else top)


def _limit(axes: Axes, cells: pd.DataFrame, trials: pd.DataFrame, limit: pd.DataFrame) -> Iterator[str]:
    """Draw the ceiling of the FastCGI path as the static one; yield how the note names it."""
    if limit.empty or limit is cells:
        return
    text = f"FastCGI ceiling ({LIMIT}) {limit['median_rps'].max():,.0f} requests/s"
    if limit["median_rps"].max() > NEAR_CEILING * _highest(cells, trials):
        yield f"{text} (off the scale)"
        return
    rows = limit.sort_values("processes")
    axes.plot(
        rows["processes"], rows["median_rps"], color=MUTED, linewidth=1.2, linestyle=(0, (6, 2)), marker="_",
        label="FastCGI ceiling: a responder in C",
    )  # fmt: skip
    axes.set_ylim(top=max(axes.get_ylim()[1], 1.06 * rows["median_rps"].max()))
    yield f"{text} (grey dashes)"


def _highest(cells: pd.DataFrame, trials: pd.DataFrame) -> float:
    return float(np.nanmax([cells["median_rps"].max(), trials["goodput_rps"].max()]))


def _dots(axes: Axes, cells: pd.DataFrame, trials: pd.DataFrame) -> None:
    shift = spread(cells["handler"].unique())
    rng = np.random.default_rng(0)
    raster = len(trials) > RASTER_FROM
    for name, mark in marks(cells["handler"].unique()).items():
        own = trials[(trials["handler"] == name) & trials["goodput_rps"].notna()]
        x = own["processes"].to_numpy(dtype=float) + shift[name] + rng.uniform(-0.05, 0.05, len(own))
        valid = (own["status"] == "valid").to_numpy()
        y = own["goodput_rps"].to_numpy(dtype=float)
        axes.scatter(
            x[valid], y[valid], marker=mark.marker, color=mark.colour, s=20, alpha=0.55, linewidths=0,
            rasterized=raster,
        )  # fmt: skip
        if (~valid).any():
            axes.scatter(
                x[~valid], y[~valid], marker=mark.marker, facecolors="none", edgecolors=mark.colour, s=22,
                linewidths=0.8, alpha=0.5, rasterized=raster,
            )  # fmt: skip


def _medians(axes: Axes, cells: pd.DataFrame) -> None:
    shift = spread(cells["handler"].unique())
    for name, mark in marks(cells["handler"].unique()).items():
        own = cells[(cells["handler"] == name) & (cells["n"] > 0)].sort_values("processes")
        x = own["processes"] + shift[name]
        axes.plot(
            x, own["median_rps"], color=mark.colour, linestyle=mark.dashes, marker=mark.marker,
            markersize=5.5, linewidth=1.8, label=f"{name}, median",
        )  # fmt: skip
        errorbars(axes, x, own["low_rps"], own["high_rps"], mark=mark)


def _vertical_marks(axes: Axes, cells: pd.DataFrame) -> None:
    low, high = cells["processes"].min(), cells["processes"].max()
    for value, text in ((cells["cores"].iloc[0], "cores"), (cells["concurrency"].iloc[0], "c")):
        if low <= value <= high:
            axes.axvline(value, color=MUTED, linewidth=1, linestyle=(0, (3, 3)), zorder=0)
            axes.annotate(
                f"{text} = {value}", (value, 0), xycoords=("data", "axes fraction"), xytext=(4, 6),
                textcoords="offset points", color=MUTED, fontsize=9,
            )  # fmt: skip


def _ceiling(axes: Axes, cells: pd.DataFrame, trials: pd.DataFrame, ceiling_rps: float | None) -> str:
    """Draw the ceiling where it is near the data; return how the note names it."""
    if ceiling_rps is None or not np.isfinite(ceiling_rps):
        return "no static ceiling measured"
    text = f"static ceiling {ceiling_rps:,.0f} requests/s"
    if ceiling_rps > NEAR_CEILING * _highest(cells, trials):
        return f"{text} (off the scale)"
    axes.axhline(ceiling_rps, color=MUTED, linewidth=1.2)
    axes.set_ylim(top=max(axes.get_ylim()[1], 1.06 * ceiling_rps))
    return f"{text} (grey line)"


def _note(cells: pd.DataFrame, ceiling: str) -> str:
    least, most = int(cells["n"].min()), int(cells["n"].max())
    n = f"n = {most}" if least == most else f"n = {least}-{most}"
    bars = "bars: 95 % interval of the median" if cells["low_rps"].notna().any() else "n below 6: no interval"
    return f"processes\n{n} server starts a point; {bars}\nevery trial a dot, invalid ones hollow; {ceiling}"


def normalised_figure(cells: pd.DataFrame) -> Figure | None:
    """Draw hosts side by side by core count: speed on each host's own scale against processes/cores.

    Parameters
    ----------
    cells : DataFrame
        `tables.cell_table` of one setting.

    Returns
    -------
    Figure or None
        ``None`` when no host measured its reference cell.
    """
    usable = cells[cells["relative"].notna()]
    if usable.empty:
        return None
    order = usable[["cores", "host", "label"]].drop_duplicates().sort_values(["cores", "host"])
    columns = min(3, len(order))
    rows = -(-len(order) // columns)
    figure, grid = sheet(
        rows, columns, width=max(8.4, 4.0 * columns), height=1.0 + 3.4 * rows, sharex=True, sharey=True
    )
    with mpl.rc_context(RC):
        for axes, (_, host) in zip(grid.flat, order.iterrows(), strict=False):
            _normalised_panel(axes, usable[usable["host"] == host["host"]])
            axes.set_title(f"{host['host']}: {plural(host['cores'], 'core')}")
        for axes in list(grid.flat)[len(order) :]:
            axes.remove()
        from_zero(grid)
        label_outer(grid, "processes / cores (log scale)", "speed / own reference cell")
        legend_below(figure, grid[0, 0])
    return figure


def _normalised_panel(axes: Axes, cells: pd.DataFrame) -> None:
    axes.axhline(1, color=MUTED, linewidth=1)
    axes.axvline(1, color=MUTED, linewidth=1, linestyle=(0, (3, 3)))
    for name, mark in marks(cells["handler"].unique()).items():
        own = cells[cells["handler"] == name].sort_values("processes")
        x = own["processes"] / own["cores"]
        axes.plot(
            x, own["relative"], color=mark.colour, marker=mark.marker, linestyle=mark.dashes, markersize=5,
            label=name,
        )  # fmt: skip
        errorbars(axes, x, own["relative_low"], own["relative_high"], mark=mark, linewidth=1.5)
    _powers_of_two(axes)


def _powers_of_two(axes: Axes) -> None:
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator([2.0**power for power in range(-6, 8)]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(
        FuncFormatter(lambda value, _: f"{value:g}" if value >= 1 else f"1/{1 / value:g}")
    )


def per_core_figure(cells: pd.DataFrame) -> Figure | None:
    """Draw speed-up per core: speed over the same handler with one process, divided by the cores.

    Parameters
    ----------
    cells : DataFrame
        `tables.cell_table` of one setting.

    Returns
    -------
    Figure or None
        ``None`` with fewer than two core counts, or when one process was not measured.
    """
    base = cells[cells["processes"] == 1].set_index(["host", "handler"])["median_rps"]
    keyed = cells.set_index(["host", "handler"])
    table = cells.assign(
        per_core=cells["median_rps"].to_numpy()
        / base.reindex(keyed.index).to_numpy()
        / cells["cores"].to_numpy()
    ).dropna(subset=["per_core"])
    if table["cores"].nunique() < 2:
        return None
    handlers = list(marks(table["handler"].unique()))
    hosts = table[["cores", "host"]].drop_duplicates().sort_values(["cores", "host"])["host"].tolist()
    figure, grid = sheet(
        1, len(handlers), width=max(8.4, 4.2 * len(handlers)), height=4.4, sharex=True, sharey=True
    )
    look = dict(zip(hosts, marks([f"{i:03d}" for i in range(len(hosts))]).values(), strict=True))
    with mpl.rc_context(RC):
        for axes, handler in zip(grid.flat, handlers, strict=True):
            for host in hosts:
                own = table[(table["host"] == host) & (table["handler"] == handler)].sort_values("processes")
                if own.empty:
                    continue
                mark = look[host]
                axes.plot(
                    own["processes"] / own["cores"], own["per_core"], color=mark.colour, marker=mark.marker,
                    linestyle=mark.dashes, markersize=5,
                    label=f"{host} ({plural(own['cores'].iloc[0], 'core')})",
                )  # fmt: skip
            axes.axvline(1, color=MUTED, linewidth=1, linestyle=(0, (3, 3)))
            axes.axhline(1, color=MUTED, linewidth=1)
            _powers_of_two(axes)
            axes.set_title(handler)
        from_zero(grid)
        label_outer(grid, "processes / cores (log scale)", "speed-up over 1 process, per core")
        legend_below(figure, grid[0, 0])
    return figure
