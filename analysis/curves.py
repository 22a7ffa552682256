"""Trials arranged for statistics: one number a server start, blocks down, process counts across."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

CONDITIONS = ("concurrency", "keepalive", "cores", "placement", "workload", "tool", "lighttpd")
"""What else a cell fixes beside handler and process count."""

_SHORT = {"concurrency": "c"}


@dataclass(frozen=True)
class Curve:
    """Speed against process count for one host, handler and setting.

    Parameters
    ----------
    host, handler, setting : str
        ``setting`` names the conditions that vary in the run, ``""`` when none does.
    conditions : dict
        All conditions of the curve.
    processes : array of int
        Process counts, ascending.
    blocks : array of int
        Block numbers, ascending.
    rps : array, blocks x counts
        Goodput in requests/s, one value a server start; NaN where there is no valid trial.
    """

    host: str
    handler: str
    setting: str
    conditions: dict[str, object]
    processes: IntArray
    blocks: IntArray
    rps: FloatArray

    @cached_property
    def log_rps(self) -> FloatArray:
        """Natural logarithm of the goodput: differences are ratios."""
        return np.log(self.rps)

    @property
    def cores(self) -> int:
        """Cores that the server had."""
        return int(str(self.conditions["cores"]))

    @property
    def concurrency(self) -> int:
        """Concurrent connections of the load."""
        return int(str(self.conditions["concurrency"]))

    @property
    def n(self) -> IntArray:
        """Valid trials at each process count."""
        return np.asarray(np.isfinite(self.rps).sum(axis=0), dtype=np.int64)

    def without_blocks(self, blocks: set[int]) -> Curve:
        """Return the curve without some of its blocks."""
        keep = ~np.isin(self.blocks, list(blocks))
        return Curve(
            self.host,
            self.handler,
            self.setting,
            self.conditions,
            self.processes,
            self.blocks[keep],
            self.rps[keep],
        )


def trials_of(attempts: pd.DataFrame) -> pd.DataFrame:
    """Return one row a trial: its last valid attempt, or its last attempt where none was valid.

    Parameters
    ----------
    attempts : DataFrame
        Columns ``trial``, ``status`` and the rest of `dataset.Run.attempts`.

    Returns
    -------
    DataFrame
        The chosen rows with ``order``, the place of the attempt in its host's run (from 0).
    """
    ordered = attempts.assign(order=attempts.groupby("host", observed=True).cumcount())
    preferred = ordered.assign(_valid=ordered["status"] == "valid")
    preferred = preferred.sort_values("_valid", kind="stable")
    chosen = preferred.drop_duplicates("trial", keep="last").drop(columns="_valid")
    return chosen.sort_index()


def varying_conditions(trials: pd.DataFrame) -> tuple[str, ...]:
    """Return the conditions that take more than one level among the cells of one host."""
    cells = trials[trials["role"] == "cell"]
    if cells.empty:
        return ()
    levels = cells.groupby("host", observed=True)[list(CONDITIONS)].nunique(dropna=False).max()
    return tuple(name for name in CONDITIONS if levels[name] > 1)


def with_setting(trials: pd.DataFrame) -> pd.DataFrame:
    """Return the trials with a ``setting`` column that names the varying conditions."""
    varying = varying_conditions(trials)
    setting = pd.Series("", index=trials.index)
    for name in varying:
        part = f"{_SHORT.get(name, name)}=" + trials[name].astype(str)
        setting = part if name == varying[0] else setting + ", " + part
    return trials.assign(setting=setting)


def curves_of(trials: pd.DataFrame) -> list[Curve]:
    """Arrange the valid cell trials as curves.

    Parameters
    ----------
    trials : DataFrame
        One or more rows a trial, with ``setting``. Rows that share a trial come from one server
        start and are averaged first: they are no replicates.

    Returns
    -------
    list of Curve
        Ordered by host, setting and handler.
    """
    cells = trials[trials["role"] == "cell"]
    curves = []
    for (host, setting, handler), group in cells.groupby(["host", "setting", "handler"], observed=True):
        counts = np.sort(group["processes"].unique()).astype(np.int64)
        valid = group[group["status"] == "valid"]
        starts = valid.groupby(["trial", "block", "processes"], observed=True)["goodput_rps"].mean()
        table = starts.groupby(["block", "processes"]).mean().unstack("processes")
        table = table.reindex(columns=counts, index=np.sort(group["block"].unique())).sort_index()
        curves.append(
            Curve(
                host=str(host),
                handler=str(handler),
                setting=str(setting),
                conditions={name: group[name].iloc[0] for name in CONDITIONS},
                processes=counts,
                blocks=table.index.to_numpy(dtype=np.int64),
                rps=table.to_numpy(dtype=np.float64),
            )
        )
    return curves
