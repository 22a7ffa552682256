"""What `fcgi-sweep confirm` is to measure: the cells that decide whether a suspected peak is real."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from analysis.best_set import BLOCKS_FOR_BEST, BestSet, blocks_for_difference
from analysis.curves import WIRE_TOOL, Curve
from analysis.findings import Findings
from analysis.peak import CONCURRENCIES_FOR_REAL, NOISE, PeakVerdict, Suspect
from analysis.wording import place_text, plural

CONFIRMATION_BLOCKS = 20

_SECOND_TOOL = {"ab": "wrk", "wrk": "ab", "h2load": "wrk"}
_ALWAYS_KEEPS_CONNECTIONS = "h2load"


@dataclass(frozen=True)
class Confirmation:
    """The cells that decide whether a suspected peak is real.

    Parameters
    ----------
    suspect : Suspect
        Host, handler and count.
    counts : tuple of int
        The suspect, its neighbours, cores, twice the cores, the runner-up.
    conditions : tuple of dict
        Conditions to measure the counts under: as explored, at further concurrencies until three are above
        the largest count, the other keep-alive, another load generator.
    blocks : int
        Blocks of each; with a seed that the exploratory run did not use, on another day.
    """

    suspect: Suspect
    counts: tuple[int, ...]
    conditions: tuple[dict[str, object], ...]
    blocks: int


def confirmation(curve: Curve, judged: BestSet, indifference: float) -> Confirmation:
    """Say which cells decide whether the leading count of a curve is real.

    Parameters
    ----------
    curve, judged
        The exploratory curve and its best set.
    indifference : float
        δ as a fraction.

    Returns
    -------
    Confirmation
        Pure: it schedules nothing, and does not ask whether the host has the other load generator.
    """
    leader = judged.leader
    if leader is None:
        raise ValueError(f"{curve.host}: {curve.handler}: no valid trials, nothing to confirm")
    others = judged.processes[judged.processes != leader]
    runner_up = int(others[judged.log_means[judged.processes != leader].argmax()]) if len(others) else leader
    wanted = {*range(leader - 2, leader + 3), curve.cores, 2 * curve.cores, runner_up}
    counts = tuple(sorted(count for count in wanted if count >= 1))
    needed = blocks_for_difference(judged.residual_sd, indifference)
    return Confirmation(
        suspect=Suspect(curve.host, curve.setting, curve.handler, leader, curve.cores),
        counts=counts,
        conditions=tuple(_conditions(curve, counts[-1])),
        blocks=int(min(max(needed, BLOCKS_FOR_BEST), CONFIRMATION_BLOCKS)),
    )


def confirmation_document(findings: Findings) -> dict[str, Any]:
    """Return what is to be confirmed, and for every other curve why it is not.

    Returns
    -------
    dict
        ``plans``: a `Confirmation` each; ``nothing_for``: one sentence a curve.
    """
    if confirms := findings.run.meta.get("confirms"):
        whole = f"this run confirms {confirms['run_id']}; more blocks: `fcgi-sweep confirm` that run again"
        return {"plans": [], "nothing_for": [whole]}
    peaks = {(peak.suspect.host, peak.suspect.setting, peak.suspect.handler): peak for peak in findings.peaks}
    plans, nothing_for = [], []
    for curve, judged in zip(findings.curves, findings.best, strict=True):
        reason = _settled(curve, judged, peaks.get((curve.host, curve.setting, curve.handler)))
        if reason:
            where = place_text(curve.host, curve.cores, curve.setting)
            nothing_for.append(f"{where}: {curve.handler}: {reason}")
        else:
            plans.append(dataclasses.asdict(confirmation(curve, judged, findings.run.indifference)))
    return {"plans": plans, "nothing_for": nothing_for}


def _settled(curve: Curve, judged: BestSet, peak: PeakVerdict | None) -> str | None:
    if curve.conditions["tool"] == WIRE_TOOL:
        return "no peak is suspected: on the wire regimes are compared, not process counts"
    if curve.handler != curve.model:
        return "several interpreters were measured: measure it with one, then confirm"
    if judged.reason is not None:
        return f"no peak is suspected: {judged.reason}"
    if peak is None:
        return f"no peak is suspected: {plural(curve.cores, 'process', 'processes')}, as many as cores, lead"
    if peak.verdict == NOISE:
        return f"the peak at {plural(peak.suspect.processes, 'process', 'processes')} is noise: {peak.reason}"
    return None


def _conditions(curve: Curve, largest: int) -> Iterator[dict[str, object]]:
    base = dict(curve.conditions)
    tool = str(base["tool"])
    yield base
    more = CONCURRENCIES_FOR_REAL - (curve.concurrency > largest)
    for level in itertools.islice(_concurrencies(largest, curve.concurrency), more):
        yield {**base, "concurrency": level}
    if tool != _ALWAYS_KEEPS_CONNECTIONS:
        yield {**base, "keepalive": not base["keepalive"]}
    if tool in _SECOND_TOOL:
        yield {**base, "tool": _SECOND_TOOL[tool]}


def _concurrencies(largest: int, own: int) -> Iterator[int]:
    """Yield other concurrencies above the largest count: a prime first, since no count divides it."""
    prime = next(n for n in itertools.count(max(largest, own) + 1) if _is_prime(n))
    levels = itertools.chain([prime, 2 * largest + 2], itertools.count(3 * largest + 1))
    seen = {own}
    for level in levels:
        if level not in seen:
            seen.add(level)
            yield level


def _is_prime(n: int) -> bool:
    return n > 1 and all(n % d for d in range(2, int(n**0.5) + 1))
