"""Why a trial could not be measured."""

from __future__ import annotations


class TrialProblem(Exception):
    """A trial that ends as a failure.

    Parameters
    ----------
    kind
        One of `agent.records.KINDS`.
    reason
        One sentence: the fact and the next step. The controller puts the host before it.
    """

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(f"{kind}: {reason}")
        self.kind = kind
        self.reason = reason
