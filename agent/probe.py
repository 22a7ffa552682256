"""Ask the service once and look at the whole answer: over HTTP, or a handler process on its own socket."""

from __future__ import annotations

import contextlib
import hashlib
import socket
from dataclasses import dataclass
from pathlib import Path

from agent.wire import protocol

_TIMEOUT_S = 5.0
_BEGINNING_BYTES = 8
_CLOSE = b"Connection: close\r\n"


@dataclass(frozen=True)
class Answer:
    """A response; `header_bytes` is the size of its status line and header fields."""

    status: int
    body: bytes
    header_bytes: int

    def differs_from(self, size_bytes: int, sha256: str) -> str:
        """Say how the answer differs from what is expected; an empty string when it does not."""
        if not 200 <= self.status <= 299:
            return f"status {self.status}"
        if len(self.body) != size_bytes:
            return f"{len(self.body)} bytes instead of {size_bytes}"
        if hashlib.sha256(self.body).hexdigest() != sha256:
            return f"{size_bytes} bytes, but not those that were expected"
        return ""


def url_host(address: str) -> str:
    """Return an IP address as it stands in a URL and in the field Host."""
    return f"[{address}]" if ":" in address else address


def http(address: str, port: int, url_path: str, keepalive: bool, body: bytes = b"") -> Answer:
    """Return the server's answer to one GET, or to a POST of a body.

    Sizes are those of a client that keeps its connection, or not.

    Raises
    ------
    OSError
        The server cannot be reached or is silent.
    ValueError
        What it says is not HTTP.
    """
    method, length = ("POST", f"Content-Length: {len(body)}\r\n") if body else ("GET", "")
    head = f"{method} {url_path} HTTP/1.1\r\nHost: {url_host(address)}\r\n{length}"
    request = head.encode() + _CLOSE + b"\r\n"
    with socket.create_connection((address, port), timeout=_TIMEOUT_S) as connection:
        connection.sendall(request + body)
        fields, answer = _split(_read_all(connection))
    status = int(fields.split(b" ", 2)[1])
    header_bytes = len(fields) + 4 - (len(_CLOSE) if keepalive else 0)
    return Answer(status=status, body=answer, header_bytes=header_bytes)


def fastcgi(path: Path, url_path: str, body: bytes = b"", together: int = 1) -> tuple[Answer, ...]:
    """Return the answers to requests on a socket of handlers, each on its own connection.

    They begin together and are finished afterwards, so that a process which takes one at a time is held by
    one while others are left to the next process.

    Raises
    ------
    OSError
        The process cannot be reached or is silent.
    ValueError
        What it says is not FastCGI.
    """
    prepared = protocol.PreparedRequests(protocol.web_request(url_path, body=body), ids=1, keep_conn=False)
    request = prepared.bytes_for([1])
    with contextlib.ExitStack() as stack:
        connections = []
        for _ in range(together):
            connection = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            connection.settimeout(_TIMEOUT_S)
            connection.connect(str(path))
            connection.sendall(request[:_BEGINNING_BYTES])
            connections.append(connection)
        for connection in connections:
            connection.sendall(request[_BEGINNING_BYTES:])
        return tuple(_cgi_answer(_read_all(connection)) for connection in connections)


def _cgi_answer(said: bytes) -> Answer:
    records = protocol.parse_records(said)
    output = b"".join(content for kind, _, content in records if kind == protocol.STDOUT)
    head, body = _split(output)
    return Answer(status=_cgi_status(head), body=body, header_bytes=len(head) + 4)


def _read_all(connection: socket.socket) -> bytes:
    parts: list[bytes] = []
    while True:
        part = connection.recv(65536)
        if not part:
            return b"".join(parts)
        parts.append(part)


def _split(data: bytes) -> tuple[bytes, bytes]:
    head, blank, body = data.partition(b"\r\n\r\n")
    if not blank:
        raise ValueError(f"an answer without a header: {data[:80]!r}")
    return head, body


def _cgi_status(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"status":
            return int(value.split()[0])
    return 200  # as the CGI specification has it
