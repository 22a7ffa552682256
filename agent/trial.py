"""One trial from the start of the server to the verdicts."""

from __future__ import annotations

import contextlib
import signal
from typing import Any, Callable, Union

from agent import gates, preparation, process
from agent.frame import Frame
from agent.lease import Lease
from agent.load.report import tool
from agent.loading import LocalLoad, http_url
from agent.measurement import Load, Measurement
from agent.records import Failure, Record, Requests, Result, Timings, TrialRequest
from agent.server import Server


def perform(document: Any, lease: Lease, say: Callable[[Record], None]) -> Union[Result, Failure]:
    """Measure what a TrialRequest asks for."""
    return Trial(TrialRequest.from_json(document), lease, say).run()


class Trial:
    """A trial under way.

    Parameters
    ----------
    request
        What is to be measured.
    lease
        How long it may take.
    say
        Where events before the result go.
    """

    def __init__(self, request: TrialRequest, lease: Lease, say: Callable[[Record], None]) -> None:
        self._request = request
        self._lease = lease
        self._say = say
        programs = {"lighttpd": request.lighttpd}
        if request.load_from is None:
            programs["the load generator"] = request.load.path
        self._frame = Frame(request, lease, say, programs)

    def run(self) -> Union[Result, Failure]:
        """Measure; return the Result, or the Failure that says why there is none.

        Either way nothing of the trial runs or lies about any more, and the lock is free.
        """
        return self._frame.run(self._measured)

    def _measured(self) -> Result:
        request, frame = self._request, self._frame
        load = self._load()
        with frame.step("prepare"):
            preparation.write_server_files(request, frame.environment)
            preparation.require_free_port(request.address, request.port)
        command = [request.lighttpd, "-D", "-f", str(frame.work_dir / "lighttpd.conf")]
        output = frame.work_dir / "output.log"
        with contextlib.ExitStack() as stack:
            with frame.step("start"):
                running = process.running(
                    command, frame.environment, output, request.server_cpus, signal.SIGTERM
                )
                server = Server(request, stack.enter_context(running), self._lease)
            with frame.step("ready"):
                server.await_ready()
            measurement = Measurement(request, server, load)
            with frame.step("warmup"):
                measurement.warm_up()
            with frame.step("measure"):
                measurement.measure()
            with frame.step("stop"):
                leftovers = server.stop()
            evidence = measurement.evidence(server.complaints(), leftovers)
        return _result(evidence)

    def _load(self) -> Load:
        request = self._request
        if request.load_from is not None:
            # what the usual trial does without costs its start nothing
            from agent.remote_load import LoadFromElsewhere  # noqa: PLC0415

            return LoadFromElsewhere(request, self._lease, self._say)
        return LocalLoad(
            request.load,
            tool(request.load.tool),
            http_url(request.address, request.port, request.url_path),
            cpus=request.load_cpus,
            work_dir=self._frame.work_dir,
            environment=self._frame.environment,
            lease=self._lease,
        )


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
        load_host=evidence.load_host,
    )
