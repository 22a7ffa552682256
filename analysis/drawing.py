"""Figures written as PNG and SVG, in processes of their own where there are many to draw."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from analysis.figures.style import RC
from analysis.illustration import Illustration

PNG_DPI = 130
PNG_COMPRESSION = 3
"""Half the time of zlib's own choice (6) for a tenth more bytes."""
LARGE_JOURNAL_BYTES = 20_000_000
"""From here on it pays to start processes that draw: each needs seconds to load its libraries."""


@contextmanager
def drawers(journal: Path, processes: int | None = None) -> Iterator[Executor | None]:
    """Start the processes that draw, so that they load their libraries while the journal is read.

    Parameters
    ----------
    journal : Path
        The larger it is, the more there is to draw.
    processes : int, optional
        How many; by default one a core for a large journal, else none.

    Yields
    ------
    Executor or None
        ``None`` where this process draws itself.
    """
    if processes is None:
        large = journal.is_file() and journal.stat().st_size >= LARGE_JOURNAL_BYTES
        processes = len(os.sched_getaffinity(0)) if large else 1
    if processes < 2:
        yield None
        return
    # spawned, not forked: this process may hold threads and locks of its libraries
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        for _ in range(processes):
            pool.submit(os.getpid)
        yield pool


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
        From `drawers`. Its processes begin at once and the results are waited for one by one.
    watermark : str
        Text across each figure.
    """
    listed = list(items)
    draw = partial(draw_files, folder=folder, watermark=watermark)
    if pool is None:
        return (item for item in listed if draw(item))
    drawn = [pool.submit(draw, item) for item in listed]
    return (item for item, done in zip(listed, drawn, strict=True) if done.result())


def draw_files(item: Illustration, *, folder: Path, watermark: str = "") -> bool:
    """Draw one figure to its two files; return whether it had anything to draw."""
    figure = item.draw()
    if figure is None:
        return False
    if watermark:
        _mark(figure, watermark)
    with mpl.rc_context(RC):
        figure.savefig(
            folder / f"{item.name}.png", dpi=PNG_DPI, pil_kwargs={"compress_level": PNG_COMPRESSION}
        )
        # the layout is settled; solving it again for the second file would take as long as drawing
        figure.set_layout_engine("none")
        figure.savefig(folder / f"{item.name}.svg", metadata={"Date": None})
    return True


def _mark(figure: Figure, text: str) -> None:
    figure.text(
        0.5, 0.5, text, ha="center", va="center", rotation=20, fontsize=20, color="#bb0000", alpha=0.25
    )
