"""Capabilities, the probe and the commands, against responders that do what the test tells them."""

from __future__ import annotations

import hashlib
import io
import json
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.wire import protocol as p
from agent.wire.capabilities import ask
from agent.wire.command import load_from_json, load_to_json, run_load, run_probe
from agent.wire.probe import probe, refusal
from agent.wire.results import Capabilities, Expectation, WireLoad

Script = Callable[[socket.socket, list[int], int], bool]
Serve = Callable[[socket.socket, Callable[..., bool]], None]

RESPONSE = b"Content-Length: 5\r\n\r\nhello"
SAYS_NOTHING = Capabilities("empty", None, None, None, "")


def values(**pairs: int) -> bytes:
    content = p.encode_pairs([(name.encode(), str(value).encode()) for name, value in pairs.items()])
    return p.encode_record(p.GET_VALUES_RESULT, 0, content)


@pytest.fixture
def manager(tmp_path: Path) -> Callable[[bytes | None], str]:
    """Return a function that starts a listener which sends these bytes to whoever connects (None: closes)."""

    def start(reply: bytes | None) -> str:
        path = str(tmp_path / "manager.sock")
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        listener.listen()

        def once() -> None:
            connection, _ = listener.accept()
            with connection, listener:
                connection.recv(4096)
                if reply is not None:
                    connection.sendall(reply)
                    connection.recv(1)

        threading.Thread(target=once).start()
        return path

    return start


def right(request_id: int) -> bytes:
    return b"".join([*p.encode_stream(p.STDOUT, request_id, RESPONSE), p.encode_end(request_id)])


def serve_right(connection: socket.socket, ids: list[int], number: int) -> bool:
    connection.sendall(b"".join(right(rid) for rid in ids))
    return True


def refuse_a_second(connection: socket.socket, ids: list[int], number: int) -> bool:
    refused = [p.encode_end(rid, 0, p.CANT_MPX_CONN) for rid in ids[1:]]
    connection.sendall(b"".join([*refused, right(ids[0])]))
    return True


def close_each(connection: socket.socket, ids: list[int], number: int) -> bool:
    connection.sendall(right(ids[0]))
    return False


def wrong_body(connection: socket.socket, ids: list[int], number: int) -> bool:
    connection.sendall(b"".join(right(rid) for rid in ids).replace(b"hello", b"hell!"))
    return True


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (values(FCGI_MAX_CONNS=4, FCGI_MAX_REQS=9, FCGI_MPXS_CONNS=1), ("values", 4, 9, True)),
        (values(FCGI_MPXS_CONNS=0), ("values", None, None, False)),
        (values(FCGI_MAX_CONNS=1), ("values", 1, None, None)),
        (values(), ("empty", None, None, None)),
        (p.encode_record(p.UNKNOWN_TYPE, 0, bytes([9]) + bytes(7)), ("unknown_type", None, None, None)),
        (right(1), ("malformed", None, None, None)),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", ("malformed", None, None, None)),
        (p.encode_record(p.GET_VALUES_RESULT, 0, b"\x0fcut"), ("malformed", None, None, None)),
        (None, ("closed", None, None, None)),
        (b"", ("silent", None, None, None)),
    ],
)
def test_every_kind_of_answer_to_get_values_is_told_apart(
    manager: Callable[[bytes | None], str], reply: bytes | None, expected: tuple[object, ...]
) -> None:
    says = ask(manager(reply), timeout_s=0.3)
    assert (says.answer, says.max_conns, says.max_reqs, says.multiplexes) == expected
    assert says.detail


def test_nobody_there_is_an_answer_too(tmp_path: Path) -> None:
    assert ask(str(tmp_path / "none"), 0.2).answer == "unreachable"
    result = probe(str(tmp_path / "none"), 0.2)
    assert not result.passed
    assert [check.name for check in result.checks] == ["reachable"]
    assert "No such file" in result.checks[0].detail


def test_a_good_responder_passes_with_three_rates(responder: Callable[[Script], str]) -> None:
    result = probe(responder(serve_right), timeout_s=0.5)
    assert result.passed
    assert [(check.name, check.passed) for check in result.checks] == [
        ("responses", True),
        ("keep_conn", True),
        ("interleaving", True),
    ]
    assert all(rate is not None and rate > 0 for rate in result.rates_rps.values())


@pytest.mark.parametrize(
    ("script", "failed", "words"),
    [(close_each, "keep_conn", "asked to keep"), (wrong_body, "responses", "bad_body")],
)
def test_a_failed_check_is_named_and_ends_the_probe(
    responder: Callable[[Script], str], script: Script, failed: str, words: str
) -> None:
    expected = Expectation(5, hashlib.sha256(b"hello").hexdigest())
    result = probe(responder(script), timeout_s=0.5, expectation=expected)
    assert not result.passed
    assert result.checks[-1].name == failed
    assert words in result.checks[-1].detail


def test_interleaving_that_nobody_claims_is_no_failure_but_is_told(
    responder: Callable[[Script], str],
) -> None:
    result = probe(responder(refuse_a_second), timeout_s=0.5)
    assert result.passed
    assert result.checks[-1].passed is None
    assert "cant_mpx_conn" in result.checks[-1].detail
    assert result.rates_rps["interleaved"] is None


def load(address: str, in_flight: int) -> WireLoad:
    return WireLoad((address,), p.web_request("/"), in_flight=in_flight, keep_conn=True, answer_timeout_s=0.5)


def test_a_load_is_refused_by_what_the_responder_says_or_by_what_it_does(
    responder: Callable[[Script], str],
) -> None:
    no = Capabilities("values", None, None, False, "")
    yes = Capabilities("values", None, None, True, "")
    single, many = responder(refuse_a_second), responder(serve_right)
    assert "FCGI_MPXS_CONNS=0" in (refusal(no, load(many, 2)) or "")
    assert "tried out it does not: cant_mpx_conn" in (refusal(SAYS_NOTHING, load(single, 2)) or "")
    assert refusal(SAYS_NOTHING, load(many, 2)) is None
    assert refusal(SAYS_NOTHING, load(single, 1)) is None
    assert refusal(yes, load(single, 2)) is None  # A false claim is for the measurement's gate to find.


def test_a_load_travels_as_json(responder: Callable[[Script], str], tmp_path: Path) -> None:
    body = bytes(range(256))
    asked = WireLoad(
        (responder(serve_right),), p.web_request("/", "ä=1", body), count=3, keep_conn=True, in_flight=2
    )
    document = json.loads(json.dumps(load_to_json(asked)))
    assert load_from_json(document) == asked
    (tmp_path / "load.json").write_text(json.dumps(document))
    out = io.StringIO()
    assert run_load([str(tmp_path / "load.json"), "20"], out, io.StringIO()) == 0
    result = json.loads(out.getvalue())
    assert (result["ok"], result["failed"], result["evidence"]["highest_id"]) == (3, 0, 2)


@pytest.mark.parametrize("arguments", [[], ["/none/load.json", "1"], ["/none", "1", "2"]])
def test_a_load_that_cannot_be_read_ends_with_2(arguments: list[str]) -> None:
    err = io.StringIO()
    assert run_load(arguments, io.StringIO(), err) == 2
    assert "wire-load" in err.getvalue()


def test_unknown_keys_of_a_load_are_refused() -> None:
    document = load_to_json(WireLoad(("/a",), p.web_request("/")))
    with pytest.raises(TypeError, match="speed"):
        load_from_json({**document, "speed": 1})


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], "give a unix socket's path"),
        (["/a", "--param", "NAME"], "write NAME=VALUE"),
        (["/a", "--timeout", "0"], "seconds above 0"),
        (["/a", "--timeout", "nan"], "seconds above 0"),
    ],
)
def test_bad_input_ends_with_2_and_says_what_to_do(arguments: list[str], words: str) -> None:
    err = io.StringIO()
    assert run_probe(arguments, io.StringIO(), err) == 2
    assert words in err.getvalue()


def test_the_probe_command_speaks_to_people_and_to_programs(
    responder: Callable[[Script], str], tmp_path: Path
) -> None:
    address = responder(serve_right)
    out = io.StringIO()
    assert run_probe([address, "--timeout", "0.4"], out, io.StringIO()) == 0
    assert "interleaving: ok" in out.getvalue()
    out = io.StringIO()
    assert run_probe([str(tmp_path / "none"), "--json"], out, io.StringIO()) == 1
    document = json.loads(out.getvalue())
    assert document["passed"] is False
    assert document["capabilities"]["answer"] == "unreachable"
