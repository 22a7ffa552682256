"""The numbers that handler processes keep in files: requests done, in flight, at most in flight, and more.

The layout is that of `fcgi_handlers.counters`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import struct
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Optional

MAGIC = 0x46435357
_LAYOUT = struct.Struct("<10Q")
_ANSWER_TIMEOUT_S = 1.0
_POLL_S = 0.001


@dataclass(frozen=True)
class HandlerStats:
    """One file. The context switches are those at the time of the last of `answers`.

    They are None where that is not now: the process was asked and did not answer in time. Where a handler
    counts no connections, the last three are 0.
    """

    pid: int
    done: int
    in_flight: int
    peak_in_flight: int
    answers: int
    ctx_voluntary: Optional[int]
    ctx_involuntary: Optional[int]
    connections: int
    highest_id: int
    peak_ids_per_connection: int


def parse(pid: int, data: bytes) -> Optional[HandlerStats]:
    """Return the numbers of a file; None when it is no such file."""
    if len(data) < _LAYOUT.size:
        return None
    magic, *numbers = _LAYOUT.unpack_from(data)
    return HandlerStats(pid, *numbers) if magic == MAGIC else None


def read(directory: Path) -> dict[int, HandlerStats]:
    """Return the numbers of all handler processes that ever reported here, by pid."""
    found = {}
    for name in os.listdir(directory):  # noqa: PTH208 - read once a second during a measurement
        if name.isdigit():
            stats = parse(int(name), (directory / name).read_bytes())
            if stats is not None:
                found[stats.pid] = stats
    return found


def read_with_usage(directory: Path, pids: frozenset[int]) -> dict[int, HandlerStats]:
    """Ask the processes for their context switches first; of those too busy to answer they are not known."""
    answers = {pid: stats.answers for pid, stats in read(directory).items()}
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGUSR1)
    until_s = time.monotonic() + _ANSWER_TIMEOUT_S
    while True:
        stats = read(directory)
        silent = [pid for pid in pids & set(stats) if stats[pid].answers == answers.get(pid)]
        if not silent or time.monotonic() > until_s:
            unknown = {pid: replace(stats[pid], ctx_voluntary=None, ctx_involuntary=None) for pid in silent}
            return {**stats, **unknown}
        time.sleep(_POLL_S)
