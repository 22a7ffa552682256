from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.wire import protocol as p

unhurried = settings(deadline=None)
ids = st.integers(1, p.MAX_REQUEST_ID)
records = st.lists(
    st.tuples(st.integers(1, 11), st.integers(0, p.MAX_REQUEST_ID), st.binary(max_size=40)),
    min_size=1,
    max_size=6,
)


def fed_in_pieces(pieces: list[bytes]) -> list[tuple[int, int, bytes]]:
    parser = p.RecordParser()
    found = []
    for piece in pieces:
        found += [(kind, rid, parser.buffer[start:end]) for kind, rid, start, end, _ in parser.feed(piece)]
    assert parser.pending_bytes == 0
    return found


@unhurried
@given(records)
def test_records_survive_every_split_in_two(sent: list[tuple[int, int, bytes]]) -> None:
    wire = b"".join(p.encode_record(*record) for record in sent)
    for cut in range(len(wire) + 1):
        assert fed_in_pieces([wire[:cut], wire[cut:]]) == sent


@unhurried
@given(records, st.lists(st.integers(0, 400), max_size=12))
def test_records_survive_any_split(sent: list[tuple[int, int, bytes]], cuts: list[int]) -> None:
    wire = b"".join(p.encode_record(*record) for record in sent)
    edges = [0, *sorted(min(cut, len(wire)) for cut in cuts), len(wire)]
    assert fed_in_pieces([wire[a:b] for a, b in pairwise(edges)]) == sent


@unhurried
@given(records)
def test_records_survive_one_byte_at_a_time(sent: list[tuple[int, int, bytes]]) -> None:
    wire = b"".join(p.encode_record(*record) for record in sent)
    assert fed_in_pieces([wire[at : at + 1] for at in range(len(wire))]) == sent


@unhurried
@given(st.integers(0, 255).filter(lambda version: version != 1), records)
def test_a_wrong_version_is_refused_and_what_came_before_it_is_kept(
    version: int, sent: list[tuple[int, int, bytes]]
) -> None:
    wire = b"".join(p.encode_record(*record) for record in sent) + bytes([version]) + bytes(7)
    found: list[int] = []
    with pytest.raises(p.MalformedRecord, match=f"version {version} instead of 1"):
        for kind, *_ in p.RecordParser().feed(wire):
            found.append(kind)
    assert found == [kind for kind, _, _ in sent]


@unhurried
@given(st.lists(st.tuples(st.binary(max_size=200), st.binary(max_size=200))))
def test_pairs_come_back(pairs: list[tuple[bytes, bytes]]) -> None:
    assert p.decode_pairs(p.encode_pairs(pairs)) == pairs


@unhurried
@given(st.binary(max_size=30))
def test_cut_or_random_pairs_never_raise_anything_but_malformed(content: bytes) -> None:
    try:
        pairs = p.decode_pairs(content)
    except p.MalformedRecord:
        return
    assert sum(len(name) + len(value) + 2 for name, value in pairs) <= len(content)


@unhurried
@given(ids, st.integers(0, 2**32 - 1), st.integers(0, 255))
def test_end_request_comes_back(request_id: int, app_status: int, protocol_status: int) -> None:
    [(kind, rid, content)] = p.parse_records(p.encode_end(request_id, app_status, protocol_status))
    assert (kind, rid, p.decode_end(content)) == (p.END_REQUEST, request_id, (app_status, protocol_status))


@pytest.mark.parametrize("decode", [p.decode_end, p.decode_begin])
def test_a_body_of_the_wrong_size_is_malformed(decode) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(p.MalformedRecord, match="7 bytes of content instead of 8"):
        decode(bytes(7))


def test_records_are_padded_to_eight_bytes() -> None:
    assert all(len(p.encode_record(p.STDOUT, 1, bytes(size))) % 8 == 0 for size in range(20))


def test_a_stream_longer_than_a_record_is_cut_and_closed() -> None:
    content = bytes(range(256)) * 600
    stream = p.encode_stream(p.STDIN, 7, content)
    parsed = p.parse_records(b"".join(stream))
    assert [rid for _, rid, _ in parsed] == [7] * len(stream)
    assert b"".join(part for _, _, part in parsed) == content
    assert parsed[-1][2] == b""


@unhurried
@given(records, ids)
def test_relabelling_changes_ids_only(sent: list[tuple[int, int, bytes]], request_id: int) -> None:
    wire = b"".join(p.encode_record(*record) for record in sent)
    expected = [(kind, request_id, content) for kind, _, content in sent]
    assert p.parse_records(p.relabel(wire, request_id)) == expected


@unhurried
@given(st.integers(1, 5), st.binary(max_size=100), st.booleans())
def test_prepared_requests_hold_a_whole_request_for_every_id(
    count: int, body: bytes, keep_conn: bool
) -> None:
    request = p.web_request("/hello", body=body)
    prepared = p.PreparedRequests(request, count, keep_conn)
    parsed = p.parse_records(prepared.bytes_for(range(1, count + 1)))
    for request_id in range(1, count + 1):
        mine = [(kind, content) for kind, rid, content in parsed if rid == request_id]
        assert p.decode_begin(mine[0][1]) == (p.RESPONDER, keep_conn)
        params = b"".join(content for kind, content in mine if kind == p.PARAMS)
        assert tuple(p.decode_pairs(params)) == request.params
        assert b"".join(content for kind, content in mine if kind == p.STDIN) == body
        assert mine[-1] == (p.STDIN, b"")


def test_requests_sent_together_interleave_their_records() -> None:
    prepared = p.PreparedRequests(p.web_request("/"), 3, keep_conn=True)
    opening = [(kind, rid) for kind, rid, _ in p.parse_records(prepared.bytes_for([3, 1, 2]))[:3]]
    assert opening == [(p.BEGIN_REQUEST, 3), (p.BEGIN_REQUEST, 1), (p.BEGIN_REQUEST, 2)]


@pytest.mark.parametrize("count", [0, 65536])
def test_an_impossible_number_of_ids_is_refused(count: int) -> None:
    with pytest.raises(ValueError, match="FastCGI allows 1 to 65535"):
        p.PreparedRequests(p.web_request("/"), count, keep_conn=True)


def test_a_body_makes_a_post_and_extra_variables_win() -> None:
    request = dict(
        p.web_request("/x", "a=1", b"abc", {"SCRIPT_FILENAME": "/srv/x.php", "SERVER_NAME": "web"}).params
    )
    assert request[b"REQUEST_METHOD"] == b"POST"
    assert request[b"CONTENT_LENGTH"] == b"3"
    assert request[b"REQUEST_URI"] == b"/x?a=1"
    assert request[b"SCRIPT_FILENAME"] == b"/srv/x.php"
    assert request[b"SERVER_NAME"] == b"web"


def test_parsing_whole_records_refuses_a_half_one() -> None:
    with pytest.raises(p.MalformedRecord, match="5 bytes into a record"):
        p.parse_records(p.encode_record(p.STDOUT, 1, b"abcdefgh")[:13][:5])
