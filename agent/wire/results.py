"""What the client is asked to do and what it found out: plain values, ready for JSON."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Dict, Mapping, Optional, Sequence, Tuple

from agent.wire.protocol import Request

FAULTS: Mapping[str, str] = {
    "refused": "a connection could not be made",
    "closed_early": "the connection ended before the answer did",
    "half_record": "the connection ended in the middle of a record",
    "malformed": "bytes that are no FastCGI record",
    "wrong_id": "a record for a request id that was not open",
    "stray_record": "a record after its request had ended, or of a type that no responder sends",
    "after_stream_end": "output after the end of the same output stream",
    "cant_mpx_conn": "END_REQUEST with CANT_MPX_CONN: the responder does not multiplex",
    "overloaded": "END_REQUEST with OVERLOADED",
    "unknown_role": "END_REQUEST with UNKNOWN_ROLE",
    "protocol_status": "END_REQUEST with a protocol status that the specification does not know",
    "app_status": "END_REQUEST with an application status other than 0",
    "bad_headers": "output that is not headers, an empty line and a body",
    "bad_status": "an HTTP status other than 2xx",
    "bad_length": "a body of another length than expected or announced",
    "bad_body": "a body of the right length with other content",
    "unanswered": "no answer in time",
}
"""Every way in which an answer can be wrong, by name."""


def latency_summary_ms(latencies_ns: Sequence[int]) -> Dict[str, Optional[float]]:
    """Return mean, percentiles (the smallest value that so many per cent do not exceed) and maximum."""
    ordered = sorted(latencies_ns)
    if not ordered:
        return dict.fromkeys(("mean", "p50", "p90", "p95", "p99", "max"))
    summary: Dict[str, Optional[float]] = {"mean": sum(ordered) / len(ordered) / 1e6}
    for percent in (50, 90, 95, 99):
        summary[f"p{percent}"] = ordered[-(-len(ordered) * percent // 100) - 1] / 1e6
    summary["max"] = ordered[-1] / 1e6
    return summary


@dataclass(frozen=True)
class Expectation:
    """What a right answer looks like; None means that it is not known.

    Attributes
    ----------
    body_bytes : int or None
        Length of the body.
    body_sha256 : str or None
        Hexadecimal digest of the body.
    """

    body_bytes: Optional[int] = None
    body_sha256: Optional[str] = None


@dataclass(frozen=True)
class WireLoad:
    """A load on the handlers' own sockets.

    Attributes
    ----------
    addresses : tuple of str
        One socket a handler process.
    request : Request
        What every request says.
    expectation : Expectation
        What every answer must be.
    connections : int
        Connections open at once, in all; spread evenly over the addresses.
    in_flight : int
        Requests open at once on a connection, under the ids 1 to `in_flight`.
    keep_conn : bool
        One connection for as long as it lasts, or a fresh one for each request.
    duration_s : float
        No request is begun after this time.
    count : int or None
        No more requests than this are begun.
    answer_timeout_s : float
        How long nothing at all may arrive before the open requests count as unanswered.
    faults_allowed : int
        The load is given up after this many wrong answers.
    """

    addresses: Tuple[str, ...]
    request: Request
    expectation: Expectation = Expectation()
    connections: int = 1
    in_flight: int = 1
    keep_conn: bool = False
    duration_s: float = 5.0
    count: Optional[int] = None
    answer_timeout_s: float = 5.0
    faults_allowed: int = 1000

    def __post_init__(self) -> None:
        if not self.addresses:
            raise ValueError("no addresses: name at least one handler socket")
        if self.connections < len(self.addresses):
            raise ValueError(
                f"{self.connections} connections for {len(self.addresses)} handler sockets: some processes "
                "would idle; give at least one connection a process"
            )
        if self.in_flight < 1:
            raise ValueError(
                f"in_flight is {self.in_flight}; at least one request must be open on a connection"
            )
        if self.in_flight > 1 and not self.keep_conn:
            raise ValueError(
                f"in_flight is {self.in_flight} without keep_conn: a fresh connection per request carries "
                "one request; set keep_conn, or in_flight to 1"
            )
        if self.duration_s <= 0 or self.answer_timeout_s <= 0:
            raise ValueError("duration_s and answer_timeout_s must be above 0")


@dataclass(frozen=True)
class Evidence:
    """Which regime was measured, as seen from the client's end of the wire.

    Attributes
    ----------
    connections_opened : int
        Connections made in all.
    requests_per_connection_mean, requests_per_connection_max : float, int
        Requests sent on a connection.
    highest_id : int
        Highest request id sent.
    peak_ids_per_connection : int
        Most requests open at once on one connection.
    peak_in_flight : int
        Most requests open at once in all.
    interleaved_answers : int
        Answers with another request's record between their own ones.
    out_of_order_answers : int
        Answers that ended before an earlier request of the same connection.
    closed_by_responder : int
        Kept connections that the responder closed before it took the next request (it may; then there is no
        re-use).
    connect_retries : int
        Connections that had to wait because the listen queue was full.
    requests_per_address : tuple of int
        Requests sent to each handler socket, in the order of the addresses.
    """

    connections_opened: int
    requests_per_connection_mean: float
    requests_per_connection_max: int
    highest_id: int
    peak_ids_per_connection: int
    peak_in_flight: int
    interleaved_answers: int
    out_of_order_answers: int
    closed_by_responder: int
    connect_retries: int
    requests_per_address: Tuple[int, ...]


@dataclass(frozen=True)
class WireResult:
    """What came of a load.

    Attributes
    ----------
    measured_s : float
        From the first request to the end of the time (or of the count).
    sent, complete, ok, failed : int
        Requests begun; ended within `measured_s`; right among those; wrong answers over the whole load.
    drained : int
        Requests that ended after `measured_s`: checked, but in no rate.
    goodput_rps : float
        `ok` by `measured_s`.
    body_bytes : int
        Bytes of right bodies within `measured_s`.
    stderr_bytes : int
        Bytes that came through STDERR.
    latency_ms : dict
        mean, p50, p90, p95, p99, max over the right answers; None when there are none.
    windows : tuple of int
        Requests ended in each whole second.
    faults : dict
        Name of a fault (a key of `FAULTS`) to how often it was seen.
    examples : tuple of str
        The first few faults in words, with ids and numbers.
    gave_up : bool
        Whether the load ended early because of too many faults.
    client_cpu_s : float
        Processor time of the client over the whole load, user and system.
    evidence : Evidence
        Which regime was measured.
    """

    measured_s: float
    sent: int
    complete: int
    ok: int
    failed: int
    drained: int
    goodput_rps: float
    body_bytes: int
    stderr_bytes: int
    latency_ms: Dict[str, Optional[float]]
    windows: Tuple[int, ...]
    faults: Dict[str, int]
    examples: Tuple[str, ...]
    gave_up: bool
    client_cpu_s: float
    evidence: Evidence

    def to_json(self) -> Dict[str, Any]:
        """Return the fields as JSON types."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> WireResult:
        """Return the result that `to_json` wrote; raise TypeError or KeyError for anything else."""
        seen = dict(
            document["evidence"], requests_per_address=tuple(document["evidence"]["requests_per_address"])
        )
        lists = {name: tuple(document[name]) for name in ("windows", "examples")}
        return cls(**{**document, **lists, "evidence": Evidence(**seen)})


@dataclass(frozen=True)
class Capabilities:
    """What a responder says of itself when asked with GET_VALUES.

    Attributes
    ----------
    answer : str
        ``values``; ``empty`` (an answer with none of the variables asked for); ``unknown_type``; ``closed``,
        ``silent``, ``malformed`` or ``unreachable``.
    max_conns, max_reqs : int or None
        FCGI_MAX_CONNS and FCGI_MAX_REQS; None when not said.
    multiplexes : bool or None
        FCGI_MPXS_CONNS; None when not said.
    detail : str
        The answer in words.
    """

    answer: str
    max_conns: Optional[int]
    max_reqs: Optional[int]
    multiplexes: Optional[bool]
    detail: str

    def refuses(self, in_flight: int) -> Optional[str]:
        """Return why `in_flight` requests cannot be open on a connection, or None when they may."""
        if in_flight > 1 and self.multiplexes is False:
            return (
                f"FCGI_MPXS_CONNS=0: the responder does not take {in_flight} requests at once on a connection"
            )
        return None

    def to_json(self) -> Dict[str, Any]:
        """Return the fields as JSON types."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class Check:
    """One thing that a probe looked at; `passed` is None when it does not apply."""

    name: str
    passed: Optional[bool]
    detail: str


@dataclass(frozen=True)
class ProbeResult:
    """What a responder can do and whether it does it right.

    Attributes
    ----------
    address : str
        Where it listens, as the user wrote it.
    capabilities : Capabilities
        What it says of itself.
    checks : tuple of Check
        What it did.
    rates_rps : dict
        Right answers per second in a short load on one connection: ``fresh``, ``kept``, ``interleaved``; None
        where the regime does not work; empty where nobody could be asked. A hint, no measurement.
    """

    address: str
    capabilities: Capabilities
    checks: Tuple[Check, ...]
    rates_rps: Dict[str, Optional[float]]

    @property
    def passed(self) -> bool:
        """Whether no check failed."""
        return all(check.passed is not False for check in self.checks)

    def to_json(self) -> Dict[str, Any]:
        """Return the fields and the verdict as JSON types."""
        return {**dataclasses.asdict(self), "passed": self.passed}
