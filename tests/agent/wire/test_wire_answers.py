from __future__ import annotations

import hashlib
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.wire import protocol as p
from agent.wire.answers import ConnectionFault, Conversation, Verdicts, parse_response, response_fault
from agent.wire.results import Expectation

unhurried = settings(deadline=None)
BODY = b"the same bytes every time\n" * 8
RESPONSE = b"Status: 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY
EXPECTED = Expectation(len(BODY), hashlib.sha256(BODY).hexdigest())


def answer(request_id: int, response: bytes = RESPONSE, step: int = 50) -> list[bytes]:
    """Return the records of an answer, its output in pieces of `step` bytes."""
    pieces = [
        p.encode_record(p.STDOUT, request_id, response[at : at + step])
        for at in range(0, len(response), step)
    ]
    return [*pieces, p.encode_record(p.STDOUT, request_id), p.encode_end(request_id)]


def conversation(*ids: int) -> tuple[Verdicts, Conversation]:
    verdicts = Verdicts(EXPECTED)
    talk = Conversation(verdicts)
    talk.begin(list(ids))
    return verdicts, talk


def test_a_right_answer_counts_at_every_split() -> None:
    wire = b"".join(answer(1))
    for cut in range(len(wire) + 1):
        verdicts, talk = conversation(1)
        ended = [rid for piece in (wire[:cut], wire[cut:]) for rid in talk.take(piece)]
        assert (ended, verdicts.ok, verdicts.body_bytes, verdicts.faults) == ([1], 1, len(BODY), {})
        assert talk.ended() is None


def test_a_known_answer_is_compared_at_every_split_and_a_false_end_of_it_is_seen() -> None:
    wire, false = (b"".join(answer(1, response)) for response in (RESPONSE, RESPONSE[:-1] + b"?"))
    for cut in range(1, len(wire)):
        verdicts, talk = conversation(1)
        talk.take(wire)
        for response, ok, failed in ((wire, 2, 0), (false, 2, 1), (wire, 3, 1)):
            talk.begin([1])
            assert [talk.take(response[:cut]), talk.untouched, talk.take(response[cut:])] == [[], False, [1]]
            assert (verdicts.ok, verdicts.failed, talk.untouched) == (ok, failed, True)
        talk.begin([1])
        talk.take(wire[:cut])
        found = talk.ended()
        assert found is not None
        at_a_record_end = cut in {sum(map(len, answer(1)[:count])) for count in range(len(wire))}
        assert found[0] == ("closed_early" if at_a_record_end else "half_record")


@unhurried
@given(st.randoms(use_true_random=False), st.integers(2, 6), st.integers(1, 300))
def test_answers_in_any_mixture_and_any_split_are_told_apart(
    rng: random.Random, count: int, chunk: int
) -> None:
    verdicts, talk = conversation(*range(1, count + 1))
    for _ in range(3):
        queues = {rid: answer(rid) for rid in range(1, count + 1)}
        mixed = []
        while queues:
            rid = rng.choice(sorted(queues))
            mixed.append(queues[rid].pop(0))
            if not queues[rid]:
                del queues[rid]
        wire = b"".join(mixed)
        ended = [rid for at in range(0, len(wire), chunk) for rid in talk.take(wire[at : at + chunk])]
        assert sorted(ended) == list(range(1, count + 1))
        talk.begin(ended)
    assert (verdicts.ok, verdicts.faults) == (3 * count, {})


@unhurried
@given(st.lists(st.sampled_from(["same", "other", "short"]), min_size=1, max_size=12), st.integers(1, 2000))
def test_the_short_cut_over_equal_answers_never_lets_a_wrong_one_pass(kinds: list[str], chunk: int) -> None:
    other = RESPONSE.replace(b"every", b"Every")
    responses = {"same": RESPONSE, "other": other, "short": RESPONSE[:-1]}
    verdicts, talk = conversation()
    for kind in kinds:
        talk.begin([1])
        wire = b"".join(answer(1, responses[kind]))
        for at in range(0, len(wire), chunk):
            talk.take(wire[at : at + chunk])
    assert verdicts.ok == kinds.count("same")
    assert verdicts.faults.get("bad_body", 0) == kinds.count("other")
    assert verdicts.faults.get("bad_length", 0) == kinds.count("short")


def test_overtaking_and_interleaved_answers_are_counted_as_evidence() -> None:
    verdicts, talk = conversation(1, 2, 3)
    first, second, third = answer(1, step=400), answer(2, step=400), answer(3, step=400)
    talk.take(b"".join([*third, first[0], second[0], *first[1:], *second[1:]]))
    assert (verdicts.ok, verdicts.out_of_order, verdicts.interleaved) == (3, 1, 2)


@pytest.mark.parametrize(
    ("records", "name", "words"),
    [
        ([p.encode_record(p.STDOUT, 9, b"x")], "wrong_id", "STDOUT for request id 9; open are 1, 2"),
        ([p.encode_record(p.STDOUT, 0, b"x")], "wrong_id", "request id 0"),
        ([*answer(1), p.encode_record(p.STDOUT, 1, b"x")], "stray_record", "id 1, which has ended"),
        ([*answer(1), *answer(1)], "stray_record", "id 1, which has ended"),
        ([p.encode_record(p.UNKNOWN_TYPE, 0, bytes(8))], "stray_record", "UNKNOWN_TYPE with request id 0"),
        ([p.encode_record(p.PARAMS, 1, b"")], "stray_record", "PARAMS with request id 1"),
        ([*answer(1)[:-1], p.encode_record(p.STDOUT, 1, b"more")], "after_stream_end", "4 bytes of STDOUT"),
        ([b"HTTP/1.1 400 Bad Request\r\n\r\n"], "malformed", "version 72 instead of 1"),
        ([p.encode_record(p.END_REQUEST, 1, b"123")], "malformed", "END_REQUEST with 3 bytes"),
        ([p.encode_record(p.STDOUT, 1, bytes(40000))] * 3, "bad_length", "and no end"),
    ],
)
def test_what_breaks_the_connection_is_named(records: list[bytes], name: str, words: str) -> None:
    _, talk = conversation(1, 2)
    with pytest.raises(ConnectionFault, match=words) as caught:
        talk.take(b"".join(records))
    assert caught.value.name == name


def test_answers_before_a_fault_in_the_same_bytes_still_count() -> None:
    verdicts, talk = conversation(1, 2)
    with pytest.raises(ConnectionFault) as caught:
        talk.take(b"".join([*answer(2), p.encode_record(p.STDOUT, 7, b"x")]))
    assert caught.value.ended == [2]
    assert verdicts.ok == 1
    assert list(talk.open) == [1]


@pytest.mark.parametrize(
    ("status", "name"), [(1, "cant_mpx_conn"), (2, "overloaded"), (3, "unknown_role"), (4, "protocol_status")]
)
def test_a_refused_request_is_named_after_its_protocol_status(status: int, name: str) -> None:
    verdicts, talk = conversation(1, 2)
    assert talk.take(p.encode_end(2, 0, status) + b"".join(answer(1))) == [2, 1]
    assert verdicts.faults == {name: 1}
    assert verdicts.ok == 1


def test_an_application_status_is_a_fault() -> None:
    verdicts, talk = conversation(1)
    talk.take(b"".join(answer(1)[:-1]) + p.encode_end(1, 137))
    assert verdicts.faults == {"app_status": 1}
    assert "application status 137" in verdicts.examples[0]


def test_stderr_is_counted_but_is_no_fault() -> None:
    verdicts, talk = conversation(1)
    talk.take(p.encode_record(p.STDERR, 1, b"a warning") + p.encode_record(p.STDERR, 1) + b"".join(answer(1)))
    assert (verdicts.ok, verdicts.stderr_bytes) == (1, 9)


def test_an_end_inside_a_record_and_an_end_inside_an_answer_are_told_apart() -> None:
    wire = b"".join(answer(1))
    _, talk = conversation(1)
    talk.take(wire[:20])
    assert talk.ended() == ("half_record", "the connection ended 20 bytes into a record")
    _, talk = conversation(1)
    talk.take(answer(1)[0])
    found = talk.ended()
    assert found is not None and found[0] == "closed_early"


@pytest.mark.parametrize(
    ("output", "name"),
    [
        (b"", "bad_headers"),
        (b"no colon here\r\n\r\n" + BODY, "bad_headers"),
        (b"Status: what\r\n\r\n" + BODY, "bad_headers"),
        (b"Status: 500 Internal Server Error\r\n\r\n" + BODY, "bad_status"),
        (b"Status: 304 Not Modified\r\n\r\n", "bad_status"),
        (RESPONSE[:-1], "bad_length"),
        (RESPONSE + b"!", "bad_length"),
        (RESPONSE[:-1] + b"!", "bad_body"),
    ],
)
def test_a_wrong_response_is_named(output: bytes, name: str) -> None:
    found = response_fault(output, EXPECTED)
    assert found is not None and found[0] == name


@pytest.mark.parametrize("newline", [b"\r\n", b"\n"])
def test_both_line_ends_and_a_missing_status_are_read(newline: bytes) -> None:
    response = newline.join([b"Content-type: text/plain", b"Content-length: 3", b"", b"abc"])
    assert parse_response(response) == (200, 3, b"abc")
    assert response_fault(response, Expectation()) is None


def test_without_an_expectation_the_announced_length_is_still_checked() -> None:
    found = response_fault(b"Content-Length: 4\r\n\r\nabc", Expectation())
    assert found == ("bad_length", "a body of 3 bytes instead of 4")
