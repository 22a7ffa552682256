"""Checks every answer on a connection, record by record. Pure: bytes in, verdicts out.

An answer is STDOUT (and STDERR) records and one END_REQUEST, all under the request's id; the records of
several requests may come in any order among each other. Answers are mostly alike to the byte. One that has
been checked in full is therefore kept, and another is right as soon as it compares equal to it, which costs
one comparison instead of a parse; one a piece, where it comes in pieces.
"""

from __future__ import annotations

import hashlib
from typing import Dict, List, Optional, Sequence, Tuple

from agent.wire.protocol import (
    CANT_MPX_CONN,
    END_REQUEST,
    HEADER_BYTES,
    OVERLOADED,
    REQUEST_COMPLETE,
    STDERR,
    STDOUT,
    UNKNOWN_ROLE,
    MalformedRecord,
    RecordParser,
    decode_end,
    relabel,
    type_name,
)
from agent.wire.results import Expectation

_EXAMPLES_KEPT = 10
_MAX_HEADERS_BYTES = 64 * 1024
_MAX_UNKNOWN_BODY_BYTES = 256 * 1024 * 1024
_STATUS_FAULTS = {CANT_MPX_CONN: "cant_mpx_conn", OVERLOADED: "overloaded", UNKNOWN_ROLE: "unknown_role"}

Fault = Tuple[str, str]
"""Name (a key of `results.FAULTS`) and the fact in words."""


class ConnectionFault(Exception):
    """After this nothing on the connection can be trusted.

    Attributes
    ----------
    name : str
        A key of `results.FAULTS`.
    ended : list of int
        Ids of the requests that ended in the same data before the fault.
    """

    def __init__(self, name: str, detail: str, ended: Sequence[int] = ()) -> None:
        super().__init__(detail)
        self.name = name
        self.ended = list(ended)


def parse_response(stdout: bytes) -> Tuple[int, Optional[int], bytes]:
    """Return HTTP status, announced length (None without Content-Length) and body; raise ValueError."""
    head, separator, body = stdout.partition(b"\r\n\r\n")
    if not separator:
        head, separator, body = stdout.partition(b"\n\n")
    if not separator:
        raise ValueError(
            f"{len(stdout)} bytes of output without an empty line after the headers: {stdout[:60]!r}"
        )
    status, announced = 200, None
    for line in head.splitlines():
        name, colon, value = line.partition(b":")
        if not colon:
            raise ValueError(f"a header line without a colon: {line[:60]!r}")
        if name.lower() == b"status":
            status = int(value.split()[0])
        elif name.lower() == b"content-length":
            announced = int(value)
    return status, announced, body


def response_fault(stdout: bytes, expectation: Expectation) -> Optional[Fault]:
    """Return what is wrong with the output of a request, or None."""
    try:
        status, announced, body = parse_response(stdout)
    except (ValueError, IndexError) as error:
        return "bad_headers", str(error)
    if not 200 <= status < 300:
        return "bad_status", f"status {status}"
    wanted = expectation.body_bytes if expectation.body_bytes is not None else announced
    if wanted is not None and len(body) != wanted:
        return "bad_length", f"a body of {len(body)} bytes instead of {wanted}"
    if expectation.body_sha256 is not None and hashlib.sha256(body).hexdigest() != expectation.body_sha256:
        return (
            "bad_body",
            f"a body of {len(body)} bytes with other content than expected, it begins {body[:40]!r}",
        )
    return None


class Verdicts:
    """What all connections of a load know and count together.

    Attributes
    ----------
    faults : dict
        Name of a fault to how often it was seen.
    examples : list of str
        The first few in words.
    ok, failed, body_bytes, stderr_bytes, interleaved, out_of_order : int
        Right answers, wrong ones, the right ones' bodies in bytes, bytes of STDERR, answers
        that came mixed, answers that overtook others.
    highest_id, peak_ids : int
        Highest request id sent, and most requests open at once, on any one connection.
    burst, burst_ids
        The last data that were nothing but known answers, and the ids of these.
    """

    def __init__(self, expectation: Expectation) -> None:
        self._expectation = expectation
        body_bytes = _MAX_UNKNOWN_BODY_BYTES if expectation.body_bytes is None else expectation.body_bytes
        self.max_output_bytes = body_bytes + _MAX_HEADERS_BYTES
        self.faults: Dict[str, int] = {}
        self.examples: List[str] = []
        self.ok = 0
        self.failed = 0
        self.body_bytes = 0
        self.stderr_bytes = 0
        self.interleaved = 0
        self.out_of_order = 0
        self.highest_id = 0
        self.peak_ids = 0
        self._right_output = b""
        self._right_body_bytes = 0
        self._right_records = b""
        self.records_by_id: Dict[int, bytes] = {}
        self.burst: Optional[bytes] = None
        self.burst_ids: List[int] = []

    def fault(self, name: str, detail: str, count: int = 1) -> None:
        """Count a fault and keep the first few in words."""
        self.failed += count
        self.faults[name] = self.faults.get(name, 0) + count
        if len(self.examples) < _EXAMPLES_KEPT:
            self.examples.append(f"{name}: {detail}")

    def judge(self, request_id: int, output: bytes) -> bool:
        """Count the output of one request as right or wrong."""
        if output != self._right_output or not output:
            found = response_fault(output, self._expectation)
            if found is not None:
                self.fault(found[0], f"request id {request_id}: {found[1]}")
                return False
            self._right_output = output
            self._right_body_bytes = len(parse_response(output)[2])
        self.ok += 1
        self.body_bytes += self._right_body_bytes
        return True

    def judge_equal(self, count: int) -> None:
        """Count answers that are equal to the last right one, record for record."""
        self.ok += count
        self.body_bytes += self._right_body_bytes * count

    def remember(self, records: bytes) -> None:
        """Keep the records of the answer that `judge` has just found right."""
        if records != self._right_records:
            self._right_records = records
            self.records_by_id.clear()
            self.burst = None

    def records_for(self, request_id: int) -> Optional[bytes]:
        """Return the records of a right answer under this id, or None before there was one."""
        if not self._right_records:
            return None
        records = relabel(self._right_records, request_id)
        self.records_by_id[request_id] = records
        return records


class _Answer:
    """What has come for one open request."""

    def __init__(self) -> None:
        self.output: List[bytes] = []
        self.output_bytes = 0
        self.ended_streams: List[int] = []
        self.records: List[bytes] = []
        self.mixed = False


class Conversation:
    """The requests open on one connection and what has been answered so far.

    Attributes
    ----------
    open : dict
        Request id to its partial answer, None as long as nothing has come; in the order of sending.
    untouched : bool
        Whether nothing has come for any open request.
    """

    def __init__(self, verdicts: Verdicts) -> None:
        self._verdicts = verdicts
        self._parser = RecordParser()
        self._last_id = 0
        self._highest_id = 0
        self._partial = 0
        self._expected = b""
        self._expected_id = 0
        self._expected_seen = 0
        self.open: Dict[int, Optional[_Answer]] = {}
        self.untouched = True

    def begin(self, ids: List[int]) -> None:
        """Note that these requests have been sent."""
        still_open = self.open
        for request_id in ids:
            still_open[request_id] = None
            if request_id > self._highest_id:
                self._highest_id = request_id
                self._verdicts.highest_id = max(self._verdicts.highest_id, request_id)
        if len(still_open) > self._verdicts.peak_ids:  # noqa: PLR1730 - mostly nothing is to be stored
            self._verdicts.peak_ids = len(still_open)

    def awaits_burst(self) -> bool:
        """Tell whether the last burst would answer all that is open, in the order of sending."""
        return self.untouched and list(self.open) == self._verdicts.burst_ids

    def take(self, data: bytes) -> List[int]:
        """Take what has arrived; return the ids of the requests that it ended, right or wrong.

        Raises
        ------
        ConnectionFault
            When the rest of the connection cannot be trusted. Requests may have ended before: see `open`.
        """
        ended: List[int] = []
        if self.untouched or self._expected_seen:
            continues = self._expected_seen > 0
            at = self._take_equal(data, ended)
            if at == len(data):
                self.untouched = not self._expected_seen
                if self.untouched and not continues:
                    self._verdicts.burst, self._verdicts.burst_ids = data, ended
                return ended
            data = self._unread() + data[at:]
        try:
            for kind, request_id, start, content_end, record_end in self._parser.feed(data):
                if self._take_record(kind, request_id, start, content_end, record_end):
                    ended.append(request_id)
            if self._parser.pending_bytes and not self.open:
                raise ConnectionFault("stray_record", "a record begins after every request has ended")
        except MalformedRecord as error:
            raise ConnectionFault("malformed", str(error), ended) from error
        except ConnectionFault as fault:
            fault.ended = ended
            raise
        self.untouched = not self._partial and not self._parser.pending_bytes
        return ended

    def _take_equal(self, data: bytes, ended: List[int]) -> int:
        """Take answers that equal a right one as long as they do; return how many bytes they were.

        The last one may lack its end: it is awaited then.
        """
        at = 0
        length = len(data)
        while at < length and (self._expected_seen or self._expects(data, at)):
            records, seen = self._expected, self._expected_seen
            missing = len(records) - seen
            if length - at < missing:
                if records.startswith(data[at:] if at else data, seen):
                    self._expected_seen += length - at
                    at = length
                break
            if not data.startswith(records[seen:] if seen else records, at):
                break
            at += missing
            self._expected_seen = 0
            self._close(self._expected_id)
            ended.append(self._expected_id)
        if ended:
            self._verdicts.judge_equal(len(ended))
        return at

    def _expects(self, data: bytes, at: int) -> bool:
        """Look up the right answer to the request whose record begins here; tell whether there is one."""
        if len(data) - at < HEADER_BYTES:
            return False
        request_id = data[at + 2] << 8 | data[at + 3]
        if request_id not in self.open:
            return False
        records = self._verdicts.records_by_id.get(request_id) or self._verdicts.records_for(request_id)
        if records is None:
            return False
        self._expected, self._expected_id = records, request_id
        return True

    def _unread(self) -> bytes:
        """Return what was only compared so far, for it has to be parsed after all."""
        seen = self._expected[: self._expected_seen]
        self._expected_seen = 0
        return seen

    def _close(self, request_id: int) -> None:
        if len(self.open) > 1 and next(iter(self.open)) != request_id:
            self._verdicts.out_of_order += 1
        del self.open[request_id]

    def _take_record(self, kind: int, request_id: int, start: int, content_end: int, record_end: int) -> bool:
        """Take one record; return whether it ended its request."""
        answer = self._answer_for(kind, request_id)
        content = self._parser.buffer[start:content_end]
        if kind != STDERR:  # an answer without such a record is as right, and one with it has to be counted
            answer.records.append(self._parser.buffer[start - HEADER_BYTES : record_end])
        if kind == END_REQUEST:
            self._end(request_id, answer, content)
            return True
        if kind in answer.ended_streams:
            raise ConnectionFault(
                "after_stream_end",
                f"request id {request_id}: {len(content)} bytes of {type_name(kind)} after its end",
            )
        if not content:
            answer.ended_streams.append(kind)
        elif kind == STDOUT:
            answer.output.append(content)
            answer.output_bytes += len(content)
            if answer.output_bytes > self._verdicts.max_output_bytes:
                raise ConnectionFault(
                    "bad_length", f"request id {request_id}: {answer.output_bytes} bytes and no end"
                )
        else:
            self._verdicts.stderr_bytes += len(content)
        return False

    def _answer_for(self, kind: int, request_id: int) -> _Answer:
        if kind not in (STDOUT, STDERR, END_REQUEST):
            raise ConnectionFault(
                "stray_record", f"{type_name(kind)} with request id {request_id}, nobody asked for it"
            )
        if request_id not in self.open:
            if 1 <= request_id <= self._highest_id:
                raise ConnectionFault(
                    "stray_record", f"{type_name(kind)} for request id {request_id}, which has ended"
                )
            expected = ", ".join(map(str, list(self.open)[:8]))
            raise ConnectionFault(
                "wrong_id", f"{type_name(kind)} for request id {request_id}; open are {expected}"
            )
        answer = self.open[request_id]
        if answer is None:
            answer = self.open[request_id] = _Answer()
            self._partial += 1
        elif request_id != self._last_id:
            answer.mixed = True
        self._last_id = request_id
        return answer

    def _end(self, request_id: int, answer: _Answer, content: bytes) -> None:
        verdicts = self._verdicts
        app_status, protocol_status = decode_end(content)
        self._close(request_id)
        self._partial -= 1
        verdicts.interleaved += answer.mixed
        if protocol_status != REQUEST_COMPLETE:
            name = _STATUS_FAULTS.get(protocol_status, "protocol_status")
            verdicts.fault(
                name, f"request id {request_id}: END_REQUEST with protocol status {protocol_status}"
            )
        elif app_status:
            verdicts.fault("app_status", f"request id {request_id}: application status {app_status}")
        else:
            right = verdicts.judge(request_id, b"".join(answer.output))
            if right:
                verdicts.remember(b"".join(answer.records))

    def ended(self) -> Optional[Fault]:
        """Take the end of the connection; return what is wrong with it, or None when nothing was open.

        The open requests are lost; `open` still names them.
        """
        if self._expected_seen:
            for _ in self._parser.feed(self._unread()):
                pass
        if self._parser.pending_bytes:
            return "half_record", f"the connection ended {self._parser.pending_bytes} bytes into a record"
        if self.open:
            ids = ", ".join(map(str, list(self.open)[:8]))
            return "closed_early", f"the connection ended without END_REQUEST for request ids {ids}"
        return None
