"""The five claims of the 2007 study, re-tested host by host."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from analysis.best_set import BestSet
from analysis.comparison import GAIN, LOSS, NO_DIFFERENCE, Comparison, equivalence_p, paired_p
from analysis.curves import Curve, FloatArray
from analysis.handlers import MULTIPLEXED, THREADED
from analysis.intervals import mean_interval
from analysis.peak import NOISE, REAL, PeakVerdict
from analysis.startup import Crossing
from analysis.startup_verdicts import crossing_text
from analysis.tables import percent
from analysis.wording import plural, ratio_text, signed

HOLDS, FAILS, UNDECIDED = "holds", "fails", "undecided"
ALPHA = 0.05
STUDY_PEAK, STUDY_CORES = 13, 4

TEXTS = {
    1: "multiplexed is slower than threaded at every process count",
    2: "both run best at processes = cores",
    3: "multiplexed varies less with the process count",
    4: "on a 4-core host 13 processes beat 4",
    5: "multiplexed may win where a process is expensive to start",
}


@dataclass(frozen=True)
class Claim:
    """One claim on one host and setting.

    Parameters
    ----------
    number : int
        1 to 5.
    host, setting : str
        Where; ``host`` names a group of hosts in the summary over equal core counts.
    cores : int
        Of the host or of each host of the group.
    status : str
        holds, fails or undecided.
    detail : str
        The numbers.
    """

    number: int
    host: str
    setting: str
    cores: int
    status: str
    detail: str


@dataclass(frozen=True)
class Place:
    """What is known about one host in one setting.

    Parameters
    ----------
    threaded, multiplexed : tuple of Curve and BestSet, or None
        The two handlers of the study.
    comparison : Comparison or None
        multiplexed against threaded.
    peaks : sequence of PeakVerdict
        Peak verdicts of the host and setting.
    """

    host: str
    setting: str
    cores: int
    threaded: tuple[Curve, BestSet] | None
    multiplexed: tuple[Curve, BestSet] | None
    comparison: Comparison | None
    peaks: Sequence[PeakVerdict]


def judge_claims(place: Place, indifference: float) -> list[Claim]:
    """Test the five claims in one place.

    Parameters
    ----------
    place : Place
        Curves, comparison and peak verdicts of one host and setting.
    indifference : float
        δ as a fraction.
    """
    rules = (_slower_everywhere, _best_at_cores, _varies_less, _thirteen, _few_processes)
    claims = []
    for number, rule in enumerate(rules, start=1):
        status, detail = rule(place, indifference)
        claims.append(Claim(number, place.host, place.setting, place.cores, status, detail))
    return claims


def _slower_everywhere(place: Place, indifference: float) -> tuple[str, str]:
    if place.comparison is None:
        return UNDECIDED, "multiplexed and threaded were not both measured"
    rows = place.comparison.at_counts
    slower = [
        row for row in rows if row.p_holm is not None and row.p_holm < ALPHA and row.log_ratio.estimate < 0
    ]
    against = [
        row for row in rows if row.verdict == GAIN or (row.verdict == NO_DIFFERENCE and row not in slower)
    ]
    estimates = [row.log_ratio.estimate for row in rows if np.isfinite(row.log_ratio.estimate)]
    span = f"from {signed(min(estimates))} to {signed(max(estimates))}" if estimates else "no valid pair"
    if against:
        counts = ", ".join(str(row.processes) for row in against)
        return FAILS, f"not slower (by more than {100 * indifference:g} %) at {counts} processes; {span}"
    if len(slower) == len(rows):
        return HOLDS, f"slower at all {len(rows)} counts after Holm: {span}"
    return UNDECIDED, f"slower at {len(slower)} of {len(rows)} counts after Holm: {span}"


def _best_at_cores(place: Place, indifference: float) -> tuple[str, str]:
    results = []
    for name, known in ((THREADED, place.threaded), (MULTIPLEXED, place.multiplexed)):
        if known is None:
            return UNDECIDED, f"{name} was not measured"
        results.append((name, *_cores_best(known[1], place.cores, indifference)))
    statuses = [status for _, status, _ in results]
    detail = "; ".join(f"{name}: {text}" for name, _, text in results)
    if FAILS in statuses:
        return FAILS, detail
    return (HOLDS if set(statuses) == {HOLDS} else UNDECIDED), detail


def _cores_best(best: BestSet, cores: int, indifference: float) -> tuple[str, str]:
    place = best.index(cores)
    if best.reason is not None or place is None:
        return UNDECIDED, best.reason or f"{cores} processes were not measured"
    low = best.shortfall[place] - best.margin[place]
    high = best.shortfall[place] + best.margin[place]
    numbers = (
        f"{plural(cores, 'process', 'processes')} minus the best other count {signed(best.shortfall[place])}"
    )
    numbers += f" [{percent(low):+.1f}, {percent(high):+.1f}]"
    if high <= 0:
        return FAILS, f"{numbers}, not in the best set {list(best.best_set)}"
    if low > 0:
        return HOLDS, f"{numbers}, the only best count"
    fewer = best.processes < cores
    smaller_worse = bool((best.shortfall[fewer] + best.margin[fewer] <= 0).all())
    if smaller_worse and low >= np.log1p(-indifference):
        return HOLDS, f"{numbers}: nothing is better by {100 * indifference:g} %, and fewer are worse"
    return UNDECIDED, f"{numbers}, one of the best set {list(best.best_set)}"


def _varies_less(place: Place, indifference: float) -> tuple[str, str]:
    del indifference
    if place.threaded is None or place.multiplexed is None:
        return UNDECIDED, "multiplexed and threaded were not both measured"
    matrices = [known[0].log_rps for known in (place.threaded, place.multiplexed)]
    shared = np.intersect1d(place.threaded[0].processes, place.multiplexed[0].processes)
    parts = [
        matrix[:, np.isin(known[0].processes, shared)]
        for matrix, known in zip(matrices, (place.threaded, place.multiplexed), strict=True)
    ]
    if len(shared) < 3 or any(len(part) < 6 for part in parts) or len(parts[0]) != len(parts[1]):
        return UNDECIDED, "too few shared counts or blocks"
    whole = np.isfinite(parts[0]).all(axis=1) & np.isfinite(parts[1]).all(axis=1)
    if whole.sum() < 6:
        return UNDECIDED, f"only {whole.sum()} blocks are complete for both"
    parts = [part[whole] for part in parts]
    variances = [variance_between_counts(part) for part in parts]
    text = ", ".join(
        f"{name} {100 * np.sqrt(max(variance, 0)):.1f} %"
        for name, variance in zip((THREADED, MULTIPLEXED), variances, strict=True)
    )
    low, high = _jackknife_difference(parts[1], parts[0])
    detail = f"standard deviation across {len(shared)} counts, noise removed: {text}"
    if high < 0:
        return HOLDS, detail
    return (FAILS if low > 0 else UNDECIDED), detail


def variance_between_counts(matrix: FloatArray) -> float:
    """Return the variance of the true log speeds across counts, without the noise of the means.

    Products of different blocks only: the noise of a block never meets itself.
    """
    centred = matrix - matrix.mean(axis=1, keepdims=True)
    n, k = centred.shape
    total = centred.sum(axis=0)
    cross = (total @ total - (centred**2).sum()) / (n * (n - 1))
    return float(cross / (k - 1))


def _jackknife_difference(first: FloatArray, second: FloatArray) -> tuple[float, float]:
    n = len(first)
    whole = variance_between_counts(first) - variance_between_counts(second)
    parts = np.array(
        [
            variance_between_counts(np.delete(first, block, axis=0))
            - variance_between_counts(np.delete(second, block, axis=0))
            for block in range(n)
        ]
    )
    error = np.sqrt((n - 1) / n * ((parts - parts.mean()) ** 2).sum())
    width = float(stats.t.ppf(1 - ALPHA / 2, n - 1) * error)
    return whole - width, whole + width


def _thirteen(place: Place, indifference: float) -> tuple[str, str]:
    if place.threaded is None:
        return UNDECIDED, "threaded was not measured"
    curve = place.threaded[0]
    counts = curve.processes.tolist()
    if STUDY_PEAK not in counts or place.cores not in counts:
        return UNDECIDED, f"{STUDY_PEAK} and {place.cores} processes were not both measured"
    column = curve.log_rps[:, counts.index(STUDY_PEAK)] - curve.log_rps[:, counts.index(place.cores)]
    values = column[np.isfinite(column)]
    text = f"{STUDY_PEAK} against {place.cores} processes: {ratio_text(mean_interval(values))}"
    if place.cores != STUDY_CORES:
        return UNDECIDED, f"{text}; the claim is about {STUDY_CORES}-core hosts"
    verdict = next((peak for peak in place.peaks if _is_study_peak(peak)), None)
    if verdict is not None and verdict.verdict == REAL:
        return HOLDS, f"{text}; the peak is REAL: {verdict.reason}"
    p, p_equal = paired_p(values), equivalence_p(values, float(np.log1p(indifference)))
    slower = p is not None and p < ALPHA and values.mean() < 0
    if slower or (p_equal is not None and p_equal < ALPHA) or (verdict and verdict.verdict == NOISE):
        return FAILS, text
    return UNDECIDED, f"{text}; a peak counts only after confirmation with a fresh seed"


def _is_study_peak(peak: PeakVerdict) -> bool:
    return peak.suspect.processes == STUDY_PEAK and peak.suspect.handler == THREADED


def _few_processes(place: Place, indifference: float) -> tuple[str, str]:
    if place.comparison is None:
        return UNDECIDED, "multiplexed and threaded were not both measured"
    few = [row for row in place.comparison.at_counts if row.processes <= place.cores]
    if not few:
        return UNDECIDED, f"no count up to {place.cores} was measured"
    text = "; ".join(f"at {row.processes}: {ratio_text(row.log_ratio)}" for row in few)
    if any(row.verdict == GAIN for row in few):
        return HOLDS, f"{text}; even at a steady rate"
    if all(row.verdict in (LOSS, NO_DIFFERENCE) for row in few):
        text = f"{text}: it does not win at a steady rate"
    return UNDECIDED, f"{text}; a costly start was not measured (experiments/startup-cost.yml does)"


def judge_costly_start(crossing: Crossing) -> Claim:
    """Test claim 5 where servers were measured from their start on.

    It holds where few multiplexed processes serve more than many threaded ones and more than as few
    threaded ones: else it is the number of processes that wins, not multiplexing.

    Parameters
    ----------
    crossing : Crossing
        Few multiplexed against many threaded processes, from `startup.study_crossing`.
    """
    threads = dict(crossing.instead_of_threads)
    many = {cost: ratio.verdict for cost, ratio in crossing.ratios}
    both = {
        cost: {verdict, *([threads[cost].verdict] if cost in threads else [])}
        for cost, verdict in many.items()
    }
    if any(verdicts == {GAIN} for verdicts in both.values()):
        status = HOLDS
    elif both and all(verdicts & {LOSS, NO_DIFFERENCE} for verdicts in both.values()):
        status = FAILS
    else:
        status = UNDECIDED
    place = (crossing.host, crossing.background, crossing.cores)
    return Claim(5, *place, status, crossing_text(crossing))


def can_be_judged(place: Place) -> bool:
    """Whether a place has what a claim is about: both handlers, or 13 processes and as many as cores."""
    if place.threaded is None:
        return False
    counts = set(place.threaded[0].processes.tolist())
    return place.multiplexed is not None or {STUDY_PEAK, place.cores} <= counts


def over_equal_core_counts(claims: Sequence[Claim]) -> list[Claim]:
    """Combine each claim over the hosts of one core count.

    Returns
    -------
    list of Claim
        holds where it holds on all hosts, fails where it fails on all, else undecided; only core
        counts with two hosts or more.
    """
    groups: dict[tuple[int, str, int], list[Claim]] = {}
    for claim in claims:
        groups.setdefault((claim.number, claim.setting, claim.cores), []).append(claim)
    combined = []
    for (number, setting, cores), members in groups.items():
        if len(members) < 2:
            continue
        statuses = {member.status for member in members}
        status = statuses.pop() if len(statuses) == 1 else UNDECIDED
        detail = "; ".join(f"{member.host}: {member.status}" for member in members)
        combined.append(Claim(number, f"all hosts with {cores} cores", setting, cores, status, detail))
    return combined
