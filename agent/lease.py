"""How long the agent may go on: until its controller goes, a signal comes, or the deadline passes.

Every wait of a trial goes through `Lease.wait`, so that none of these is ever missed, and signal handlers do
no more than wake it.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Iterable
from types import FrameType
from typing import Optional

from agent.problems import TrialProblem

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_REQUEST_TIMEOUT_S = 30.0


class Lease:
    """The right to measure, tied to standard input.

    Parameters
    ----------
    stdin
        A descriptor that the controller holds open for as long as it lives; its first line is the request.
    """

    def __init__(self, stdin: int) -> None:
        self._stdin = stdin
        self._deadline_s = time.monotonic() + _REQUEST_TIMEOUT_S
        self._allowed_s = _REQUEST_TIMEOUT_S
        self._input = b""
        self._signum: Optional[int] = None
        wake_read, wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._wake_read, self._wake_write = wake_read, wake_write
        for signum in _SIGNALS:
            signal.signal(signum, self._note_signal)

    def _note_signal(self, signum: int, frame: Optional[FrameType]) -> None:
        self._signum = signum
        os.write(self._wake_write, b"!")

    def set_deadline(self, allowed_s: float) -> None:
        """Allow `allowed_s` seconds from now, on the clock that nobody can set."""
        self._allowed_s = allowed_s
        self._deadline_s = time.monotonic() + allowed_s

    def read_line(self) -> str:
        """Return the next line of standard input.

        Raises
        ------
        TrialProblem
            `interrupted` or `timeout`: it did not come.
        """
        line = None
        while line is None:
            line = self.next_line(self._allowed_s)
        return line

    def next_line(self, timeout_s: float) -> Optional[str]:
        """Return the next line of standard input; None if none is complete within `timeout_s`.

        Raises
        ------
        TrialProblem
            `interrupted` or `timeout`: the lease has ended.
        """
        until_s = time.monotonic() + timeout_s
        while b"\n" not in self._input:
            self._wait([], until_s, wants_input=True)
            if time.monotonic() >= until_s:
                break
        line, end, rest = self._input.partition(b"\n")
        if not end:
            return None
        self._input = rest
        return line.decode()

    def wait(self, descriptors: Iterable[int], timeout_s: float) -> list[int]:
        """Wait until one of `descriptors` is readable or `timeout_s` has passed; return those that are.

        Raises
        ------
        TrialProblem
            `interrupted` or `timeout`: the lease has ended.
        """
        return self._wait(descriptors, time.monotonic() + timeout_s, wants_input=False)

    def _wait(self, descriptors: Iterable[int], until_s: float, wants_input: bool) -> list[int]:
        poller = select.poll()
        wanted = set(descriptors)
        for descriptor in wanted:
            poller.register(descriptor, select.POLLIN)
        poller.register(self._wake_read, select.POLLIN)
        poller.register(self._stdin, select.POLLIN | select.POLLRDHUP)
        while True:
            now_s = time.monotonic()
            left_s = max(0.0, min(until_s, self._deadline_s) - now_s)
            ready = dict(poller.poll(left_s * 1000))
            if self._signum is not None:
                raise TrialProblem(
                    "interrupted", f"the agent was told to stop ({signal.Signals(self._signum).name})"
                )
            if self._stdin in ready:
                self._take_input()
                if wants_input:
                    return []
            found = [descriptor for descriptor in ready if descriptor in wanted]
            if found:
                return found
            now_s = time.monotonic()
            if now_s >= self._deadline_s:
                raise TrialProblem(
                    "timeout", f"the trial took longer than its deadline of {self._allowed_s:g} s"
                )
            if now_s >= until_s:
                return []

    def _take_input(self) -> None:
        """Keep what the controller wrote; raise when it has closed its end."""
        data = os.read(self._stdin, 65536)
        if not data:
            raise TrialProblem("interrupted", "the controller went away (its end of the line was closed)")
        self._input += data
