"""What the user sees while trials are measured: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from controller.cells import Trial
from controller.trial import Attempt


class Progress(Protocol):
    """Somebody who wants to know what happens. Called from several threads."""

    def started(self, trial: Trial) -> None:
        """Take note that a trial begins."""

    def ended(self, attempt: Attempt) -> None:
        """Take note of an attempt that is in the journal."""

    def dropped(self, host: str, trials: int) -> None:
        """Take note of trials that will not be measured now."""

    def told(self, host: str, text: str) -> None:
        """Pass on something that the user should know."""


@dataclass(slots=True)
class _Row:
    total: int
    done: int = 0
    bad: int = 0
    now: str = "waiting"
    last_rps: float | None = None
    dropped: int = 0
    busy_s: float = 0.0
    finished: int = 0

    def eta_s(self, expected_s: float) -> float:
        each_s = self.busy_s / self.finished if self.finished else expected_s
        return max(0, self.total - self.done - self.dropped) * each_s


class Tally:
    """Counts what happens on each host; the base of both displays.

    Parameters
    ----------
    trials : sequence of Trial
        Those that are to be measured now.
    expected_s : float
        Expected duration of a trial, until there is experience.
    """

    def __init__(self, trials: Sequence[Trial], expected_s: float) -> None:
        self.expected_s = expected_s
        self.lock = threading.Lock()
        self.rows: dict[str, _Row] = {}
        self.machine_of = {trial.host: trial.machine for trial in trials}
        for trial in trials:
            self.rows.setdefault(trial.host, _Row(0)).total += 1

    def started(self, trial: Trial) -> None:
        """Take note that a trial begins."""
        self.rows[trial.host].now = f"block {trial.block}: {trial.cell}"

    def ended(self, attempt: Attempt) -> None:
        """Take note of an attempt that is in the journal."""
        row = self.rows[attempt.trial.host]
        row.finished += 1
        row.busy_s += attempt.wall_s
        row.now = "waiting"
        if attempt.result is not None and attempt.status == "valid":
            row.done += 1
            row.last_rps = attempt.result.goodput_rps
        else:
            row.bad += 1

    def dropped(self, host: str, trials: int) -> None:
        """Take note of trials that will not be measured now."""
        with self.lock:
            self.rows[host].dropped += trials

    def eta_s(self) -> float:
        """Return the expected rest of the run in seconds: hosts of one machine wait for each other."""
        machines: dict[str, float] = {}
        for host, row in self.rows.items():
            machine = self.machine_of[host]
            machines[machine] = machines.get(machine, 0.0) + row.eta_s(self.expected_s)
        return max(machines.values(), default=0.0)


class PlainProgress:
    """One line an attempt, for logs and pipes."""

    def __init__(self, console: Console, trials: Sequence[Trial], expected_s: float) -> None:
        self._console = console
        self._tally = Tally(trials, expected_s)

    def started(self, trial: Trial) -> None:
        """Print nothing: the line comes when there is something to say."""
        with self._tally.lock:
            self._tally.started(trial)

    def ended(self, attempt: Attempt) -> None:
        """Print how the attempt ended."""
        with self._tally.lock:
            self._tally.ended(attempt)
            row = self._tally.rows[attempt.trial.host]
            place = f"[{row.done}/{row.total}, {duration(self._tally.eta_s())} left]"
            self._console.print(
                f"{attempt.trial.trial} {place} {attempt.trial.cell}: {outcome(attempt)}",
                markup=False, highlight=False, soft_wrap=True,
            )  # fmt: skip

    def dropped(self, host: str, trials: int) -> None:
        """Take note of trials that will not be measured now."""
        self._tally.dropped(host, trials)

    def told(self, host: str, text: str) -> None:
        """Print it."""
        self._console.print(f"{host}: {text}", markup=False, highlight=False, soft_wrap=True)

    def __enter__(self) -> PlainProgress:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class LiveProgress:
    """A table that keeps itself up to date, with the bad news above it."""

    def __init__(self, console: Console, trials: Sequence[Trial], expected_s: float) -> None:
        self._console = console
        self._tally = Tally(trials, expected_s)
        self._began = time.monotonic()
        self._live = Live(console=console, get_renderable=self._table, refresh_per_second=4, transient=False)

    def started(self, trial: Trial) -> None:
        """Show it in the host's row."""
        with self._tally.lock:
            self._tally.started(trial)

    def ended(self, attempt: Attempt) -> None:
        """Show it in the host's row; a line of its own for one that does not count."""
        with self._tally.lock:
            self._tally.ended(attempt)
        if attempt.status != "valid":
            self.told(attempt.trial.trial, outcome(attempt))

    def dropped(self, host: str, trials: int) -> None:
        """Take note of trials that will not be measured now."""
        self._tally.dropped(host, trials)

    def told(self, host: str, text: str) -> None:
        """Print it above the table."""
        self._console.print(Text(f"{host}: {text}"), soft_wrap=True)

    def __enter__(self) -> LiveProgress:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def _table(self) -> Table:
        table = Table(box=None, pad_edge=False)
        for heading, side in (
            ("host", "left"),
            ("done", "right"),
            ("bad", "right"),
            ("last goodput", "right"),
        ):
            table.add_column(heading, justify="right" if side == "right" else "left", no_wrap=True)
        table.add_column("now", no_wrap=True, overflow="ellipsis")
        with self._tally.lock:
            for host, row in self._tally.rows.items():
                rate = "" if row.last_rps is None else f"{row.last_rps:,.0f}/s"
                table.add_row(host, f"{row.done}/{row.total}", str(row.bad or ""), rate, Text(row.now))
            elapsed, left = duration(time.monotonic() - self._began), duration(self._tally.eta_s())
        table.caption = f"{elapsed} so far, about {left} left"
        table.caption_justify = "left"
        return table


def open_progress(
    console: Console, trials: Sequence[Trial], expected_s: float
) -> LiveProgress | PlainProgress:
    """Return the display that suits the console."""
    return (LiveProgress if console.is_terminal else PlainProgress)(console, trials, expected_s)


def outcome(attempt: Attempt) -> str:
    """Say how an attempt ended, in one line."""
    if attempt.result is not None and attempt.status == "valid":
        return f"{attempt.result.goodput_rps:,.0f} requests/s"
    return f"{attempt.status} (attempt {attempt.attempt}): {attempt.why}"


def duration(seconds: float) -> str:
    """Write a duration for people: `45 s`, `3 min 20 s`, `5 h 36 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s" if whole % 60 else f"{whole // 60} min"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def reasons_text(reasons: Mapping[str, int]) -> str:
    """Write reasons with their numbers, the most frequent first."""
    return ", ".join(f"{name} {count}x" for name, count in sorted(reasons.items(), key=lambda item: -item[1]))
