"""What a workload is: how a request is answered, whatever the concurrency model."""

from __future__ import annotations

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
    """

    name: str
    url_path: str
    body: bytes
    answer: Callable[[Stdin], bytes]

    @property
    def sha256(self) -> str:
        """Hex digest of the body."""
        import hashlib  # noqa: PLC0415 - a process that serves needs no OpenSSL

        return hashlib.sha256(self.body).hexdigest()


def response(body: bytes) -> bytes:
    """Return a whole CGI response. Its length is announced: without it no client keeps its connection."""
    return b"Status: 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n" % len(body) + body


def text(size_bytes: int) -> bytes:
    """Return `size_bytes` of fixed, readable text."""
    line = b"fcgi-sweep: the same bytes for every request, so that a short answer shows.\n"
    return (line * (size_bytes // len(line) + 1))[:size_bytes]
