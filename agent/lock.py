"""One trial at a time on a host: an advisory lock that says who holds it.

The kernel gives the lock back when its holder dies, however it dies; the text in the file is only for people.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Optional

from agent.problems import TrialProblem

_POLL_S = 0.02


class HostLock:
    """The lock `<run directory>/lock`, a context manager.

    Parameters
    ----------
    run_dir
        Where the lock lies; made with mode 0700 when it is missing.
    holder
        What to say to others: run_id and trial_id.
    patience_s
        How long to wait for an agent that is about to go.

    Raises
    ------
    TrialProblem
        `busy`: somebody else holds it; the reason says who.
    """

    def __init__(self, run_dir: Path, holder: dict[str, Any], patience_s: float = 2.0) -> None:
        self._run_dir = run_dir
        self._holder = holder
        self._patience_s = patience_s
        self._fd: Optional[int] = None

    def __enter__(self) -> HostLock:
        self._run_dir.mkdir(mode=0o700, exist_ok=True)
        self._run_dir.chmod(0o700)
        fd = os.open(self._run_dir / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        until_s = time.monotonic() + self._patience_s
        while not _take(fd):
            if time.monotonic() > until_s:
                os.close(fd)
                raise TrialProblem("busy", f"{_describe(holder(self._run_dir))}; wait for its end")
            time.sleep(_POLL_S)
        self._fd = fd
        said = {
            **self._holder,
            "pid": os.getpid(),
            "since": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
        os.ftruncate(fd, 0)
        os.pwrite(fd, json.dumps(said).encode(), 0)
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        if self._fd is not None:
            os.ftruncate(self._fd, 0)
            os.close(self._fd)
            self._fd = None


def holder(run_dir: Path) -> Optional[dict[str, Any]]:
    """Return what the lock's holder says about itself; None when nobody holds it."""
    try:
        fd = os.open(run_dir / "lock", os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        if _take(fd):
            return None
        text = os.read(fd, 4096).decode(errors="replace")
    finally:
        os.close(fd)
    try:
        said = json.loads(text)
    except ValueError:
        return {}  # held, but its holder has not written yet
    return said if isinstance(said, dict) else {}


def _take(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _describe(said: Optional[dict[str, Any]]) -> str:
    if not said:
        return "another trial has just begun here"
    return (
        f"trial {said.get('trial_id')} of run {said.get('run_id')} is measured here"
        f" by process {said.get('pid')} since {said.get('since')}"
    )
