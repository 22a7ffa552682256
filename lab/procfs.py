"""Processes and their namespaces, as /proc tells them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lab.errors import LabError

PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Process:
    """One process, as the machine sees it.

    Attributes
    ----------
    pid : int
        On the machine.
    inner_pid : int
        In the innermost pid namespace; equal to `pid` outside of any.
    state : str
        One letter: R, S, D, T (stopped), Z (dead, not yet reaped) ...
    """

    pid: int
    inner_pid: int
    parent: int
    uid: int
    state: str
    command: str


def parse_status(text: str) -> dict[str, str]:
    """Split /proc/<pid>/status into its fields."""
    return {key: value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())}


def read(pid: int) -> Process | None:
    """Look at one process; None when it is gone."""
    try:
        status = parse_status((PROC / str(pid) / "status").read_text(errors="replace"))
        command = (PROC / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    return Process(
        pid=pid,
        inner_pid=int(status.get("NSpid", str(pid)).split()[-1]),
        parent=int(status["PPid"]),
        uid=int(status["Uid"].split()[0]),
        state=status["State"][0],
        command=command.strip() or f"[{status['Name']}]",
    )


def processes() -> Iterator[Process]:
    """All processes of the machine that have not ended."""
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            process = read(int(entry.name))
            if process is not None and process.state != "Z":
                yield process


def namespace_id(pid: int, kind: str) -> int | None:
    """Inode of a namespace (`kind`: net, pid ...) of a process; None when it is gone or not ours to see."""
    try:
        return (PROC / str(pid) / "ns" / kind).stat().st_ino
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None


def in_namespace(kind: str, inode: int) -> list[Process]:
    """All live processes in one namespace, by pid."""
    found = (process for process in processes() if namespace_id(process.pid, kind) == inode)
    return sorted(found, key=lambda process: process.pid)


def environment(pid: int) -> dict[str, str]:
    """Read the environment that a process was started with; empty when it is gone or not ours to see."""
    try:
        raw = (PROC / str(pid) / "environ").read_bytes().decode(errors="replace")
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return {}
    return {
        key: value for key, separator, value in (pair.partition("=") for pair in raw.split("\0")) if separator
    }


def descendants(ancestors: Iterable[int]) -> list[Process]:
    """List the live processes among `ancestors` and everything below them, by pid."""
    every = {process.pid: process for process in processes()}
    found: set[int] = {pid for pid in ancestors if pid in every}
    grown = True
    while grown:
        below = {process.pid for process in every.values() if process.parent in found}
        grown = not below <= found
        found |= below
    return [every[pid] for pid in sorted(found)]


def send(pids: Iterable[int], number: signal.Signals) -> None:
    """Send a signal to processes, some of which may have ended meanwhile."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def kill_all(find: Callable[[], list[Process]], what: str, timeout_s: float = 10.0) -> list[Process]:
    """Kill what `find` finds, until it finds nothing.

    Parameters
    ----------
    find : callable
        Looks afresh at each call, so that what was forked meanwhile is found as well.
    what : str
        For the message when they do not die.
    timeout_s : float
        How long to insist, in seconds.

    Returns
    -------
    list of Process
        What was found first.

    Raises
    ------
    LabError
        Processes survived SIGKILL for `timeout_s` (uninterruptible input or output).
    """
    first = remaining = find()
    deadline = time.monotonic() + timeout_s
    while remaining:
        if time.monotonic() > deadline:
            names = ", ".join(f"{process.pid} ({process.command[:60]})" for process in remaining)
            raise LabError(f"{what}: processes survive SIGKILL for {timeout_s:g} s: {names}")
        send((process.pid for process in remaining), signal.SIGKILL)
        time.sleep(0.01)
        remaining = find()
    return first
