"""The lines of a journal as far as the report reads them; a decoder skips the rest without building it."""

from __future__ import annotations

from typing import Literal

import msgspec

Number = int | float | None
Text = str | None
Flag = bool | None


class _Part(msgspec.Struct, gc=False):
    """An object of a record. What older runs or other tools lack is ``None``."""


class Cell(_Part):
    """What was measured; runs older than the last four keys lack those."""

    handler: Text = None
    processes: Number = None
    concurrency: Number = None
    keepalive: Flag = None
    cores: Number = None
    placement: Text = None
    workload: Text = None
    tool: Text = None
    lighttpd: Text = None
    python: Text = None
    connections: Number = None
    in_flight: Number = None
    keep_conn: Flag = None


class Failure(_Part):
    """Why nothing was measured."""

    kind: Text = None
    reason: Text = None


class Requests(_Part):
    """What the load generator counted."""

    measured_s: Number = None
    complete: Number = None
    ok: Number = None
    failed: Number = None
    non_2xx: Number = None
    length_failures: Number = None
    throughput_rps: Number = None


class Latency(_Part):
    """Milliseconds."""

    mean: Number = None
    p50: Number = None
    p90: Number = None
    p95: Number = None
    p99: Number = None
    max: Number = None


class Group(_Part):
    """Counters of a group of processes."""

    cpu_user_s: Number = None
    cpu_sys_s: Number = None
    ctx_voluntary: Number = None
    ctx_involuntary: Number = None
    run_queue_wait_s: Number = None
    rss_bytes: Number = None
    threads: Number = None


class System(_Part):
    """Counters of the server's host."""

    window_s: Number = None
    steal_share: Number = None
    idle_share: Number = None
    ctx_total: Number = None
    time_wait: Number = None
    listen_drops: Number = None
    load1: Number = None


class Counters(_Part):
    """All counters of a trial."""

    lighttpd: Group | None = None
    handlers: Group | None = None
    load: Group | None = None
    system: System | None = None


class HandlerCount(_Part):
    """What one handler process counted."""

    requests: Number = None
    connections: Number = None
    peak_in_process: Number = None
    highest_id: Number = None
    peak_ids_per_connection: Number = None


class Gate(_Part):
    """One check."""

    name: str
    passed: bool
    value: Number = None
    detail: str = ""


class Timings(_Part):
    """Seconds."""

    ready: Number = None


class StartWindow(_Part):
    """What was served in a short time of a start."""

    t_s: Number
    requests: Number


class Startup(_Part):
    """How a server came to its rate."""

    cost_s: Number = None
    first_answer_s: Number = None
    full_rate_s: Number = None
    horizon_s: Number = None
    windows: list[StartWindow] | None = None


class Wire(_Part):
    """What the client counted that drives handlers on their own sockets."""

    connections_opened: Number = None
    requests_per_connection_mean: Number = None
    requests_per_connection_max: Number = None
    highest_id: Number = None
    peak_ids_per_connection: Number = None
    peak_in_flight: Number = None
    interleaved_answers: Number = None
    out_of_order_answers: Number = None
    closed_by_responder: Number = None
    faults: dict[str, int] | None = None


class LoadSystem(_Part):
    """Counters of the host that made the load."""

    steal_share: Number = None
    idle_share: Number = None
    time_wait: Number = None
    load1: Number = None


class Clock(_Part):
    """How far the load host's clock is from the server's."""

    offset_s: Number = None
    uncertainty_s: Number = None


class LoadHost(_Part):
    """The other host, where the load came from one."""

    host: Text = None
    system: LoadSystem | None = None
    clock: Clock | None = None


class Result(_Part):
    """What a trial gave."""

    goodput_rps: Number = None
    requests: Requests | None = None
    latency_ms: Latency | None = None
    counters: Counters | None = None
    handlers: list[HandlerCount] | None = None
    gates: list[Gate] | None = None
    timings_s: Timings | None = None
    startup: Startup | None = None
    wire: Wire | None = None
    load_host: LoadHost | None = None


class Attempt(_Part, kw_only=True):
    """One try at a trial; it cannot be without the fields that have no default."""

    schema: Literal[1]
    kind: Literal["attempt"]
    trial: str
    host: str
    block: int
    position: Number = None
    role: str
    cell: Cell
    attempt: int
    epoch: Number = None
    status: str
    failure: Failure | None = None
    started_at: Text = None
    wall_s: Number = None
    overhead_s: Number = None
    result: Result | None = None
    raw: Text = None

    def __post_init__(self) -> None:
        """Refuse what no statistic could use."""
        if self.status == "valid" and not (self.result and self.result.goodput_rps):
            raise ValueError("a valid attempt without a goodput")


class ScheduledTrial(_Part):
    """One trial of a schedule."""

    trial: str
    host: str
    block: int
    position: int
    role: str


class Versioned(_Part):
    """What every document says first."""

    schema: Number = None


class Schedule(_Part):
    """All trials of a run, as they were planned."""

    trials: list[ScheduledTrial]


def needed(kind: type[msgspec.Struct]) -> tuple[str, ...]:
    """Return the names of the fields that an object cannot be without."""
    return tuple(field.name for field in msgspec.structs.fields(kind) if field.required)
