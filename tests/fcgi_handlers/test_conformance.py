"""What every handler must do on a real socket, whatever its concurrency model."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent import handler_stats, procfs
from agent.wire import protocol
from fcgi_handlers import registry

MODELS = registry.model_names()
# As published it loses a thread and a descriptor whenever a peer goes early: that is what it is kept for.
SOUND = [model for model in MODELS if model != "multiplexed-stock"]
HELLO = registry.load_workload("hello").body
TIMEOUT_S = 10.0


class Handler:
    """A handler process with a socket as lighttpd would give it one."""

    def __init__(self, directory: Path, model: str, workload: str) -> None:
        self.address = str(directory / "s")
        self.stats_dir = directory / "stats"
        self.stats_dir.mkdir()
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(self.address)
            listener.listen(256)
            self.process = subprocess.Popen(
                [sys.executable, "-m", "fcgi_handlers", model, workload],
                stdin=listener,
                env={**os.environ, "FCGI_SWEEP_STATS": str(self.stats_dir)},
            )
        self.url_path = registry.load_workload(workload).url_path
        until_s = time.monotonic() + TIMEOUT_S
        while not handler_stats.read(self.stats_dir) and time.monotonic() < until_s:
            time.sleep(0.01)

    def stats(self) -> handler_stats.HandlerStats:
        return handler_stats.read(self.stats_dir)[self.process.pid]

    def connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(TIMEOUT_S)
        connection.connect(self.address)
        return connection

    def request(
        self, body: bytes = b"", keep: bool = False, extra: dict[str, str] | None = None, ids: int = 1
    ) -> bytes:
        request = protocol.web_request(self.url_path, body=body, extra=extra)
        return protocol.PreparedRequests(request, ids, keep).bytes_for(list(range(1, ids + 1)))

    def ask(self, body: bytes = b"", extra: dict[str, str] | None = None) -> bytes:
        with self.connect() as connection:
            connection.sendall(self.request(body, extra=extra))
            return answer_in(read_all(connection))[1]

    def resources(self) -> tuple[int, int]:
        found = procfs.stat(self.process.pid)
        assert found is not None
        return found.threads, procfs.descriptors(self.process.pid)

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


def read_all(connection: socket.socket) -> bytes:
    parts = []
    with contextlib.suppress(ConnectionResetError):
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts)


def answer_in(data: bytes) -> dict[int, bytes]:
    """Return the bodies by request id; each must be complete and ended well."""
    records = protocol.parse_records(data)
    ended = {
        rid: protocol.decode_end(content) for kind, rid, content in records if kind == protocol.END_REQUEST
    }
    outputs: dict[int, bytes] = {}
    for kind, rid, content in records:
        if kind == protocol.STDOUT:
            outputs[rid] = outputs.get(rid, b"") + content
    assert set(outputs) == set(ended)
    assert set(ended.values()) == {(0, protocol.REQUEST_COMPLETE)}
    bodies = {}
    for rid, output in outputs.items():
        head, _, bodies[rid] = output.partition(b"\r\n\r\n")
        assert head.startswith(b"Status: 200")
        assert b"Content-Length: %d" % len(bodies[rid]) in head
    return bodies


def last_answer(connection: socket.socket) -> bytes:
    """Read the only answer and close: some servers wait for that before they take the next connection."""
    with connection:
        return answer_in(read_all(connection))[1]


@pytest.fixture
def directory() -> Iterator[Path]:
    # Not tmp_path: the path of a socket must stay short.
    with tempfile.TemporaryDirectory(prefix="fh-") as name:
        yield Path(name)


@pytest.fixture
def start(directory: Path) -> Iterator[object]:
    handlers = []

    def begin(model: str, workload: str = "hello") -> Handler:
        handlers.append(Handler(directory, model, workload))
        return handlers[-1]

    yield begin
    for handler in handlers:
        handler.end()


@pytest.mark.parametrize("model", MODELS)
class TestEveryModel:
    def test_answers_with_the_body_of_its_workload_and_counts_it(self, start, model: str) -> None:
        handler = start(model)
        assert [handler.ask() for _ in range(3)] == [HELLO] * 3
        stats = handler.stats()
        assert (stats.done, stats.in_flight, stats.peak_in_flight) == (3, 0, 1)

    def test_a_large_response_arrives_whole_at_a_slow_reader(self, start, model: str) -> None:
        handler = start(model, "body(3000000)")
        with handler.connect() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.sendall(handler.request())
            time.sleep(0.3)
            assert answer_in(read_all(connection))[1] == registry.load_workload("body(3000000)").body

    def test_many_and_long_parameters(self, start, model: str) -> None:
        extra = {f"HTTP_X_{i:04}": "v" * (i * 3) for i in range(300)}
        assert start(model).ask(extra=extra) == HELLO

    def test_a_request_that_comes_in_single_bytes(self, start, model: str) -> None:
        handler = start(model)
        with handler.connect() as connection:
            for byte in handler.request():
                connection.sendall(bytes([byte]))
            assert answer_in(read_all(connection))[1] == HELLO

    def test_a_peer_that_has_shut_down_its_side_still_gets_its_answer(self, start, model: str) -> None:
        handler = start(model)
        with handler.connect() as connection:
            connection.sendall(handler.request())
            connection.shutdown(socket.SHUT_WR)
            assert answer_in(read_all(connection))[1] == HELLO

    def test_it_stops_at_once_when_idle(self, start, model: str) -> None:
        handler = start(model)
        handler.ask()
        began_s = time.monotonic()
        handler.process.terminate()
        assert handler.process.wait(TIMEOUT_S) == 0
        assert time.monotonic() - began_s < 1.0

    def test_it_stops_although_a_connection_stands_open(self, start, model: str) -> None:
        handler = start(model)
        with handler.connect() as connection:
            connection.sendall(handler.request(keep=True))
            while handler.stats().done == 0:
                time.sleep(0.01)
            handler.process.terminate()
            assert handler.process.wait(TIMEOUT_S) == 0

    def test_no_request_is_lost_when_it_is_told_to_stop_under_load(self, start, model: str) -> None:
        handler = start(model, "wait(20)")
        assert handler.ask() == HELLO
        connections = [handler.connect() for _ in range(40)]
        for connection in connections:
            connection.sendall(handler.request())
        handler.process.send_signal(signal.SIGTERM)
        bodies = [last_answer(connection) for connection in connections]
        assert bodies == [HELLO] * 40
        assert handler.process.wait(TIMEOUT_S) == 0

    def test_it_keeps_its_promise_of_concurrency(self, start, model: str) -> None:
        handler = start(model, "wait(50)")
        connections = [handler.connect() for _ in range(4)]
        for connection in connections:
            connection.sendall(handler.request())
        assert [last_answer(connection) for connection in connections] == [HELLO] * 4
        promised = registry.load_model(model).peak_in_process
        assert handler.stats().peak_in_flight == (4 if promised is None else min(4, promised))

    def test_it_takes_several_requests_on_a_connection_if_and_only_if_it_says_so(
        self, start, model: str
    ) -> None:
        handler = start(model, "wait(20)")
        with handler.connect() as connection:
            connection.sendall(handler.request(ids=3))
            records = protocol.parse_records(read_all(connection))
        ends = [
            protocol.decode_end(content)[1] for kind, _, content in records if kind == protocol.END_REQUEST
        ]
        if registry.load_model(model).multiplexes:
            assert ends == [protocol.REQUEST_COMPLETE] * 3
        else:
            assert ends.count(protocol.CANT_MPX_CONN) >= 1


@pytest.mark.parametrize("model", SOUND)
class TestSoundModels:
    def test_peers_that_go_in_the_middle_cost_nothing(self, start, model: str) -> None:
        handler = start(model)
        whole = handler.request(body=b"x" * 5000)
        handler.ask()
        for cut in range(8, len(whole), 97):
            with handler.connect() as connection:
                connection.sendall(whole[:cut])
        for _ in range(20):
            with handler.connect() as connection:
                connection.sendall(whole)
        assert handler.ask() == HELLO
        until_s = time.monotonic() + TIMEOUT_S
        while max(handler.resources()) > 24 and time.monotonic() < until_s:
            time.sleep(0.05)
        assert max(handler.resources()) <= 24
        assert handler.stats().in_flight == 0

    @pytest.mark.slow
    def test_neither_threads_nor_descriptors_grow(self, start, model: str) -> None:
        handler = start(model)
        requests = int(os.environ.get("FCGI_SWEEP_GROWTH_REQUESTS", "3000"))
        request = handler.request()
        for _ in range(requests):
            with handler.connect() as connection:
                connection.sendall(request)
                connection.recv(2048)  # and away, as lighttpd does, before END_REQUEST has come
        assert handler.ask() == HELLO
        time.sleep(0.2)
        assert max(handler.resources()) <= 24
