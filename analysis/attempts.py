"""One attempt of the journal as one row: which columns there are, and what fills them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from operator import attrgetter
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.records import (
    Attempt,
    Cell,
    Clock,
    Counters,
    Failure,
    Gate,
    Group,
    HandlerCount,
    Latency,
    LoadHost,
    LoadSystem,
    Number,
    Requests,
    Result,
    System,
    Wire,
)

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
    columns = zip(*rows, strict=True) if rows else (() for _ in _COLUMNS)
    named = zip(_COLUMNS, columns, strict=True)
    frame = pd.DataFrame({name: _numbers(values) if name in _NUMERIC else values for name, values in named})
    frame["python"] = frame["python"].fillna(OLDER_PYTHON)
    for name in ("connections", "in_flight"):
        frame[name] = frame[name].astype("Int64")
    frame["started_at"] = pd.to_datetime(frame["started_at"], utc=True, errors="coerce", format="ISO8601")
    return frame


def _numbers(values: tuple[Number, ...]) -> NDArray[Any]:
    """Return whole numbers as such where none is missing, else floating-point numbers."""
    found = np.array(values)
    return found.astype(np.float64) if found.dtype == object else found


def with_categories(frame: pd.DataFrame) -> pd.DataFrame:
    """Return attempts with the columns of few values kept as categories."""
    return frame.astype(dict.fromkeys(CATEGORIES, "category"))


def attempt_row(attempt: Attempt) -> tuple[Any, ...]:
    """Return the values of an attempt in the order of the columns; what is missing is ``None``."""
    row: list[Any] = []
    for section, pick in zip(_sections(attempt), _PICKS, strict=True):
        row += pick(section)
    result = attempt.result or _NO_RESULT
    gates = result.gates or []
    failed = [gate for gate in gates if not gate.passed]
    row += [
        ", ".join([gate.name for gate in failed]),
        ",".join([gate.name for gate in gates]),
        _reason(attempt.failure, failed),
        _faults(result),
        result.load_host and result.load_host.host,
        _steadiness(gates),
        *_handler_counts(result.handlers or []),
    ]
    return tuple(row)


def _faults(result: Result) -> str:
    faults = (result.wire and result.wire.faults) or {}
    return ", ".join([f"{name} {count}" for name, count in faults.items() if count])


def _steadiness(gates: list[Gate]) -> str | None:
    """Return whether the rate climbed or fell while it was measured, ``None`` where nobody looked."""
    for gate in gates:
        if gate.name == "steady":
            if gate.passed:
                return STEADY
            return WARMING_UP if (gate.value or 0) > 0 else SLOWING_DOWN
    return None


def _handler_counts(handlers: list[HandlerCount]) -> Iterator[Number]:
    """Yield sums over the processes of what adds up, and the highest of the rest."""
    for name in HandlerCount.__struct_fields__:
        counted = [count for handler in handlers if (count := getattr(handler, name)) is not None]
        if not counted:
            yield None
        else:
            yield sum(counted) if name in _SUMMED else max(counted)


def _reason(failure: Failure | None, failed_gates: list[Gate]) -> str:
    if failure:
        return f"{failure.kind}: {failure.reason}"
    return "; ".join([f"{gate.name}: {gate.detail}" for gate in failed_gates])


_NO_FAILURE, _NO_RESULT, _NO_COUNTERS, _NO_LOAD_HOST = Failure(), Result(), Counters(), LoadHost()


def _sections(attempt: Attempt) -> Iterator[Any]:
    """Yield the objects of a record that `_SECTIONS` lists, in the same order."""
    result = attempt.result or _NO_RESULT
    counters = result.counters or _NO_COUNTERS
    load_host = result.load_host or _NO_LOAD_HOST
    yield attempt
    yield attempt.cell
    yield attempt.failure or _NO_FAILURE
    yield result
    yield result.requests
    yield result.latency_ms
    yield counters.lighttpd
    yield counters.handlers
    yield counters.load
    yield counters.system
    yield result.timings_s
    yield result.startup
    yield result.wire
    yield load_host.system
    yield load_host.clock


_ATTEMPT = (
    "trial", "host", "block", "position", "role", "attempt", "epoch", "status", "started_at", "wall_s",
    "overhead_s", "raw",
)  # fmt: skip
_SUMMED = ("requests", "connections")
_SECTIONS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("{}", _ATTEMPT),
    ("{}", Cell.__struct_fields__),
    ("failure_{}", ("kind",)),
    ("{}", ("goodput_rps",)),
    ("requests_{}", Requests.__struct_fields__),
    ("latency_{}_ms", Latency.__struct_fields__),
    ("lighttpd_{}", Group.__struct_fields__),
    ("handlers_{}", Group.__struct_fields__),
    ("load_{}", Group.__struct_fields__),
    ("system_{}", System.__struct_fields__),
    ("{}_s", ("ready",)),
    ("startup_{}", ("cost_s", "first_answer_s", "full_rate_s", "horizon_s")),
    ("wire_{}", tuple(name for name in Wire.__struct_fields__ if name != "faults")),
    ("load_host_{}", LoadSystem.__struct_fields__),
    ("load_host_clock_{}", Clock.__struct_fields__),
)
"""The parts of an attempt: what its columns are called here, and what the values are called there."""


def _pick(names: tuple[str, ...]) -> Callable[[Any], tuple[Any, ...]]:
    """Return what takes these values from an object, ``None`` for each where there is no object."""
    several = attrgetter(*names) if len(names) > 1 else lambda part: (getattr(part, names[0]),)
    missing = (None,) * len(names)
    return lambda part: missing if part is None else several(part)


_PICKS = tuple(_pick(names) for _, names in _SECTIONS)

_COLUMNS = (
    *(form.format(name) for form, names in _SECTIONS for name in names),
    "failed_gates",
    "gates",
    "reason",
    "wire_faults",
    "load_host",
    "steadiness",
    *(f"handlers_{name}" for name in HandlerCount.__struct_fields__),
)
_TEXT = {
    "trial", "started_at", "raw", "failed_gates", "gates", "reason", "wire_faults", "keepalive", "keep_conn",
    *CATEGORIES,
}  # fmt: skip
_NUMERIC = frozenset(_COLUMNS) - _TEXT
