"""What the controller and two agents say to each other when the load comes from another host.

The server's agent says `ready` and takes the orders `begin` (it answers `begun`) and `end`, which brings what
the load host has to tell; then it says `result`. The load host's agent says `warm` after the warm-up, takes
the order `go` and says `report`. Both answer `clock` with `time`, at once, so that the controller can compare
their clocks.
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass, field
from typing import Any, Callable, ClassVar, Optional, Union

from agent.lease import Lease
from agent.load.report import LoadReport
from agent.problems import TrialProblem
from agent.records import (
    EVENTS,
    SCHEMA,
    Cleaned,
    Failure,
    GroupCounters,
    LoadHost,
    LoadSpec,
    Orphan,
    Record,
    Result,
    Started,
    SystemCounters,
    Timings,
    record_from_json,
)


@dataclass(frozen=True)
class LoadRequest(Record):
    """Everything the load host's agent needs; the server at `address` answers already."""

    run_id: str
    trial_id: str
    prefix: str
    work_dir: str
    address: str
    port: int
    url_path: str
    expected_bytes: int
    expected_sha256: str
    load: LoadSpec
    load_cpus: Optional[tuple[int, ...]] = None
    deadline_s: float = 60.0
    attempt: int = 1
    schema: int = SCHEMA


@dataclass(frozen=True)
class RemoteLoad(Record):
    """What the load host has to tell the server's agent, which writes the record of the trial."""

    report: LoadReport
    asked_s: int
    counters: GroupCounters
    host: LoadHost


@dataclass(frozen=True)
class Order(Record):
    """What the controller wants next: `begin`, `end`, `go` or `clock`; `end` brings the `load`."""

    do: str
    load: Optional[RemoteLoad] = None


@dataclass(frozen=True)
class Ready(Record):
    """Every handler has answered; the load may begin."""

    EVENT: ClassVar[Optional[str]] = "ready"


@dataclass(frozen=True)
class Begun(Record):
    """The counters have been read; what is served from now on counts."""

    EVENT: ClassVar[Optional[str]] = "begun"


@dataclass(frozen=True)
class Warm(Record):
    """The warm-up is over."""

    EVENT: ClassVar[Optional[str]] = "warm"


@dataclass(frozen=True)
class Time(Record):
    """The wall clock of a host when it was asked, in seconds since 1970."""

    EVENT: ClassVar[Optional[str]] = "time"

    wall_s: float


@dataclass(frozen=True)
class Report(Record):
    """What the load generator did, and what its host did meanwhile."""

    EVENT: ClassVar[Optional[str]] = "report"

    trial_id: str
    attempt: int
    report: LoadReport
    asked_s: int
    counters: GroupCounters
    system: SystemCounters
    timings_s: Timings
    orphans: tuple[Orphan, ...] = ()
    raw: dict[str, str] = field(default_factory=dict)
    schema: int = SCHEMA


Event = Union[Started, Ready, Begun, Warm, Time, Report, Result, Failure, Cleaned]
_EVENTS: dict[str, type[Record]] = {
    **EVENTS,
    "ready": Ready,
    "begun": Begun,
    "warm": Warm,
    "time": Time,
    "report": Report,
}


def event_from_json(document: Any) -> Event:
    """Return the event that a line of an agent's output describes.

    Raises
    ------
    RecordError
        It is none of the events, or not well formed.
    """
    event: Any = record_from_json(document, _EVENTS)
    return event  # type: ignore[no-any-return]


def await_order(
    lease: Lease, say: Callable[[Record], None], expected: str, timeout_s: float = math.inf
) -> Optional[Order]:
    """Return the expected order; None if it does not come within `timeout_s`.

    Raises
    ------
    TrialProblem
        The lease ended, or another order came.
    """
    until_s = time.monotonic() + timeout_s
    while (line := lease.next_line(until_s - time.monotonic())) is not None:
        try:
            order = Order.from_json(json.loads(line))
        except ValueError as error:
            raise TrialProblem("internal", f"an order that cannot be understood: {error}") from error
        if order.do == expected:
            return order
        if order.do != "clock":
            raise TrialProblem("internal", f"the order {order.do!r} came where {expected!r} was due")
        say(Time(wall_s=time.time()))
    return None
