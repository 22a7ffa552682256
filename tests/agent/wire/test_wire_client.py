"""The client against responders that misbehave on purpose, each over a real socket."""

from __future__ import annotations

import hashlib
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.wire import protocol as p
from agent.wire.address import AddressError, parse_address
from agent.wire.client import drive
from agent.wire.results import FAULTS, Expectation, WireLoad, WireResult, latency_summary_ms

BODY = b"the same bytes every time\n" * 8
RESPONSE = b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY
OTHER = b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY.swapcase()
EXPECTED = Expectation(len(BODY), hashlib.sha256(BODY).hexdigest())

Script = Callable[[socket.socket, list[int], int], bool]
"""Answers the requests that have just arrived whole on a connection (its number from 0); False closes it."""


def right(request_id: int, response: bytes = RESPONSE) -> bytes:
    return b"".join([*p.encode_stream(p.STDOUT, request_id, response), p.encode_end(request_id)])


def load(*addresses: str, **changes: object) -> WireResult:
    asked: dict[str, object] = {
        "addresses": addresses,
        "request": p.web_request("/hello"),
        "expectation": EXPECTED,
        "count": 6,
        "duration_s": 20.0,
        "answer_timeout_s": 10.0,
        "faults_allowed": 12,
    }
    return drive(WireLoad(**{**asked, **changes}))  # type: ignore[arg-type]


def serve_right(connection: socket.socket, ids: list[int], number: int) -> bool:
    connection.sendall(b"".join(right(rid) for rid in ids))
    return True


def test_fresh_connections_carry_one_request_each_under_id_1(responder: Callable[[Script], str]) -> None:
    result = load(responder(serve_right), connections=2, count=7)
    assert (result.sent, result.complete, result.ok, result.failed) == (7, 7, 7, 0)
    assert result.evidence.connections_opened == 7
    assert result.evidence.requests_per_connection_mean == 1
    assert result.evidence.requests_per_connection_max == 1
    assert result.evidence.highest_id == 1
    assert result.evidence.peak_in_flight == 2
    assert result.body_bytes == 7 * len(BODY)


def test_kept_connections_are_reused(responder: Callable[[Script], str]) -> None:
    result = load(responder(serve_right), connections=2, count=50, keep_conn=True)
    assert (result.ok, result.failed) == (50, 0)
    assert result.evidence.connections_opened == 2
    assert result.evidence.requests_per_connection_mean == 25
    assert result.evidence.highest_id == 1


def test_interleaved_requests_use_as_many_ids_as_asked(responder: Callable[[Script], str]) -> None:
    result = load(responder(serve_right), in_flight=5, count=100, keep_conn=True)
    assert (result.ok, result.failed) == (100, 0)
    assert result.evidence.connections_opened == 1
    assert result.evidence.highest_id == result.evidence.peak_ids_per_connection == 5
    assert result.evidence.peak_in_flight == 5


@pytest.mark.parametrize(
    ("connections", "in_flight", "keep_conn"), [(2, 1, False), (2, 1, True), (2, 3, True), (1, 8, True)]
)
def test_every_request_is_accounted_for_when_all_answers_are_alike(
    responder: Callable[[Script], str], connections: int, in_flight: int, keep_conn: bool
) -> None:
    served = [0, 0]

    def count(connection: socket.socket, ids: list[int], number: int) -> bool:
        with lock:
            served[0] += len(ids)
            served[1] = max(served[1], number + 1)
        return serve_right(connection, ids, number) and keep_conn

    lock = threading.Lock()
    regime = {"connections": connections, "in_flight": in_flight, "keep_conn": keep_conn}
    result = load(responder(count), count=None, duration_s=0.4, **regime)
    seen = result.evidence
    assert (result.failed, result.faults) == (0, {})
    assert result.sent == result.complete + result.drained == served[0] == sum(seen.requests_per_address)
    assert result.ok == result.complete > 50
    assert result.body_bytes == result.ok * len(BODY)
    assert seen.connections_opened == served[1] == (connections if keep_conn else result.sent)
    assert seen.highest_id == seen.peak_ids_per_connection == in_flight
    assert seen.peak_in_flight == connections * in_flight
    assert seen.out_of_order_answers == seen.closed_by_responder == 0
    mean_ms = result.latency_ms["mean"]
    assert mean_ms is not None
    assert result.complete / result.measured_s * mean_ms / 1e3 == pytest.approx(
        connections * in_flight, rel=0.2
    )


def test_a_wrong_answer_among_equal_ones_is_found(responder: Callable[[Script], str]) -> None:
    answered = iter(range(10_000_000))

    def mostly_right(connection: socket.socket, ids: list[int], number: int) -> bool:
        wrong = next(answered) == 20
        connection.sendall(b"".join(right(rid, OTHER if wrong and rid == 2 else RESPONSE) for rid in ids))
        return True

    result = load(responder(mostly_right), in_flight=3, keep_conn=True, count=None, duration_s=0.3)
    assert result.faults == {"bad_body": 1}
    assert result.ok + 1 == result.complete or result.ok == result.complete


def test_an_answer_that_comes_twice_is_found_at_the_end(responder: Callable[[Script], str]) -> None:
    def stutter(connection: socket.socket, ids: list[int], number: int) -> bool:
        return serve_right(connection, ids, number) and serve_right(connection, ids, number)

    result = load(responder(stutter), keep_conn=True, count=None, duration_s=0.2)
    assert result.failed > 0


def test_answers_whose_records_are_mixed_and_overtake_are_right(responder: Callable[[Script], str]) -> None:
    def mix(connection: socket.socket, ids: list[int], number: int) -> bool:
        answers = [
            [
                p.encode_record(p.STDOUT, i, RESPONSE[:30]),
                p.encode_record(p.STDOUT, i, RESPONSE[30:]),
                p.encode_end(i),
            ]
            for i in reversed(ids)
        ]
        for column in zip(*answers, strict=True):
            for record in column:
                connection.sendall(record)
        return True

    result = load(responder(mix), in_flight=4, count=40, keep_conn=True)
    assert (result.ok, result.failed) == (40, 0)
    assert result.evidence.interleaved_answers > 0
    assert result.evidence.out_of_order_answers > 0


def test_several_sockets_get_the_same_share(responder: Callable[[Script], str]) -> None:
    def slowly(connection: socket.socket, ids: list[int], number: int) -> bool:
        time.sleep(0.002)
        return serve_right(connection, ids, number)

    addresses = [responder(slowly) for _ in range(3)]
    result = load(*addresses, connections=6, count=60)
    assert result.ok == 60
    assert sum(result.evidence.requests_per_address) == 60
    assert min(result.evidence.requests_per_address) > 10


def test_the_time_bounds_the_load_and_what_is_open_then_is_drained(
    responder: Callable[[Script], str],
) -> None:
    def slowly(connection: socket.socket, ids: list[int], number: int) -> bool:
        time.sleep(0.2)
        return serve_right(connection, ids, number)

    result = load(responder(slowly), connections=2, count=None, duration_s=0.5)
    assert result.failed == 0
    assert result.measured_s == pytest.approx(0.5, abs=0.3)
    assert result.sent == result.complete + result.drained
    assert result.goodput_rps == pytest.approx(result.complete / result.measured_s)


def broken(records: Callable[[int], bytes], keeps: bool = True) -> Script:
    def script(connection: socket.socket, ids: list[int], number: int) -> bool:
        connection.sendall(b"".join(records(rid) for rid in ids))
        return keeps

    return script


def mixed_up(connection: socket.socket, ids: list[int], number: int) -> bool:
    """Send the second half of an answer under another request's id."""
    first, second = ids[0], ids[-1]
    connection.sendall(
        p.encode_record(p.STDOUT, first, RESPONSE) + p.encode_record(p.STDOUT, second, RESPONSE[:99])
    )
    connection.sendall(p.encode_record(p.STDOUT, first, RESPONSE[99:]))
    connection.sendall(p.encode_end(first) + p.encode_end(second))
    return True


@pytest.mark.parametrize(
    ("name", "script", "changes"),
    [
        ("wrong_id", broken(lambda rid: right(rid + 77)), {}),
        ("half_record", broken(lambda rid: right(rid)[:-3], keeps=False), {}),
        ("closed_early", broken(lambda rid: p.encode_record(p.STDOUT, rid, RESPONSE), keeps=False), {}),
        ("closed_early", broken(lambda rid: b"", keeps=False), {}),
        ("stray_record", broken(lambda rid: right(rid) + p.encode_record(p.STDOUT, rid, b"more")), {}),
        ("stray_record", broken(lambda rid: right(rid) + p.encode_end(rid)[:9]), {}),
        ("stray_record", broken(lambda rid: p.encode_record(p.GET_VALUES_RESULT, 0) + right(rid)), {}),
        ("after_stream_end", broken(lambda rid: right(rid)[:-16] + p.encode_record(p.STDOUT, rid, b"x")), {}),
        ("malformed", broken(lambda rid: b"HTTP/1.1 400 Bad Request\r\n\r\n"), {}),
        ("cant_mpx_conn", broken(lambda rid: p.encode_end(rid, 0, p.CANT_MPX_CONN)), {}),
        ("overloaded", broken(lambda rid: p.encode_end(rid, 0, p.OVERLOADED)), {}),
        ("unknown_role", broken(lambda rid: p.encode_end(rid, 0, p.UNKNOWN_ROLE)), {}),
        ("protocol_status", broken(lambda rid: p.encode_end(rid, 0, 99)), {}),
        ("app_status", broken(lambda rid: right(rid)[:-16] + p.encode_end(rid, 1)), {}),
        ("bad_headers", broken(lambda rid: right(rid, BODY)), {}),
        ("bad_status", broken(lambda rid: right(rid, b"Status: 503 Busy\r\n\r\n")), {}),
        ("bad_length", broken(lambda rid: right(rid, RESPONSE[:-1])), {}),
        ("bad_body", broken(lambda rid: right(rid, OTHER)), {}),
        ("bad_body", broken(lambda rid: right(rid, RESPONSE if rid == 1 else OTHER)), {"in_flight": 2}),
        ("bad_length", mixed_up, {"in_flight": 2}),
        ("unanswered", broken(lambda rid: b""), {"count": 1, "answer_timeout_s": 0.3}),
        ("unanswered", broken(lambda rid: right(rid)[:-16]), {"count": 1, "answer_timeout_s": 0.3}),
    ],
)
@pytest.mark.parametrize("keep_conn", [False, True])
def test_a_hostile_responder_is_found_out_and_its_fault_named(
    responder: Callable[[Script], str], name: str, script: Script, changes: dict[str, object], keep_conn: bool
) -> None:
    if "in_flight" in changes and not keep_conn:
        keep_conn = True
    result = load(responder(script), keep_conn=keep_conn, **changes)
    assert name in result.faults
    assert set(result.faults) <= set(FAULTS)
    assert result.failed > 0
    assert any(text.startswith(f"{name}: ") for text in result.examples)


def test_a_stray_record_after_the_last_answer_is_found_on_a_kept_connection(
    responder: Callable[[Script], str],
) -> None:
    def late(connection: socket.socket, ids: list[int], number: int) -> bool:
        connection.sendall(right(ids[0]))
        connection.sendall(p.encode_record(p.STDOUT, ids[0], b"late"))
        return True

    result = load(responder(late), keep_conn=True, count=1)
    if result.faults:  # The late record may still be on its way when the client has gone.
        assert result.faults == {"stray_record": 1}
    assert result.ok == 1


def test_a_responder_that_closes_kept_connections_between_requests_is_no_fault_but_shows(
    responder: Callable[[Script], str],
) -> None:
    def close_after_three(connection: socket.socket, ids: list[int], number: int) -> bool:
        served[number] = served.get(number, 0) + 1
        connection.sendall(right(ids[0]))
        return served[number] < 3

    served: dict[int, int] = {}
    result = load(responder(close_after_three), keep_conn=True, count=12)
    assert (result.ok, result.failed) == (12, 0)
    assert result.evidence.closed_by_responder >= 3
    assert result.evidence.connections_opened >= 4


def test_one_starved_connection_is_found_while_the_others_go_on(responder: Callable[[Script], str]) -> None:
    def starve_the_second(connection: socket.socket, ids: list[int], number: int) -> bool:
        if number == 1:
            return True
        time.sleep(0.001)
        return serve_right(connection, ids, number)

    address = responder(starve_the_second)
    result = load(address, connections=3, keep_conn=True, count=None, duration_s=1.0, answer_timeout_s=0.4)
    assert result.faults == {"unanswered": 1}
    assert result.ok > 50


def test_nobody_listening_is_named_with_the_address(tmp_path: Path) -> None:
    result = load(str(tmp_path / "none.sock"), count=3)
    assert result.faults == {"refused": 3}
    assert "none.sock: No such file" in result.examples[0]


def test_a_closed_tcp_port_is_named() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        result = load(address, count=2)
    assert result.faults == {"refused": 2}


def test_a_full_queue_is_waited_for(tmp_path: Path, serve: Callable[[socket.socket, Script], None]) -> None:
    path = str(tmp_path / "full.sock")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(0)
    timer = threading.Timer(0.2, serve, (listener, serve_right))
    timer.start()
    result = load(path, connections=4, count=8)
    timer.join()
    assert (result.ok, result.failed) == (8, 0)
    assert result.evidence.connect_retries > 0
    assert result.latency_ms["max"] is not None and result.latency_ms["max"] > 100


def test_tcp_works_like_unix_sockets(serve: Callable[[socket.socket, Script], None]) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    serve(listener, serve_right)
    result = load(f"127.0.0.1:{listener.getsockname()[1]}", count=20, keep_conn=True, in_flight=3)
    assert (result.ok, result.failed) == (20, 0)


def test_a_large_upload_and_a_large_answer_pass_at_the_same_time(responder: Callable[[Script], str]) -> None:
    body = b"0123456789abcdef" * 50_000
    response = b"Content-Length: %d\r\n\r\n" % len(body) + body

    result = load(
        responder(broken(lambda rid: right(rid, response))),
        request=p.web_request("/up", body=body),
        expectation=Expectation(len(body)),
        in_flight=3,
        keep_conn=True,
        count=9,
    )
    assert (result.ok, result.failed) == (9, 0)


def test_too_many_faults_end_the_load(responder: Callable[[Script], str]) -> None:
    script = broken(lambda rid: p.encode_end(rid, 0, p.OVERLOADED))
    started = time.monotonic()
    result = load(responder(script), count=None, keep_conn=True, faults_allowed=25)
    assert result.gave_up
    assert 25 <= result.failed < 40
    assert time.monotonic() - started < 15


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"addresses": ()}, "at least one handler socket"),
        ({"addresses": ("/a", "/b")}, "1 connections for 2 handler sockets"),
        ({"in_flight": 0}, "at least one request"),
        ({"in_flight": 2}, "set keep_conn"),
        ({"duration_s": 0.0}, "above 0"),
    ],
)
def test_an_impossible_load_is_refused(changes: dict[str, object], words: str) -> None:
    asked: dict[str, object] = {"addresses": ("/a",), "request": p.web_request("/")}
    with pytest.raises(ValueError, match=words):
        WireLoad(**{**asked, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["nowhere", "host:", ":80", "host:http", "127.0.0.1:99999"])
def test_an_address_that_cannot_be_read_says_what_is_wanted(text: str) -> None:
    with pytest.raises(AddressError, match=text):
        parse_address(text)


def test_the_address_forms_are_told_apart() -> None:
    assert parse_address("unix:/run/a.sock").target == "/run/a.sock"
    assert parse_address("./a.sock").family == socket.AF_UNIX
    assert parse_address("127.0.0.1:9000").target == ("127.0.0.1", 9000)
    assert parse_address("[::1]:9000").family == socket.AF_INET6


def test_percentiles_are_values_that_occurred() -> None:
    summary = latency_summary_ms([ms * 1_000_000 for ms in range(100, 0, -1)])
    assert summary == {"mean": 50.5, "p50": 50.0, "p90": 90.0, "p95": 95.0, "p99": 99.0, "max": 100.0}
    assert set(latency_summary_ms([]).values()) == {None}
