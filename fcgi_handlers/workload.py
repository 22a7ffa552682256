"""What a workload is: how a request is answered, whatever the concurrency model."""

from __future__ import annotations

import time
from typing import Callable, NamedTuple, Protocol


class Stdin(Protocol):
    """The body of a request."""

    def read(self, n: int = -1) -> bytes:
        """Return `n` bytes of the body, or all of them."""


class Workload(NamedTuple):
    """A way to answer, and what the answer is.

    Parameters
    ----------
    name
        As in an experiment file.
    url_path
        Where lighttpd serves it.
    body
        The body of every response.
    answer
        Turns a request body into a whole response, headers included.
    wait_s
        How long a request waits for something outside the process; no processor time is spent on it.
    startup_s
        Processor time that a process spends once, before it serves.
    request_body
        The body of every request; with one it is a POST, else a GET.
    """

    name: str
    url_path: str
    body: bytes
    answer: Callable[[Stdin], bytes]
    wait_s: float = 0.0
    startup_s: float = 0.0
    request_body: bytes = b""

    def respond(self, stdin: Stdin) -> bytes:
        """Wait as long as a request waits, and answer it."""
        if self.wait_s:
            time.sleep(self.wait_s)
        return self.answer(stdin)

    @property
    def sha256(self) -> str:
        """Hex digest of the body."""
        import hashlib  # noqa: PLC0415 - a process that serves needs no OpenSSL

        return hashlib.sha256(self.body).hexdigest()


def parameterised(name: str, *values: int) -> str:
    """Return the full name of a workload, as `cpu(500)`; it is its path, too."""
    return f"{name}({','.join(map(str, values))})"


def spin(cpu_s: float) -> None:
    """Use `cpu_s` seconds of this thread's processor time."""
    until_s = time.thread_time() + cpu_s
    while time.thread_time() < until_s:
        pass


def response(body: bytes, status: bytes = b"200 OK") -> bytes:
    """Return a whole CGI response. Its length is announced: without it no client keeps its connection."""
    head = b"Status: %s\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n"
    return head % (status, len(body)) + body


def text(size_bytes: int) -> bytes:
    """Return `size_bytes` of fixed, readable text."""
    line = b"fcgi-sweep: the same bytes for every request, so that a short answer shows.\n"
    return (line * (size_bytes // len(line) + 1))[:size_bytes]
