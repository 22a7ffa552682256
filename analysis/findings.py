"""All that one run says: curves, best sets, comparisons, drift, models, claims; numbers only."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from analysis.best_set import BestSet, best_set
from analysis.comparison import Comparison, compare
from analysis.curves import Curve, curves_of, trials_of, varying_conditions, with_setting
from analysis.dataset import Run
from analysis.intervals import Interval, median_interval
from analysis.tables import REFERENCE_HANDLER, cell_table, ratio_table


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

    @property
    def hosts(self) -> list[str]:
        """Hosts that have trials, by core count and name."""
        cores = {curve.host: curve.cores for curve in self.curves}
        return sorted(cores, key=lambda host: (cores[host], host))

    @property
    def settings(self) -> list[str]:
        """The settings of the run; ``""`` alone when no condition varies."""
        return list(dict.fromkeys(curve.setting for curve in self.curves))

    @property
    def varying(self) -> tuple[str, ...]:
        """The conditions that vary."""
        return varying_conditions(self.trials)


def find(run: Run) -> Findings:
    """Compute everything that the report says about a run.

    Parameters
    ----------
    run : Run
        As `dataset.read_run` gives it.
    """
    trials = with_setting(trials_of(run.attempts))
    attempts = with_setting(run.attempts)
    curves = curves_of(trials)
    delta = run.indifference
    best = [best_set(curve.processes, curve.log_rps, delta) for curve in curves]
    comparisons = compare_handlers(curves, delta)
    labels = {str(host): run.label(str(host)) for host in trials["host"].unique()}
    return Findings(
        run=run,
        attempts=attempts,
        trials=trials,
        curves=tuple(curves),
        best=tuple(best),
        comparisons=tuple(comparisons),
        ceilings=ceilings_of(trials),
        cells=cell_table(curves, best, trials, labels),
        ratios=ratio_table(comparisons, labels),
    )


def compare_handlers(curves: list[Curve], indifference: float) -> list[Comparison]:
    """Compare every handler with the reference handler of its host and setting.

    The reference is ``threaded``, or the first handler by name where that was not measured.
    """
    groups: dict[tuple[str, str], list[Curve]] = {}
    for curve in curves:
        groups.setdefault((curve.host, curve.setting), []).append(curve)
    comparisons = []
    for group in groups.values():
        reference = next((curve for curve in group if curve.handler == REFERENCE_HANDLER), group[0])
        comparisons += [compare(curve, reference, indifference) for curve in group if curve is not reference]
    return comparisons


def ceilings_of(trials: pd.DataFrame) -> dict[str, Interval]:
    """Return the static ceiling of each host, in requests/s."""
    static = trials[(trials["role"] == "ceiling") & (trials["status"] == "valid")]
    groups = static.groupby("host", observed=True)["goodput_rps"]
    return {str(host): median_interval(values.to_numpy(dtype=float)) for host, values in groups}
