"""What all figures share: colours, markers, line styles, sizes, marks."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis.figures.layout import BorderLayout

INK = "#222222"
MUTED = "#666666"
RASTER_FROM = 2000
"""Above this many dots an SVG holds them as one picture, else it grows to megabytes."""
MANY_PANELS = 12
STEPS_IN_GRID, STEPS_IN_LARGE_GRID = (8, 6), (5, 4)
"""At most so many steps of the axes of a small panel: more are hard to read, and drawing ticks is slow."""

LETTER_INCHES = 0.066
LEGEND_HANDLE_INCHES = 0.65
"""How wide a letter and a legend's sign are, at most on average."""

RC: Any = {
    **sns.axes_style("whitegrid"),
    "axes.edgecolor": "#999999",
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    # nothing stands above a panel; matplotlib would measure all ticks to find that out
    "axes.titley": 1.0,
    "figure.titlesize": 13,
    "font.family": ["DejaVu Sans"],
    "font.size": 10,
    "grid.color": "#e2e2e2",
    "legend.frameon": False,
    "legend.fontsize": 9,
    "svg.hashsalt": "fcgi-sweep",
    "text.color": INK,
}

# Okabe and Ito: told apart by colour-blind readers; dark ones first, so that they differ in grey too
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.2)), (0, (5, 2, 1, 2)), (0, (8, 3)), (0, (3, 1)), "-")
_KNOWN = ("threaded", "multiplexed", "serial", "prefork", "asyncio", "multiplexed-stock")


@dataclass(frozen=True)
class Mark:
    """How one series is drawn: colour, marker and line style together."""

    colour: str
    marker: str
    dashes: Any


def _place(handler: str) -> int:
    return _KNOWN.index(handler) if handler in _KNOWN else len(_KNOWN)


def marks(names: Iterable[str]) -> dict[str, Mark]:
    """Return a mark for each name, the same in every figure of a report."""
    listed = sorted(set(names), key=lambda name: (_place(name.partition(" ")[0].rstrip(",")), name))
    return {name: Mark(_COLOURS[i % 7], _MARKERS[i % 7], _DASHES[i % 7]) for i, name in enumerate(listed)}


def sheet(
    rows: int = 1, columns: int = 1, *, width: float = 8.0, height: float = 4.8, **kwargs: Any
) -> tuple[Figure, np.ndarray[Any, Any]]:
    """Return a figure with a grid of axes, laid out so that nothing overlaps."""
    with mpl.rc_context(RC):
        figure = Figure(figsize=(width, height), layout=BorderLayout())
        grid = figure.subplots(rows, columns, squeeze=False, **kwargs)
        if rows * columns > 1:
            for axes in grid.flat:
                most = _steps_in_grid(rows * columns)[1]
                axes.yaxis.set_major_locator(MaxNLocator(nbins=most, steps=[1, 2, 2.5, 5, 10]))
    return figure, grid


def whole_numbers(axes: Axes) -> None:
    """Put ticks of the x axis on whole numbers only."""
    panels = 0 if axes.figure is None else len(axes.figure.axes)
    most, steps = (12, None) if panels == 1 else (_steps_in_grid(panels)[0], [1, 2, 5, 10])
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=most, steps=steps))


def _steps_in_grid(panels: int) -> tuple[int, int]:
    return STEPS_IN_GRID if panels <= MANY_PANELS else STEPS_IN_LARGE_GRID


def from_zero(grid: Iterable[Any]) -> None:
    """Let the y axes begin at 0; to be called when all panels are drawn, since it fixes the top as well."""
    for row in grid:
        for axes in row:
            if axes.figure is not None:
                axes.set_ylim(bottom=0, top=max(axes.get_ylim()[1], axes.dataLim.ymax * 1.05))


def label_outer(grid: Any, xlabel: str, ylabel: str) -> None:
    """Label the x axis of the lowest panel of each column and the y axis of the first of each row."""
    for column in grid.T:
        shown = [axes for axes in column if axes.figure is not None]
        shown[-1].set_xlabel(xlabel)
        shown[-1].tick_params(labelbottom=True)
    for row in grid:
        row[0].set_ylabel(ylabel)


def errorbars(axes: Axes, x: Any, low: Any, high: Any, *, mark: Mark, linewidth: float = 2) -> None:
    """Draw intervals; where a bound is missing, nothing is drawn."""
    x, low, high = (np.asarray(values, dtype=np.float64) for values in (x, low, high))
    have = np.isfinite(low) & np.isfinite(high)
    axes.vlines(x[have], low[have], high[have], color=mark.colour, linewidth=linewidth)


def spread(names: Iterable[str], width: float = 0.24) -> dict[str, float]:
    """Return a sideways shift for each series, so that intervals at one count do not hide each other."""
    listed = list(marks(names))
    if len(listed) < 2:
        return dict.fromkeys(listed, 0.0)
    return dict(zip(listed, np.linspace(-width / 2, width / 2, len(listed)).tolist(), strict=True))


def legend_below(figure: Figure, axes: Axes, columns: int = 4) -> None:
    """Put one legend under the panels, in as many columns as its longest text lets fit."""
    handles, labels = axes.get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    if unique:
        entry_inches = LEGEND_HANDLE_INCHES + LETTER_INCHES * max(map(len, unique))
        fitting = max(1, int(figure.get_figwidth() / entry_inches))
        with mpl.rc_context(RC):
            figure.legend(
                list(unique.values()),
                list(unique),
                loc="outside lower center",
                ncols=min(columns, len(unique), fitting),
            )


def wrapped(figure: Figure, text: str) -> str:
    """Return a text under the panels in lines that fit the figure; lines that are there stay."""
    letters = int(figure.get_figwidth() / LETTER_INCHES * 0.9)
    return "\n".join(textwrap.fill(line, letters) for line in text.split("\n"))
