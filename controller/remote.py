"""Commands on a host behind one small interface, wherever they run.

A command's standard input stays open for as long as the caller wants: the agent takes its end as the end of
its lease. Its output is read line by line, each line with a deadline, so that nothing can wait for ever.
"""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator
from typing import Protocol

from controller.errors import HostLost
from controller.inventory import Host

POLL_S = 0.2
ERROR_TEXT_BYTES = 64 * 1024


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


def pauses(limit_s: float) -> Iterator[float]:
    """Yield growing pauses between 1 and 10 s whose sum stays within `limit_s`."""
    spent, pause = 0.0, 1.0
    while spent + pause <= limit_s:
        yield pause
        spent, pause = spent + pause, min(10.0, pause * 1.6)
