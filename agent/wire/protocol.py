"""FastCGI records as bytes: encoding, an incremental parser, requests prepared in advance. No effects.

After the FastCGI specification, version 1.0. A record is a header of eight bytes (version, type, request id,
content length, padding length, reserved), the content, the padding. Request id 0 is for management records.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Tuple

VERSION = 1
HEADER_BYTES = 8
MAX_CONTENT_BYTES = 0xFFFF
MAX_REQUEST_ID = 0xFFFF

BEGIN_REQUEST = 1
ABORT_REQUEST = 2
END_REQUEST = 3
PARAMS = 4
STDIN = 5
STDOUT = 6
STDERR = 7
DATA = 8
GET_VALUES = 9
GET_VALUES_RESULT = 10
UNKNOWN_TYPE = 11

TYPE_NAMES: Mapping[int, str] = {
    BEGIN_REQUEST: "BEGIN_REQUEST",
    ABORT_REQUEST: "ABORT_REQUEST",
    END_REQUEST: "END_REQUEST",
    PARAMS: "PARAMS",
    STDIN: "STDIN",
    STDOUT: "STDOUT",
    STDERR: "STDERR",
    DATA: "DATA",
    GET_VALUES: "GET_VALUES",
    GET_VALUES_RESULT: "GET_VALUES_RESULT",
    UNKNOWN_TYPE: "UNKNOWN_TYPE",
}

RESPONDER = 1
KEEP_CONN = 1

REQUEST_COMPLETE = 0
CANT_MPX_CONN = 1
OVERLOADED = 2
UNKNOWN_ROLE = 3

_HEADER = struct.Struct("!BBHHBx")
_BEGIN_BODY = struct.Struct("!HB5x")
_END_BODY = struct.Struct("!IB3x")
_LONG_LENGTH = struct.Struct("!I")

Pairs = Sequence[Tuple[bytes, bytes]]
"""Name-value pairs in the order in which they are sent."""


class MalformedRecord(ValueError):
    """Bytes that cannot be a FastCGI record, or a record whose content contradicts itself."""


def type_name(kind: int) -> str:
    """Return the specification's name of a record type, or ``type N``."""
    return TYPE_NAMES.get(kind, f"type {kind}")


def encode_record(kind: int, request_id: int, content: bytes = b"") -> bytes:
    """Return one record, padded to a multiple of eight bytes as the specification recommends."""
    padding = -len(content) & 7
    return _HEADER.pack(VERSION, kind, request_id, len(content), padding) + content + bytes(padding)


def encode_stream(kind: int, request_id: int, content: bytes) -> List[bytes]:
    """Return the records of a whole stream, its empty closing record included.

    Parameters
    ----------
    kind : int
        PARAMS, STDIN, STDOUT or STDERR.
    request_id : int
        1 to 65535.
    content : bytes
        Any length; cut into records of at most 65528 bytes (a multiple of eight: no padding but in the last).
    """
    step = MAX_CONTENT_BYTES & ~7
    records = [
        encode_record(kind, request_id, content[at : at + step]) for at in range(0, len(content), step)
    ]
    records.append(encode_record(kind, request_id))
    return records


def encode_begin(request_id: int, keep_conn: bool, role: int = RESPONDER) -> bytes:
    """Return the record that opens a request; `keep_conn` asks the responder to leave the connection open."""
    return encode_record(BEGIN_REQUEST, request_id, _BEGIN_BODY.pack(role, KEEP_CONN if keep_conn else 0))


def encode_end(request_id: int, app_status: int = 0, protocol_status: int = REQUEST_COMPLETE) -> bytes:
    """Return the record with which a responder ends a request."""
    return encode_record(END_REQUEST, request_id, _END_BODY.pack(app_status, protocol_status))


def decode_begin(content: bytes) -> Tuple[int, bool]:
    """Return the role and whether the connection is to be kept."""
    if len(content) != _BEGIN_BODY.size:
        raise MalformedRecord(
            f"BEGIN_REQUEST with {len(content)} bytes of content instead of {_BEGIN_BODY.size}"
        )
    role, flags = _BEGIN_BODY.unpack(content)
    return role, bool(flags & KEEP_CONN)


def decode_end(content: bytes) -> Tuple[int, int]:
    """Return application status and protocol status of an END_REQUEST record's content."""
    if len(content) != _END_BODY.size:
        raise MalformedRecord(f"END_REQUEST with {len(content)} bytes of content instead of {_END_BODY.size}")
    app_status, protocol_status = _END_BODY.unpack(content)
    return app_status, protocol_status


def _encode_length(length: int) -> bytes:
    return bytes([length]) if length < 0x80 else _LONG_LENGTH.pack(length | 0x80000000)


def encode_pairs(pairs: Pairs) -> bytes:
    """Return name-value pairs in the form that PARAMS and GET_VALUES carry."""
    return b"".join(
        _encode_length(len(name)) + _encode_length(len(value)) + name + value for name, value in pairs
    )


def _decode_length(content: bytes, at: int) -> Tuple[int, int]:
    if at >= len(content):
        raise MalformedRecord("name-value pairs end inside a length")
    if content[at] < 0x80:
        return content[at], at + 1
    if at + 4 > len(content):
        raise MalformedRecord("name-value pairs end inside a length")
    return _LONG_LENGTH.unpack_from(content, at)[0] & 0x7FFFFFFF, at + 4


def decode_pairs(content: bytes) -> List[Tuple[bytes, bytes]]:
    """Return the pairs of a complete PARAMS or GET_VALUES content; raise `MalformedRecord` if it is cut."""
    pairs = []
    at = 0
    while at < len(content):
        name_length, at = _decode_length(content, at)
        value_length, at = _decode_length(content, at)
        end = at + name_length + value_length
        if end > len(content):
            raise MalformedRecord(f"name-value pairs end {end - len(content)} bytes early")
        pairs.append((content[at : at + name_length], content[at + name_length : end]))
        at = end
    return pairs


Record = Tuple[int, int, int, int, int]
"""Type, request id, start and end of the content, end of the record: offsets into `RecordParser.buffer`."""


class RecordParser:
    """Finds whole records in a stream of bytes that may be cut anywhere.

    It yields offsets into `buffer` and copies nothing, so that the caller decides what to keep.
    """

    def __init__(self) -> None:
        self.buffer = b""
        self._at = 0

    @property
    def pending_bytes(self) -> int:
        """Bytes of a record that is not complete yet."""
        return len(self.buffer) - self._at

    def feed(self, data: bytes) -> Iterator[Record]:
        """Add bytes and yield the records that are complete now; use them before the next call.

        Raises
        ------
        MalformedRecord
            When a header has a version other than 1. What follows cannot be read any more.
        """
        self.buffer = buffer = self.buffer[self._at :] + data if self.pending_bytes else data
        self._at = at = 0
        length = len(buffer)
        while length - at >= HEADER_BYTES:
            version, kind, request_id, content_bytes, padding_bytes = _HEADER.unpack_from(buffer, at)
            if version != VERSION:
                raise MalformedRecord(f"a record header with version {version} instead of {VERSION}")
            start = at + HEADER_BYTES
            content_end = start + content_bytes
            record_end = content_end + padding_bytes
            if record_end > length:
                break
            self._at = record_end
            yield kind, request_id, start, content_end, record_end
            at = record_end


def parse_records(data: bytes) -> List[Tuple[int, int, bytes]]:
    """Return type, request id and content of each record in `data`, which must hold whole records only."""
    parser = RecordParser()
    records = [(kind, rid, parser.buffer[start:end]) for kind, rid, start, end, _ in parser.feed(data)]
    if parser.pending_bytes:
        raise MalformedRecord(f"the data end {parser.pending_bytes} bytes into a record")
    return records


def relabel(records: bytes, request_id: int) -> bytes:
    """Return the same whole records under another request id."""
    patched = bytearray(records)
    at = 0
    for *_, record_end in RecordParser().feed(records):
        patched[at + 2 : at + 4] = request_id.to_bytes(2, "big")
        at = record_end
    return bytes(patched)


@dataclass(frozen=True)
class Request:
    """What a request says, whatever its id.

    Attributes
    ----------
    params : pairs of bytes
        The CGI variables.
    body : bytes
        What goes through STDIN.
    """

    params: Tuple[Tuple[bytes, bytes], ...]
    body: bytes = b""


def web_request(
    url_path: str = "/", query: str = "", body: bytes = b"", extra: Optional[Mapping[str, str]] = None
) -> Request:
    """Return the request that a web server would send for a GET (a POST when there is a body).

    Parameters
    ----------
    url_path, query : str
        Path and query of the URL.
    body : bytes
        The request body.
    extra : mapping
        More CGI variables, or others in place of the usual ones (SCRIPT_FILENAME for PHP).
    """
    variables: Dict[str, str] = {
        "GATEWAY_INTERFACE": "CGI/1.1",
        "SERVER_SOFTWARE": "fcgi-sweep",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_NAME": "localhost",
        "SERVER_ADDR": "127.0.0.1",
        "SERVER_PORT": "80",
        "REMOTE_ADDR": "127.0.0.1",
        "REQUEST_METHOD": "POST" if body else "GET",
        "REQUEST_URI": f"{url_path}?{query}" if query else url_path,
        "QUERY_STRING": query,
        "SCRIPT_NAME": url_path,
        "PATH_INFO": "",
        "CONTENT_LENGTH": str(len(body)) if body else "",
    }
    variables.update(extra or {})
    return Request(tuple((k.encode("latin-1"), v.encode("latin-1")) for k, v in variables.items()), body)


class PreparedRequests:
    """A request's byte strings for the ids 1 to `ids`, made once.

    Parameters
    ----------
    request : Request
        What every request says.
    ids : int
        How many request ids are used at once on a connection.
    keep_conn : bool
        Whether BEGIN_REQUEST asks for the connection to be kept.
    """

    def __init__(self, request: Request, ids: int, keep_conn: bool) -> None:
        if not 1 <= ids <= MAX_REQUEST_ID:
            raise ValueError(
                f"{ids} request ids at once on a connection: FastCGI allows 1 to {MAX_REQUEST_ID}"
            )
        params = b"".join(encode_stream(PARAMS, 1, encode_pairs(request.params)))
        *body, closing = encode_stream(STDIN, 1, request.body)
        pieces = [encode_begin(1, keep_conn), params, *body]
        pieces[-1] += closing
        self._pieces = {rid: [relabel(piece, rid) for piece in pieces] for rid in range(1, ids + 1)}
        self._whole = {rid: b"".join(mine) for rid, mine in self._pieces.items()}
        self._piece_count = len(pieces)
        self._last_ids: List[int] = []
        self._last = b""

    def bytes_for(self, ids: Sequence[int]) -> bytes:
        """Return what opens these requests, their records interleaved.

        Every BEGIN_REQUEST comes first, then every PARAMS, and so on: a responder that takes one request at a
        time on a connection cannot mistake this for one request after another.
        """
        if len(ids) == 1:
            return self._whole[ids[0]]
        if ids != self._last_ids:
            pieces = self._pieces
            self._last = b"".join([pieces[rid][column] for column in range(self._piece_count) for rid in ids])
            self._last_ids = list(ids)
        return self._last


def encode_get_values(names: Iterable[bytes]) -> bytes:
    """Return the management record that asks a responder for the values of these variables.

    It is always padded: libfcgi 2.4 answers only when something follows the content, be it padding.
    """
    content = encode_pairs([(name, b"") for name in names])
    padding = 8 - len(content) % 8
    return _HEADER.pack(VERSION, GET_VALUES, 0, len(content), padding) + content + bytes(padding)
