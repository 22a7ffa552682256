"""Writes run directories whose numbers are made up: `run.json` says "synthetic": true.

For tests and for measuring the report's own speed. Nothing that comes out of here is a measurement.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

NEW_KEYS = ("python", "connections", "in_flight", "keep_conn")
"""What cells of older runs lack."""

START = datetime(2026, 11, 23, 5, 12, 33, tzinfo=UTC)


def knee_then_decline(cores: int, handler: str, processes: int) -> float:
    """Requests/s that a plausible host would give: a knee at the cores, then a slow decline."""
    per_core = 1500.0
    cost = {"threaded": 1.0, "multiplexed": 0.9}.get(handler, 0.8)
    return per_core * cost * min(processes, cores) / (1 + 0.004 * max(0, processes - cores))


@dataclass(frozen=True)
class Recipe:
    """What a synthetic run looks like."""

    run_id: str = "20261123-051233-synthetic"
    hosts: dict[str, int] = field(default_factory=lambda: {"lab-1core": 1, "lab-2core": 2})
    handlers: tuple[str, ...] = ("threaded", "multiplexed")
    processes: tuple[int, ...] = tuple(range(1, 9))
    concurrency: tuple[int, ...] = (32,)
    keepalive: tuple[bool, ...] = (False,)
    tools: tuple[str, ...] = ("ab",)
    blocks: int = 10
    noise: float = 0.02
    invalid_share: float = 0.01
    seed: int = 2007
    indifference: float = 0.02
    lighttpd: str = "1.4.79"
    pythons: tuple[str, ...] = ("system",)
    workloads: tuple[str, ...] = ("hello",)
    regimes: tuple[tuple[int, int, bool], ...] = ()
    measure: str = "rate"
    start_at: Callable[[dict[str, Any]], float] | None = None
    older: bool = False
    load_host: str | None = None
    duplicates: bool = True
    shift_at_block: int | None = None
    cheap_at: int | None = None
    extra_meta: dict[str, Any] = field(default_factory=dict)
    speed: Callable[[int, str, int], float] = knee_then_decline
    speed_of_cell: Callable[[int, dict[str, Any]], float] | None = None


def write_run(results: Path, recipe: Recipe, trials: list[dict[str, Any]] | None = None) -> Path:
    """Write one run directory, with a schedule of its own unless one is given, and return it."""
    directory = results / recipe.run_id
    (directory / "hosts").mkdir(parents=True)
    rng = np.random.default_rng(recipe.seed)
    schedule = list(_schedule(recipe, rng)) if trials is None else trials
    _dump(directory / "schedule.json", {"schema": 1, "seed": recipe.seed, "trials": schedule})
    for name, cores in recipe.hosts.items():
        _dump(directory / "hosts" / f"{name}.json", _host(name, cores))
    _dump(directory / "run.json", _meta(recipe))
    with (directory / "journal.jsonl").open("w", encoding="utf-8") as journal:
        for number, trial in enumerate(schedule):
            for record in _attempts(recipe, trial, number, rng):
                journal.write(json.dumps(record, separators=(",", ":")) + "\n")
    return directory


def _dump(path: Path, document: Any) -> None:
    path.write_text(json.dumps(document), encoding="utf-8")


def _meta(recipe: Recipe) -> dict[str, Any]:
    experiment = {
        "name": "synthetic",
        "question": "What does the report make of made-up numbers?",
        "hosts": "targets",
        "factors": {
            "handler": list(recipe.handlers),
            "processes": list(recipe.processes),
            "concurrency": list(recipe.concurrency),
            "keepalive": list(recipe.keepalive),
            "workload": list(recipe.workloads),
            "lighttpd": [recipe.lighttpd],
        },
        "load": {"tool": "ab", "concurrency": recipe.concurrency[0], "warmup_s": 2.0, "measure_s": 5.0},
        "workload": recipe.workloads[0],
        "measure": recipe.measure,
        "design": {"blocks": recipe.blocks, "seed": recipe.seed, "indifference": recipe.indifference},
    }
    fingerprints = {
        name: {"lighttpd": "f1", "handlers": "f2", "agent": "f3", "cpu_model": "Made-up CPU", "cores": cores}
        for name, cores in recipe.hosts.items()
    }
    return {
        "schema": 1,
        "synthetic": True,
        "run_id": recipe.run_id,
        "created_at": START.isoformat().replace("+00:00", "Z"),
        "experiment": experiment,
        "experiment_file": "experiments/synthetic.yml",
        "experiment_text": "name: synthetic\n",
        "seed": recipe.seed,
        "git": {"commit": "0" * 40, "dirty": False},
        "versions": {"fcgi_sweep": "0.1.0"},
        "hosts": list(recipe.hosts),
        "command": "fcgi-sweep run experiments/synthetic.yml",
        "fingerprint": {"experiment": "e", "schedule": "s", "hosts": fingerprints},
        **recipe.extra_meta,
    }


def _host(name: str, cores: int) -> dict[str, Any]:
    facts = {
        "schema": 1,
        "hostname": name,
        "os": "linux",
        "os_release": "Debian GNU/Linux 12",
        "kernel": "6.18.0",
        "arch": "x86_64",
        "cpu_model": "Made-up CPU",
        "cpus": list(range(cores)),
        "cores": cores,
        "sockets": 1,
        "threads_per_core": 1,
        "memory_bytes": 8 << 30,
        "governor": None,
        "virtualisation": "made up",
        "python": "3.11.2",
        "manifest": {
            "lighttpd": [{"version": "1.4.79", "fingerprint": "f1", "pcre_flavour": "pcre2"}],
            "python": [{"name": "system", "gil": True}, {"name": "3.14t", "gil": False}],
        },
        "handlers": [
            {"name": "serial", "peak_in_process": 1, "multiplexes": False},
            {"name": "threaded", "peak_in_process": None, "multiplexes": False},
            {"name": "multiplexed", "peak_in_process": None, "multiplexes": True},
        ],
        "workloads": [{"name": "wait", "url_path": "/wait(10)"}, {"name": "cpu", "url_path": "/cpu(500)"}],
    }
    label = f"{name}_x86_64-1x{cores}c_linux"
    return {"schema": 1, "host": name, "machine": f"{name}-box", "label": label, "facts": facts}


def _cell(recipe: Recipe, cores: int, **levels: Any) -> dict[str, Any]:
    base = {
        "handler": "threaded",
        "processes": cores,
        "concurrency": recipe.concurrency[0],
        "keepalive": recipe.keepalive[0],
        "cores": cores,
        "placement": "shared",
        "workload": recipe.workloads[0],
        "tool": "fcgi" if recipe.regimes else recipe.tools[0],
        "lighttpd": recipe.lighttpd,
        "python": recipe.pythons[0],
        "connections": None,
        "in_flight": None,
        "keep_conn": None,
    }
    if recipe.older:
        base = {name: level for name, level in base.items() if name not in NEW_KEYS}
    return {**base, **levels}


def _wire_cells(recipe: Recipe, cores: int) -> Iterator[dict[str, Any]]:
    """Yield cells of the wire; threaded takes one request at a time on a connection."""
    for handler in recipe.handlers:
        for processes in recipe.processes:
            for connections, in_flight, kept in recipe.regimes:
                if in_flight == 1 or handler != "threaded":
                    yield _cell(
                        recipe, cores, handler=handler, processes=processes, keepalive=kept, keep_conn=kept,
                        concurrency=connections * in_flight, connections=connections, in_flight=in_flight,
                    )  # fmt: skip


def _cells(recipe: Recipe, cores: int) -> Iterator[dict[str, Any]]:
    for handler, processes, concurrency, keepalive, tool, python, workload in itertools.product(
        recipe.handlers, recipe.processes, recipe.concurrency, recipe.keepalive, recipe.tools,
        recipe.pythons, recipe.workloads,
    ):  # fmt: skip
        levels = {"python": python} if not recipe.older else {}
        yield _cell(
            recipe, cores, handler=handler, processes=processes, concurrency=concurrency,
            keepalive=keepalive, tool=tool, workload=workload, **levels,
        )  # fmt: skip


def _schedule(recipe: Recipe, rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    for host, cores in recipe.hosts.items():
        cells = list(_wire_cells(recipe, cores) if recipe.regimes else _cells(recipe, cores))
        for block in range(1, recipe.blocks + 1):
            order = rng.permutation(len(cells))
            reference = cells[0] if recipe.regimes else _cell(recipe, cores)
            planned: list[tuple[str, dict[str, Any]]] = [("cell", cells[i]) for i in order]
            planned.insert(0, ("sentinel", reference))
            planned.insert(len(planned) // 2, ("sentinel", reference))
            planned.append(("sentinel", reference))
            if not recipe.regimes:
                planned.append(("ceiling", _cell(recipe, cores, handler="static", processes=0)))
            if recipe.duplicates:
                planned.insert(3, ("duplicate", reference))
            for position, (role, cell) in enumerate(planned, start=1):
                yield {
                    "trial": f"{host}.b{block:02d}.{position:03d}",
                    "host": host,
                    "machine": f"{host}-box",
                    "block": block,
                    "position": position,
                    "role": role,
                    "cell": cell,
                }


def _true_rps(recipe: Recipe, trial: dict[str, Any]) -> float:
    cell = trial["cell"]
    if cell["handler"] == "static":
        return 12000.0 * cell["cores"]
    if recipe.speed_of_cell is not None and trial["role"] == "cell":
        rps = recipe.speed_of_cell(cell["cores"], cell)
    else:
        rps = recipe.speed(cell["cores"], cell["handler"], cell["processes"])
    if recipe.shift_at_block is not None and trial["block"] >= recipe.shift_at_block:
        rps *= 0.85
    return rps


def _attempts(
    recipe: Recipe, trial: dict[str, Any], number: int, rng: np.random.Generator
) -> Iterator[dict[str, Any]]:
    bad = rng.random() < recipe.invalid_share
    cost = 0.2 if trial["cell"]["processes"] == recipe.cheap_at else 1.0
    rps = _true_rps(recipe, trial) * float(np.exp(rng.normal(0, recipe.noise)))
    for attempt, valid in enumerate([False, True] if bad else [True], start=1):
        record = _attempt(trial, number, attempt, rps if valid else rps * 1.6, valid=valid, cost=cost)
        result = record["result"]
        if recipe.regimes:
            result |= _wire(trial["cell"], result["requests"]["ok"])
        if recipe.start_at is not None:
            result["startup"] = _startup(trial["cell"], rps, recipe.start_at(trial["cell"]))
        if recipe.load_host is not None:
            result["load_host"] = _load_host(recipe.load_host)
        yield record


def _wire(cell: dict[str, Any], requests: int) -> dict[str, Any]:
    """Return what client and handlers count where a trial is what was asked."""
    connections, in_flight, kept = cell["connections"], cell["in_flight"], cell["keep_conn"]
    opened = connections if kept else requests
    evidence = {
        "connections_opened": opened,
        "requests_per_connection_mean": requests / opened,
        "requests_per_connection_max": -(-requests // opened),
        "highest_id": in_flight,
        "peak_ids_per_connection": in_flight,
        "peak_in_flight": connections * in_flight,
        "interleaved_answers": requests // 3 if in_flight > 1 else 0,
        "out_of_order_answers": requests // 5 if in_flight > 1 else 0,
        "closed_by_responder": 0,
        "connect_retries": 0,
        "requests_per_address": [requests],
        "faults": {},
    }
    counted = {"connections": opened, "highest_id": in_flight, "peak_ids_per_connection": in_flight}
    return {"wire": evidence, "handlers": [{"pid": 1, "requests": requests, "peak_in_process": 3} | counted]}


def _startup(cell: dict[str, Any], rps: float, ready_s: float, horizon_s: float = 10.0) -> dict[str, Any]:
    """Return a start that serves nothing until it is ready, then the full rate."""
    ends = [round(0.05 * (i + 1), 2) for i in range(int(horizon_s / 0.05))]
    totals = [int(rps * max(0.0, end - ready_s)) for end in ends]
    windows = [
        {"t_s": end, "requests": total - before}
        for end, total, before in zip(ends, totals, [0, *totals], strict=False)
    ]
    cost_s = int(cell["workload"].partition("(")[2].rstrip(")") or 0) / 1000
    times = {"first_answer_s": ready_s + 0.01, "full_rate_s": ready_s + 0.1, "horizon_s": horizon_s}
    return {"cost_s": cost_s, **times, "windows": windows}


def _load_host(name: str) -> dict[str, Any]:
    system = {"window_s": 5.0, "steal_share": 0.001, "idle_share": 0.4, "time_wait": 900, "load1": 0.7}
    clock = {"offset_s": 0.012, "uncertainty_s": 0.003}
    return {"host": name, "system": system, "clock": clock, "timings_s": {"total": 7.0}, "orphans": []}


def _attempt(
    trial: dict[str, Any], number: int, attempt: int, rps: float, *, valid: bool, cost: float
) -> dict[str, Any]:
    started = START + timedelta(seconds=8.0 * number + attempt)
    cell = {key: trial[key] for key in ("trial", "host", "block", "position", "role", "cell")}
    return {
        "schema": 1,
        "kind": "attempt",
        **cell,
        "attempt": attempt,
        "epoch": 1,
        "status": "valid" if valid else "invalid",
        "failure": None,
        "started_at": started.isoformat().replace("+00:00", "Z"),
        "wall_s": 7.7,
        "overhead_s": 0.7,
        "result": _result(trial, attempt, rps, valid=valid, cost=cost),
        "raw": f"raw/{trial['trial']}/{attempt}",
    }


def _result(trial: dict[str, Any], attempt: int, rps: float, *, valid: bool, cost: float) -> dict[str, Any]:
    cell = trial["cell"]
    requests = int(rps * 5)
    mean_ms = 1000 * cell["concurrency"] / rps
    process_group = {
        "cpu_user_s": 0.00045 * cost * requests,
        "cpu_sys_s": 0.00015 * requests,
        "ctx_voluntary": int(requests * cost * 2.1),
        "ctx_involuntary": int(requests * cost * 0.05 * max(cell["processes"], 1)),
        "run_queue_wait_s": 0.0001 * cost * requests * max(cell["processes"], 1),
        "rss_bytes": 14_000_000 * max(cell["processes"], 1),
        "threads": 6 * max(cell["processes"], 1),
        "processes": cell["processes"],
    }
    return {
        "event": "result",
        "schema": 1,
        "trial_id": trial["trial"],
        "attempt": attempt,
        "goodput_rps": rps,
        "requests": {
            "asked_s": 5.0,
            "measured_s": 5.0,
            "complete": requests,
            "ok": requests,
            "failed": 0,
            "non_2xx": 0 if valid else requests,
            "keepalive": 0,
            "write_errors": 0,
            "length_failures": 0,
            "body_bytes": 1024,
            "throughput_rps": rps,
        },
        "latency_ms": {
            "mean": mean_ms,
            "p50": mean_ms * 0.9,
            "p90": mean_ms * 1.4,
            "p95": mean_ms * 1.6,
            "p99": mean_ms * 2.2,
            "max": mean_ms * 4,
        },
        "counters": {
            "lighttpd": {**process_group, "cpu_user_s": 0.0001 * requests, "rss_bytes": 6_000_000},
            "handlers": process_group,
            "load": {**process_group, "cpu_user_s": 1.0, "cpu_sys_s": 1.2},
            "system": {
                "window_s": 5.0,
                "steal_share": 0.0,
                "idle_share": 0.03,
                "listen_drops": 0,
                "ctx_total": requests * 5,
                "load1": 2.0,
            },
        },
        "handlers": [
            {"pid": 1000 + i, "requests": requests // max(cell["processes"], 1), "peak_in_process": 3}
            for i in range(min(cell["processes"], 4))
        ],
        "windows": [],
        "gates": [
            {
                "name": "responses",
                "passed": valid,
                "value": 0 if valid else requests,
                "limit": 0,
                "unit": "responses",
                "detail": "all responses 2xx"
                if valid
                else f"{requests} of {requests} responses were not 2xx",
            },
            {"name": "steal", "passed": True, "value": 0.0, "limit": 0.01, "unit": "share", "detail": "0 %"},
        ],
        "timings_s": {"ready": 0.3, "start": 0.1, "total": 7.7},
        "orphans": [],
    }
