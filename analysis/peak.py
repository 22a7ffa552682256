"""Is a peak off the core count real: which peaks are suspected, and the rule that decides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from analysis.attempts import OLDER_PYTHON
from analysis.best_set import BestSet, best_set, blocks_for_difference
from analysis.curves import Curve
from analysis.explanation import mechanism
from analysis.handlers import LIMIT
from analysis.intervals import mean_interval
from analysis.models import band_without

REAL, NOISE, INCONCLUSIVE = "REAL", "NOISE", "INCONCLUSIVE"
HOLDS, FAILS, UNTESTED = "holds", "fails", "untested"
CONCURRENCIES_FOR_REAL = 3


@dataclass(frozen=True)
class Suspect:
    """A count that leads although it is not the number of cores."""

    host: str
    setting: str
    handler: str
    processes: int
    cores: int


@dataclass(frozen=True)
class Condition:
    """One part of the rule: holds, fails or is untested, and the numbers."""

    name: str
    status: str
    detail: str


@dataclass(frozen=True)
class PeakVerdict:
    """What may be said about a suspected peak.

    Parameters
    ----------
    suspect : Suspect
        Which peak.
    verdict : str
        REAL, NOISE or INCONCLUSIVE.
    conditions : tuple of Condition
        Every part of the rule.
    reason : str
        Why, in words with numbers.
    difference, margin : float
        Suspect minus the best other count and its simultaneous 95 % half-width, log scale.
    """

    suspect: Suspect
    verdict: str
    conditions: tuple[Condition, ...]
    reason: str
    difference: float
    margin: float


@dataclass(frozen=True)
class Evidence:
    """What one run knows about a suspect.

    Parameters
    ----------
    curves : sequence of Curve
        All curves of the run.
    counters : DataFrame
        `explanation.counter_table` of the run.
    seed : int
        Of the schedule.
    first_day, last_day : str
        Dates (ISO, UTC) on which the run and its last attempt began.
    """

    curves: Sequence[Curve]
    counters: pd.DataFrame
    seed: int
    first_day: str
    last_day: str

    def curve(self, suspect: Suspect) -> Curve | None:
        """Return the suspect's own curve."""
        for curve in self.curves:
            if (curve.host, curve.handler, curve.setting) == (suspect.host, suspect.handler, suspect.setting):
                return curve
        return None

    def like(self, base: Curve) -> Curve | None:
        """Return the curve that was measured under the same conditions as another run's curve."""
        for curve in self.curves:
            same_place = (curve.host, curve.handler) == (base.host, base.handler)
            if same_place and _same_conditions(curve, base):
                return curve
        return None


def _same_conditions(curve: Curve, base: Curve) -> bool:
    """Return whether two curves were measured alike; a run that did not name its interpreter fits any."""
    older = OLDER_PYTHON in (curve.python, base.python)
    return all(
        level == base.conditions[name]
        for name, level in curve.conditions.items()
        if not (older and name == "python")
    )


def suspects(curves: Sequence[Curve], best: Sequence[BestSet]) -> list[Suspect]:
    """Return the curves whose leading count is not the number of cores.

    Parameters
    ----------
    curves, best : sequence
        Curves and their best sets; where no best is named, nothing is suspected.
    """
    return [
        Suspect(curve.host, curve.setting, curve.handler, judged.leader, curve.cores)
        for curve, judged in zip(curves, best, strict=True)
        if judged.reason is None
        and judged.leader is not None
        and judged.leader != curve.cores
        and curve.model != LIMIT
        and curve.swept
    ]


def judge(
    suspect: Suspect, explored: Evidence, confirmed: Evidence | None, indifference: float
) -> PeakVerdict | None:
    """Apply the rule to one suspect.

    Parameters
    ----------
    suspect : Suspect
        From the exploratory run.
    explored : Evidence
        The run in which it was seen.
    confirmed : Evidence or None
        A confirmation run; without one the verdict is never REAL.
    indifference : float
        δ as a fraction.

    Returns
    -------
    PeakVerdict or None
        Under the setting of the run that decided; ``None`` when the suspect's curve is not in the
        exploratory run.
    """
    first = explored.curve(suspect)
    if first is None:
        return None
    second = confirmed.like(first) if confirmed is not None else None
    if confirmed is not None and second is None:
        nan = float("nan")
        return PeakVerdict(suspect, INCONCLUSIVE, (), "the confirmation has no trial of it yet", nan, nan)
    decisive = first if second is None else second
    judged = best_set(decisive.processes, decisive.log_rps, indifference)
    place = judged.index(suspect.processes)
    if place is None:
        reason = f"{suspect.processes} processes have too few valid trials to be judged"
        return PeakVerdict(suspect, INCONCLUSIVE, (), reason, float("nan"), float("nan"))
    difference, margin = float(judged.shortfall[place]), float(judged.margin[place])
    zone = float(np.log1p(indifference))
    within = difference + margin < zone and difference - margin > -zone
    if confirmed is None or second is None:
        return _explored_only(suspect, judged, difference, margin, within=within, indifference=indifference)
    conditions = (
        _fresh(explored, confirmed),
        _shown(difference, margin, zone),
        _unlike_a_smooth_curve(suspect, first),
        _other_concurrencies(suspect, second, confirmed, indifference),
        _other_level("keepalive", suspect, second, confirmed, indifference),
        _other_level("tool", suspect, second, confirmed, indifference),
        _mechanism(suspect, second, confirmed),
    )
    verdict, reason = _decide(conditions, within=within, indifference=indifference)
    if verdict == INCONCLUSIVE and conditions[1].status != HOLDS:
        reason += f"; about {blocks_for_difference(judged.residual_sd, indifference)} blocks would tell"
    here = replace(suspect, setting=second.setting)
    return PeakVerdict(here, verdict, conditions, reason, difference, margin)


def _explored_only(
    suspect: Suspect, judged: BestSet, difference: float, margin: float, *, within: bool, indifference: float
) -> PeakVerdict:
    text = _difference_text(difference, margin)
    if within:
        reason = f"{text} over the best other count: within ±{100 * indifference:g} %"
        return PeakVerdict(suspect, NOISE, (), reason, difference, margin)
    needed = blocks_for_difference(judged.residual_sd, indifference)
    reason = (
        f"{text} over the best other count, and the peak was chosen by the same blocks;"
        f" `fcgi-sweep confirm` measures it anew; with this scatter about {needed} blocks would tell"
    )
    return PeakVerdict(suspect, INCONCLUSIVE, (), reason, difference, margin)


def _difference_text(difference: float, margin: float) -> str:
    low, middle, high = (
        100 * np.expm1(value) for value in (difference - margin, difference, difference + margin)
    )
    return f"{middle:+.1f} % [{low:+.1f}, {high:+.1f}]"


def _fresh(explored: Evidence, confirmed: Evidence) -> Condition:
    broken = []
    if confirmed.seed == explored.seed:
        broken.append(f"both runs have the seed {explored.seed}: the rule asks for a fresh one")
    if confirmed.first_day <= explored.last_day:
        when = "on the same day as" if confirmed.first_day == explored.last_day else "before the end of"
        broken.append(
            f"confirmed {when} the exploration ({explored.last_day}): the rule asks for another day"
        )
    detail = f"seed {explored.seed}, then {confirmed.seed}; {explored.last_day}, then {confirmed.first_day}"
    return Condition("fresh seed, other day", FAILS if broken else HOLDS, "; ".join(broken) or detail)


def _shown(difference: float, margin: float, zone: float) -> Condition:
    holds = difference - margin > 0 and difference >= zone
    detail = f"{_difference_text(difference, margin)} over the best of the other counts, 95 % simultaneous"
    return Condition("faster than every rival by δ or more", HOLDS if holds else FAILS, detail)


def _unlike_a_smooth_curve(suspect: Suspect, first: Curve) -> Condition:
    name = "above what a smooth curve expects there"
    band = band_without(first.processes, first.log_rps, suspect.processes)
    column = first.log_rps[:, first.processes == suspect.processes]
    own = mean_interval(column.ravel())
    if band is None or own.low is None:
        return Condition(name, UNTESTED, "too few counts or blocks to fit a curve without the peak")
    detail = f"at least {np.exp(own.low):,.0f} requests/s, expected at most {np.exp(band[1]):,.0f}"
    return Condition(name, HOLDS if own.low > band[1] else FAILS, detail)


def _persists(suspect: Suspect, curve: Curve, indifference: float) -> bool | None:
    judged = best_set(curve.processes, curve.log_rps, indifference)
    if judged.reason is not None or judged.index(suspect.processes) is None:
        return None
    return suspect.processes in judged.best_set


def _siblings(base: Curve, evidence: Evidence, factor: str) -> list[Curve]:
    """Return the curves that differ from one curve in this condition only, with the curve itself."""

    def rest(curve: Curve) -> dict[str, object]:
        return {name: level for name, level in curve.conditions.items() if name != factor}

    return [
        curve
        for curve in evidence.curves
        if (curve.host, curve.handler) == (base.host, base.handler) and rest(curve) == rest(base)
    ]


def _other_concurrencies(suspect: Suspect, base: Curve, evidence: Evidence, indifference: float) -> Condition:
    name = f"stays at {CONCURRENCIES_FOR_REAL} load concurrencies"
    curves = [
        curve
        for curve in _siblings(base, evidence, "concurrency")
        if curve.concurrency > curve.processes.max()
    ]
    stays = {curve.concurrency: _persists(suspect, curve, indifference) for curve in curves}
    gone = [level for level, stayed in stays.items() if stayed is False]
    if gone:
        return Condition(name, FAILS, f"not in the best set at c = {', '.join(map(str, gone))}")
    tested = [level for level, stayed in stays.items() if stayed]
    enough = len(tested) >= CONCURRENCIES_FOR_REAL
    listed = ", ".join(map(str, sorted(tested))) or "none"
    return Condition(name, HOLDS if enough else UNTESTED, f"c above the largest count: {listed}")


_LEVELS = {"keepalive": "stays with keep-alive on and off", "tool": "stays with another load generator"}


def _other_level(
    factor: str, suspect: Suspect, base: Curve, evidence: Evidence, indifference: float
) -> Condition:
    name = _LEVELS[factor]
    stays = {
        str(curve.conditions[factor]): _persists(suspect, curve, indifference)
        for curve in _siblings(base, evidence, factor)
    }
    gone = [level for level, stayed in stays.items() if stayed is False]
    if gone:
        return Condition(name, FAILS, f"not in the best set with {factor} = {', '.join(gone)}")
    tested = [level for level, stayed in stays.items() if stayed]
    return Condition(name, HOLDS if len(tested) >= 2 else UNTESTED, f"tested: {', '.join(tested) or 'none'}")


def _mechanism(suspect: Suspect, curve: Curve, evidence: Evidence) -> Condition:
    name = "a request costs less there"
    counters = evidence.counters
    if not counters.empty:
        keys = ("host", "setting", "handler")
        for key in keys:
            counters = counters[counters[key] == getattr(curve, key)]
    rivals = [int(count) for count in curve.processes if count != suspect.processes]
    ratios = mechanism(counters, suspect.processes, rivals) if not counters.empty else {}
    if not ratios:
        return Condition(name, UNTESTED, "no counters were sampled")
    cheaper = sum(ratio < 1 for ratio in ratios.values())
    detail = ", ".join(f"{key} x {ratio:.2f}" for key, ratio in ratios.items())
    return Condition(name, HOLDS if 2 * cheaper > len(ratios) else FAILS, f"{detail} of the rivals' median")


def _decide(conditions: Sequence[Condition], *, within: bool, indifference: float) -> tuple[str, str]:
    fresh, shown, _, moved, *_ = conditions
    but = f"; {fresh.detail}" if fresh.status == FAILS else ""
    if moved.status == FAILS:
        return NOISE, f"an artefact of the load's concurrency, the peak moves with it: {moved.detail}{but}"
    if within:
        equal = f"confirmation shows no advantage larger than ±{100 * indifference:g} %: {shown.detail}"
        return NOISE, equal + but
    if all(condition.status == HOLDS for condition in conditions):
        return REAL, shown.detail
    missing = [f"{item.name}: {item.status} ({item.detail})" for item in conditions if item.status != HOLDS]
    return INCONCLUSIVE, "; ".join(missing)


def repeated_on(verdicts: Sequence[PeakVerdict], own: PeakVerdict) -> list[str]:
    """Return the other hosts of the same core count where the same peak is real as well."""
    mine = own.suspect
    return [
        other.suspect.host
        for other in verdicts
        if other.verdict == REAL
        and other.suspect.host != mine.host
        and (other.suspect.cores, other.suspect.processes, other.suspect.handler)
        == (mine.cores, mine.processes, mine.handler)
    ]
