"""What every handler must do on a real socket, whatever its concurrency model."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent import handler_stats, procfs
from agent.wire import protocol
from fcgi_handlers import registry

MODELS = registry.model_names()
# As published it loses a thread and a descriptor whenever a peer goes early: that is what it is kept for.
SOUND = [model for model in MODELS if model != "multiplexed-stock"]
ONE_AT_A_TIME = [model for model in SOUND if registry.load_model(model).peak_in_process == 1]
HELLO = registry.load_workload("hello").body
CHILDREN = 2
TIMEOUT_S = 10.0


class Handler:
    """A handler process with a socket as lighttpd would give it one, or several that share it."""

    def __init__(self, home: Path, directory: Path, model: str, workload: str) -> None:
        self.address = str(directory / "s")
        self.stats_dir = directory / "stats"
        self.stats_dir.mkdir()
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(self.address)
            listener.listen(256)
            self.process = subprocess.Popen(
                [sys.executable, "-m", "fcgi_handlers", model, workload],
                stdin=listener,
                cwd=home,
                env={
                    **os.environ,
                    "FCGI_SWEEP_STATS": str(self.stats_dir),
                    "FCGI_SWEEP_CHILDREN": str(CHILDREN),
                },
            )
        self.url_path = registry.load_workload(workload).url_path
        processes = CHILDREN if registry.load_model(model).shares_socket else 1
        until_s = time.monotonic() + TIMEOUT_S
        while len(self.all_stats()) < processes:
            assert self.process.poll() is None and time.monotonic() < until_s
            time.sleep(0.01)

    def all_stats(self) -> list[handler_stats.HandlerStats]:
        return list(handler_stats.read(self.stats_dir).values())

    @property
    def done(self) -> int:
        return sum(stats.done for stats in self.all_stats())

    @property
    def in_flight(self) -> int:
        return sum(stats.in_flight for stats in self.all_stats())

    @property
    def peak_in_process(self) -> int:
        return max(stats.peak_in_flight for stats in self.all_stats())

    def connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(TIMEOUT_S)
        try:
            connection.connect(self.address)
        except OSError:
            connection.close()
            raise
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

    def resources(self) -> int:
        """The most threads or descriptors that a process has."""
        most = 0
        for pid in {self.process.pid, *(stats.pid for stats in self.all_stats())}:
            found = procfs.stat(pid)
            assert found is not None
            most = max(most, found.threads, procfs.descriptors(pid))
        return most

    def await_few_resources(self) -> None:
        until_s = time.monotonic() + TIMEOUT_S
        while (self.resources() > 24 or self.in_flight) and time.monotonic() < until_s:
            time.sleep(0.05)
        assert self.resources() <= 24
        assert self.in_flight == 0

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        until_s = time.monotonic() + TIMEOUT_S
        while any(procfs.is_running(stats.pid) for stats in self.all_stats()):
            assert time.monotonic() < until_s, "its processes outlive it"
            time.sleep(0.01)


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
def start(directory: Path, handlers_home: Path, absent_models: dict[str, str]) -> Iterator[object]:
    handlers = []

    def begin(model: str, workload: str = "hello") -> Handler:
        if model in absent_models:
            pytest.skip(absent_models[model])
        handlers.append(Handler(handlers_home, directory, model, workload))
        return handlers[-1]

    yield begin
    for handler in handlers:
        handler.end()


@pytest.mark.parametrize("model", MODELS)
class TestEveryModel:
    def test_answers_with_the_body_of_its_workload_and_counts_it(self, start, model: str) -> None:
        handler = start(model)
        assert [handler.ask() for _ in range(3)] == [HELLO] * 3
        assert (handler.done, handler.in_flight, handler.peak_in_process) == (3, 0, 1)

    def test_a_large_response_arrives_whole_at_a_slow_reader(self, start, model: str) -> None:
        handler = start(model, "body(3000000)")
        with handler.connect() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.sendall(handler.request())
            time.sleep(0.3)
            assert answer_in(read_all(connection))[1] == registry.load_workload("body(3000000)").body

    def test_a_large_request_arrives_whole_from_a_slow_writer(self, start, model: str) -> None:
        upload = registry.load_workload("upload(3000000)")
        handler = start(model, upload.name)
        request = handler.request(body=upload.request_body)
        with handler.connect() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            connection.sendall(request[:1_000_000])
            time.sleep(0.2)
            connection.sendall(request[1_000_000:])
            assert answer_in(read_all(connection))[1] == upload.body

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
            while handler.done == 0:
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
        assert handler.peak_in_process == (4 if promised is None else min(4, promised))

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
        handler.await_few_resources()

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
        handler.await_few_resources()

    def test_requests_that_are_aborted_cost_nothing(self, start, model: str) -> None:
        handler = start(model)
        whole = handler.request(body=b"x" * 5000)
        before_the_body_ends = whole.rindex(protocol.encode_record(protocol.STDIN, 1))
        for _ in range(20):
            with handler.connect() as connection:
                connection.sendall(
                    whole[:before_the_body_ends] + protocol.encode_record(protocol.ABORT_REQUEST, 1)
                )
                connection.sendall(protocol.encode_record(protocol.STDIN, 1))
                connection.shutdown(socket.SHUT_WR)
                read_all(connection)
        assert handler.ask() == HELLO
        handler.await_few_resources()

    def test_peers_that_shut_down_their_side_in_the_middle_cost_nothing(self, start, model: str) -> None:
        handler = start(model, "upload(5000)")
        whole = handler.request(body=registry.load_workload("upload(5000)").request_body)
        for cut in range(8, len(whole), 503):
            with handler.connect() as connection:
                connection.sendall(whole[:cut])
                connection.shutdown(socket.SHUT_WR)
                read_all(connection)
        handler.await_few_resources()

    def test_it_says_what_it_can_do(self, start, model: str) -> None:
        handler = start(model)
        with handler.connect() as connection:
            connection.sendall(protocol.encode_get_values([b"FCGI_MAX_REQS", b"FCGI_MPXS_CONNS"]))
            connection.shutdown(socket.SHUT_WR)
            kind, _, content = protocol.parse_records(read_all(connection))[0]
        assert kind == protocol.GET_VALUES_RESULT
        values = dict(protocol.decode_pairs(content))
        assert values[b"FCGI_MPXS_CONNS"] == b"%d" % registry.load_model(model).multiplexes
        assert int(values[b"FCGI_MAX_REQS"]) >= 1

    def test_no_request_is_lost_when_it_is_told_to_stop_in_the_middle_of_a_load(
        self, start, model: str
    ) -> None:
        handler = start(model, "cpu(500)")
        lost: list[str] = []
        served = 0
        stopped = threading.Event()

        def client() -> None:
            nonlocal served
            while not stopped.is_set():
                try:
                    connection = handler.connect()
                except (ConnectionRefusedError, FileNotFoundError):
                    return
                with connection:
                    try:
                        connection.sendall(handler.request())
                        assert answer_in(read_all(connection))[1] == HELLO
                        served += 1
                    except (OSError, AssertionError, KeyError) as error:
                        lost.append(repr(error))

        clients = [threading.Thread(target=client) for _ in range(6)]
        for each in clients:
            each.start()
        time.sleep(0.3)
        handler.process.terminate()
        assert handler.process.wait(TIMEOUT_S) == 0
        stopped.set()
        for each in clients:
            each.join()
        assert lost == []
        assert served > 0


@pytest.mark.parametrize("model", [model for model in SOUND if model not in ONE_AT_A_TIME])
def test_many_connections_that_are_kept_are_all_served(start, model: str) -> None:
    handler = start(model)
    connections = [handler.connect() for _ in range(30)]
    for turn in range(3):
        for connection in connections:
            connection.sendall(handler.request(keep=True))
        for connection in connections:
            assert read_one_answer(connection) == HELLO, turn
    for connection in connections:
        connection.close()
    handler.await_few_resources()


@pytest.mark.parametrize("model", [model for model in SOUND if model != "limit"])
def test_bytes_that_are_missing_or_wrong_are_told(start, model: str) -> None:
    upload = registry.load_workload("upload(5000)")
    handler = start(model, upload.name)
    for body in (upload.request_body[1:], b"X" + upload.request_body[1:]):
        with handler.connect() as connection:
            connection.sendall(handler.request(body=body))
            output = b"".join(
                content
                for kind, _, content in protocol.parse_records(read_all(connection))
                if kind == protocol.STDOUT
            )
        assert output.startswith(b"Status: 400 Bad Request\r\n")
        assert b"received %d bytes, CRC-32 %08x" % (len(body), zlib.crc32(body)) in output
    assert handler.ask(upload.request_body) == upload.body


def test_a_preforking_server_replaces_a_process_that_died(start) -> None:
    handler = start("prefork")
    victim = handler.all_stats()[0].pid
    os.kill(victim, signal.SIGKILL)
    until_s = time.monotonic() + TIMEOUT_S
    while len(handler.all_stats()) < CHILDREN + 1 and time.monotonic() < until_s:
        time.sleep(0.01)
    assert sum(procfs.is_running(stats.pid) for stats in handler.all_stats()) == CHILDREN
    assert [handler.ask() for _ in range(5)] == [HELLO] * 5


def test_the_processes_of_a_preforking_server_do_not_outlive_it(start) -> None:
    handler = start("prefork")
    handler.process.kill()
    handler.process.wait()
    handler.end()


def read_one_answer(connection: socket.socket) -> bytes:
    """Read one answer on a connection that stays open."""
    received = b""
    while not any(kind == protocol.END_REQUEST for kind, _, _ in complete_records(received)):
        part = connection.recv(65536)
        assert part, "the connection was closed"
        received += part
    return answer_in(received)[1]


def complete_records(received: bytes) -> list[tuple[int, int, bytes]]:
    try:
        return list(protocol.parse_records(received))
    except ValueError:
        return []
