"""One attempt of the journal as one row: which columns there are, and what fills them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

CELL = (
    "handler",
    "processes",
    "concurrency",
    "keepalive",
    "cores",
    "placement",
    "workload",
    "tool",
    "lighttpd",
    "python",
    "connections",
    "in_flight",
    "keep_conn",
)
"""The columns that make a cell, as the journal names them; runs older than the last four lack those."""

CATEGORIES = (
    "host",
    "role",
    "handler",
    "placement",
    "workload",
    "tool",
    "lighttpd",
    "python",
    "status",
    "failure_kind",
    "load_host",
    "steadiness",
)

NEEDED = ("trial", "host", "block", "role", "cell", "attempt", "status")
"""What a record of an attempt cannot be without."""

_GROUP_COUNTERS = (
    "cpu_user_s",
    "cpu_sys_s",
    "ctx_voluntary",
    "ctx_involuntary",
    "run_queue_wait_s",
    "rss_bytes",
    "threads",
)
_GROUPS = ("lighttpd", "handlers", "load")
_SYSTEM = ("window_s", "steal_share", "idle_share", "ctx_total", "time_wait", "listen_drops", "load1")
_REQUESTS = ("measured_s", "complete", "ok", "failed", "non_2xx", "length_failures", "throughput_rps")
_LATENCY = ("mean", "p50", "p90", "p95", "p99", "max")
_LOAD_HOST_SYSTEM = ("steal_share", "idle_share", "time_wait", "load1")
_CLOCK = ("offset_s", "uncertainty_s")
_STARTUP = ("cost_s", "first_answer_s", "full_rate_s", "horizon_s")
_WIRE = (
    "connections_opened",
    "requests_per_connection_mean",
    "requests_per_connection_max",
    "highest_id",
    "peak_ids_per_connection",
    "peak_in_flight",
    "interleaved_answers",
    "out_of_order_answers",
    "closed_by_responder",
)
_HANDLER_COUNTS = ("requests", "connections", "peak_in_process", "highest_id", "peak_ids_per_connection")
_SUMMED = ("requests", "connections")

OLDER_PYTHON = "default"
"""The interpreter of runs that did not name theirs."""
STEADY, WARMING_UP, SLOWING_DOWN = "steady", "warming up", "slowing down"


def attempt_frame(rows: Sequence[tuple[Any, ...]]) -> pd.DataFrame:
    """Return attempts as a DataFrame, numbers as numbers and times as times.

    Parameters
    ----------
    rows : sequence of tuple
        From `attempt_row`.
    """
    columns = zip(*rows, strict=True) if rows else ([] for _ in _COLUMNS)
    frame = pd.DataFrame(dict(zip(_COLUMNS, columns, strict=True)))
    frame["python"] = frame["python"].fillna(OLDER_PYTHON)
    for name in _NUMERIC:
        frame[name] = pd.to_numeric(frame[name], errors="coerce")
    for name in ("connections", "in_flight"):
        frame[name] = frame[name].astype("Int64")
    frame["started_at"] = pd.to_datetime(frame["started_at"], utc=True, errors="coerce", format="ISO8601")
    return frame


def with_categories(frame: pd.DataFrame) -> pd.DataFrame:
    """Return attempts with the columns of few values kept as categories."""
    return frame.astype(dict.fromkeys(CATEGORIES, "category"))


def attempt_row(record: dict[str, Any]) -> tuple[Any, ...]:
    """Return the values of an attempt in the order of the columns; what is missing is ``None``."""
    row: list[Any] = []
    for section, (_, names) in zip(_sections(record), _SECTIONS, strict=True):
        row += [section.get(name) for name in names]
    result = _object(record, "result")
    gates = result.get("gates") or []
    failed = [gate for gate in gates if not gate["passed"]]
    row += [
        ", ".join([gate["name"] for gate in failed]),
        ",".join([gate["name"] for gate in gates]),
        _reason(record.get("failure"), failed),
        _faults(_object(result, "wire")),
        _object(result, "load_host").get("host"),
        _steadiness(gates),
        *_handler_counts(result.get("handlers") or []),
    ]
    return tuple(row)


def _faults(wire: Mapping[str, Any]) -> str:
    return ", ".join([f"{name} {count}" for name, count in (wire.get("faults") or {}).items() if count])


def _steadiness(gates: list[dict[str, Any]]) -> str | None:
    """Return whether the rate climbed or fell while it was measured, ``None`` where nobody looked."""
    for gate in gates:
        if gate["name"] == "steady":
            if gate["passed"]:
                return STEADY
            return WARMING_UP if gate["value"] > 0 else SLOWING_DOWN
    return None


def _handler_counts(handlers: list[dict[str, Any]]) -> Iterator[int | None]:
    """Yield sums over the processes of what adds up, and the highest of the rest."""
    for name in _HANDLER_COUNTS:
        counted = [count for handler in handlers if (count := handler.get(name)) is not None]
        if not counted:
            yield None
        else:
            yield sum(counted) if name in _SUMMED else max(counted)


def _object(outer: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    inner = outer.get(name)
    return inner if isinstance(inner, dict) else {}


def _sections(record: dict[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the objects of a record that `_SECTIONS` lists, in the same order."""
    result = _object(record, "result")
    counters = _object(result, "counters")
    yield record
    yield _object(record, "cell")
    yield _object(record, "failure")
    yield result
    yield _object(result, "requests")
    yield _object(result, "latency_ms")
    for group in _GROUPS:
        yield _object(counters, group)
    yield _object(counters, "system")
    yield _object(result, "timings_s")
    yield _object(result, "startup")
    yield _object(result, "wire")
    load_host = _object(result, "load_host")
    yield _object(load_host, "system")
    yield _object(load_host, "clock")


def _reason(failure: Mapping[str, Any] | None, failed_gates: list[dict[str, Any]]) -> str:
    if failure:
        return f"{failure['kind']}: {failure['reason']}"
    return "; ".join([f"{gate['name']}: {gate['detail']}" for gate in failed_gates])


_ATTEMPT = (
    "trial", "host", "block", "position", "role", "attempt", "epoch", "status", "started_at", "wall_s",
    "overhead_s", "raw",
)  # fmt: skip
_SECTIONS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("{}", _ATTEMPT),
    ("{}", CELL),
    ("failure_{}", ("kind",)),
    ("{}", ("goodput_rps",)),
    ("requests_{}", _REQUESTS),
    ("latency_{}_ms", _LATENCY),
    *((f"{group}_{{}}", _GROUP_COUNTERS) for group in _GROUPS),
    ("system_{}", _SYSTEM),
    ("{}_s", ("ready",)),
    ("startup_{}", _STARTUP),
    ("wire_{}", _WIRE),
    ("load_host_{}", _LOAD_HOST_SYSTEM),
    ("load_host_clock_{}", _CLOCK),
)
"""The parts of an attempt: what its columns are called here, and what the values are called there."""

_COLUMNS = (
    *(form.format(name) for form, names in _SECTIONS for name in names),
    "failed_gates",
    "gates",
    "reason",
    "wire_faults",
    "load_host",
    "steadiness",
    *(f"handlers_{name}" for name in _HANDLER_COUNTS),
)
_TEXT = {
    "trial", "started_at", "raw", "failed_gates", "gates", "reason", "wire_faults", "keepalive", "keep_conn",
    *CATEGORIES,
}  # fmt: skip
_NUMERIC = tuple(name for name in _COLUMNS if name not in _TEXT)
