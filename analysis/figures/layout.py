"""Where panels stand in a figure, found from the text round the outer ones alone."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import LayoutEngine
from matplotlib.text import Text
from matplotlib.transforms import Bbox

PAD_INCHES = 0.07
FIRST_GUESS_INCHES = 0.6
"""Room for labels on all sides before they are measured: ticks follow the size of the panels."""


class BorderLayout(LayoutEngine):
    """Lays out a grid of panels that share their axes, and the legends below it.

    Matplotlib's constrained layout measures every panel and so takes longer than drawing a grid of
    forty. Where only the outer panels have labels, these and the titles say all.
    """

    _adjust_compatible = True
    _colorbar_gridspec = True

    def execute(self, fig: Any) -> None:
        """Place the panels of a figure.

        Parameters
        ----------
        fig : Figure
            All its panels are from one grid.
        """
        panels = {_place(axes): axes for axes in fig.axes}
        for axes in panels.values():
            _forget_empty_labels(axes)
        _place_panels(fig, panels)


def _place(axes: Axes) -> tuple[int, int]:
    cell = axes.get_subplotspec()
    if cell is None:
        raise ValueError("a panel outside of the grid cannot be laid out")
    return cell.rowspan.start, cell.colspan.start


def _forget_empty_labels(axes: Axes) -> None:
    """Keep matplotlib from looking for the place of labels that are empty: it measures all ticks for it."""
    for axis in (axes.xaxis, axes.yaxis):
        if not axis.label.get_text():
            axis.set_label_coords(0, 0)


def _place_panels(figure: Figure, panels: dict[tuple[int, int], Axes]) -> None:
    rows = 1 + max(row for row, _ in panels)
    columns = 1 + max(column for _, column in panels)
    guess = [FIRST_GUESS_INCHES / side for side in figure.get_size_inches()]
    figure.subplots_adjust(left=guess[0], bottom=guess[1], right=1 - guess[0] / 3, top=1 - guess[1])
    left = right = bottom = column_gap = 0.0
    above = [0.0] * rows
    below = [0.0] * rows
    for (row, column), axes in panels.items():
        above[row] = max(above[row], _title_height(axes))
        lowest = (row + 1, column) not in panels
        if column and not lowest:
            continue
        west, south, east, north = _overhang(axes)
        above[row] = max(above[row], north)
        if not lowest:
            below[row] = max(below[row], south)
        elif row == rows - 1:
            bottom = max(bottom, south)
        left, column_gap = (left, max(column_gap, west)) if column else (max(left, west), column_gap)
        right = max(right, east)
    row_gap = max((low + high for low, high in zip(below, above[1:], strict=False)), default=0.0)
    pad = PAD_INCHES * figure.dpi
    width, height = figure.bbox.size
    bottom += pad + sum(legend.get_window_extent().height + pad for legend in figure.legends)
    gaps = column_gap + right + pad, row_gap + pad
    panel_width = (width - left - right - 2 * pad - (columns - 1) * gaps[0]) / columns
    panel_height = (height - above[0] - bottom - pad - (rows - 1) * gaps[1]) / rows
    figure.subplots_adjust(
        left=(left + pad) / width,
        right=1 - (right + pad) / width,
        bottom=bottom / height,
        top=1 - (above[0] + pad) / height,
        wspace=gaps[0] / panel_width,
        hspace=gaps[1] / panel_height,
    )


def _title_height(axes: Axes) -> float:
    texts = [item for item in axes.get_children() if isinstance(item, Text) and item not in axes.texts]
    heights = [item.get_window_extent().y1 - axes.bbox.y1 for item in texts if item.get_text()]
    return max(heights, default=0.0)


def _overhang(axes: Axes) -> tuple[float, float, float, float]:
    """Return how far ticks and labels reach out of a panel: left, below, right and above, in pixels."""
    boxes = [axis.get_tightbbox(for_layout_only=True) for axis in (axes.xaxis, axes.yaxis)]
    around = Bbox.union([axes.bbox, *(box for box in boxes if box is not None)])
    box = axes.bbox
    return box.x0 - around.x0, box.y0 - around.y0, around.x1 - box.x1, around.y1 - box.y1
