"""A results directory read into a DataFrame, tolerant of damage and intolerant of foreign data."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.errors import RunUnreadable

SCHEMA = 1

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

_NEEDED = ("host", "block", "role", "cell", "attempt", "status")

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


@dataclass(frozen=True)
class Damage:
    """One line of the journal that could not be used.

    Parameters
    ----------
    line : int
        Line number in ``journal.jsonl``, from 1.
    reason : str
        What is wrong with it.
    """

    line: int
    reason: str


@dataclass(frozen=True)
class Run:
    """One run, read.

    Parameters
    ----------
    directory : Path
        ``results/<run_id>``.
    meta : dict
        ``run.json``.
    schedule : DataFrame
        One row a scheduled trial: trial, host, block, position, role.
    hosts : dict
        Host name to the content of ``hosts/<host>.json``.
    attempts : DataFrame
        One row an attempt, in the order of the journal.
    epochs, repairs : tuple of dict
        The journal's other records.
    damage : tuple of Damage
        Lines that were left out.
    journal_sha256 : str
        Checksum of the journal as it was read.
    starts : DataFrame
        One row a window of a measured start: trial, attempt, t_s (since lighttpd's start), requests.
    """

    directory: Path
    meta: dict[str, Any]
    schedule: pd.DataFrame
    hosts: dict[str, dict[str, Any]]
    attempts: pd.DataFrame
    epochs: tuple[dict[str, Any], ...]
    repairs: tuple[dict[str, Any], ...]
    damage: tuple[Damage, ...]
    journal_sha256: str
    starts: pd.DataFrame

    @property
    def run_id(self) -> str:
        """The run's name."""
        return str(self.meta["run_id"])

    @property
    def synthetic(self) -> bool:
        """Whether the numbers were made up by a generator: never to be shown as measured."""
        return bool(self.meta.get("synthetic", False))

    @property
    def experiment(self) -> Mapping[str, Any]:
        """The normalised experiment."""
        experiment: Mapping[str, Any] = self.meta["experiment"]
        return experiment

    @property
    def indifference(self) -> float:
        """δ, the difference below which nothing is decided by speed, as a fraction."""
        return float(self.experiment.get("design", {}).get("indifference", 0.02))

    @property
    def measures_starts(self) -> bool:
        """Whether servers were measured from their start on, not at their rate."""
        return self.experiment.get("measure") == "startup"

    @property
    def one_at_a_time(self) -> dict[str, set[str]]:
        """Host to the handlers that say they take one request at a time on a connection."""
        return {
            host: {
                handler["name"]
                for handler in document.get("facts", {}).get("handlers") or []
                if not handler.get("multiplexes", True)
            }
            for host, document in self.hosts.items()
        }

    @property
    def without_gil(self) -> frozenset[str]:
        """Names of the interpreters that have no global lock."""
        return frozenset(name for name, gil in self._interpreters.items() if not gil)

    @property
    def interpreters(self) -> dict[str, str]:
        """What to call each interpreter: its name and whether it has a global lock."""
        return {name: f"{name}, {'GIL' if gil else 'no GIL'}" for name, gil in self._interpreters.items()}

    @property
    def _interpreters(self) -> dict[str, bool]:
        return {
            python["name"]: bool(python.get("gil", True))
            for document in self.hosts.values()
            for python in (document.get("facts", {}).get("manifest") or {}).get("python", [])
        }

    def label(self, host: str) -> str:
        """Return the study's label of a host, or its name where the facts are missing."""
        return str(self.hosts.get(host, {}).get("label", host))

    def cores(self, host: str) -> int | None:
        """Return the cores that the host's facts name."""
        cores = self.hosts.get(host, {}).get("facts", {}).get("cores")
        return int(cores) if cores is not None else None


def newest_run(results: Path) -> Path:
    """Return the newest run of a results directory.

    Parameters
    ----------
    results : Path
        The directory that holds runs.

    Returns
    -------
    Path
        Run ids begin with their time, so the last name is the newest run.

    Raises
    ------
    RunUnreadable
        When there is none.
    """
    runs = sorted(path.parent for path in results.glob("*/run.json"))
    if not runs:
        raise RunUnreadable(f"{results}: no run in here; measure one with `fcgi-sweep run EXPERIMENT`")
    return runs[-1]


def read_run(directory: Path) -> Run:
    """Read one run from its directory alone.

    Parameters
    ----------
    directory : Path
        ``results/<run_id>``.

    Returns
    -------
    Run
        With damaged lines left out and listed.

    Raises
    ------
    RunUnreadable
        When a file is missing, the schema is another one, or the journal belongs to another run.
    """
    meta = _document(directory / "run.json", "written by `fcgi-sweep run`; is this a run directory?")
    schedule = _read_schedule(directory / "schedule.json")
    hosts = {
        path.stem: _document(path, "host facts") for path in sorted((directory / "hosts").glob("*.json"))
    }
    journal = directory / "journal.jsonl"
    if not journal.is_file():
        raise RunUnreadable(f"{journal}: no journal; nothing has been measured in this run yet")
    reader = _Journal(known=set(schedule["trial"]))
    digest = hashlib.sha256()
    with journal.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            digest.update(line)
            reader.take(number, line)
    reader.refuse_foreign(journal)
    return Run(
        directory=directory,
        meta=meta,
        schedule=schedule,
        hosts=hosts,
        attempts=reader.frame(),
        epochs=tuple(reader.epochs),
        repairs=tuple(reader.repairs),
        damage=tuple(reader.damage),
        journal_sha256=digest.hexdigest(),
        starts=pd.DataFrame(reader.starts, columns=["trial", "attempt", "t_s", "requests"]),
    )


def _document(path: Path, meaning: str) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunUnreadable(f"{path}: missing ({meaning})") from None
    except ValueError as error:
        raise RunUnreadable(f"{path}: not readable as JSON ({error}); restore it from a copy") from None
    schema = document.get("schema") if isinstance(document, dict) else None
    if schema != SCHEMA:
        raise RunUnreadable(
            f"{path}: schema {schema!r}, but this version reads schema {SCHEMA};"
            " use the fcgi-sweep version that wrote it"
        )
    return dict(document)


def _read_schedule(path: Path) -> pd.DataFrame:
    document = _document(path, "the schedule is written before the first trial")
    columns = ("trial", "host", "block", "position", "role")
    trials = document["trials"]
    return pd.DataFrame({name: [trial[name] for trial in trials] for name in columns})


class _Journal:
    """Collects what the report needs of the journal's records, which keeps 100 000 of them small."""

    def __init__(self, known: set[str]) -> None:
        self.known = known
        self.rows: list[tuple[Any, ...]] = []
        self.epochs: list[dict[str, Any]] = []
        self.repairs: list[dict[str, Any]] = []
        self.damage: list[Damage] = []
        self.starts: list[tuple[str, int, float, int]] = []
        self.foreign = 0

    def take(self, number: int, line: bytes) -> None:
        if not line.strip():
            return
        try:
            record = json.loads(line)
        except ValueError:
            torn = not line.endswith(b"\n")
            self.damage.append(Damage(number, "torn last line" if torn else "not JSON"))
            return
        problem = self._problem(record)
        if problem:
            self.damage.append(Damage(number, problem))
            return
        {"attempt": self._attempt, "epoch": self.epochs.append, "repair": self.repairs.append}[
            record["kind"]
        ](record)

    def _problem(self, record: Any) -> str | None:
        if not isinstance(record, dict) or record.get("kind") not in {"attempt", "epoch", "repair"}:
            return "not a journal record"
        if record.get("schema") != SCHEMA:
            return f"schema {record.get('schema')!r}, not {SCHEMA}"
        return self._attempt_problem(record) if record["kind"] == "attempt" else None

    def _attempt_problem(self, record: dict[str, Any]) -> str | None:
        if record.get("trial") not in self.known:
            self.foreign += 1
            return f"trial {record.get('trial')!r} is not in this run's schedule"
        missing = [name for name in _NEEDED if name not in record]
        if missing:
            return f"without {', '.join(missing)}"
        if record["status"] == "valid" and not (record.get("result") or {}).get("goodput_rps"):
            return "a valid attempt without a goodput"
        return None

    def _attempt(self, record: dict[str, Any]) -> None:
        self.rows.append(_row(record))
        start = _object(_object(record, "result"), "startup")
        for window in start.get("windows") or ():
            self.starts.append((record["trial"], record["attempt"], window["t_s"], window["requests"]))

    def refuse_foreign(self, path: Path) -> None:
        if self.foreign and not self.rows:
            raise RunUnreadable(
                f"{path}: none of its {self.foreign} trials is in this run's schedule:"
                " the journal belongs to another run; put the right one back"
            )
        if self.damage and not self.rows:
            raise RunUnreadable(
                f"{path}: no usable attempt; {len(self.damage)} damaged lines,"
                f" the first in line {self.damage[0].line}: {self.damage[0].reason}"
            )

    def frame(self) -> pd.DataFrame:
        columns = zip(*self.rows, strict=True) if self.rows else ([] for _ in _COLUMNS)
        frame = pd.DataFrame(dict(zip(_COLUMNS, columns, strict=True)))
        frame["python"] = frame["python"].fillna(OLDER_PYTHON)
        for name in CATEGORIES:
            frame[name] = frame[name].astype("category")
        for name in _NUMERIC:
            frame[name] = pd.to_numeric(frame[name], errors="coerce")
        for name in ("connections", "in_flight"):
            frame[name] = frame[name].astype("Int64")
        frame["started_at"] = pd.to_datetime(frame["started_at"], utc=True, errors="coerce", format="ISO8601")
        return frame


def _row(record: dict[str, Any]) -> tuple[Any, ...]:
    """Return the values of an attempt in the order of `_COLUMNS`; what is missing is ``None``."""
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
