"""The journal of a run, read in several processes where it is long; damaged lines are left out and listed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd

from analysis.attempts import attempt_frame, attempt_row, with_categories
from analysis.errors import RunUnreadable
from analysis.records import Attempt, Number, needed

SCHEMA = 1
PART_BYTES = 30_000_000
"""As much of a long journal is read at a time: a process needs a good second for it."""

Start = tuple[str, int, Number, Number]

_ATTEMPTS = msgspec.json.Decoder(Attempt)


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
class Journal:
    """What the report needs of a journal.

    Parameters
    ----------
    attempts : DataFrame
        One row an attempt, in the order of the journal.
    starts : DataFrame
        One row a window of a measured start: trial, attempt, t_s (since lighttpd's start), requests.
    epochs, repairs : tuple of dict
        The other records.
    damage : tuple of Damage
        Lines that were left out.
    sha256 : str
        Checksum of what was read.
    """

    attempts: pd.DataFrame
    starts: pd.DataFrame
    epochs: tuple[dict[str, Any], ...]
    repairs: tuple[dict[str, Any], ...]
    damage: tuple[Damage, ...]
    sha256: str


class Reading:
    """A journal that is being read, as far as it had been written when this began.

    Parameters
    ----------
    path : Path
        ``journal.jsonl``.
    pool : Executor, optional
        Processes that read parts of it side by side, from now on. The result does not depend on them.
    part_bytes : int
        How long a part is.

    Raises
    ------
    RunUnreadable
        When there is no journal.
    """

    def __init__(self, path: Path, pool: Executor | None = None, *, part_bytes: int = PART_BYTES) -> None:
        if not path.is_file():
            raise RunUnreadable(f"{path}: no journal; nothing has been measured in this run yet")
        self._path = path
        self._places = list(_places(path, part_bytes))
        share = map if pool is None else pool.map
        self._parts = share(_read_part, [path] * len(self._places), *zip(*self._places, strict=True))

    def journal(self, scheduled: Iterable[str]) -> Journal:
        """Return the whole journal.

        Parameters
        ----------
        scheduled : iterable of str
            The trials of this run.

        Raises
        ------
        RunUnreadable
            When there is no attempt that can be used, or none of this run.
        """
        digest = _sha256(self._path, self._places[-1][1])
        read = _joined(list(self._parts))
        own = _without_foreign(read, set(scheduled))
        _refuse_useless(self._path, read, own)
        return Journal(
            attempts=with_categories(own.attempts.drop(columns="line")),
            starts=pd.DataFrame(own.starts, columns=["trial", "attempt", "t_s", "requests"]),
            epochs=tuple(own.epochs),
            repairs=tuple(own.repairs),
            damage=tuple(own.damage),
            sha256=digest,
        )


def _places(path: Path, part_bytes: int) -> Iterator[tuple[int, int]]:
    """Yield where the parts of a journal begin and end, each at the end of a line."""
    size = path.stat().st_size
    begin = 0
    with path.open("rb") as stream:
        while size - begin > part_bytes:
            stream.seek(begin + part_bytes)
            stream.readline()
            end = min(stream.tell(), size)
            yield begin, end
            begin = end
    yield begin, size


def _sha256(path: Path, size: int) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while size > 0 and (block := stream.read(min(size, 1 << 20))):
            digest.update(block)
            size -= len(block)
    return digest.hexdigest()


@dataclass
class _Part:
    """Some lines of a journal; what is kept of them is small, for it travels between processes."""

    lines: int = 0
    attempts: pd.DataFrame = field(default_factory=pd.DataFrame)
    starts: list[Start] = field(default_factory=list)
    epochs: list[dict[str, Any]] = field(default_factory=list)
    repairs: list[dict[str, Any]] = field(default_factory=list)
    damage: list[Damage] = field(default_factory=list)


def _read_part(path: Path, begin: int, end: int) -> _Part:
    reader = _Reader()
    with path.open("rb") as stream:
        stream.seek(begin)
        while begin < end and (line := stream.readline(end - begin)):
            reader.take(line)
            begin += len(line)
    return reader.part()


class _Reader:
    """Takes lines one by one and keeps only what the report needs of each."""

    def __init__(self) -> None:
        self._part = _Part()
        self._rows: list[tuple[Any, ...]] = []
        self._row_lines: list[int] = []

    def take(self, line: bytes) -> None:
        self._part.lines += 1
        if not line.strip():
            return
        try:
            if not line.isascii():
                line.decode("utf-8")  # the decoder does not look at what it skips
            attempt = _ATTEMPTS.decode(line)
        except ValueError:
            self._take_slowly(line)
        else:
            self._attempt(attempt)

    def _take_slowly(self, line: bytes) -> None:
        """Take a line that is no attempt as it should be, and say why where it cannot be used."""
        try:
            record = json.loads(line)
        except ValueError:
            self._damaged("not JSON" if line.endswith(b"\n") else "torn last line")
            return
        problem = _problem(record)
        if problem:
            self._damaged(problem)
        elif record["kind"] != "attempt":
            {"epoch": self._part.epochs, "repair": self._part.repairs}[record["kind"]].append(record)
        else:
            try:
                self._attempt(msgspec.convert(record, Attempt))
            except msgspec.ValidationError as error:
                self._damaged(str(error))

    def part(self) -> _Part:
        return replace(self._part, attempts=attempt_frame(self._rows).assign(line=self._row_lines))

    def _damaged(self, reason: str) -> None:
        self._part.damage.append(Damage(self._part.lines, reason))

    def _attempt(self, attempt: Attempt) -> None:
        self._rows.append(attempt_row(attempt))
        self._row_lines.append(self._part.lines)
        start = attempt.result and attempt.result.startup
        for window in (start and start.windows) or ():
            self._part.starts.append((attempt.trial, attempt.attempt, window.t_s, window.requests))


def _problem(record: Any) -> str | None:
    if not isinstance(record, dict) or record.get("kind") not in {"attempt", "epoch", "repair"}:
        return "not a journal record"
    if record.get("schema") != SCHEMA:
        return f"schema {record.get('schema')!r}, not {SCHEMA}"
    if record["kind"] != "attempt":
        return None
    missing = [name for name in needed(Attempt) if name not in record]
    return f"without {', '.join(missing)}" if missing else None


def _joined(parts: list[_Part]) -> _Part:
    """Return the parts as one, their lines counted through."""
    whole = _Part()
    for part in parts:
        part.attempts["line"] += whole.lines
        whole.damage += [replace(item, line=item.line + whole.lines) for item in part.damage]
        whole.lines += part.lines
        whole.starts += part.starts
        whole.epochs += part.epochs
        whole.repairs += part.repairs
    filled = [part.attempts for part in parts if len(part.attempts)]
    whole.attempts = pd.concat(filled, ignore_index=True) if filled else parts[0].attempts
    return whole


def _without_foreign(whole: _Part, known: set[str]) -> _Part:
    """Return what belongs to this run's schedule; the rest is damage."""
    # a Series' own isin takes a second for 100 000 trials
    own = np.array([trial in known for trial in whole.attempts["trial"].to_list()], dtype=bool)
    if own.all():
        return whole
    foreign = [
        Damage(int(line), f"trial {trial!r} is not in this run's schedule")
        for line, trial in whole.attempts.loc[~own, ["line", "trial"]].itertuples(index=False)
    ]
    return replace(
        whole,
        attempts=whole.attempts[own].reset_index(drop=True),
        starts=[start for start in whole.starts if start[0] in known],
        damage=sorted([*whole.damage, *foreign], key=lambda item: item.line),
    )


def _refuse_useless(path: Path, read: _Part, own: _Part) -> None:
    if len(own.attempts):
        return
    if len(read.attempts):
        raise RunUnreadable(
            f"{path}: none of its {len(read.attempts)} trials is in this run's schedule:"
            " the journal belongs to another run; put the right one back"
        )
    if own.damage:
        raise RunUnreadable(
            f"{path}: no usable attempt; {len(own.damage)} damaged lines,"
            f" the first in line {own.damage[0].line}: {own.damage[0].reason}"
        )
