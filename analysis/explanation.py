"""Why a curve bends: what one request costs at each process count, and who is the limit."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from analysis.handlers import LIMIT

LOAD_LIMIT = 0.8
LIGHTTPD_LIMIT = 0.9
CEILING_LIMIT = 0.5
IDLE_LIMIT = 0.1

COUNTERS = {
    "handlers_cpu_us": "handler CPU (µs a request)",
    "lighttpd_cpu_us": "lighttpd CPU (µs a request)",
    "ctx_voluntary": "voluntary switches a request",
    "ctx_involuntary": "involuntary switches a request",
    "run_queue_wait_us": "run-queue wait, lasting threads (µs a request)",
    "rss_mb": "resident memory (MB)",
    "threads": "handler threads",
}
"""Columns of `counter_table` and what they are."""


def counter_table(trials: pd.DataFrame) -> pd.DataFrame:
    """Return what one request costs, median over server starts, one row a cell.

    Parameters
    ----------
    trials : DataFrame
        One row a trial.

    Returns
    -------
    DataFrame
        host, setting, handler, processes and the columns of `COUNTERS`; handlers' counters unless named.
    """
    valid = trials[(trials["role"] == "cell") & (trials["status"] == "valid")]
    requests = valid["requests_ok"].where(valid["requests_ok"] > 0)
    # no server answers without one: in older runs a handler that was too busy to tell reads as none
    switched = (valid["handlers_ctx_voluntary"] > 0) | (valid["handlers_ctx_involuntary"] > 0)
    costs = valid[["host", "setting", "handler", "processes"]].assign(
        handlers_cpu_us=1e6 * (valid["handlers_cpu_user_s"] + valid["handlers_cpu_sys_s"]) / requests,
        lighttpd_cpu_us=1e6 * (valid["lighttpd_cpu_user_s"] + valid["lighttpd_cpu_sys_s"]) / requests,
        ctx_voluntary=valid["handlers_ctx_voluntary"].where(switched) / requests,
        ctx_involuntary=valid["handlers_ctx_involuntary"].where(switched) / requests,
        run_queue_wait_us=1e6 * valid["handlers_run_queue_wait_s"] / requests,
        rss_mb=valid["handlers_rss_bytes"] / 1e6,
        threads=valid["handlers_threads"],
    )
    keys = ["host", "setting", "handler", "processes"]
    return costs.groupby(keys, observed=True)[list(COUNTERS)].median().reset_index()


def limits_table(trials: pd.DataFrame, ceilings: dict[str, float]) -> pd.DataFrame:
    """Return who was busy, one row a cell: shares of a core, of the host, of the static ceiling.

    Parameters
    ----------
    trials : DataFrame
        One row a trial.
    ceilings : dict
        Host to its static ceiling in requests/s.

    Returns
    -------
    DataFrame
        load_cores, lighttpd_cores, handlers_cores (CPU seconds a second), idle_share (of the host),
        busy_share (of the server's cores, by all that runs on them for the trial), ceiling_share and
        ``limit``, the words for what other than the handler limits the cell ("" when nothing does).
    """
    valid = trials[(trials["role"] == "cell") & (trials["status"] == "valid")]
    window_s = valid["system_window_s"].where(valid["system_window_s"] > 0)
    shares = valid[["host", "setting", "handler", "processes", "cores"]].assign(
        load_cores=(valid["load_cpu_user_s"] + valid["load_cpu_sys_s"]) / window_s,
        lighttpd_cores=(valid["lighttpd_cpu_user_s"] + valid["lighttpd_cpu_sys_s"]) / window_s,
        handlers_cores=(valid["handlers_cpu_user_s"] + valid["handlers_cpu_sys_s"]) / window_s,
        idle_share=valid["system_idle_share"],
        busy_share=_busy_cores(valid) / window_s / valid["cores"],
        ceiling_share=valid["goodput_rps"] / valid["host"].map(ceilings).astype(float),
    )
    keys = ["host", "setting", "handler", "processes"]
    busy = ["cores", "load_cores", "lighttpd_cores", "handlers_cores"]
    columns = [*busy, "idle_share", "busy_share", "ceiling_share"]
    table = shares.groupby(keys, observed=True)[columns].median().reset_index()
    return table.assign(limit=[_limit(row) for row in table.to_dict(orient="records")])


def _busy_cores(valid: pd.DataFrame) -> pd.Series[float]:
    """Return the CPU seconds of all that runs on the server's cores."""
    groups = {
        name: (valid[f"{name}_cpu_user_s"] + valid[f"{name}_cpu_sys_s"]).fillna(0)
        for name in ("handlers", "lighttpd", "load")
    }
    shared = groups["load"].where(valid["placement"] == "shared", 0.0)
    return groups["handlers"] + groups["lighttpd"] + shared


def _limit(row: Mapping[Hashable, Any]) -> str:
    reasons = []
    if row["load_cores"] > LOAD_LIMIT:
        reasons.append(f"load generator busy {100 * row['load_cores']:.0f} % of a core")
    if row["lighttpd_cores"] > LIGHTTPD_LIMIT:
        reasons.append(f"lighttpd busy {100 * row['lighttpd_cores']:.0f} % of a core")
    if row["ceiling_share"] > CEILING_LIMIT:
        reasons.append(f"{100 * row['ceiling_share']:.0f} % of the static ceiling")
    # the host may have cores that the server may not use: idle ones say nothing of a server that is busy
    if row["idle_share"] > IDLE_LIMIT and row["busy_share"] < 1 - IDLE_LIMIT:
        idle = f"its cores busy {100 * row['busy_share']:.0f} %"
        enough = row["processes"] >= row["cores"]
        reasons.append(f"{idle}, not saturated" if enough else f"{idle}, fewer processes than cores")
    return "; ".join(reasons)


def limit_lines(limits: pd.DataFrame) -> list[str]:
    """Say for each host and handler where something other than the handler is the limit."""
    lines = []
    for (host, setting, handler), own in limits.groupby(["host", "setting", "handler"], observed=True):
        named = own[own["limit"] != ""]
        if named.empty or handler == LIMIT:
            continue
        counts = ", ".join(str(int(count)) for count in named["processes"])
        worst = named.sort_values("ceiling_share").iloc[-1]
        where = f"{host}, {setting}" if setting else str(host)
        lines.append(
            f"{where}: {handler} at {counts} processes is not limited by the handler alone"
            f" (at {int(worst['processes'])}: {worst['limit']})"
        )
    return lines


def mechanism(counters: pd.DataFrame, processes: int, rivals: list[int]) -> dict[str, float]:
    """Return how the costs at one count compare with the median of its rivals.

    Parameters
    ----------
    counters : DataFrame
        Rows of `counter_table` for one curve.
    processes : int
        The suspected peak.
    rivals : list of int
        The counts that it is compared with.

    Returns
    -------
    dict
        Counter to cost over the rivals' median; a counter that was not sampled is absent.
    """
    keyed = counters.set_index("processes")
    if processes not in keyed.index:
        return {}
    ratios = {}
    for name in ("handlers_cpu_us", "ctx_voluntary", "ctx_involuntary", "run_queue_wait_us"):
        own = float(keyed.loc[processes, name])  # type: ignore[arg-type]
        others = keyed.loc[[count for count in rivals if count in keyed.index], name].median()
        if np.isfinite(own) and np.isfinite(others) and others > 0:
            ratios[name] = own / float(others)
    return ratios
