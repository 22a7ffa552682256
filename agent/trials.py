"""The kinds of trials: of a steady rate, and of a start."""

from __future__ import annotations

from typing import Any, Callable, Union

from agent.lease import Lease
from agent.records import Failure, Record, Result, TrialRequest
from agent.trial import Trial


def perform(document: Any, lease: Lease, say: Callable[[Record], None]) -> Union[Result, Failure]:
    """Measure what a TrialRequest asks for. The other kind is not even imported: a trial starts sooner."""
    request = TrialRequest.from_json(document)
    if request.startup_cost_s is None:
        return Trial(request, lease, say).run()
    from agent.start_trial import StartTrial  # noqa: PLC0415

    return StartTrial(request, lease, say).run()
