"""The documents that travel between controller and agent, strict in both directions.

Every type has `to_json()` and `from_json()`. Reading refuses unknown keys, missing keys and wrong types
with a `RecordError` that names the place, so that two versions which do not fit say so at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from functools import lru_cache
from typing import Any, ClassVar, Optional, TypeVar, Union, get_args, get_origin, get_type_hints

SCHEMA = 1

R = TypeVar("R", bound="Record")


class RecordError(ValueError):
    """A document that is not what it should be; the message names the place."""


class Record:
    """A frozen dataclass that reads and writes JSON objects."""

    EVENT: ClassVar[Optional[str]] = None

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object."""
        document: dict[str, Any] = {} if self.EVENT is None else {"event": self.EVENT}
        for each in fields(self):  # type: ignore[arg-type]
            document[each.name] = _encode(getattr(self, each.name))
        return document

    @classmethod
    def from_json(cls: type[R], document: Any, place: str = "") -> R:
        """Return the record that `document` describes.

        Raises
        ------
        RecordError
            A key is unknown or missing, or a value has the wrong type.
        """
        where = place or cls.__name__
        if not isinstance(document, dict):
            raise RecordError(f"{where}: expected an object, got {_short(document)}")
        hints = _hints(cls)  # type: ignore[arg-type]
        given = dict(document)
        if cls.EVENT is not None and given.pop("event", None) != cls.EVENT:
            raise RecordError(f"{where}.event: expected {cls.EVENT!r}, got {_short(document.get('event'))}")
        unknown = sorted(set(given) - set(hints))
        if unknown:
            raise RecordError(f"{where}: unknown key {unknown[0]!r}")
        if given.get("schema", SCHEMA) != SCHEMA:
            raise RecordError(f"{where}.schema: this side speaks {SCHEMA}, got {_short(given['schema'])}")
        values = {name: _decode(hints[name], value, f"{where}.{name}") for name, value in given.items()}
        for each in fields(cls):  # type: ignore[arg-type]
            optional = each.default is not MISSING or each.default_factory is not MISSING
            if each.name not in values and not optional:
                raise RecordError(f"{where}: key {each.name!r} is missing")
        return cls(**values)


@lru_cache(maxsize=None)
def _hints(cls: Any) -> dict[str, Any]:
    hints = get_type_hints(cls)
    return {each.name: hints[each.name] for each in fields(cls)}


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _encode(value: Any) -> Any:
    if isinstance(value, Record):
        return value.to_json()
    if isinstance(value, (tuple, list)):
        return [_encode(each) for each in value]
    if isinstance(value, dict):
        return {key: _encode(each) for key, each in value.items()}
    return value


def _decode(hint: Any, value: Any, place: str) -> Any:
    if hint is Any:
        return value
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Union:  # Optional[...] is the only union here
        return None if value is None else _decode(arguments[0], value, place)
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise RecordError(f"{place}: expected a list, got {_short(value)}")
        return tuple(_decode(arguments[0], each, f"{place}[{i}]") for i, each in enumerate(value))
    if origin is dict:
        if not isinstance(value, dict):
            raise RecordError(f"{place}: expected an object, got {_short(value)}")
        return {str(key): _decode(arguments[1], each, f"{place}.{key}") for key, each in value.items()}
    if issubclass(hint, Record):
        return hint.from_json(value, place)
    return _scalar(hint, value, place)


def _scalar(hint: Any, value: Any, place: str) -> Any:
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise RecordError(f"{place}: expected {hint.__name__}, got {_short(value)}")
    return value


# --- the request


@dataclass(frozen=True)
class Promise(Record):
    """What a handler promises about itself; None means no bound.

    With `shares_socket` one process is started, which starts the others: all serve one socket. With
    `is_ceiling` it does nothing but answer: the load generator may be what limits it.
    """

    peak_in_process: Optional[int] = None
    multiplexes: bool = False
    shares_socket: bool = False
    is_ceiling: bool = False


@dataclass(frozen=True)
class LoadSpec(Record):
    """How to load the server; `path` is the load generator on the host.

    With `request_bytes` each request is a POST with the workload's body, so long; else a GET.
    """

    tool: str
    path: str
    concurrency: int
    warmup_s: float
    measure_s: float
    keepalive: bool
    request_bytes: int = 0


@dataclass(frozen=True)
class WireSpec(Record):
    """How handlers are started and driven without lighttpd.

    `command` and `environment` are what lighttpd would be given, `backlog` is the length of each handler's
    queue. The last three say how requests are sent.
    """

    command: tuple[str, ...]
    environment: dict[str, str]
    backlog: int
    connections: int
    in_flight: int
    keep_conn: bool


@dataclass(frozen=True)
class TrialRequest(Record):
    """Everything the agent needs for one trial. `work_dir` lies in `<prefix>/run/`.

    With `load_from`, the name of another host, the load comes from there and the agent takes orders
    (`agent.dialogue`); `load.path` and `load_cpus` are then that host's. With `wire` there is no lighttpd:
    the agent starts the handlers itself, and its own client drives them (`load.tool` is `fcgi`). With
    `startup_cost_s`, what a process spends before it serves, the start itself is measured, for
    `load.measure_s`.
    """

    run_id: str
    trial_id: str
    prefix: str
    work_dir: str
    lighttpd: str
    lighttpd_conf: str
    address: str
    port: int
    url_path: str
    expected_bytes: int
    expected_sha256: str
    handler: str
    processes: int
    promise: Promise
    load: LoadSpec
    server_cpus: Optional[tuple[int, ...]] = None
    load_cpus: Optional[tuple[int, ...]] = None
    load_from: Optional[str] = None
    wire: Optional[WireSpec] = None
    startup_cost_s: Optional[float] = None
    ready_timeout_s: float = 10.0
    deadline_s: float = 60.0
    attempt: int = 1
    schema: int = SCHEMA


# --- the answers


@dataclass(frozen=True)
class Orphan(Record):
    """A process of an earlier trial that was still there."""

    pid: int
    cmd: str


@dataclass(frozen=True)
class Requests(Record):
    """What the load generator says it did; None where it does not say."""

    asked_s: float
    measured_s: float
    complete: int
    ok: int
    failed: int
    non_2xx: int
    keepalive: Optional[int]
    write_errors: int
    length_failures: int
    body_bytes: Optional[int]
    throughput_rps: float


@dataclass(frozen=True)
class LatencyMs(Record):
    """Closed-loop response times in milliseconds; None where the load generator does not say."""

    mean: Optional[float] = None
    p50: Optional[float] = None
    p90: Optional[float] = None
    p95: Optional[float] = None
    p99: Optional[float] = None
    max: Optional[float] = None


@dataclass(frozen=True)
class GroupCounters(Record):
    """What a group of processes used during the measurement; rss to processes as they were at its end.

    `run_queue_wait_s` counts the threads that lived until the end.
    """

    cpu_user_s: Optional[float] = None
    cpu_sys_s: Optional[float] = None
    ctx_voluntary: Optional[int] = None
    ctx_involuntary: Optional[int] = None
    run_queue_wait_s: Optional[float] = None
    rss_bytes: Optional[int] = None
    threads: Optional[int] = None
    descriptors: Optional[int] = None
    processes: int = 0


@dataclass(frozen=True)
class SystemCounters(Record):
    """What the whole host did during the measurement.

    `idle_share` is of the time of the CPUs that the server had (on a load host: the load), `steal_share` of
    the time of all CPUs that the host may use. A lab host has no business with the others of its machine.
    `clock_step_s` is how much further its wall clock went than time did.
    """

    window_s: float
    steal_share: float
    idle_share: float
    listen_drops: int
    listen_overflows: int
    passive_opens: int
    time_wait: int
    ctx_total: int
    load1: float
    freq_mhz: Optional[float] = None
    clock_step_s: float = 0.0


@dataclass(frozen=True)
class Counters(Record):
    """The four views of one measurement."""

    lighttpd: GroupCounters
    handlers: GroupCounters
    load: GroupCounters
    system: SystemCounters


@dataclass(frozen=True)
class HandlerCount(Record):
    """What one handler process served during the measurement; peaks and the highest id are since its start.

    The last three are the server's evidence of the regime: connections taken during the measurement, the
    highest request id and the most requests open at once on one connection. None where a handler does not
    count them.
    """

    pid: int
    requests: int
    peak_in_process: int
    connections: Optional[int] = None
    highest_id: Optional[int] = None
    peak_ids_per_connection: Optional[int] = None


@dataclass(frozen=True)
class Window(Record):
    """Requests the handlers completed in the window that ended `t_s` after the measurement began."""

    t_s: float
    requests: int


@dataclass(frozen=True)
class Gate(Record):
    """A check that a trial must pass to count, with its numbers."""

    name: str
    passed: bool
    value: Optional[float]
    limit: Optional[float]
    unit: str
    detail: str


@dataclass(frozen=True)
class Timings(Record):
    """How long each step took, in seconds; 0 for a step that was not reached."""

    prepare: float = 0.0
    start: float = 0.0
    ready: float = 0.0
    warmup: float = 0.0
    measure: float = 0.0
    stop: float = 0.0
    total: float = 0.0


@dataclass(frozen=True)
class ClockOffset(Record):
    """The load host's wall clock minus the server's at one moment, and how far off that may be."""

    offset_s: float
    uncertainty_s: float


@dataclass(frozen=True)
class LoadHost(Record):
    """The host that made the load, where that is not the server's, and what it did meanwhile."""

    host: str
    system: SystemCounters
    timings_s: Timings
    clock: ClockOffset
    orphans: tuple[Orphan, ...] = ()


@dataclass(frozen=True)
class Started(Record):
    """The lock is ours, nothing is left over, the trial begins."""

    EVENT: ClassVar[Optional[str]] = "started"

    trial_id: str
    attempt: int
    pid: int
    orphans: tuple[Orphan, ...] = ()
    schema: int = SCHEMA


@dataclass(frozen=True)
class Startup(Record):
    """How a server came to its rate; all times since lighttpd was started.

    `cost_s` is what a process does before it serves, where the workload says so. `full_rate_s` is None when
    the rate never settled within `horizon_s`. `windows` are short ones, requests as in `Window`.
    """

    first_answer_s: float
    horizon_s: float
    full_rate_s: Optional[float] = None
    cost_s: Optional[float] = None
    windows: tuple[Window, ...] = ()


@dataclass(frozen=True)
class Result(Record):
    """A trial that was measured to its end; it counts if every gate passed.

    `wire` is what the client saw of the regime, where it drove the handlers itself: the fields of
    `agent.wire.results.Evidence` and `faults` by name. `startup` is there where a start was measured.
    """

    EVENT: ClassVar[Optional[str]] = "result"

    trial_id: str
    attempt: int
    goodput_rps: float
    requests: Requests
    latency_ms: LatencyMs
    counters: Counters
    handlers: tuple[HandlerCount, ...]
    windows: tuple[Window, ...]
    gates: tuple[Gate, ...]
    timings_s: Timings
    load_host: Optional[LoadHost] = None
    wire: Optional[dict[str, Any]] = None
    startup: Optional[Startup] = None
    orphans: tuple[Orphan, ...] = ()
    raw: dict[str, str] = field(default_factory=dict)
    schema: int = SCHEMA

    @property
    def valid(self) -> bool:
        """Whether every gate passed."""
        return all(gate.passed for gate in self.gates)


KINDS = ("not_provisioned", "busy", "not_ready", "load_failed", "timeout", "interrupted", "internal")


@dataclass(frozen=True)
class Failure(Record):
    """A trial that could not be measured. `kind` is one of `KINDS`."""

    EVENT: ClassVar[Optional[str]] = "failure"

    trial_id: str
    attempt: int
    kind: str
    reason: str
    timings_s: Timings = field(default_factory=Timings)
    orphans: tuple[Orphan, ...] = ()
    raw: dict[str, str] = field(default_factory=dict)
    schema: int = SCHEMA


@dataclass(frozen=True)
class Cleaned(Record):
    """What `clean` found and took away."""

    EVENT: ClassVar[Optional[str]] = "cleaned"

    killed: tuple[Orphan, ...] = ()
    removed: tuple[str, ...] = ()
    schema: int = SCHEMA


Event = Union[Started, Result, Failure, Cleaned]
EVENTS: dict[str, type[Record]] = {
    "started": Started,
    "result": Result,
    "failure": Failure,
    "cleaned": Cleaned,
}


def event_from_json(document: Any) -> Event:
    """Return the event that a line of the agent's output describes, in a trial on one host.

    Raises
    ------
    RecordError
        It is none of the events, or not well formed.
    """
    event: Any = record_from_json(document, EVENTS)
    return event  # type: ignore[no-any-return]


def record_from_json(document: Any, events: Mapping[str, type[Record]]) -> Record:
    """Return the one of `events` that a JSON object describes.

    Raises
    ------
    RecordError
        It is none of them, or not well formed.
    """
    name = str(document.get("event")) if isinstance(document, dict) else ""
    if name not in events:
        raise RecordError(f"event: expected one of {', '.join(events)}, got {_short(document)}")
    return events[name].from_json(document)


# --- the facts


@dataclass(frozen=True)
class Clock(Record):
    """The host's clocks at the same moment, in seconds."""

    wall_s: float
    monotonic_s: float


@dataclass(frozen=True)
class AgentFacts(Record):
    """Which agent answers."""

    version: str
    fingerprint: str


@dataclass(frozen=True)
class Facts(Record):
    """What a host is. None where the host does not say, for example the governor of a virtual machine.

    `absent_handlers` have a name and the reason why they cannot run here.
    """

    hostname: str
    os: str
    os_release: str
    kernel: str
    arch: str
    cpu_model: str
    cpus: tuple[int, ...]
    cores: int
    sockets: int
    threads_per_core: int
    memory_bytes: int
    governor: Optional[str]
    turbo: Optional[bool]
    virtualisation: Optional[str]
    sysctls: dict[str, str]
    limits: dict[str, int]
    clock: Clock
    python: str
    agent: AgentFacts
    prefix: str
    manifest: Optional[dict[str, Any]]
    handlers: tuple[dict[str, Any], ...]
    workloads: tuple[dict[str, Any], ...]
    orphans: int
    disk_free_bytes: int
    uid: int
    lock: Optional[dict[str, Any]]
    absent_handlers: tuple[dict[str, Any], ...] = ()
    schema: int = SCHEMA
