"""How far a run is: what its schedule asks for against what its journal holds. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from controller.cells import Trial


@dataclass(frozen=True, slots=True)
class HostStanding:
    """How far a run is on one host.

    Attributes
    ----------
    host : str
        Inventory name.
    scheduled, valid, missing : int
        Trials; `scheduled` is the sum of the other two.
    tried : int
        Trials among the missing ones that were tried in vain.
    attempts : int
        Attempts of all kinds.
    reasons : mapping of str to int
        Why attempts did not count: failure kind or failed gates, with their numbers.
    last : str
        The newest attempt in vain at a trial that is missing, in one line; empty where there is none.
    """

    host: str
    scheduled: int
    valid: int
    missing: int
    tried: int
    attempts: int
    reasons: Mapping[str, int]
    last: str


def missing_trials(schedule: Sequence[Trial], attempts: Iterable[Mapping[str, Any]]) -> tuple[Trial, ...]:
    """Return the trials without a valid attempt, in schedule order."""
    valid = {attempt["trial"] for attempt in attempts if attempt["status"] == "valid"}
    return tuple(trial for trial in schedule if trial.trial not in valid)


def attempts_made(attempts: Iterable[Mapping[str, Any]]) -> Counter[str]:
    """Count the attempts at each trial."""
    return Counter(str(attempt["trial"]) for attempt in attempts)


def standings(schedule: Sequence[Trial], attempts: Sequence[Mapping[str, Any]]) -> tuple[HostStanding, ...]:
    """Sum up every host of a run."""
    hosts = dict.fromkeys(trial.host for trial in schedule)
    return tuple(
        _standing(
            host,
            [trial for trial in schedule if trial.host == host],
            [attempt for attempt in attempts if attempt["host"] == host],
        )
        for host in hosts
    )


def why_not(attempt: Mapping[str, Any]) -> str:
    """Return why an attempt does not count, in one line; empty if it does."""
    if attempt["failure"]:
        return f"{attempt['failure']['kind']}: {attempt['failure']['reason']}"
    return "; ".join(f"{gate['name']}: {gate['detail']}" for gate in _failed_gates(attempt))


def _standing(host: str, schedule: Sequence[Trial], attempts: Sequence[Mapping[str, Any]]) -> HostStanding:
    missing = missing_trials(schedule, attempts)
    wanted = {trial.trial for trial in missing}
    tried = wanted & {attempt["trial"] for attempt in attempts}
    reasons: Counter[str] = Counter()
    last = ""
    for attempt in attempts:
        if attempt["failure"]:
            reasons[str(attempt["failure"]["kind"])] += 1
        for gate in _failed_gates(attempt):
            reasons[str(gate["name"])] += 1
        last = f"{attempt['trial']}: {why_not(attempt)}" if attempt["trial"] in wanted else last
    return HostStanding(
        host=host,
        scheduled=len(schedule),
        valid=len(schedule) - len(missing),
        missing=len(missing),
        tried=len(tried),
        attempts=len(attempts),
        reasons=reasons,
        last=last,
    )


def _failed_gates(attempt: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [gate for gate in (attempt["result"] or {}).get("gates", ()) if not gate["passed"]]
