"""One trial from the start of the server to the verdicts."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from typing import Callable, Protocol, Union

from agent import gates
from agent.frame import Frame
from agent.lease import Lease
from agent.loading import Loaded
from agent.measurement import Load, Measurement
from agent.records import Failure, Record, Requests, Result, Timings, TrialRequest
from agent.server import Server


class Arm(Protocol):
    """A way to put handlers under load; `programs` as a Frame wants them."""

    @property
    def programs(self) -> Mapping[str, str]:
        """What must be on the host: what it is, and its path."""

    def prepare(self, frame: Frame) -> None:
        """Write what is to be there before anything is started."""

    def serving(self, frame: Frame) -> AbstractContextManager[Server]:
        """Run what answers; nothing of it runs when the context is left."""

    def load(self, frame: Frame) -> Load:
        """Return what loads it."""

    def judged(self, result: Result, loaded: Loaded) -> Result:
        """Return the result with the verdicts that only this arm has."""


def arm_of(request: TrialRequest, lease: Lease, say: Callable[[Record], None]) -> Arm:
    """Return the arm that a request asks for. The other one is not even imported: a trial starts sooner."""
    if request.wire is not None:
        from agent.bare_handlers import OnTheWire  # noqa: PLC0415

        return OnTheWire(request, request.wire, lease)
    from agent.lighttpd import BehindLighttpd  # noqa: PLC0415

    return BehindLighttpd(request, lease, say)


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
        self.arm = arm_of(request, lease, say)
        self.frame = Frame(request, lease, say, self.arm.programs)
        self.request = request

    def run(self) -> Union[Result, Failure]:
        """Measure; return the Result, or the Failure that says why there is none.

        Either way nothing of the trial runs or lies about any more, and the lock is free.
        """
        return self.frame.run(self._measured)

    def under_load(self, stack: ExitStack, load: Load) -> Measurement:
        """Start the server for the length of the stack, and load it."""
        frame = self.frame
        with frame.step("start"):
            server = stack.enter_context(self.arm.serving(frame))
        with frame.step("ready"):
            server.await_ready()
        measurement = Measurement(self.request, server, load)
        with frame.step("warmup"):
            measurement.warm_up()
        with frame.step("measure"):
            measurement.measure()
        return measurement

    def _measured(self) -> Result:
        arm, frame = self.arm, self.frame
        load = arm.load(frame)
        with frame.step("prepare"):
            arm.prepare(frame)
        with ExitStack() as stack:
            measurement = self.under_load(stack, load)
            with frame.step("stop"):
                leftovers = measurement.server.stop()
            evidence = measurement.evidence(measurement.server.complaints(), leftovers)
        result = replace(_result(evidence), startup=measurement.startup())
        return arm.judged(result, measurement.loaded)


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
