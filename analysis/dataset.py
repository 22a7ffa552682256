"""A results directory read as a whole, tolerant of damage and intolerant of foreign data."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pandas as pd

from analysis.errors import RunUnreadable
from analysis.journal import SCHEMA, Journal, Reading
from analysis.records import Schedule, ScheduledTrial, Versioned

Kind = TypeVar("Kind")


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
    journal : Journal
        What was measured.
    """

    directory: Path
    meta: dict[str, Any]
    schedule: pd.DataFrame
    hosts: dict[str, dict[str, Any]]
    journal: Journal

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


def read_run(directory: Path, pool: Executor | None = None) -> Run:
    """Read one run from its directory alone.

    Parameters
    ----------
    directory : Path
        ``results/<run_id>``.
    pool : Executor, optional
        Processes that read a long journal, see `workers.workers`.

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
    reading = Reading(directory / "journal.jsonl", pool)
    schedule = _read_schedule(directory / "schedule.json")
    hosts = {
        path.stem: _document(path, "host facts") for path in sorted((directory / "hosts").glob("*.json"))
    }
    journal = reading.journal(schedule["trial"])
    return Run(directory, meta, schedule, hosts, journal)


def _document(path: Path, meaning: str) -> dict[str, Any]:
    return _decoded(path, meaning, dict[str, Any])


def _decoded(path: Path, meaning: str, kind: type[Kind]) -> Kind:
    """Return a document of this version, as far as ``kind`` asks for it."""
    try:
        content = path.read_bytes()
        schema = msgspec.json.decode(content, type=Versioned).schema
        if schema == SCHEMA:
            return msgspec.json.decode(content, type=kind)
    except FileNotFoundError:
        raise RunUnreadable(f"{path}: missing ({meaning})") from None
    except ValueError as error:
        raise RunUnreadable(f"{path}: not readable as JSON ({error}); restore it from a copy") from None
    raise RunUnreadable(
        f"{path}: schema {schema!r}, but this version reads schema {SCHEMA};"
        " use the fcgi-sweep version that wrote it"
    )


def _read_schedule(path: Path) -> pd.DataFrame:
    schedule = _decoded(path, "the schedule is written before the first trial", Schedule)
    rows = zip(*map(msgspec.structs.astuple, schedule.trials), strict=True)
    return pd.DataFrame(dict(zip(ScheduledTrial.__struct_fields__, rows, strict=False)))
