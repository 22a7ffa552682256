"""The record of a run: one JSON line an attempt, appended and on disk before the next trial begins."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from controller.errors import JournalError
from controller.files import sync_directory

SCHEMA = 1
RESERVE_BYTES = 1 << 20
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class DiskFull(JournalError):
    """The disk filled up while the run was measured. What was measured until then is on disk."""


@dataclass(frozen=True, slots=True)
class Content:
    """What a journal file holds.

    Attributes
    ----------
    records : tuple of dict
        Every whole record.
    whole_bytes : int
        Length of the part that is made of whole records with their line ends.
    tail : bytes
        What a crash left behind them: a piece of a record, or a record that lacks its line end.
    """

    records: tuple[dict[str, Any], ...]
    whole_bytes: int
    tail: bytes


def utc_now() -> str:
    """Return the time as ISO 8601 in UTC, such as `2026-11-23T05:12:33.120Z`."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def read_journal(path: Path) -> Content:
    """Read a journal without touching it; a torn tail is reported, not repaired.

    Raises
    ------
    JournalError
        When a line before the last one is no record: then somebody changed the file.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        data = b""
    whole, end, tail = data.rpartition(b"\n")
    lines = whole.split(b"\n") if end else []
    records = []
    for number, line in enumerate(lines, start=1):
        record = _record(line)
        if record is None:
            raise JournalError(
                f"{path}:{number}: is no journal record: the file was changed by hand, or the disk fails; "
                "restore it from a copy, or remove that line to measure its trial again"
            )
        records.append(record)
    return Content(tuple(records), len(whole) + len(end), tail)


def _record(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) and "kind" in record else None


class Journal:
    """A journal that is open for appending. Several threads may append.

    Opening it repairs a torn tail: a last record that lacks only its line end gets it; a piece of a record is
    cut off. Either way a record of kind `repair` says so.

    Parameters
    ----------
    path : Path
        The file; it is made if it is missing. A file of 1 MiB beside it keeps room for the records of trials
        that are being measured when the disk fills up.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        content = read_journal(path)
        self._records = list(content.records)
        self._lock = threading.Lock()
        self._reserve = path.with_name(".reserve")
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._end = content.whole_bytes
        sync_directory(path.parent)
        self._keep_reserve()
        if content.tail:
            self._repair(content.tail)

    @property
    def records(self) -> tuple[dict[str, Any], ...]:
        """Every record so far."""
        with self._lock:
            return tuple(self._records)

    def append(self, record: dict[str, Any]) -> None:
        """Append a record; when this returns it is on disk.

        Raises
        ------
        DiskFull
            When there was no room for it, or room only in the reserve (then it is on disk all the same).
        """
        with self._lock:
            self._append(record)

    def close(self) -> None:
        """Close the file and give the reserve back."""
        with self._lock:
            os.close(self._file)
            self._reserve.unlink(missing_ok=True)

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _append(self, record: dict[str, Any]) -> None:
        text = json.dumps({"schema": SCHEMA, **record}, ensure_ascii=False, separators=(",", ":"))
        line = text.encode(errors="replace") + b"\n"  # an agent may quote what is no text
        try:
            self._write(line)
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise JournalError(f"{self.path}: cannot be written ({error.strerror})") from error
            self._append_into_reserve(line, record, error)
        self._records.append({"schema": SCHEMA, **record})

    def _append_into_reserve(self, line: bytes, record: dict[str, Any], error: OSError) -> None:
        saved = False
        if self._reserve.exists():
            self._reserve.unlink()
            with contextlib.suppress(OSError):
                self._write(line)
                saved = True
        if saved:
            self._records.append({"schema": SCHEMA, **record})
        kept = (
            "the last record went into the room kept for it" if saved else "the last trial is measured again"
        )
        raise DiskFull(
            f"{self.path}: {error.strerror}; {len(self._records)} records are safe on disk, {kept}; "
            "free some space, then resume"
        ) from error

    def _write(self, line: bytes) -> None:
        written = 0
        try:
            while written < len(line):
                written += os.pwrite(self._file, line[written:], self._end + written)
            os.fsync(self._file)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self._end)
            raise
        self._end += len(line)

    def _keep_reserve(self) -> None:
        try:
            with self._reserve.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, RESERVE_BYTES)
        except OSError as error:
            self._reserve.unlink(missing_ok=True)
            os.close(self._file)
            raise DiskFull(
                f"{self.path.parent}: {error.strerror}: no room for {RESERVE_BYTES >> 20} MiB; "
                "free some space first"
            ) from error

    def _repair(self, tail: bytes) -> None:
        record = _record(tail)
        if record is not None:
            self._write(tail + b"\n")
            self._records.append(record)
            self._append(
                {"kind": "repair", "at": utc_now(), "completed_bytes": len(tail), "dropped_bytes": 0}
            )
            return
        os.ftruncate(self._file, self._end)
        text = tail.decode("utf-8", "replace")[:200]
        self._append({"kind": "repair", "at": utc_now(), "dropped_bytes": len(tail), "dropped": text})


def attempts(records: tuple[dict[str, Any], ...]) -> Iterator[dict[str, Any]]:
    """Yield the records that are attempts at a trial."""
    return (record for record in records if record["kind"] == "attempt")


def current_epoch(records: tuple[dict[str, Any], ...]) -> int:
    """Return the number of the epoch that new attempts belong to, from 1."""
    return max((int(record["epoch"]) for record in records if record["kind"] == "epoch"), default=1)
