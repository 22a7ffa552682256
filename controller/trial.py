"""One attempt at a trial: the request to the agent, its answer, and what it is worth."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from agent.dialogue import LoadRequest
from agent.records import Failure, LoadSpec, Promise, Result, TrialRequest, WireSpec
from controller.catalogue import STATIC
from controller.cells import Cell, Trial
from controller.conversation import Conversation, measure_on_one_host, measure_on_two_hosts
from controller.errors import RemoteError
from controller.experiment import Load
from controller.host_facts import HostFacts
from controller.inventory import Host
from controller.journal import utc_now
from controller.lighttpd_conf import LighttpdConf, listen_backlog, render_lighttpd_conf
from controller.placement import CpuPool, share_cpus
from controller.remote import Transport, agent_command

READY_TIMEOUT_S = 10.0
STARTUP_PATIENCE = 2.0
"""How many times as long as they should take, by their own account, the processes may take to be ready."""
START_AND_STOP_S = 15.0
SLACK_S = 5.0
"""How long the controller waits for an agent that has reached its own deadline."""
LOAD_HOST_S = 15.0
"""How much longer a trial may take when the load comes from another host."""


@dataclass(frozen=True, slots=True)
class LoadSite:
    """The other host, that makes the load for a site.

    Attributes
    ----------
    host, facts
        As those of a site.
    server_address : str
        IP address by which it reaches the server.
    """

    host: Host
    facts: HostFacts
    server_address: str

    def describe(self) -> dict[str, Any]:
        """Return what goes into the results about it."""
        return {"host": self.host.name, "machine": self.host.machine, "facts": self.facts.document}


@dataclass(frozen=True, slots=True)
class Site:
    """A host that is ready to be measured: how to reach it and what it is.

    Attributes
    ----------
    host : Host
        From the inventory.
    facts : HostFacts
        From its agent.
    load : LoadSite or None
        Who makes the load of trials with placement `remote`, where the experiment has some.
    """

    host: Host
    facts: HostFacts
    load: LoadSite | None = None

    @property
    def pool(self) -> CpuPool:
        """The CPUs that its trials may use."""
        return CpuPool(self.facts.cpus, self.host.server_cpus, self.host.load_cpus)

    def fingerprint(self) -> dict[str, Any]:
        """Return what must not change while a run is measured, the load host's part included."""
        own = {**self.facts.fingerprint(), **_reserved_cpus(self.host)}
        if self.load is None:
            return own
        load = {**self.load.facts.fingerprint(), **_reserved_cpus(self.load.host)}
        return {**own, "load_from": {"host": self.load.host.name, **load}}


def _reserved_cpus(host: Host) -> dict[str, list[int]]:
    """Return the CPUs that the inventory reserves, as far as it does."""
    reserved = {"server_cpus": host.server_cpus, "load_cpus": host.load_cpus}
    return {name: list(cpus) for name, cpus in reserved.items() if cpus is not None}


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try at a trial, as it goes into the journal.

    Attributes
    ----------
    trial : Trial
        What was tried.
    attempt, epoch : int
        Both count from 1.
    started_at : str
        ISO 8601, UTC.
    wall_s : float
        Duration as the controller saw it.
    result, failure
        Exactly one of them is there.
    kind, reason : str
        Of a failure.
    orphans : int
        Processes of an earlier trial that the agent found and ended first.
    texts : mapping of str to str
        Raw outputs; kept beside the journal, not in it.
    """

    trial: Trial
    attempt: int
    epoch: int
    started_at: str
    wall_s: float
    result: Result | None = None
    kind: str = ""
    reason: str = ""
    orphans: int = 0
    texts: Mapping[str, str] = field(default_factory=dict)

    @property
    def status(self) -> str:
        """`valid`, `invalid` (a gate failed) or `failed` (nothing was measured)."""
        if self.result is None:
            return "failed"
        return "valid" if self.result.valid else "invalid"

    @property
    def why(self) -> str:
        """What is wrong with it, in one line; empty for a valid attempt."""
        if self.result is None:
            return f"{self.kind}: {self.reason}"
        return "; ".join(f"{gate.name}: {gate.detail}" for gate in self.result.gates if not gate.passed)

    def to_json(self, raw: str | None) -> dict[str, Any]:
        """Return the journal record; `raw` is where the raw outputs are, relative to the run."""
        result = replace(self.result, raw={}).to_json() if self.result else None
        overhead_s = self.wall_s
        if result is not None and self.result is not None:
            del result["raw"]
            loaded = (self.result.load_host or self.result).timings_s
            overhead_s -= loaded.warmup + loaded.measure
        document = self.trial.to_json()
        del document["machine"]
        return {
            "kind": "attempt",
            **document,
            "attempt": self.attempt,
            "epoch": self.epoch,
            "status": self.status,
            "failure": None if result else {"kind": self.kind, "reason": self.reason},
            "started_at": self.started_at,
            "wall_s": round(self.wall_s, 4),
            "overhead_s": round(overhead_s, 4),
            "result": result,
            "raw": raw,
        }


def trial_request(
    run_id: str, trial: Trial, attempt: int, site: Site, load: Load, *, starts: bool = False
) -> TrialRequest:
    """Put together everything that the agent needs; the host must have what the cell names.

    `starts` asks for how a server comes to its rate instead of the rate; the ceiling has none but the rate.
    """
    cell, facts = trial.cell, site.facts
    remote = site.load if cell.placement == "remote" else None
    manifest = facts.manifest or {}
    work_dir = _work_dir(facts, run_id, trial, attempt)
    build = facts.lighttpd_build(cell.lighttpd)
    workload = facts.workload(cell.workload) or {}
    handler = facts.handler(cell.handler) or {}
    tool = (remote or site).facts.load_generator(cell.tool) or {}
    python = facts.python(cell.python) or {}
    share = share_cpus(site.pool, cell.cores, cell.placement)
    # what a process spends before it serves, all processes at once on the cores they have
    cost_s = float(workload.get("startup_s", 0.0))
    starts = starts and cell.handler != STATIC
    warmup_s = 0.0 if starts else load.warmup_s
    ready_timeout_s = READY_TIMEOUT_S + STARTUP_PATIENCE * cost_s * max(1, cell.processes / cell.cores)
    command = (str(python.get("path")), "-m", "fcgi_handlers", cell.handler, cell.workload)
    environment = {
        "PYTHONPATH": str((manifest.get("handlers") or {}).get("path")),
        "FCGI_SWEEP_STATS": f"{work_dir}/stats",
        "FCGI_SWEEP_CHILDREN": str(cell.processes),
        "FCGI_SWEEP_PREFIX": facts.prefix,
        "FCGI_SWEEP_TRIAL": trial.trial,
    }
    wire = _wire_spec(cell, command, environment)
    conf = LighttpdConf(
        work_dir=work_dir,
        address=remote.server_address if remote else "127.0.0.1",
        port=site.host.listen_port,
        modules_dir=build.modules if build else "",
        handler=cell.handler,
        processes=1 if handler.get("shares_socket") else cell.processes,
        command=" ".join(command),
        environment=environment,
        url_path=str(workload.get("url_path")),
        keepalive=cell.keepalive,
        concurrency=cell.concurrency,
    )
    return TrialRequest(
        run_id=run_id,
        trial_id=trial.trial,
        attempt=attempt,
        prefix=facts.prefix,
        work_dir=work_dir,
        lighttpd=build.path if build else "",
        lighttpd_conf="" if wire else render_lighttpd_conf(conf),
        address=conf.address,
        port=conf.port,
        url_path=conf.url_path,
        expected_bytes=int(workload.get("bytes", 0)),
        expected_sha256=str(workload.get("sha256")),
        handler=cell.handler,
        processes=cell.processes,
        promise=Promise(
            handler.get("peak_in_process"),
            bool(handler.get("multiplexes")),
            bool(handler.get("shares_socket")),
            bool(handler.get("is_ceiling")),
        ),
        load=LoadSpec(
            tool=cell.tool,
            path=str(tool.get("path")),
            concurrency=cell.concurrency,
            warmup_s=warmup_s,
            measure_s=load.measured_s,
            keepalive=cell.keepalive,
            request_bytes=int(workload.get("request_bytes", 0)),
        ),
        server_cpus=share.server,
        load_cpus=share.load or None,
        load_from=remote.host.name if remote else None,
        wire=wire,
        startup_cost_s=cost_s if starts else None,
        ready_timeout_s=ready_timeout_s,
        deadline_s=warmup_s
        + load.measured_s
        + ready_timeout_s
        + START_AND_STOP_S
        + (LOAD_HOST_S if remote else 0.0),
    )


def _wire_spec(cell: Cell, command: tuple[str, ...], environment: dict[str, str]) -> WireSpec | None:
    if cell.connections is None or cell.in_flight is None or cell.keep_conn is None:
        return None
    return WireSpec(
        command=command,
        environment=environment,
        backlog=listen_backlog(cell.concurrency),
        connections=cell.connections,
        in_flight=cell.in_flight,
        keep_conn=cell.keep_conn,
    )


def load_request(trial: Trial, site: LoadSite, server: TrialRequest) -> LoadRequest:
    """Put together everything that the load host's agent needs, given what the server's agent is asked."""
    return LoadRequest(
        run_id=server.run_id,
        trial_id=server.trial_id,
        attempt=server.attempt,
        prefix=site.facts.prefix,
        work_dir=_work_dir(site.facts, server.run_id, trial, server.attempt),
        address=server.address,
        port=server.port,
        url_path=server.url_path,
        expected_bytes=server.expected_bytes,
        expected_sha256=server.expected_sha256,
        load=server.load,
        load_cpus=site.host.load_cpus,
        deadline_s=server.load.warmup_s + server.load.measure_s + START_AND_STOP_S,
    )


def _work_dir(facts: HostFacts, run_id: str, trial: Trial, attempt: int) -> str:
    identity = hashlib.sha256(f"{run_id}/{trial.trial}/{attempt}".encode()).hexdigest()[:8]
    return f"{facts.prefix}/run/{identity}"


def missing_on_host(cell: Cell, facts: HostFacts) -> str | None:
    """Return what a host lacks to measure a cell, None if nothing; the load of `remote` is made elsewhere."""
    if facts.manifest is None:
        return "provisioning never finished there (no manifest)"
    if facts.lighttpd_build(cell.lighttpd) is None:
        return f"lighttpd {cell.lighttpd} is not built there"
    if cell.handler != STATIC and (reason := _missing_for_handler(cell, facts)):
        return reason
    if facts.workload(cell.workload) is None:
        return f"its handlers are older than this checkout: no workload {cell.workload!r}"
    if cell.placement != "remote":
        return missing_for_load(cell, facts)
    return None


def _missing_for_handler(cell: Cell, facts: HostFacts) -> str | None:
    if facts.python(cell.python) is None:
        return f"python {cell.python} is not there"
    if facts.handler(cell.handler) is None:
        return f"its handlers are older than this checkout: no handler {cell.handler!r}"
    return None


def missing_for_load(cell: Cell, facts: HostFacts) -> str | None:
    """Return what a host lacks to make the load of a cell, None if nothing."""
    if facts.load_generator(cell.tool) is None:
        return f"the load generator {cell.tool} is not there (fcgi_sweep_load_generators has to list it)"
    return None


@dataclass(frozen=True, slots=True)
class LoadPart:
    """The load host's part in an attempt: the way there, and what it is asked."""

    transport: Transport
    request: LoadRequest


def attempt_trial(
    transport: Transport,
    trial: Trial,
    request: TrialRequest,
    epoch: int,
    cancel: threading.Event,
    *,
    load: LoadPart | None = None,
) -> Attempt:
    """Measure a trial once. Never raises for what happens on the host, and never waits for ever.

    Parameters
    ----------
    transport : Transport
        Way to the host.
    trial : Trial
        What is measured.
    request : TrialRequest
        The same, as the agent wants it.
    epoch : int
        Epoch of the run.
    cancel : threading.Event
        When it is set, the agents are asked to stop.
    load : LoadPart, optional
        For a trial whose load comes from another host.
    """
    started_at, began = utc_now(), time.monotonic()
    answer: Result | Failure
    try:
        answer = _answer(transport, request, cancel, load)
    except RemoteError as error:
        who = "" if error.host == trial.host else f"load host {error.host}: "
        answer = _failure(request, error.kind, who + error.reason)
    attempt = Attempt(trial, request.attempt, epoch, started_at, time.monotonic() - began, texts=answer.raw)
    texts = {"lighttpd.conf": request.lighttpd_conf, **answer.raw} if request.wire is None else answer.raw
    attempt = replace(attempt, orphans=len(answer.orphans))
    if isinstance(answer, Result):
        return replace(attempt, result=answer, texts=texts)
    texts["failure.json"] = json.dumps(replace(answer, raw={}).to_json(), indent=1)
    return replace(attempt, kind=answer.kind, reason=answer.reason, texts=texts)


def _answer(
    transport: Transport, request: TrialRequest, cancel: threading.Event, load: LoadPart | None
) -> Result | Failure:
    with contextlib.ExitStack() as stack:
        process = stack.enter_context(
            contextlib.closing(transport.start(agent_command(transport.host, "trial")))
        )
        server = Conversation(transport, process, request, slack_s=SLACK_S, cancel=cancel)
        if load is None:
            return measure_on_one_host(server)
        host = load.transport.host
        # started now, so that it is there at once when the server is ready
        process = stack.enter_context(contextlib.closing(load.transport.start(agent_command(host, "load"))))
        other = Conversation(
            load.transport, process, load.request,
            slack_s=SLACK_S, cancel=cancel, who=f"load host {host.name}: ",
        )  # fmt: skip
        return measure_on_two_hosts(server, other, host.name)


def _failure(request: TrialRequest, kind: str, reason: str) -> Failure:
    return Failure(trial_id=request.trial_id, attempt=request.attempt, kind=kind, reason=reason)
