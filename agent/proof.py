"""Trials that end where the load would begin: the same server, proven to answer, and stopped."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Callable, ClassVar, Optional, Union

from agent.frame import Frame
from agent.lease import Lease
from agent.records import SCHEMA, Failure, Orphan, Record, Timings, TrialRequest
from agent.trial import arm_of

_ANSWERS = 20


@dataclass(frozen=True)
class Proved(Record):
    """A server that answers: each handler process, and the service `answers` times, always as expected.

    `complaints` are unusual lines of its logs, `leftovers` the processes that had to be killed.
    """

    EVENT: ClassVar[Optional[str]] = "proved"

    trial_id: str
    attempt: int
    answers: int
    complaints: tuple[str, ...] = ()
    leftovers: tuple[str, ...] = ()
    timings_s: Timings = field(default_factory=Timings)
    orphans: tuple[Orphan, ...] = ()
    raw: dict[str, str] = field(default_factory=dict)
    schema: int = SCHEMA


def perform(document: Any, lease: Lease, say: Callable[[Record], None]) -> Union[Proved, Failure]:
    """Prove what each of a list of TrialRequests names; say how each went, and return how the last did."""
    *others, last = [TrialRequest.from_json(each) for each in document]
    for request in others:
        say(Proof(request, lease, say).run())
    return Proof(last, lease, say).run()


class Proof:
    """A proof under way.

    Parameters
    ----------
    request
        What is to answer; what it says of the load does not matter.
    lease
        How long it may take.
    say
        Where events before the outcome go.
    """

    def __init__(self, request: TrialRequest, lease: Lease, say: Callable[[Record], None]) -> None:
        self._request = request
        self._arm = arm_of(request, lease, say)
        self._frame = Frame(request, lease, say, self._arm.programs)

    def run(self) -> Union[Proved, Failure]:
        """Return that every process and the service answer as they should, or the Failure that says why not.

        Either way nothing of it runs or lies about any more, and the lock is free.
        """
        return self._frame.run(self._proved)

    def _proved(self) -> Proved:
        arm, frame = self._arm, self._frame
        with frame.step("prepare"):
            arm.prepare(frame)
        with arm.serving(frame) as server:
            with frame.step("ready"):
                server.await_ready()
                # one answer is there already
                for _ in range(_ANSWERS - 1):
                    server.prove_service()
            with frame.step("stop"):
                leftovers = server.stop()
            return Proved(
                trial_id=self._request.trial_id,
                attempt=self._request.attempt,
                answers=_ANSWERS,
                complaints=server.complaints(),
                leftovers=leftovers,
            )
