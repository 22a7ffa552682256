"""An event loop: all requests of a process in one thread, which waits for none of them.

A small FastCGI responder on the standard library. The adapters that exist put ASGI or WSGI between FastCGI
and the application; the models compared here answer a FastCGI request as such.
"""

from __future__ import annotations

import asyncio
import errno
import io
import signal
import socket
import struct
from typing import Optional, cast

from fcgi_handlers.counters import Counters
from fcgi_handlers.model import Count, Model
from fcgi_handlers.workload import Workload

_HEADER = struct.Struct("!BBHHBx")
_BEGIN_REQUEST, _ABORT_REQUEST, _END_REQUEST, _PARAMS, _STDIN, _STDOUT = 1, 2, 3, 4, 5, 6
_GET_VALUES, _GET_VALUES_RESULT, _UNKNOWN_TYPE = 9, 10, 11
_RESPONDER, _KEEP_CONN, _UNKNOWN_ROLE = 1, 1, 3
_MAX_CONTENT = 0xFFF8
_CAPABILITIES = {b"FCGI_MAX_CONNS": b"1024", b"FCGI_MAX_REQS": b"1024", b"FCGI_MPXS_CONNS": b"1"}
_WORK_GRACE_S = 5.0
_IDLE_GRACE_S = 0.05


class Request:
    """A request that is being received."""

    def __init__(self, keep: bool) -> None:
        self.keep = keep
        self.body: list[bytes] = []


class Responder(asyncio.Protocol):
    """One connection; its requests may overlap."""

    def __init__(self, workload: Workload, counters: Counters, open_connections: set[Responder]) -> None:
        self._workload = workload
        self._counters = counters
        self._open = open_connections
        self._transport: Optional[asyncio.Transport] = None
        self._received = b""
        self._requests: dict[int, Request] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._working = 0
        self._carried = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take a new connection."""
        self._transport = cast("asyncio.Transport", transport)
        self._open.add(self)

    def connection_lost(self, error: Optional[Exception]) -> None:
        """Forget what the web server no longer waits for."""
        self._open.discard(self)
        self._requests.clear()
        for task in self._tasks:
            task.cancel()

    def data_received(self, data: bytes) -> None:
        """Take the records that are complete."""
        received = self._received + data
        at, length = 0, len(received)
        while length - at >= _HEADER.size:
            _, kind, request_id, content_bytes, padding_bytes = _HEADER.unpack_from(received, at)
            start = at + _HEADER.size
            end = start + content_bytes
            if end + padding_bytes > length:
                break
            self._take(kind, request_id, received[start:end])
            at = end + padding_bytes
        self._received = received[at:]

    def _take(self, kind: int, request_id: int, content: bytes) -> None:
        if kind == _BEGIN_REQUEST:
            role, flags = struct.unpack_from("!HB", content)
            if role != _RESPONDER:
                self._write(_END_REQUEST, request_id, struct.pack("!IB3x", 0, _UNKNOWN_ROLE))
            else:
                self._requests[request_id] = Request(bool(flags & _KEEP_CONN))
        elif kind == _STDIN and request_id in self._requests:
            request = self._requests[request_id]
            if content:
                request.body.append(content)
            else:
                self._start(request_id, self._requests.pop(request_id))
        elif kind == _ABORT_REQUEST and request_id in self._requests:
            self._end(request_id, self._requests.pop(request_id))
        elif kind == _GET_VALUES:
            self._write(_GET_VALUES_RESULT, 0, _capabilities(content))
        elif request_id == 0:
            self._write(_UNKNOWN_TYPE, 0, struct.pack("!B7x", kind))

    def _start(self, request_id: int, request: Request) -> None:
        self._working += 1
        self._counters.enter(request_id, len(self._requests) + self._working, not self._carried)
        self._carried = True
        if self._workload.wait_s:
            task = asyncio.get_running_loop().create_task(self._wait_and_answer(request_id, request))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        else:
            self._answer(request_id, request)

    async def _wait_and_answer(self, request_id: int, request: Request) -> None:
        try:
            await asyncio.sleep(self._workload.wait_s)
        except asyncio.CancelledError:
            self._counters.leave(0)
            raise
        self._answer(request_id, request)

    def _answer(self, request_id: int, request: Request) -> None:
        done = 0
        try:
            answer = self._workload.answer(io.BytesIO(b"".join(request.body)))
            for at in range(0, len(answer), _MAX_CONTENT):
                self._write(_STDOUT, request_id, answer[at : at + _MAX_CONTENT])
            self._write(_STDOUT, request_id, b"")
            done = 1
        finally:
            self._counters.leave(done)
            self._working -= 1
            self._end(request_id, request)

    def _end(self, request_id: int, request: Request) -> None:
        self._write(_END_REQUEST, request_id, bytes(8))
        if not request.keep and not self._requests and not self._working and self._transport:
            self._transport.close()

    def _write(self, kind: int, request_id: int, content: bytes) -> None:
        padding = -len(content) & 7
        if self._transport is not None and not self._transport.is_closing():
            header = _HEADER.pack(1, kind, request_id, len(content), padding)
            self._transport.write(header + content + bytes(padding))


def _capabilities(asked: bytes) -> bytes:
    """Return the values of the names in `asked`; those of FastCGI are all shorter than 128 bytes."""
    answer, at = b"", 0
    while at + 2 <= len(asked):
        name = asked[at + 2 : at + 2 + asked[at]]
        at += 2 + asked[at] + asked[at + 1]
        value = _CAPABILITIES.get(name)
        if value is not None:
            answer += bytes([len(name), len(value)]) + name + value
    return answer


async def _serve(workload: Workload, counters: Counters) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    connections: set[Responder] = set()
    accepted: set[asyncio.Task[object]] = set()
    listener = socket.socket(fileno=0)
    listener.setblocking(False)

    def accept() -> None:
        # Not an asyncio server: that cannot take the connections that wait when it is told to stop.
        while True:
            try:
                connection, _ = listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno == errno.EINVAL:  # shut down, and nobody waits any more
                    return
                raise
            connection.setblocking(False)
            task: asyncio.Task[object] = loop.create_task(
                loop.connect_accepted_socket(lambda: Responder(workload, counters, connections), connection)
            )
            accepted.add(task)
            task.add_done_callback(accepted.discard)

    loop.add_reader(listener, accept)
    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(signum, stop.set)
    await stop.wait()
    loop.remove_reader(listener)
    listener.shutdown(socket.SHUT_RD)  # new connections are refused, those that wait can still be accepted
    accept()
    idle_s, until_s = counters.idle_since(), loop.time() + _WORK_GRACE_S
    while (accepted or connections) and idle_s() < _IDLE_GRACE_S and loop.time() < until_s:
        await asyncio.sleep(0.002)


def serve(workload: Workload, count: Count) -> None:
    """Serve from an event loop."""
    asyncio.run(_serve(workload, count()))


MODEL = Model(
    summary="an event loop, one thread (asyncio)",
    serve=serve,
    peak_in_process=None,
    multiplexes=True,
)
