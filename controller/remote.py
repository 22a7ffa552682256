"""Commands on a host, over ssh or on this machine, behind one small interface.

A command's standard input stays open for as long as the caller wants: the agent takes its end as the end of
its lease. Its output is read line by line, each line with a deadline, so that nothing can wait for ever.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator
from typing import IO, Protocol

from controller.errors import HostLost, HostUnreachable
from controller.inventory import Host

POLL_S = 0.2
ERROR_TEXT_BYTES = 64 * 1024
CLOSE_PATIENCE_S = 5.0
"""How long a command on this machine may go on after it lost its input."""


class NoLineYet(Exception):
    """No complete line came within the time given. Not an error: the caller decides what to do."""


class RemoteProcess(Protocol):
    """A command that runs on a host."""

    def write(self, text: str) -> None:
        """Send text to its standard input, which stays open."""

    def read_line(self, timeout_s: float) -> str | None:
        """Return the next line of its output, None at the end of the output.

        Raises
        ------
        NoLineYet
            After `timeout_s` seconds without a complete line.
        HostLost
            When the connection breaks.
        """

    def close_input(self) -> None:
        """Close its standard input."""

    def exit_code(self, timeout_s: float) -> int | None:
        """Return its exit code, None if it still runs after `timeout_s` seconds or never said."""

    def error_text(self) -> str:
        """Return what it wrote to standard error so far, at most the first 64 KiB."""

    def close(self) -> None:
        """Let go of it. A command that still runs loses its standard input and output."""


class Transport(Protocol):
    """A way to run commands on one host."""

    host: Host

    def start(self, command: str) -> RemoteProcess:
        """Start a command line for `sh`.

        Raises
        ------
        HostUnreachable, HostLost
            When no connection can be made, or an existing one is dead.
        """

    def close(self) -> None:
        """Close the connection; the transport can be used again and then connects anew."""


class LineBuffer:
    """Cuts a stream of bytes into lines."""

    def __init__(self) -> None:
        self._bytes = b""

    def feed(self, data: bytes) -> None:
        """Add bytes as they came."""
        self._bytes += data

    def next_line(self) -> str | None:
        """Return the oldest complete line without its end, or None."""
        line, end, rest = self._bytes.partition(b"\n")
        if not end:
            return None
        self._bytes = rest
        return line.decode("utf-8", "replace")


def agent_command(host: Host, verb: str, *arguments: str) -> str:
    """Return the command line that runs the agent of a host, and says so if there is none."""
    prefix = host.prefix or "~/.fcgi-sweep"
    home = prefix.startswith("~/")
    path = ('"$HOME"/' if home else "") + shlex.quote((prefix[2:] if home else prefix) + "/agent.pyz")
    missing = '{"event":"failure","kind":"not_provisioned","reason":"no agent at %s"}\\n'
    script = (
        f"a={path}; "
        f'if ! [ -r "$a" ]; then printf {shlex.quote(missing)} "$a"; exit 1; fi; '
        f'exec {shlex.quote(host.python)} "$a" {shlex.join((verb, *arguments))}'
    )
    return f"exec sh -c {shlex.quote(script)}"


def open_transport(host: Host) -> Transport:
    """Return the transport that the inventory asks for; nothing is connected yet."""
    if host.connection == "local":
        return LocalTransport(host)
    from controller.ssh import SshTransport  # noqa: PLC0415  (paramiko takes half a second to import)

    return SshTransport(host)


def run_for_line(transport: Transport, command: str, timeout_s: float) -> tuple[str, int | None, str]:
    """Run a command that prints one line; return the line, the exit code and what it wrote to standard error.

    Raises
    ------
    HostUnreachable, HostLost
        `HostLost` also when nothing came within `timeout_s` seconds.
    """
    with contextlib.closing(transport.start(command)) as process:
        process.close_input()
        try:
            line = process.read_line(timeout_s)
        except NoLineYet:
            transport.close()
            raise HostLost(
                transport.host.name,
                f"no answer within {timeout_s:.0f} s; is the host frozen or its link down?",
            ) from None
        return line or "", process.exit_code(5.0), process.error_text()


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


def pauses(limit_s: float) -> Iterator[float]:
    """Yield growing pauses between 1 and 10 s whose sum stays within `limit_s`."""
    spent, pause = 0.0, 1.0
    while spent + pause <= limit_s:
        yield pause
        spent, pause = spent + pause, min(10.0, pause * 1.6)
