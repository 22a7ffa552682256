"""Asks a responder with GET_VALUES what it can do, before anything is measured."""

from __future__ import annotations

import socket
import time
from typing import Dict, Optional

from agent.wire.address import parse_address
from agent.wire.protocol import (
    GET_VALUES_RESULT,
    UNKNOWN_TYPE,
    MalformedRecord,
    RecordParser,
    decode_pairs,
    encode_get_values,
    type_name,
)
from agent.wire.results import Capabilities

MAX_CONNS = b"FCGI_MAX_CONNS"
MAX_REQS = b"FCGI_MAX_REQS"
MPXS_CONNS = b"FCGI_MPXS_CONNS"
UNREACHABLE = "unreachable"


def _without(answer: str, detail: str) -> Capabilities:
    return Capabilities(answer, None, None, None, detail)


def _number(values: Dict[bytes, bytes], name: bytes) -> Optional[int]:
    """Return a value as a number, None when it was not given or is none."""
    text = values.get(name, b"")
    return int(text) if text.isdigit() else None


def read_values(content: bytes) -> Capabilities:
    """Return what the content of a GET_VALUES_RESULT says; raise `MalformedRecord` when it is cut."""
    values = dict(decode_pairs(content))
    mpxs_conns = _number(values, MPXS_CONNS)
    known = {name: text for name, text in values.items() if name in (MAX_CONNS, MAX_REQS, MPXS_CONNS)}
    if not known:
        return _without("empty", "GET_VALUES_RESULT with none of the variables asked for")
    return Capabilities(
        answer="values",
        max_conns=_number(values, MAX_CONNS),
        max_reqs=_number(values, MAX_REQS),
        multiplexes=None if mpxs_conns is None else mpxs_conns > 0,
        detail=", ".join(f"{name.decode()}={text.decode('latin-1')}" for name, text in sorted(known.items())),
    )


def _read_answer(connection: socket.socket, deadline_s: float) -> Capabilities:
    parser = RecordParser()
    while True:
        left_s = deadline_s - time.monotonic()
        if left_s <= 0:
            return _without("silent", "no answer to GET_VALUES in time")
        connection.settimeout(left_s)
        data = connection.recv(4096)
        if not data:
            return _without("closed", "the responder closed the connection instead of answering GET_VALUES")
        for kind, request_id, start, end, _ in parser.feed(data):
            if kind == GET_VALUES_RESULT and request_id == 0:
                return read_values(parser.buffer[start:end])
            if kind == UNKNOWN_TYPE and request_id == 0:
                return _without("unknown_type", "UNKNOWN_TYPE: the responder does not know GET_VALUES")
            return _without(
                "malformed", f"{type_name(kind)} with request id {request_id} in answer to GET_VALUES"
            )


def ask(address: str, timeout_s: float = 2.0) -> Capabilities:
    """Ask a responder what it can do, on a connection of its own.

    Parameters
    ----------
    address : str
        A unix socket's path or host:port.
    timeout_s : float
        For the connection and for the answer.

    Raises
    ------
    AddressError
        When the address cannot be read. Everything else is in the result.
    """
    target = parse_address(address)
    deadline_s = time.monotonic() + timeout_s
    try:
        connection = target.connect(timeout_s)
    except OSError as error:
        return _without(UNREACHABLE, error.strerror or str(error))
    try:
        connection.sendall(encode_get_values((MAX_CONNS, MAX_REQS, MPXS_CONNS)))
        return _read_answer(connection, deadline_s)
    except socket.timeout:
        return _without("silent", f"no answer to GET_VALUES within {timeout_s:g} s")
    except MalformedRecord as error:
        return _without("malformed", str(error))
    except OSError as error:
        return _without(
            "closed", f"the connection broke while GET_VALUES was asked: {error.strerror or error}"
        )
    finally:
        connection.close()
