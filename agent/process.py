"""Start a program that cannot outlive the agent, and know when it has ended and what it used."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from resource import struct_rusage
from typing import Optional

from agent import procfs

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_COULD_NOT_START = 127
_LIBC = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Ended:
    """How a program ended: its exit status (negative: killed by that signal) and what it used."""

    status: int
    usage: struct_rusage
    run_queue_wait_s: Optional[float]


class Process:
    """A child that runs, with a descriptor that becomes readable at its end."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.end_fd = os.pidfd_open(pid)
        self._ended: Optional[Ended] = None

    def reap(self) -> Ended:
        """Wait for the end and return how it was."""
        if self._ended is None:
            os.waitid(os.P_PIDFD, self.end_fd, os.WEXITED | os.WNOWAIT)
            try:
                wait_s = procfs.parse_run_queue_wait((procfs.PROC / f"{self.pid}/schedstat").read_text())
            except OSError:
                wait_s = None
            _, status, usage = os.wait4(self.pid, 0)
            self._ended = Ended(os.waitstatus_to_exitcode(status), usage, wait_s)
        return self._ended

    def signal(self, signum: int) -> None:
        """Send a signal; a process that has ended does not mind."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.end_fd, signum)

    @property
    def has_ended(self) -> bool:
        """Whether it runs no more."""
        return self._ended is not None or not procfs.is_running(self.pid)

    def kill(self) -> None:
        """End it, if it still runs, and take its exit status."""
        if self._ended is None:
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
    *,
    stdin: Optional[int] = None,
    directory: Optional[Path] = None,
) -> Iterator[Process]:
    """Run a program on given CPUs, in a session of its own; its output is appended to a file.

    It gets `death_signal` when the agent dies, however that happens, and is killed at the end of the context.
    `stdin` is a descriptor, else it reads nothing; `directory` is where it starts, else where the agent is.
    """
    process = Process(
        _start(command, environment, output, cpus, death_signal, stdin=stdin, directory=directory)
    )
    try:
        yield process
    finally:
        process.kill()
        os.close(process.end_fd)


def _start(
    command: Sequence[str],
    environment: Mapping[str, str],
    output: Path,
    cpus: Optional[Sequence[int]],
    death_signal: int,
    *,
    stdin: Optional[int],
    directory: Optional[Path],
) -> int:
    # Not through subprocess: to import it would take longer than all that is done here.
    agent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    try:
        _LIBC.prctl(_PR_SET_PDEATHSIG, death_signal, 0, 0, 0)
        if os.getppid() == agent:  # else the agent died before the line above
            for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
                signal.signal(signum, signal.SIG_DFL)
            os.setsid()
            if cpus is not None:
                os.sched_setaffinity(0, cpus)
            os.dup2(os.open(os.devnull, os.O_RDONLY) if stdin is None else stdin, 0)
            os.dup2(os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), 1)
            os.dup2(1, 2)
            if directory is not None:
                os.chdir(directory)
            os.execve(command[0], list(command), dict(environment))  # noqa: S606
    except OSError as error:
        os.write(2, f"{command[0]}: {error}\n".encode())
    finally:
        os._exit(_COULD_NOT_START)
