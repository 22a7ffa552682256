"""Was the rate steady while it was measured: the class of every attempt, counted by cell."""

from __future__ import annotations

import pandas as pd

from analysis.attempts import SLOWING_DOWN, STEADY, WARMING_UP

UNSTEADY_SHARE = 0.1
"""From this share of unsteady attempts on a handler or cell is named."""


def steadiness_table(attempts: pd.DataFrame, by: tuple[str, ...]) -> pd.DataFrame:
    """Return how many attempts were steady, climbed, fell or were not watched.

    Parameters
    ----------
    attempts : DataFrame
        Rows of `dataset.Run.attempts` with the columns of `curves.with_setting`.
    by : tuple of str
        Columns to count by.

    Returns
    -------
    DataFrame
        The columns of ``by``; attempts (that were watched), steady, warming_up, slowing_down, unsteady,
        steady_share, not_watched.
    """
    cells = attempts[attempts["role"] == "cell"]
    flags = cells[list(by)].assign(
        attempts=cells["steadiness"].notna(),
        steady=cells["steadiness"] == STEADY,
        warming_up=cells["steadiness"] == WARMING_UP,
        slowing_down=cells["steadiness"] == SLOWING_DOWN,
        not_watched=cells["steadiness"].isna(),
    )
    table = flags.groupby(list(by), observed=True).sum().astype(int).reset_index()
    unsteady = table["warming_up"] + table["slowing_down"]
    return table.assign(
        unsteady=unsteady, steady_share=table["steady"] / table["attempts"].where(table["attempts"] > 0)
    )
