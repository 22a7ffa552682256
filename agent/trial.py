"""One trial from the lock to the verdicts: the order of steps, and the clean-up after each way to end."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Callable, Union

from agent import gates, marked, preparation, process
from agent.lease import Lease
from agent.load.report import LoadError, Tool, tool
from agent.lock import HostLock
from agent.measurement import Measurement
from agent.problems import TrialProblem
from agent.records import Failure, Orphan, Record, Requests, Result, Started, Timings, TrialRequest
from agent.server import Server, tail

_RAW = ("lighttpd.conf", "error.log", "output.log", "load.txt", "load.csv")


class Trial:
    """A trial under way.

    Parameters
    ----------
    request
        What is to be measured.
    lease
        How long it may take.
    say
        Where `started` goes.
    """

    def __init__(self, request: TrialRequest, lease: Lease, say: Callable[[Record], None]) -> None:
        self._request = request
        self._lease = lease
        self._say = say
        self._work_dir = Path(request.work_dir)
        self._orphans: tuple[Orphan, ...] = ()
        self._raw: dict[str, str] = {}
        self._took_s: dict[str, float] = {}

    def run(self) -> Union[Result, Failure]:
        """Measure; return the Result, or the Failure that says why there is none.

        Either way nothing of the trial runs or lies about any more, and the lock is free.
        """
        began_s = time.monotonic()
        outcome = self._outcome()
        timings = Timings(**self._took_s, total=round(time.monotonic() - began_s, 6))
        return replace(outcome, timings_s=timings, orphans=self._orphans, raw=self._raw)

    def _outcome(self) -> Union[Result, Failure]:
        request = self._request
        try:
            self._lease.set_deadline(request.deadline_s)
            preparation.require_provisioned(request)
            load_tool = tool(request.load.tool)
            run_dir = Path(request.prefix) / "run"
            with HostLock(run_dir, {"run_id": request.run_id, "trial_id": request.trial_id}):
                return self._locked(load_tool)
        except TrialProblem as problem:
            return self._failure(problem.kind, problem.reason)
        except LoadError as error:
            return self._failure("load_failed", str(error))
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                return self._failure("not_ready", f"the disk that holds {request.prefix} is full; make room")
            return self._failure("internal", f"{type(error).__name__}: {error}")

    def _locked(self, load_tool: Tool) -> Result:
        request = self._request
        with self._step("prepare"):
            self._orphans = preparation.remove_leftovers(Path(request.prefix))
            self._say(Started(request.trial_id, request.attempt, os.getpid(), self._orphans))
        try:
            with self._step("prepare"):
                preparation.make_work_dir(request, self._environment())
                preparation.require_free_port(request.address, request.port)
            return self._measured(load_tool)
        finally:
            marked.kill(request.prefix)
            marked.reap()
            self._raw = {name: text for name in _RAW if (text := tail(self._work_dir / name))}
            shutil.rmtree(self._work_dir, ignore_errors=True)

    def _measured(self, load_tool: Tool) -> Result:
        request, work_dir = self._request, self._work_dir
        command = [request.lighttpd, "-D", "-f", str(work_dir / "lighttpd.conf")]
        environment = self._environment()
        output = work_dir / "output.log"
        with contextlib.ExitStack() as stack:
            with self._step("start"):
                running = process.running(command, environment, output, request.server_cpus, signal.SIGTERM)
                server = Server(request, stack.enter_context(running), self._lease)
            with self._step("ready"):
                server.await_ready()
            measurement = Measurement(request, server, load_tool, self._lease, environment)
            with self._step("warmup"):
                measurement.warm_up()
            with self._step("measure"):
                measurement.measure()
            with self._step("stop"):
                leftovers = server.stop()
            evidence = measurement.evidence(server.complaints(), leftovers)
        return _result(evidence)

    def _environment(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        return {
            **kept,
            marked.PREFIX_MARK: self._request.prefix,
            marked.TRIAL_MARK: self._request.trial_id,
        }

    def _failure(self, kind: str, reason: str) -> Failure:
        return Failure(self._request.trial_id, self._request.attempt, kind, reason)

    @contextlib.contextmanager
    def _step(self, name: str) -> Iterator[None]:
        began_s = time.monotonic()
        try:
            yield
        finally:
            self._took_s[name] = round(self._took_s.get(name, 0.0) + time.monotonic() - began_s, 6)


def _result(evidence: gates.Evidence) -> Result:
    request, load = evidence.request, evidence.load
    ok = gates.correct_responses(load, request.expected_bytes)
    seconds = load.measured_s or float(evidence.asked_s)
    return Result(
        trial_id=request.trial_id,
        attempt=request.attempt,
        goodput_rps=ok / seconds,
        requests=Requests(
            asked_s=float(evidence.asked_s),
            measured_s=load.measured_s,
            complete=load.complete,
            ok=ok,
            failed=load.failed,
            non_2xx=load.non_2xx,
            keepalive=load.keepalive,
            write_errors=load.write_errors,
            length_failures=load.length_failures,
            body_bytes=load.body_bytes,
            throughput_rps=load.complete / seconds,
        ),
        latency_ms=load.latency_ms,
        counters=evidence.counters,
        handlers=evidence.handlers,
        windows=evidence.windows,
        gates=gates.judge(evidence),
        timings_s=Timings(),
    )
