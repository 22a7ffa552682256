"""A run on disk: one directory that holds everything about it, whole or recognisably not."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from controller.cells import Trial
from controller.confirmation import Confirmation
from controller.errors import JournalError, RunLocked, RunRefused
from controller.experiment import Experiment, ExperimentFile, digest
from controller.files import sync_directory, write_json, write_whole
from controller.journal import Journal, utc_now
from controller.schedule import schedule_document

SCHEMA = 1
PROJECT = Path(__file__).resolve().parent.parent
NEEDED = {"created_at", "experiment", "experiment_file", "experiment_text", "fingerprint", "hosts", "seed"}
"""Keys of run.json that are read again."""
RECORDED_VERSIONS = ("ansible-core", "ansible-runner", "fabric", "paramiko", "pydantic")
THE_USERS_OWN = (":(exclude)inventory", ":(exclude)experiments")


@dataclass(frozen=True, slots=True)
class RunDirectory:
    """A run that exists on disk.

    Attributes
    ----------
    path : Path
        Its directory; the name is the run's identity.
    """

    path: Path

    @property
    def run_id(self) -> str:
        """Identity of the run."""
        return self.path.name

    @property
    def journal_path(self) -> Path:
        """Where the attempts are recorded."""
        return self.path / "journal.jsonl"

    def document(self) -> dict[str, Any]:
        """Return run.json."""
        document = _read_json(self.path / "run.json")
        if missing := sorted(NEEDED - set(document)):
            raise _strange(self.path / "run.json", f"the key {missing[0]!r} is missing")
        return document

    def experiment(self) -> Experiment:
        """Return the experiment as it was when the run began."""
        document = self.document()["experiment"]
        try:
            return (Confirmation if "cells" in document else Experiment).model_validate(document)
        except (TypeError, ValueError) as error:
            raise _strange(self.path / "run.json", error) from error

    def schedule(self) -> tuple[Trial, ...]:
        """Return every trial in order.

        Raises
        ------
        RunRefused
            When the schedule is not the one that the run began with.
        """
        document = _read_json(self.path / "schedule.json")
        if digest(document) != self.document()["fingerprint"].get("schedule"):
            raise RunRefused(
                f"{self.path / 'schedule.json'}: is not the schedule that the run began with; restore it, "
                "or start a new run"
            )
        try:
            return tuple(Trial.from_json(trial) for trial in document["trials"])
        except (LookupError, TypeError, ValueError) as error:
            raise _strange(self.path / "schedule.json", error) from error

    def facts(self, host: str) -> dict[str, Any]:
        """Return hosts/<host>.json."""
        return _read_json(self.path / "hosts" / f"{host}.json")

    def write_raw(self, trial: str, attempt: int, texts: Mapping[str, str]) -> str:
        """Write the raw output of an attempt; return its directory relative to the run."""
        relative = Path("raw") / trial / str(attempt)
        directory = self.path / relative
        directory.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            # not synced: the journal is what counts, and a sync for each file would lengthen every trial
            (directory / Path(name).name).write_text(text, encoding="utf-8", errors="replace")
        return str(relative)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run for this controller.

        Raises
        ------
        RunLocked
            When another controller drives it; the message says which.
        """
        descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.pread(descriptor, 4096, 0).decode("utf-8", "replace").strip()
                raise RunLocked(
                    f"{self.path}: another controller drives this run ({holder or 'it gave no name'}); "
                    f"wait for it or stop it; 'fcgi-sweep status {self.run_id}' shows how far it is"
                ) from None
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"pid {os.getpid()} on {platform.node()} since {utc_now()}\n".encode(), 0)
            yield
        finally:
            os.close(descriptor)

    def driver(self) -> str | None:
        """Return who drives the run at this moment, None if nobody does."""
        with contextlib.suppress(FileNotFoundError), (self.path / "lock").open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return file.read().strip() or "it gave no name"
        return None

    def open_journal(self) -> Journal:
        """Open the journal for appending; the run must be locked."""
        return Journal(self.journal_path)


def create_run(
    results: Path,
    file: ExperimentFile,
    trials: Sequence[Trial],
    facts: Mapping[str, Mapping[str, Any]],
    fingerprints: Mapping[str, Mapping[str, Any]],
    *,
    command: str,
    confirms: Mapping[str, Any] | None = None,
) -> RunDirectory:
    """Write a new run directory: everything that is known before the first trial.

    The directory appears under its name only when it is complete.

    Parameters
    ----------
    results : Path
        Where runs are kept.
    file : ExperimentFile
        What is asked.
    trials : sequence of Trial
        The schedule.
    facts : mapping of str to mapping
        Content of hosts/<host>.json.
    fingerprints : mapping of str to mapping
        Facts of each host that must not change.
    command : str
        The command line, to repeat it.
    confirms : mapping, optional
        Which run it confirms, and which suspects.
    """
    experiment = file.experiment
    schedule = schedule_document(experiment.design.seed, trials)
    try:
        hidden, run_id = _claim(results, f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{experiment.name}")
    except OSError as error:
        raise _unwritten(results, error) from error
    try:
        (hidden / "hosts").mkdir()
        (hidden / "raw").mkdir()
        for host, document in facts.items():
            write_json(hidden / "hosts" / f"{host}.json", document)
        write_json(hidden / "schedule.json", schedule)
        write_whole(hidden / "journal.jsonl", "")
        write_json(
            hidden / "run.json",
            {
                "schema": SCHEMA,
                "run_id": run_id,
                "created_at": utc_now(),
                "experiment": experiment.normalised(),
                "experiment_file": _portable(file.path),
                "experiment_text": file.text,
                "seed": experiment.design.seed,
                "git": git_state(PROJECT),
                "versions": _versions(),
                "hosts": sorted(facts),
                "command": command,
                **({"confirms": confirms} if confirms else {}),
                "fingerprint": {
                    "experiment": experiment.fingerprint(),
                    "schedule": digest(schedule),
                    "hosts": dict(fingerprints),
                },
            },
        )
        hidden.rename(results / run_id)
        sync_directory(results)
    except OSError as error:
        shutil.rmtree(hidden, ignore_errors=True)
        raise _unwritten(results, error) from error
    return RunDirectory(results / run_id)


def find_run(results: Path, name: str | None) -> RunDirectory:
    """Return a run by name or path; the newest one if `name` is None.

    Raises
    ------
    RunRefused
        When there is none; the message lists those there are.
    """
    runs = sorted(path.parent for path in results.glob("[!.]*/run.json"))  # those with a dot only begin
    if name is None:
        if not runs:
            raise RunRefused(f"{results}: holds no run yet; start one with 'fcgi-sweep run EXPERIMENT'")
        return RunDirectory(runs[-1])
    for path in (results / name, Path(name)):
        if (path / "run.json").exists():
            return RunDirectory(path.resolve())  # its name is that of the run, also where `.` was given
    newest = ", ".join(run.name for run in runs[-5:]) or "none"
    raise RunRefused(f"{results / name}: there is no such run; the newest ones: {newest}")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunRefused(
            f"{path}: cannot be read ({error}); restore it from a copy, or start a new run"
        ) from error
    schema = document.get("schema") if isinstance(document, dict) else None
    if schema != SCHEMA:
        raise RunRefused(f"{path}: has schema {schema!r}; this version reads {SCHEMA}")
    found: dict[str, Any] = document
    return found


def _strange(path: Path, problem: object) -> RunRefused:
    words = " ".join(str(problem).split())[:200]
    return RunRefused(
        f"{path}: is not what this version writes ({words}); use the version that began the run, or restore "
        "it from a copy"
    )


def _portable(path: Path) -> str:
    whole = path.resolve()
    return str(whole.relative_to(PROJECT) if whole.is_relative_to(PROJECT) else whole)


def _claim(results: Path, wanted: str) -> tuple[Path, str]:
    """Make the hidden directory of a new run; return it and the name that is the run's from then on."""
    results.mkdir(parents=True, exist_ok=True)
    for number in itertools.count(1):
        name = wanted if number == 1 else f"{wanted}-{number}"
        hidden = results / f".{name}.new"
        try:
            hidden.mkdir()
        except FileExistsError:  # another controller is at it
            continue
        if not (results / name).exists():
            return hidden, name
        hidden.rmdir()
    raise AssertionError("there is always another number")


def _unwritten(results: Path, error: OSError) -> JournalError:
    return JournalError(f"{results}: the run cannot be written ({error.strerror}); nothing was measured")


def _versions() -> dict[str, str]:
    return {
        "fcgi_sweep": version("fcgi-sweep"),
        "python": platform.python_version(),
        **{name: version(name) for name in RECORDED_VERSIONS},
    }


def git_state(checkout: Path) -> dict[str, Any]:
    """Return the commit of a checkout, and whether tracked files differ from it; None where git cannot say.

    Hosts and experiments are the user's to edit, and a run holds what it took from them: they do not count.
    """

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", *arguments],
                cwd=checkout,
                capture_output=True,
                text=True,
                timeout=10,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    status = git("status", "--porcelain", "--untracked-files=no", "--", ".", *THE_USERS_OWN)
    return {"commit": git("rev-parse", "HEAD"), "dirty": None if status is None else bool(status)}
