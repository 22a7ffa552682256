"""One request on standard input, one measurement, one answer: the agent's life as the controller sees it."""

from __future__ import annotations

import json
import os
import sys
from typing import Any, Callable

from agent import process
from agent.lease import Lease
from agent.problems import TrialProblem
from agent.records import Failure, Record, RecordError

Say = Callable[[Record], None]


def run(say: Say, perform: Callable[[Any, Lease, Say], Record]) -> int:
    """Read a request, perform what it asks for, say how it ended; return 1 after a failure, else 0."""
    os.umask(0o077)
    process.adopt_orphans()
    lease = Lease(sys.stdin.fileno())
    document: Any = {}
    try:
        document = json.loads(lease.read_line())
        outcome = perform(document, lease, say)
    except TrialProblem as problem:
        outcome = _unread(document, problem.kind, problem.reason)
    except (RecordError, ValueError) as error:
        outcome = _unread(document, "internal", f"the request cannot be understood: {error}")
    say(outcome)
    return 1 if isinstance(outcome, Failure) else 0


def _unread(document: Any, kind: str, reason: str) -> Failure:
    trial_id = document.get("trial_id") if isinstance(document, dict) else None
    return Failure(trial_id=str(trial_id or "unknown"), attempt=1, kind=kind, reason=reason)
