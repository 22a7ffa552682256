"""Ask the service once and look at the whole answer: over HTTP, or a handler process on its own socket."""

from __future__ import annotations

import hashlib
import socket
from dataclasses import dataclass
from pathlib import Path

from agent.wire import protocol

_TIMEOUT_S = 5.0
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


def http(address: str, port: int, url_path: str, keepalive: bool) -> Answer:
    """Return the server's answer to one GET; sizes are those of a client that keeps its connection, or not.

    Raises
    ------
    OSError
        The server cannot be reached or is silent.
    ValueError
        What it says is not HTTP.
    """
    request = f"GET {url_path} HTTP/1.1\r\nHost: {address}\r\n".encode() + _CLOSE + b"\r\n"
    with socket.create_connection((address, port), timeout=_TIMEOUT_S) as connection:
        connection.sendall(request)
        head, body = _split(_read_all(connection))
    status = int(head.split(b" ", 2)[1])
    header_bytes = len(head) + 4 - (len(_CLOSE) if keepalive else 0)
    return Answer(status=status, body=body, header_bytes=header_bytes)


def fastcgi(path: Path, url_path: str) -> Answer:
    """Return a handler process's answer to one request on its own socket.

    Raises
    ------
    OSError
        The process cannot be reached or is silent.
    ValueError
        What it says is not FastCGI.
    """
    request = protocol.PreparedRequests(protocol.web_request(url_path), ids=1, keep_conn=False)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(_TIMEOUT_S)
        connection.connect(str(path))
        connection.sendall(request.bytes_for([1]))
        records = protocol.parse_records(_read_all(connection))
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
