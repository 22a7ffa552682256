"""Start a program that cannot outlive the agent, and know when it has ended and what it used."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from resource import struct_rusage
from typing import Optional

from agent import procfs

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_LIBC = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Ended:
    """How a program ended: its exit status (negative: killed by that signal) and what it used."""

    status: int
    usage: struct_rusage
    run_queue_wait_s: Optional[float]


class Process:
    """A running program with a descriptor that becomes readable at its end."""

    def __init__(self, popen: subprocess.Popen[bytes]) -> None:
        self._popen = popen
        self.pid = popen.pid
        self.end_fd = os.pidfd_open(popen.pid)

    def reap(self) -> Ended:
        """Wait for the end and return how it was."""
        os.waitid(os.P_PIDFD, self.end_fd, os.WEXITED | os.WNOWAIT)
        try:
            wait_s = procfs.parse_run_queue_wait((procfs.PROC / str(self.pid) / "schedstat").read_text())
        except OSError:
            wait_s = None
        _, status, usage = os.wait4(self.pid, 0)
        self._popen.returncode = os.waitstatus_to_exitcode(status)
        return Ended(status=self._popen.returncode, usage=usage, run_queue_wait_s=wait_s)

    def signal(self, signum: int) -> None:
        """Send a signal; a process that has ended does not mind."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.end_fd, signum)

    @property
    def has_ended(self) -> bool:
        """Whether it runs no more."""
        return self._popen.returncode is not None or not procfs.is_running(self.pid)

    def kill(self) -> None:
        """End it, if it still runs, and take its exit status."""
        if self._popen.returncode is None:
            self.signal(signal.SIGKILL)
            self.reap()


def adopt_orphans() -> None:
    """Make grandchildren that lose their parent our children, so that we can wait for their end."""
    _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


@contextlib.contextmanager
def running(
    command: Sequence[str],
    environment: Mapping[str, str],
    output: Path,
    cpus: Optional[Sequence[int]],
    death_signal: int,
) -> Iterator[Process]:
    """Run a program, its output in a file, on given CPUs, in a session of its own.

    It gets `death_signal` when the agent dies, however that happens, and is killed at the end of the context.
    """
    agent = os.getpid()

    def prepare() -> None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, death_signal, 0, 0, 0)
        if os.getppid() != agent:  # the agent died before the line above
            os._exit(1)
        if cpus is not None:
            os.sched_setaffinity(0, cpus)

    with output.open("wb") as file:
        popen = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=dict(environment),
            preexec_fn=prepare,  # noqa: PLW1509 - the agent has one thread
            start_new_session=True,
        )
    process = Process(popen)
    try:
        yield process
    finally:
        process.kill()
        os.close(process.end_fd)
