"""One request on standard input, one trial, one answer: the agent's life as the controller sees it."""

from __future__ import annotations

import json
import os
import sys
from typing import Any, Callable

from agent import process
from agent.lease import Lease
from agent.problems import TrialProblem
from agent.records import Failure, Record, RecordError, Result, TrialRequest
from agent.trial import Trial


def run(say: Callable[[Record], None]) -> int:
    """Read a TrialRequest, run the trial, say how it ended; return 0 after a result, 1 after a failure."""
    os.umask(0o077)
    process.adopt_orphans()
    lease = Lease(sys.stdin.fileno())
    document: Any = {}
    try:
        document = json.loads(lease.read_line())
        outcome: Record = Trial(TrialRequest.from_json(document), lease, say).run()
    except TrialProblem as problem:
        outcome = _unread(document, problem.kind, problem.reason)
    except (RecordError, ValueError) as error:
        outcome = _unread(document, "internal", f"the request cannot be understood: {error}")
    say(outcome)
    return 0 if isinstance(outcome, Result) else 1


def _unread(document: Any, kind: str, reason: str) -> Failure:
    trial_id = document.get("trial_id") if isinstance(document, dict) else None
    return Failure(trial_id=str(trial_id or "unknown"), attempt=1, kind=kind, reason=reason)
