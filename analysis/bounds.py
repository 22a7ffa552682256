"""Queueing bounds: how fast a handler can be at most, from what one request demands."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from analysis.dataset import Run
from analysis.handlers import LIMIT, ONE_AT_A_TIME
from analysis.wording import plural

BOUNDED = ("cpu", "wait", "mixed")
"""Workloads whose demand is known: processor time, waiting, or both."""

NEAR = 0.85
"""A curve that reaches this share of a bound is said to be limited by it."""

_CALL = re.compile(r"/?(\w+)(?:\(([\d,]+)\))?")


def wait_s(workload: str, usual: Mapping[str, str]) -> float | None:
    """Return how long one request waits, in seconds; ``None`` for a workload of unknown demand.

    Parameters
    ----------
    workload : str
        ``cpu(us)``, ``wait(ms)``, ``mixed(us,ms)``, with or without the numbers.
    usual : mapping
        Workload to the same with its usual numbers.
    """
    found = _CALL.fullmatch(workload)
    if found is None or found.group(1) not in BOUNDED:
        return None
    if found.group(2) is None:
        found = _CALL.fullmatch(usual.get(found.group(1), ""))
        if found is None or found.group(2) is None:
            return None
    return 0.0 if found.group(1) == "cpu" else int(found.group(2).split(",")[-1]) / 1000


def bounds_table(trials: pd.DataFrame, run: Run) -> pd.DataFrame:
    """Return the bounds of each curve whose workload's demand is known.

    Processor time is what was measured, so that the bound holds for the trial as it was: handlers and
    lighttpd, and the load generator where it shares the cores.

    Parameters
    ----------
    trials : DataFrame
        One row a trial, from `curves.with_setting`.
    run : Run
        For what the hosts say of handlers, workloads and interpreters.

    Returns
    -------
    DataFrame
        host, setting, handler, processes, median_rps, cores_rps (cores / CPU demand) and process_rps (what
        the processes can do at most) with ``process_text``, the words for it; NaN and "" where none is known.
    """
    valid = trials[(trials["role"] == "cell") & (trials["status"] == "valid") & (trials["model"] != LIMIT)]
    rows: list[dict[str, Any]] = []
    for (host, setting, handler), own in valid.groupby(["host", "setting", "handler"], observed=True):
        facts = run.hosts.get(str(host), {}).get("facts", {})
        waited_s = wait_s(str(own["workload"].iloc[0]), _usual(facts))
        if waited_s is None:
            continue
        handler_s, all_s = _cpu_seconds(own)
        process_s, text = _process_demand(own, facts, handler_s, waited_s)
        cores = float(own["cores"].iloc[0])
        for processes, median in own.groupby("processes")["goodput_rps"].median().items():
            rows.append(
                {
                    "host": host,
                    "setting": setting,
                    "handler": handler,
                    "processes": processes,
                    "median_rps": median,
                    "cores_rps": cores / all_s,
                    "process_rps": float(str(processes)) / process_s,
                    "process_text": text,
                }
            )
    columns = [
        "host",
        "setting",
        "handler",
        "processes",
        "median_rps",
        "cores_rps",
        "process_rps",
        "process_text",
    ]
    return pd.DataFrame(rows, columns=columns)


def _usual(facts: Mapping[str, Any]) -> dict[str, str]:
    return {each["name"]: str(each.get("url_path", "")) for each in facts.get("workloads") or []}


def _cpu_seconds(own: pd.DataFrame) -> tuple[float, float]:
    """Return the least processor time of one request over the process counts: in handlers, and in all."""
    requests = own["requests_ok"].where(own["requests_ok"] > 0)
    used = {
        group: (own[f"{group}_cpu_user_s"] + own[f"{group}_cpu_sys_s"]) / requests
        for group in ("handlers", "lighttpd", "load")
    }
    shared = used["handlers"] + used["lighttpd"].fillna(0)
    shared += used["load"].where(own["placement"] == "shared", 0).fillna(0)
    counts = own["processes"]
    least = [float(cost.groupby(counts).median().min()) for cost in (used["handlers"], shared)]
    return least[0], least[1]


def _process_demand(
    own: pd.DataFrame, facts: Mapping[str, Any], handler_s: float, waited_s: float
) -> tuple[float, str]:
    """Return for how long a request keeps a process to itself, and what to call processes over that."""
    model = str(own["model"].iloc[0])
    known = {each["name"]: each.get("peak_in_process") for each in facts.get("handlers") or []}
    if (known[model] == 1) if model in known else (model in ONE_AT_A_TIME):
        return handler_s + waited_s, "processes / total demand"
    pythons = {each["name"]: each for each in (facts.get("manifest") or {}).get("python", [])}
    if pythons.get(str(own["python"].iloc[0]), {}).get("gil", True):
        return handler_s, "processes / CPU demand (one lock each)"
    return float("nan"), ""


def bound_lines(bounds: pd.DataFrame) -> list[str]:
    """Say for each curve which bound it comes near, at its fastest count."""
    lines = []
    for (host, setting, handler), own in bounds.groupby(["host", "setting", "handler"], observed=True):
        top = own.sort_values("median_rps").iloc[-1]
        where = f"{host}, {setting}" if setting else str(host)
        start = (
            f"{where}: {handler} with {plural(int(top['processes']), 'process', 'processes')} makes"
            f" {top['median_rps']:,.0f} requests/s"
        )
        shares = {"cores / CPU demand": top["median_rps"] / top["cores_rps"]}
        if np.isfinite(top["process_rps"]):
            shares[str(top["process_text"])] = top["median_rps"] / top["process_rps"]
        text = ", ".join(f"{100 * share:.0f} % of {name}" for name, share in shares.items())
        near = [name for name, share in shares.items() if share >= NEAR]
        limit = (
            f"limited by {' and '.join(near)}"
            if near
            else "neither bound is reached: something else limits it"
        )
        lines.append(f"{start}, {text}: {limit}")
    return lines
