"""All that one run says: curves, best sets, comparisons, drift, models, claims; numbers only."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import chain, repeat
from typing import Any

import pandas as pd

from analysis.best_set import BestSet, best_set
from analysis.bounds import bounds_table
from analysis.claims import (
    Claim,
    Place,
    can_be_judged,
    judge_claims,
    judge_costly_start,
    over_equal_core_counts,
)
from analysis.comparison import Comparison, compare
from analysis.curves import WIRE_TOOL, Curve, curves_of, trials_of, varying_conditions, with_setting
from analysis.dataset import Run, read_run
from analysis.drift import Drift, OddCell, drift_of, odd_cells
from analysis.errors import RunUnreadable
from analysis.explanation import counter_table, limits_table
from analysis.handlers import LIMIT, MULTIPLEXED, REFERENCE_HANDLER, THREADED
from analysis.interleaving import Decomposition, decompose, regime_table
from analysis.intervals import Interval, median_interval
from analysis.models import ModelChoice, choose_model
from analysis.peak import INCONCLUSIVE, Evidence, PeakVerdict, Suspect, judge, suspects
from analysis.startup import Crossing, crossings, start_table, start_trials, study_crossing
from analysis.steadiness import steadiness_table
from analysis.tables import cell_table, ratio_table

CURVES_AT_A_TIME = 5
"""Work for one process at a time, where other processes share it."""


@dataclass(frozen=True)
class Findings:
    """The statistics of one run.

    Parameters
    ----------
    run : Run
        What was read.
    attempts, trials : DataFrame
        With the ``setting`` column; ``trials`` has one row a trial.
    curves, best : tuple
        Curves and their best sets, in the same order.
    comparisons : tuple of Comparison
        Each handler against the reference handler of its host and setting.
    ceilings : dict
        Host to the median of its static ceiling.
    cells, ratios : DataFrame
        See `tables`.
    counters, limits : DataFrame
        See `explanation`.
    models : dict
        (host, setting, handler) to the chosen model.
    drifts : dict
        Host to its drift.
    odd : tuple of OddCell
        Heteroscedastic and bimodal cells.
    peaks : tuple of PeakVerdict
        One for each leading count that is not the core count.
    claims : tuple of Claim
        The five claims by host, then over hosts of equal core count.
    best_without_flagged : dict
        (host, setting, handler) to the best set without the blocks that drift flags.
    bounds : DataFrame
        See `bounds`; empty where the demand of a request is not known.
    decompositions : tuple of Decomposition
        What re-use and interleaving buy, for cells that were driven on the wire.
    regimes : DataFrame
        `interleaving.regime_table`; empty without such cells.
    starts : DataFrame
        `startup.start_trials`; empty unless the run measures starts.
    start_cells : DataFrame
        `startup.start_table`; empty as well then.
    crossings : tuple of Crossing
        Few processes against many, by start-up cost.
    steadiness : DataFrame
        `steadiness.steadiness_table` by host and handler.
    """

    run: Run
    attempts: pd.DataFrame
    trials: pd.DataFrame
    curves: tuple[Curve, ...]
    best: tuple[BestSet, ...]
    comparisons: tuple[Comparison, ...]
    ceilings: dict[str, Interval]
    cells: pd.DataFrame
    ratios: pd.DataFrame
    counters: pd.DataFrame
    limits: pd.DataFrame
    models: dict[tuple[str, str, str], ModelChoice]
    drifts: dict[str, Drift]
    odd: tuple[OddCell, ...]
    peaks: tuple[PeakVerdict, ...]
    claims: tuple[Claim, ...]
    best_without_flagged: dict[tuple[str, str, str], BestSet]
    bounds: pd.DataFrame
    decompositions: tuple[Decomposition, ...]
    regimes: pd.DataFrame
    starts: pd.DataFrame
    start_cells: pd.DataFrame
    crossings: tuple[Crossing, ...]
    steadiness: pd.DataFrame

    @cached_property
    def cores(self) -> dict[str, int]:
        """Host to the cores that its servers had, the most where that varies."""
        cells = self.trials[self.trials["role"] == "cell"]
        return {
            str(host): int(cores)
            for host, cores in cells.groupby("host", observed=True)["cores"].max().items()
        }

    @cached_property
    def hosts(self) -> list[str]:
        """Hosts that have trials, by core count and name."""
        cores = self.cores
        return sorted(cores, key=lambda host: (cores[host], host))

    @cached_property
    def swept_settings(self) -> list[str]:
        """The settings with several process counts: what else is there has no curve to draw."""
        return list(dict.fromkeys(curve.setting for curve in self.curves if curve.swept))

    @cached_property
    def settings(self) -> list[str]:
        """The settings of the run; ``""`` alone when no condition varies."""
        return list(dict.fromkeys(curve.setting for curve in self.curves))

    @cached_property
    def varying(self) -> tuple[str, ...]:
        """The conditions that vary."""
        return varying_conditions(self.trials)


def find(run: Run, pool: Executor | None = None) -> Findings:
    """Compute everything that the report says about a run.

    Parameters
    ----------
    run : Run
        As `dataset.read_run` gives it.
    pool : Executor, optional
        Processes that compute a share of it. What is found does not depend on them.
    """
    apart = ("workload",) if run.measures_starts else ()
    attempts = with_setting(run.journal.attempts, run.interpreters, apart=apart)
    trials = trials_of(attempts)
    curves = [] if run.measures_starts else curves_of(trials)
    models = _start_models(curves, pool)
    odd = _share(pool)(odd_cells, [[curve] for curve in curves])
    compared = compare_handlers(curves, run.indifference, run.without_gil, pool)
    starts = start_trials(trials)
    found_crossings = crossings(starts, run.journal.starts, run.indifference)
    delta = run.indifference
    best = [best_set(curve.processes, curve.log_rps, delta) for curve in curves]
    labels = {str(host): run.label(str(host)) for host in trials["host"].unique()}
    drifts = {host: drift_of(trials, host) for host in labels}
    ceilings = ceilings_of(trials)
    counters = counter_table(trials)
    peaks = judge_peaks(run, curves, best, counters)
    limits = limits_table(trials, {host: ceiling.estimate for host, ceiling in ceilings.items()})
    comparisons = list(compared)
    return Findings(
        run=run,
        attempts=attempts,
        trials=trials,
        curves=tuple(curves),
        best=tuple(best),
        comparisons=tuple(comparisons),
        ceilings=ceilings,
        cells=cell_table(curves, best, trials, labels),
        ratios=ratio_table(comparisons, labels),
        counters=counters,
        limits=limits,
        models={key: choice for key, choice in models if choice is not None},
        drifts=drifts,
        odd=tuple(chain.from_iterable(odd)),
        peaks=tuple(peaks),
        claims=tuple(all_claims(curves, best, comparisons, peaks, found_crossings, indifference=delta)),
        best_without_flagged=_without_flagged(curves, drifts, delta),
        bounds=bounds_table(trials, run),
        decompositions=tuple(decompose(trials, delta)),
        regimes=regime_table(trials),
        starts=starts,
        start_cells=start_table(starts, run.journal.starts),
        crossings=tuple(found_crossings),
        steadiness=steadiness_table(attempts, ("host", "handler")),
    )


def _start_models(
    curves: Sequence[Curve], pool: Executor | None
) -> Iterator[tuple[tuple[str, str, str], ModelChoice | None]]:
    modelled = [curve for curve in curves if curve.model != LIMIT]
    chosen = _share(pool)(
        choose_model, [curve.processes for curve in modelled], [curve.log_rps for curve in modelled]
    )
    return zip(((curve.host, curve.setting, curve.handler) for curve in modelled), chosen, strict=True)


def _share(pool: Executor | None) -> Callable[..., Iterator[Any]]:
    """Return what maps a function over arguments: in other processes from now on, or here when asked for."""
    return map if pool is None else partial(pool.map, chunksize=CURVES_AT_A_TIME)


def _without_flagged(
    curves: Sequence[Curve], drifts: dict[str, Drift], indifference: float
) -> dict[tuple[str, str, str], BestSet]:
    rest = {}
    for curve in curves:
        flagged = set(drifts[curve.host].flagged_blocks)
        if flagged:
            kept = curve.without_blocks(flagged)
            judged = best_set(kept.processes, kept.log_rps, indifference)
            rest[curve.host, curve.setting, curve.handler] = judged
    return rest


def judge_peaks(
    run: Run, curves: Sequence[Curve], best: Sequence[BestSet], counters: pd.DataFrame
) -> list[PeakVerdict]:
    """Judge every leading count that is not the core count.

    A confirmation run names the run it confirms in ``run.json`` as ``confirms``:
    ``{"run_id": ..., "suspects": [{"host", "setting", "handler", "processes", "cores"}]}``; that run
    is read from the directory beside it. Other runs are exploratory: REAL is out of their reach.
    """
    own = _evidence(run, curves, counters)
    confirms = run.meta.get("confirms")
    if not confirms:
        found = [judge(suspect, own, None, run.indifference) for suspect in suspects(curves, best)]
        return [verdict for verdict in found if verdict is not None]
    named = [Suspect(**item) for item in confirms["suspects"]]
    try:
        first = read_run(run.directory.parent / confirms["run_id"])
    except RunUnreadable as error:
        reason = f"the run that it confirms cannot be read: {error}"
        nan = float("nan")
        return [PeakVerdict(suspect, INCONCLUSIVE, (), reason, nan, nan) for suspect in named]
    trials = with_setting(trials_of(first.journal.attempts), first.interpreters)
    explored = _evidence(first, curves_of(trials), counter_table(trials))
    found = [judge(suspect, explored, own, run.indifference) for suspect in named]
    return [verdict for verdict in found if verdict is not None]


def _evidence(run: Run, curves: Sequence[Curve], counters: pd.DataFrame) -> Evidence:
    first_day = str(run.meta.get("created_at", ""))[:10]
    last = run.journal.attempts["started_at"].max()
    last_day = first_day if pd.isna(last) else max(first_day, last.date().isoformat())
    return Evidence(curves, counters, int(run.meta["seed"]), first_day, last_day)


def all_claims(
    curves: Sequence[Curve],
    best: Sequence[BestSet],
    comparisons: Sequence[Comparison],
    peaks: Sequence[PeakVerdict],
    found_crossings: Sequence[Crossing],
    *,
    indifference: float,
) -> list[Claim]:
    """Test the five claims on every host, setting and interpreter, then over hosts of equal core count.

    The claims are about handlers behind a web server: cells that were driven on the wire say nothing about
    them. Where servers were measured from their start on, the fifth is tested.
    """
    known = {
        (curve.host, curve.setting, curve.python, curve.model): (curve, judged)
        for curve, judged in zip(curves, best, strict=True)
        if curve.conditions["tool"] != WIRE_TOOL
    }
    pairs = {(item.host, item.setting, item.handler, item.reference): item for item in comparisons}
    claims = []
    for host, setting, python in dict.fromkeys(key[:3] for key in known):
        threaded, multiplexed = (
            known.get((host, setting, python, model)) for model in (THREADED, MULTIPLEXED)
        )
        curve = next(curve for key, (curve, _) in known.items() if key[:3] == (host, setting, python))
        names = [measured[0].handler if measured else "" for measured in (multiplexed, threaded)]
        several = curve.handler != curve.model
        place = Place(
            host=host,
            setting=", ".join(filter(None, (setting, f"python {python}" if several else ""))),
            cores=curve.cores,
            threaded=threaded,
            multiplexed=multiplexed,
            comparison=pairs.get((host, setting, names[0], names[1])),
            peaks=[peak for peak in peaks if (peak.suspect.host, peak.suspect.setting) == (host, setting)],
        )
        if can_be_judged(place):
            claims += judge_claims(place, indifference)
    places = dict.fromkeys((item.host, item.background) for item in found_crossings)
    of_the_study = [study_crossing(found_crossings, *place) for place in places]
    claims += [judge_costly_start(item) for item in of_the_study if item is not None]
    return claims + over_equal_core_counts(claims)


def compare_handlers(
    curves: Sequence[Curve],
    indifference: float,
    without_gil: frozenset[str],
    pool: Executor | None = None,
) -> Iterator[Comparison]:
    """Compare every handler with the reference handler of its host, setting and interpreter.

    The reference is ``threaded``, or the first handler by name where that was not measured. Where
    interpreters vary, each handler is then compared with itself under the first one that has a global lock.
    The ceiling of the FastCGI path is no rival.
    """
    pairs = list(_rivals(curves, without_gil))
    return _share(pool)(compare, *zip(*pairs, strict=True), repeat(indifference)) if pairs else iter(())


def _rivals(curves: Sequence[Curve], without_gil: frozenset[str]) -> Iterator[tuple[Curve, Curve]]:
    """Yield which curve is compared with which."""
    groups: dict[tuple[str, str], list[Curve]] = {}
    for curve in curves:
        if curve.model != LIMIT:
            groups.setdefault((curve.host, curve.setting), []).append(curve)
    for group in groups.values():
        pythons = sorted({curve.python for curve in group}, key=lambda name: (name in without_gil, name))
        for python in pythons:
            same_python = [curve for curve in group if curve.python == python]
            reference = next(
                (curve for curve in same_python if curve.model == REFERENCE_HANDLER), same_python[0]
            )
            yield from ((curve, reference) for curve in same_python if curve is not reference)
        for curve in group:
            same = [other for other in group if (other.model, other.python) == (curve.model, pythons[0])]
            yield from ((curve, other) for other in same if other is not curve)


def ceilings_of(trials: pd.DataFrame) -> dict[str, Interval]:
    """Return the static ceiling of each host, in requests/s."""
    static = trials[(trials["role"] == "ceiling") & (trials["status"] == "valid")]
    groups = static.groupby("host", observed=True)["goodput_rps"]
    return {str(host): median_interval(values.to_numpy(dtype=float)) for host, values in groups}
