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

from agent.records import Failure, LoadSpec, Promise, RecordError, Result, TrialRequest, event_from_json
from controller.catalogue import STATIC
from controller.cells import Cell, Trial
from controller.errors import RemoteError
from controller.experiment import Load
from controller.host_facts import HostFacts
from controller.inventory import Host
from controller.journal import utc_now
from controller.lighttpd_conf import LighttpdConf, render_lighttpd_conf
from controller.placement import CpuPool, share_cpus
from controller.remote import POLL_S, NoLineYet, RemoteProcess, Transport, agent_command

READY_TIMEOUT_S = 10.0
START_AND_STOP_S = 15.0
SLACK_S = 5.0
"""How long the controller waits for an agent that has reached its own deadline."""
GRACE_S = 10.0
"""How long an agent may take to stop everything when it is asked to."""


@dataclass(frozen=True, slots=True)
class Site:
    """A host that is ready to be measured: how to reach it and what it is.

    Attributes
    ----------
    host : Host
        From the inventory.
    facts : HostFacts
        From its agent.
    """

    host: Host
    facts: HostFacts

    @property
    def pool(self) -> CpuPool:
        """The CPUs that its trials may use."""
        return CpuPool(self.facts.cpus, self.host.server_cpus, self.host.load_cpus)


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
            overhead_s -= self.result.timings_s.warmup + self.result.timings_s.measure
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


def trial_request(run_id: str, trial: Trial, attempt: int, site: Site, load: Load) -> TrialRequest:
    """Put together everything that the agent needs; the host must have what the cell names."""
    cell, facts = trial.cell, site.facts
    manifest = facts.manifest or {}
    identity = hashlib.sha256(f"{run_id}/{trial.trial}/{attempt}".encode()).hexdigest()[:8]
    work_dir = f"{facts.prefix}/run/{identity}"
    build = facts.lighttpd_build(cell.lighttpd)
    workload = facts.workload(cell.workload) or {}
    handler = facts.handler(cell.handler) or {}
    tool = facts.load_generator(cell.tool) or {}
    python = facts.python() or {}
    share = share_cpus(site.pool, cell.cores, cell.placement)
    conf = LighttpdConf(
        work_dir=work_dir,
        address="127.0.0.1",
        port=site.host.listen_port,
        modules_dir=build.modules if build else "",
        handler=cell.handler,
        processes=cell.processes,
        command=f"{python.get('path')} -m fcgi_handlers {cell.handler} {cell.workload}",
        environment={
            "PYTHONPATH": str((manifest.get("handlers") or {}).get("path")),
            "FCGI_SWEEP_STATS": f"{work_dir}/stats",
            "FCGI_SWEEP_PREFIX": facts.prefix,
            "FCGI_SWEEP_TRIAL": trial.trial,
        },
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
        lighttpd_conf=render_lighttpd_conf(conf),
        address=conf.address,
        port=conf.port,
        url_path=conf.url_path,
        expected_bytes=int(workload.get("bytes", 0)),
        expected_sha256=str(workload.get("sha256")),
        handler=cell.handler,
        processes=cell.processes,
        promise=Promise(handler.get("peak_in_process"), bool(handler.get("multiplexes"))),
        load=LoadSpec(
            tool=cell.tool,
            path=str(tool.get("path")),
            concurrency=cell.concurrency,
            warmup_s=load.warmup_s,
            measure_s=load.measure_s,
            keepalive=cell.keepalive,
        ),
        server_cpus=share.server,
        load_cpus=share.load,
        ready_timeout_s=READY_TIMEOUT_S,
        deadline_s=load.warmup_s + load.measure_s + READY_TIMEOUT_S + START_AND_STOP_S,
    )


def missing_on_host(cell: Cell, facts: HostFacts) -> str | None:
    """Return what a host lacks to measure a cell, None if nothing."""
    if facts.manifest is None:
        return "provisioning never finished there (no manifest)"
    if facts.lighttpd_build(cell.lighttpd) is None:
        return f"lighttpd {cell.lighttpd} is not built there"
    if cell.handler != STATIC and facts.handler(cell.handler) is None:
        return f"its handlers are older than this checkout: no handler {cell.handler!r}"
    if facts.workload(cell.workload) is None:
        return f"its handlers are older than this checkout: no workload {cell.workload!r}"
    if facts.load_generator(cell.tool) is None:
        return f"the load generator {cell.tool} is not there (fcgi_sweep_load_generators has to list it)"
    return None


def attempt_trial(
    transport: Transport, trial: Trial, request: TrialRequest, epoch: int, cancel: threading.Event
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
        When it is set, the agent is asked to stop.
    """
    started_at, began = utc_now(), time.monotonic()
    answer: Result | Failure
    try:
        with contextlib.closing(transport.start(agent_command(transport.host, "trial"))) as process:
            answer = _converse(transport, process, request, cancel)
    except RemoteError as error:
        answer = _failure(request, error.kind, error.reason)
    attempt = Attempt(trial, request.attempt, epoch, started_at, time.monotonic() - began, texts=answer.raw)
    texts = {"lighttpd.conf": request.lighttpd_conf, **answer.raw}
    attempt = replace(attempt, orphans=len(answer.orphans))
    if isinstance(answer, Result):
        return replace(attempt, result=answer, texts=texts)
    texts["failure.json"] = json.dumps(replace(answer, raw={}).to_json(), indent=1)
    return replace(attempt, kind=answer.kind, reason=answer.reason, texts=texts)


def _converse(
    transport: Transport, process: RemoteProcess, request: TrialRequest, cancel: threading.Event
) -> Result | Failure:
    process.write(json.dumps(request.to_json()) + "\n")
    deadline = time.monotonic() + request.deadline_s + SLACK_S
    asked_to_stop = False
    while True:
        if cancel.is_set() and not asked_to_stop:
            asked_to_stop = True
            process.close_input()
            deadline = min(deadline, time.monotonic() + GRACE_S)
        try:
            line = process.read_line(POLL_S)
        except NoLineYet:
            if time.monotonic() < deadline:
                continue
            transport.close()  # the connection is of no use any more, and closing it ends the lease
            if asked_to_stop:
                return _failure(
                    request, "interrupted", f"interrupted; no word from the agent for {GRACE_S:.0f} s"
                )
            waited_s = request.deadline_s + SLACK_S
            return _failure(
                request,
                "host_lost",
                f"no word from the agent for {waited_s:.0f} s: the host is frozen or its link is down",
            )
        if line is None:
            return _ended_early(transport, process, request, asked_to_stop)
        answer = _understand(line, request)
        if answer is not None:
            process.exit_code(2.0)
            return answer


def _understand(line: str, request: TrialRequest) -> Result | Failure | None:
    if not line.strip():
        return None
    try:
        document = json.loads(line)
        if document.get("event") == "failure" and "trial_id" not in document:
            return _failure(request, document["kind"], f"{document['reason']}; run 'fcgi-sweep provision'")
        event = event_from_json(document)
    except (ValueError, AttributeError, KeyError, RecordError) as error:
        return _failure(
            request,
            "internal",
            f"the agent speaks another language ({error}): {line[:200]!r}; run 'fcgi-sweep provision'",
        )
    return event if isinstance(event, Result | Failure) else None


def _ended_early(
    transport: Transport, process: RemoteProcess, request: TrialRequest, asked_to_stop: bool
) -> Failure:
    code = process.exit_code(2.0)
    if asked_to_stop:
        return _failure(request, "interrupted", "interrupted")
    if code is None:
        transport.close()
        return _failure(request, "host_lost", "the connection to the host broke in the middle of the trial")
    said = process.error_text().strip().splitlines()
    return _failure(
        request,
        "internal",
        f"the agent ended with {code} and no result: {said[-1] if said else 'it said nothing'}",
        {"agent-stderr.txt": "\n".join(said)},
    )


def _failure(request: TrialRequest, kind: str, reason: str, raw: Mapping[str, str] | None = None) -> Failure:
    return Failure(
        trial_id=request.trial_id, attempt=request.attempt, kind=kind, reason=reason, raw=dict(raw or {})
    )
