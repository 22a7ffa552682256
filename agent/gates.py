"""The checks that a trial must pass to count. Pure: evidence in, verdicts with their numbers out.

A gate that does not apply to a trial is left out: a static file has no handler processes to count.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from agent import steadiness
from agent.load.report import LoadReport
from agent.records import Counters, Gate, HandlerCount, LoadHost, TrialRequest, Window

SHARE_OF_TIME = 0.05
LITTLES_LAW = 0.05
SERVER_COUNT = 0.01
LOAD_CPU = 0.80
STEAL = 0.01
CLOCK_STEP = 0.005
BODY_BYTES = 0.01
CONNECTIONS = 0.02
# Connections that are none of ours: a login, a monitor's probe.
STRAY_CONNECTIONS = 20
OWN_RESOURCES = 24
IDLE_RESOURCES = 2


@dataclass(frozen=True)
class Evidence:
    """All that is known about one measurement.

    `header_bytes` is what a response carries beside its body. `pids_before` and `pids_after` are the handler
    processes that ran; `complaints` the lines of the server's log that should not be there; `leftovers` the
    processes that had to be killed at the end; `load_host` the other host, where the load came from one.
    """

    request: TrialRequest
    load: LoadReport
    asked_s: int
    counters: Counters
    handlers: tuple[HandlerCount, ...]
    windows: tuple[Window, ...]
    pids_before: frozenset[int]
    pids_after: frozenset[int]
    header_bytes: int
    complaints: tuple[str, ...]
    leftovers: tuple[str, ...]
    load_host: Optional[LoadHost] = None

    @property
    def is_static(self) -> bool:
        """Whether lighttpd answered alone."""
        return self.request.processes == 0

    @property
    def is_ceiling(self) -> bool:
        """Whether next to nothing is done for a request, so that the load generator may be what limits."""
        return self.is_static or self.request.promise.is_ceiling

    @property
    def concurrency(self) -> int:
        """Connections of the load generator."""
        return self.request.load.concurrency


def judge(evidence: Evidence) -> tuple[Gate, ...]:
    """Return the verdicts of all gates that apply."""
    verdicts = (gate(evidence) for gate in _GATES)
    return tuple(verdict for verdict in verdicts if verdict is not None)


def correct_responses(load: LoadReport, expected_bytes: int) -> int:
    """Return how many responses were surely right.

    A response may be counted under several errors, so the largest of them is what is known to be wrong. Where
    the first response had a wrong length, the tool compared all others with it: none is known to be right.
    """
    if load.document_bytes is not None and load.document_bytes != expected_bytes:
        return 0
    return max(0, load.complete - max(load.failed, load.non_2xx))


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def responses(evidence: Evidence) -> Gate:
    """Check that every response is a 2xx, and none was lost."""
    load = evidence.load
    wrong = max(load.failed - load.length_failures, load.non_2xx) + load.write_errors
    return Gate(
        name="responses",
        passed=wrong == 0 and load.complete > 0,
        value=wrong,
        limit=0,
        unit="requests",
        detail=f"{load.non_2xx} of {load.complete} responses were not 2xx,"
        f" {load.failed - load.length_failures} requests failed{load.complaint and f'; {load.complaint}'}",
    )


def body_length(evidence: Evidence) -> Optional[Gate]:
    """Check that every body has the length that the workload announces."""
    load, expected = evidence.load, evidence.request.expected_bytes
    if load.complete == 0:
        return None
    if load.body_bytes is not None:
        total = load.body_bytes
    elif load.read_bytes is not None:
        total = load.read_bytes - load.complete * evidence.header_bytes
    else:
        return None
    first_is_right = load.document_bytes in (None, expected)
    # Responses under way at the end are read in part and not counted as complete.
    under_way = evidence.concurrency * (expected + evidence.header_bytes)
    excess = max(0, total - load.complete * expected - under_way)
    missing = max(0, load.complete * expected - total)
    deviation = _share(max(excess, missing), load.complete * expected)
    return Gate(
        name="body_length",
        passed=load.length_failures == 0 and first_is_right and deviation <= BODY_BYTES,
        value=deviation,
        limit=BODY_BYTES,
        unit="share of bytes",
        detail=f"{load.length_failures} bodies differ in length from the first, which has"
        f" {'an unknown number of' if load.document_bytes is None else load.document_bytes} bytes;"
        f" {expected} are right; {total} bytes came in {load.complete} responses",
    )


def completed(evidence: Evidence) -> Gate:
    """Check that the load ran for the time that was asked."""
    deviation = abs(evidence.load.measured_s - evidence.asked_s) / evidence.asked_s
    return Gate(
        name="completed",
        passed=deviation <= SHARE_OF_TIME and evidence.load.complete > 0,
        value=deviation,
        limit=SHARE_OF_TIME,
        unit="share of time",
        detail=f"ran {evidence.load.measured_s:.3f} s of {evidence.asked_s} s,"
        f" {evidence.load.complete} requests complete",
    )


def keepalive(evidence: Evidence) -> Optional[Gate]:
    """Check that connections are re-used if and only if that was asked.

    Where the load generator is silent, the kernel's count of accepted connections tells.
    """
    load = evidence.load
    if load.complete == 0:
        return None
    asked = evidence.request.load.keepalive
    if load.keepalive is not None:
        wrong = load.complete - load.keepalive if asked else load.keepalive
        source = f"{load.keepalive} of {load.complete} requests on a connection that was to be kept"
    else:
        opened = evidence.counters.system.passive_opens
        wrong = opened if asked else load.complete - opened
        source = f"{opened} connections accepted for {load.complete} requests"
    allowed = evidence.concurrency + STRAY_CONNECTIONS
    share = max(0, wrong - allowed) / load.complete
    return Gate(
        name="keepalive",
        passed=share <= CONNECTIONS,
        value=share,
        limit=CONNECTIONS,
        unit="share of requests",
        detail=f"keep-alive was {'asked' if asked else 'not asked'}: {source}",
    )


def handlers_alive(evidence: Evidence) -> Optional[Gate]:
    """Check that the same handler processes run before and after, as many as asked."""
    if evidence.is_static:
        return None
    asked, before, after = evidence.request.processes, evidence.pids_before, evidence.pids_after
    lost, new = sorted(before - after), sorted(after - before)
    detail = f"{len(before)} handler processes before, {len(after)} after, {asked} asked"
    if lost:
        detail += f"; ended: {', '.join(map(str, lost))}"
    if new:
        detail += f"; new: {', '.join(map(str, new))}"
    return Gate(
        name="handlers_alive",
        passed=before == after and len(after) == asked,
        value=len(before & after),
        limit=asked,
        unit="processes",
        detail=detail,
    )


def growth(evidence: Evidence) -> Optional[Gate]:
    """Check that the handlers gave their threads and descriptors back when the load was over."""
    handlers = evidence.counters.handlers
    if evidence.is_static or handlers.threads is None or handlers.descriptors is None:
        return None
    most = max(handlers.threads, handlers.descriptors)
    # Idle threads and the last connections may still be there; what every request loses goes beyond.
    limit = OWN_RESOURCES * handlers.processes + IDLE_RESOURCES * evidence.concurrency
    return Gate(
        name="growth",
        passed=most <= limit,
        value=most,
        limit=limit,
        unit="threads or descriptors",
        detail=f"{handlers.processes} handler processes hold {handlers.threads} threads and"
        f" {handlers.descriptors} descriptors after {evidence.concurrency} connections have ended",
    )


def peak_concurrency(evidence: Evidence) -> Optional[Gate]:
    """Check that no process works on more requests at a time than its model promises."""
    if evidence.is_static or not evidence.handlers:
        return None
    peak = max(handler.peak_in_process for handler in evidence.handlers)
    promised = evidence.request.promise.peak_in_process
    return Gate(
        name="peak_concurrency",
        passed=peak >= 1 and (promised is None or peak <= promised),
        value=peak,
        limit=promised,
        unit="requests in a process",
        detail=f"at most {peak} requests at a time in one process;"
        f" {evidence.request.handler} promises {'no bound' if promised is None else f'at most {promised}'}",
    )


def littles_law(evidence: Evidence) -> Optional[Gate]:
    """Check that concurrency = rate x mean response time: else the load generator did not keep up.

    A ceiling, static or not, has no such gate: it is that of server and load generator together.
    """
    load = evidence.load
    if evidence.is_ceiling or load.mean_ms is None or not load.times_whole_cycle or not load.measured_s:
        return None
    if evidence.request.startup_cost_s is not None:
        return None  # the law is one of a steady state
    rate = load.complete / load.measured_s
    low, high = (rate * each / 1e3 for each in load.mean_ms)
    distance = max(0.0, low - evidence.concurrency, evidence.concurrency - high) / evidence.concurrency
    # Each connection's last request is cut off by the end of the time and counted nowhere.
    limit = LITTLES_LAW + load.mean_ms[1] / 1e3 / load.measured_s
    return Gate(
        name="littles_law",
        passed=distance <= limit,
        value=distance,
        limit=limit,
        unit="share of concurrency",
        detail=f"rate x mean response time = {low:.2f} to {high:.2f} requests in flight,"
        f" {evidence.concurrency} connections",
    )


def server_count(evidence: Evidence) -> Optional[Gate]:
    """Check that the handlers have served what the client has received."""
    if evidence.is_static:
        return None
    served, received = sum(handler.requests for handler in evidence.handlers), evidence.load.complete
    # The client counts no request that is under way at its end; the handlers may, and those as well that the
    # client of the warm-up had under way when it was ended, where they come to them late.
    beyond = max(received - served, served - received - 2 * evidence.concurrency, 0)
    share = _share(beyond, received)
    return Gate(
        name="server_count",
        passed=share <= SERVER_COUNT and received > 0,
        value=share,
        limit=SERVER_COUNT,
        unit="share of requests",
        detail=f"the handlers served {served} requests, the client received {received}",
    )


def load_cpu(evidence: Evidence) -> Optional[Gate]:
    """Check that the load generator, one thread, had processor time to spare.

    A ceiling, static or not, has no such gate: it is that of server and load generator together.
    """
    load, cpu_s = evidence.counters.load, evidence.load.cpu_s
    if cpu_s is None and load.cpu_user_s is not None and load.cpu_sys_s is not None:
        cpu_s = load.cpu_user_s + load.cpu_sys_s
    if evidence.is_ceiling or cpu_s is None:
        return None
    share = _share(cpu_s, evidence.load.measured_s)
    return Gate(
        name="load_cpu",
        passed=share <= LOAD_CPU,
        value=share,
        limit=LOAD_CPU,
        unit="share of a core",
        detail=f"{evidence.request.load.tool} used {share:.0%} of a core",
    )


def steal(evidence: Evidence) -> Gate:
    """Check that the hypervisor took next to nothing, of the server or of the host that made the load."""
    share = evidence.counters.system.steal_share
    detail = f"the hypervisor took {share:.2%} of the processor time"
    if evidence.load_host is not None:
        other = evidence.load_host.system.steal_share
        detail += f", and {other:.2%} on {evidence.load_host.host}, which made the load"
        share = max(share, other)
    return Gate(
        name="steal",
        passed=share <= STEAL,
        value=share,
        limit=STEAL,
        unit="share of processor time",
        detail=detail,
    )


def clock(evidence: Evidence) -> Gate:
    """Check that nobody set the clock by which the load generator times itself: ab knows only the wall's."""
    system, where = evidence.counters.system, ""
    if evidence.load_host is not None:
        system, where = evidence.load_host.system, f" of {evidence.load_host.host}, which made the load,"
    share = abs(system.clock_step_s) / evidence.asked_s
    return Gate(
        name="clock",
        passed=share <= CLOCK_STEP,
        value=share,
        limit=CLOCK_STEP,
        unit="share of time",
        detail=f"the wall clock{where} jumped by {system.clock_step_s:+.3f} s"
        if share > CLOCK_STEP
        else f"the wall clock{where} went with the time",
    )


def listen_drops(evidence: Evidence) -> Gate:
    """Check that no connection was dropped for want of room in a listen queue."""
    system = evidence.counters.system
    return Gate(
        name="listen_drops",
        passed=system.listen_drops == 0 and system.listen_overflows == 0,
        value=max(system.listen_drops, system.listen_overflows),
        limit=0,
        unit="connections",
        detail=f"{system.listen_drops} dropped, {system.listen_overflows} overflows of a listen queue",
    )


def error_log(evidence: Evidence) -> Gate:
    """Check that the server had nothing to complain about."""
    complaints = evidence.complaints
    detail = "lighttpd and the handlers logged no error"
    if complaints:
        detail = f"{len(complaints)} lines in the log, the first: {complaints[0][:300]}"
    return Gate(
        name="error_log", passed=not complaints, value=len(complaints), limit=0, unit="lines", detail=detail
    )


def leftovers(evidence: Evidence) -> Gate:
    """Check that all processes of the trial ended when they were told to."""
    left = evidence.leftovers
    detail = "every process ended when told to"
    if left:
        detail = f"{len(left)} had to be killed: {'; '.join(left)[:300]}"
    return Gate(name="leftovers", passed=not left, value=len(left), limit=0, unit="processes", detail=detail)


def steady(evidence: Evidence) -> Optional[Gate]:
    """Check that the rate neither climbs nor falls during the measurement."""
    rates = steadiness.equal_windows((window.t_s, window.requests) for window in evidence.windows)
    drift = steadiness.drift(rates)
    if drift is None:
        return None
    return Gate(
        name="steady",
        passed=abs(drift.change) <= drift.limit,
        value=drift.change,
        limit=drift.limit,
        unit="second half against first half",
        detail=f"{drift.change:+.1%} from the first half to the second of {len(rates)} windows"
        f" ({'a trend beyond the noise' if drift.is_trend else 'no trend beyond the noise'})",
    )


_GATES = (
    responses,
    body_length,
    completed,
    keepalive,
    handlers_alive,
    growth,
    peak_concurrency,
    littles_law,
    server_count,
    load_cpu,
    steal,
    clock,
    listen_drops,
    error_log,
    leftovers,
    steady,
)
