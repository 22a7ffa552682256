"""The processes that trials started, recognised by a mark in their environment, and how to end them."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Iterable

from agent import procfs
from agent.records import Orphan

PREFIX_MARK = "FCGI_SWEEP_PREFIX"
TRIAL_MARK = "FCGI_SWEEP_TRIAL"
_PASSES = 5


def find(prefix: str) -> list[Orphan]:
    """Return this user's running processes that carry the mark of `prefix`, without our own ancestry."""
    own = _ancestry()
    found = []
    for pid in procfs.pids():
        if pid in own or not _is_ours(pid):
            continue
        if procfs.environ(pid).get(PREFIX_MARK) == prefix and procfs.is_running(pid):
            found.append(Orphan(pid=pid, cmd=procfs.command(pid)))
    return found


def kill(prefix: str, patience_s: float = 2.0) -> list[Orphan]:
    """Kill every marked process until none is left; return those that were found.

    Several passes, because a process may start another one while it is being killed. What cannot be killed
    (a process in the kernel, waiting for a device) is in the list and still there afterwards.
    """
    killed: dict[int, Orphan] = {}
    for _ in range(_PASSES):
        found = find(prefix)
        if not found:
            break
        killed.update((each.pid, each) for each in found)
        end((each.pid for each in found), signal.SIGKILL, patience_s)
    return list(killed.values())


def end(pids: Iterable[int], signum: int, patience_s: float) -> bool:
    """Send `signum` to processes and wait for their end; return whether all ended in time."""
    handles = _handles(pids)
    try:
        for handle in handles:
            try:
                signal.pidfd_send_signal(handle, signum)
            except ProcessLookupError:
                continue
        return _await_handles(handles, patience_s)
    finally:
        for handle in handles:
            os.close(handle)


def await_end(pids: Iterable[int], patience_s: float) -> bool:
    """Wait for the end of processes; return whether all ended in time."""
    handles = _handles(pids)
    try:
        return _await_handles(handles, patience_s)
    finally:
        for handle in handles:
            os.close(handle)


def reap() -> None:
    """Take the exit status of children that ended and were left to us."""
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return


def _handles(pids: Iterable[int]) -> list[int]:
    handles = []
    for pid in pids:
        try:
            handles.append(os.pidfd_open(pid))
        except ProcessLookupError:
            continue
    return handles


def _await_handles(handles: list[int], patience_s: float) -> bool:
    poller = select.poll()
    for handle in handles:
        poller.register(handle, select.POLLIN)
    waiting = set(handles)
    until_s = time.monotonic() + patience_s
    while waiting:
        left_s = until_s - time.monotonic()
        if left_s <= 0:
            return False
        for handle, _ in poller.poll(left_s * 1000):
            poller.unregister(handle)
            waiting.discard(handle)
    return True


def _is_ours(pid: int) -> bool:
    try:
        return (procfs.PROC / str(pid)).stat().st_uid == os.getuid()
    except OSError:
        return False


def _ancestry() -> set[int]:
    ancestry = set()
    pid = os.getpid()
    while pid > 0:
        ancestry.add(pid)
        found = procfs.stat(pid)
        pid = found.ppid if found else 0
    return ancestry
