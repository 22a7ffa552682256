"""Commands on this machine, for hosts whose connection is `local`."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import time
from typing import IO

from controller.errors import HostUnreachable
from controller.inventory import Host
from controller.remote import ERROR_TEXT_BYTES, LineBuffer, NoLineYet

CLOSE_PATIENCE_S = 5.0
"""How long a command may go on after it lost its input."""


class LocalTransport:
    """Commands on this machine."""

    def __init__(self, host: Host) -> None:
        self.host = host

    def start(self, command: str) -> LocalProcess:
        """Start a command line for `sh` in a session of its own, out of reach of the terminal's Ctrl-C."""
        try:
            process = subprocess.Popen(
                ["/bin/sh", "-c", command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            raise HostUnreachable(self.host.name, f"cannot start a process here: {error.strerror}") from error
        return LocalProcess(self.host, process)

    def close(self) -> None:
        """Do nothing: there is no connection."""


class LocalProcess:
    """A command that runs on this machine."""

    def __init__(self, host: Host, process: subprocess.Popen[bytes]) -> None:
        self._host = host
        self._process = process
        self._lines = LineBuffer()
        self._errors = b""
        self._selector = selectors.DefaultSelector()
        self._selector.register(_pipe(process.stdout), selectors.EVENT_READ, "out")
        self._selector.register(_pipe(process.stderr), selectors.EVENT_READ, "err")

    def write(self, text: str) -> None:
        """Send text to its standard input."""
        assert self._process.stdin is not None  # noqa: S101  (a pipe was asked for)
        try:
            self._process.stdin.write(text.encode())
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it has already ended; its output and exit code tell why

    def read_line(self, timeout_s: float) -> str | None:
        """Return the next line of its output, None at its end."""
        deadline = time.monotonic() + timeout_s
        while (line := self._lines.next_line()) is None:
            if "out" not in {key.data for key in self._selector.get_map().values()}:
                return None
            if not self._pump(deadline - time.monotonic()):
                raise NoLineYet
        return line

    def close_input(self) -> None:
        """Close its standard input."""
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()

    def exit_code(self, timeout_s: float) -> int | None:
        """Return its exit code, None if it still runs."""
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None

    def error_text(self) -> str:
        """Return what it wrote to standard error so far."""
        while self._pump(0.0):
            pass
        return self._errors.decode("utf-8", "replace")

    def close(self) -> None:
        """Let go of it; end it if it does not go by itself within some seconds of losing its input."""
        self.close_input()
        if self.exit_code(CLOSE_PATIENCE_S) is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._selector.close()
        for pipe in (self._process.stdout, self._process.stderr):
            _pipe(pipe).close()

    def _pump(self, timeout_s: float) -> bool:
        """Take in what there is; return False if nothing came within the time."""
        if not self._selector.get_map():
            return False
        ready = self._selector.select(max(0.0, timeout_s))
        for key, _ in ready:
            data = os.read(key.fd, 65536)
            if not data:
                self._selector.unregister(key.fileobj)
            elif key.data == "out":
                self._lines.feed(data)
            elif len(self._errors) < ERROR_TEXT_BYTES:
                self._errors += data
        return bool(ready)


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None  # noqa: S101  (a pipe was asked for)
    return pipe
