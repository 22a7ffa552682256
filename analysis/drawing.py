"""Figures written as PNG and SVG, in other processes where there are many."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import Executor
from functools import partial
from pathlib import Path

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from analysis.figures.style import RC
from analysis.illustration import Illustration

PNG_DPI = 130
PNG_COMPRESSION = 3
"""Half the time of zlib's own choice (6) for a tenth more bytes."""


def start_drawing(
    items: Iterable[Illustration], folder: Path, pool: Executor | None, *, watermark: str = ""
) -> Iterator[Illustration]:
    """Draw figures to files and yield those that had something to draw, in their order.

    Parameters
    ----------
    items : iterable of Illustration
        What to draw.
    folder : Path
        Where to; ``<name>.png`` and ``<name>.svg``.
    pool : Executor or None
        From `workers.workers`. Its processes begin at once and the results are waited for one by one.
    watermark : str
        Text across each figure.
    """
    listed = list(items)
    draw = partial(draw_files, folder=folder, watermark=watermark)
    if pool is None:
        return (item for item in listed if draw(item))
    # from the last on: grids of many panels come last, and nothing should be left to wait for one of them
    drawn = [pool.submit(draw, item) for item in reversed(listed)]
    return (item for item, done in zip(listed, reversed(drawn), strict=True) if done.result())


def draw_files(item: Illustration, *, folder: Path, watermark: str = "") -> bool:
    """Draw one figure to its two files; return whether it had anything to draw."""
    figure = item.draw()
    if figure is None:
        return False
    if watermark:
        _mark(figure, watermark)
    with mpl.rc_context(RC):
        _settle(figure)
        figure.savefig(
            folder / f"{item.name}.png", dpi=PNG_DPI, pil_kwargs={"compress_level": PNG_COMPRESSION}
        )
        figure.savefig(folder / f"{item.name}.svg", metadata={"Date": None})
    return True


def _settle(figure: Figure) -> None:
    """Lay a figure out once for both files: with an engine left, each file is drawn twice to apply it."""
    engine = figure.get_layout_engine()
    if engine is not None:
        figure.set_dpi(PNG_DPI)
        FigureCanvasAgg(figure)
        engine.execute(figure)
        figure.set_layout_engine(None)


def _mark(figure: Figure, text: str) -> None:
    figure.text(
        0.5, 0.5, text, ha="center", va="center", rotation=20, fontsize=20, color="#bb0000", alpha=0.25
    )
