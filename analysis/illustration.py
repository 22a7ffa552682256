"""What a figure on the page is: its file, its words and how to draw it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from matplotlib.figure import Figure


@dataclass(frozen=True)
class Illustration:
    """One figure with its file name (without suffix), title and alternative text.

    ``draw`` makes the figure anew from its DataFrames, in whichever process it is called; ``None`` when
    the data have nothing to draw.
    """

    name: str
    title: str
    alt: str
    draw: Callable[[], Figure | None]


def file_name(*parts: str) -> str:
    """Return a file name from parts; what is no letter, digit, dot, dash or underscore becomes a dash."""
    return "--".join(re.sub(r"[^\w.-]+", "-", part) for part in parts if part)
