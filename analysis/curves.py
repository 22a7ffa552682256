"""Trials arranged for statistics: one number a server start, blocks down, process counts across."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.records import Cell

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

CONDITIONS = tuple(name for name in Cell.__struct_fields__ if name not in ("handler", "processes"))
"""What else a cell fixes beside handler and process count."""

WIRE_TOOL = "fcgi"
"""The load generator that drives handlers on their own sockets, without lighttpd."""

WIRE_CONDITIONS = ("connections", "in_flight", "keep_conn")
"""What the wire tool is told; it decides `concurrency` and `keepalive` as well."""

_SHORT = {"concurrency": "c"}


@dataclass(frozen=True)
class Curve:
    """Speed against process count for one host, handler and setting.

    Parameters
    ----------
    host, handler, setting : str
        ``setting`` names the conditions that vary in the run, ``""`` when none does. ``handler`` names the
        interpreter as well where that varies: interpreters stand side by side, as handlers do.
    model : str
        The handler alone.
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
    model: str
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
    def python(self) -> str:
        """The interpreter of the handlers."""
        return str(self.conditions["python"])

    @property
    def swept(self) -> bool:
        """Whether there is a curve to judge and draw: several process counts behind a web server.

        On the wire regimes are compared, not process counts.
        """
        return len(self.processes) > 1 and self.conditions["tool"] != WIRE_TOOL

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
            self.model,
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
    order = attempts.groupby("host", observed=True).cumcount()
    valid_last = (attempts["status"] == "valid").sort_values(kind="stable").index
    chosen = attempts["trial"].reindex(valid_last).drop_duplicates(keep="last").index
    return attempts.assign(order=order).loc[chosen.sort_values()]


def varying_conditions(trials: pd.DataFrame) -> tuple[str, ...]:
    """Return the conditions that take more than one level among the cells of one host."""
    cells = trials[trials["role"] == "cell"]
    if cells.empty:
        return ()
    levels = cells.groupby("host", observed=True)[list(CONDITIONS)].nunique(dropna=False).max()
    return tuple(name for name in CONDITIONS if levels[name] > 1)


def with_setting(
    trials: pd.DataFrame, interpreters: Mapping[str, str] | None = None, *, apart: tuple[str, ...] = ()
) -> pd.DataFrame:
    """Return the trials with columns that say what stands beside what.

    Parameters
    ----------
    trials : DataFrame
        Rows of `dataset.Run.attempts`.
    interpreters : mapping, optional
        What to call an interpreter; its name by default.
    apart : tuple of str
        Conditions that ``background`` leaves out beside those of the wire.

    Returns
    -------
    DataFrame
        ``setting`` names the varying conditions, which are never mixed in a figure or comparison;
        ``background`` is the same without what a decomposition compares; ``model`` is the handler;
        ``handler`` names the interpreter too where several were measured.
    """
    varying = varying_conditions(trials)
    wire = trials["tool"] == WIRE_TOOL
    setting = background = pd.Series("", index=trials.index)
    for name in varying:
        if name in WIRE_CONDITIONS or name == "python":
            continue
        part = f"{_SHORT.get(name, name)}=" + trials[name].astype(str)
        if name in ("concurrency", "keepalive"):
            part = part.mask(wire, "")
        setting = _joined(setting, part)
        if name not in apart:
            background = _joined(background, part)
    if any(name in WIRE_CONDITIONS for name in varying):
        setting = _joined(setting, regime_of(trials).where(wire, ""))
    model = trials["handler"].astype(str)
    handler = model
    if "python" in varying:
        named = trials["python"].map(lambda name: (interpreters or {}).get(name, name)).astype(str)
        handler = (model + " (" + named + ")").where(trials["role"] != "ceiling", model)
    return trials.assign(
        setting=setting, background=background, model=model, handler=handler.astype("category")
    )


def _joined(left: pd.Series[str], right: pd.Series[str]) -> pd.Series[str]:
    comma = pd.Series(", ", index=left.index).where((left != "") & (right != ""), "")
    return left + comma + right


def regime_of(trials: pd.DataFrame) -> pd.Series[str]:
    """Return in words how the wire tool met the handlers: ``fresh 8 x 1``, ``kept 2 x 4``.

    The numbers are connections and the request ids at once on each.
    """
    kept = trials["keep_conn"].map({True: "kept ", False: "fresh "}).fillna("").astype(str)
    return kept + trials["connections"].astype(str) + " x " + trials["in_flight"].astype(str)


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
    columns = ["host", "setting", "handler", "model", "trial", "block", "processes", "status", "goodput_rps"]
    cells = trials.loc[trials["role"] == "cell", [*columns, *CONDITIONS]]
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
                model=str(group["model"].iloc[0]),
                setting=str(setting),
                conditions={name: _level(group[name].iloc[0]) for name in CONDITIONS},
                processes=counts,
                blocks=table.index.to_numpy(dtype=np.int64),
                rps=table.to_numpy(dtype=np.float64),
            )
        )
    return curves


def _level(value: object) -> object:
    return None if pd.isna(value) else value  # type: ignore[call-overload]
