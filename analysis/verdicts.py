"""Statements in plain words, made from the numbers by rule."""

from __future__ import annotations

from analysis.best_set import BestSet, blocks_for_difference
from analysis.comparison import GAIN, INCONCLUSIVE, LOSS, NO_DIFFERENCE, BestAgainstBest, Comparison
from analysis.curves import Curve
from analysis.intervals import BLOCKS_FOR_INTERVAL, Interval
from analysis.tables import percent


def signed(log_ratio: float) -> str:
    """Return a log ratio as ``+4.1 %``."""
    return f"{percent(log_ratio):+.1f} %"


def ratio_text(log_ratio: Interval) -> str:
    """Return a ratio with its interval, or without one below six blocks."""
    if log_ratio.low is None or log_ratio.high is None:
        return f"{signed(log_ratio.estimate)} (no interval: {log_ratio.n} blocks)"
    return f"{signed(log_ratio.estimate)} [{percent(log_ratio.low):+.1f}, {percent(log_ratio.high):+.1f}]"


def rps_text(speed: Interval) -> str:
    """Return a goodput with its interval."""
    if speed.n == 0:
        return "no valid trial"
    if speed.low is None or speed.high is None:
        return f"{speed.estimate:,.0f} requests/s (n = {speed.n}, no interval)"
    return f"{speed.estimate:,.0f} requests/s [{speed.low:,.0f}, {speed.high:,.0f}] (n = {speed.n})"


def place_text(host: str, cores: int, setting: str) -> str:
    """Return where a statement holds."""
    where = f"{host} ({cores} core{'' if cores == 1 else 's'}"
    return f"{where}, {setting})" if setting else f"{where})"


def counts_text(counts: tuple[int, ...], measured: list[int]) -> str:
    """Return a set of counts, with runs of neighbouring measured counts written as a range."""
    parts: list[list[int]] = []
    for count in counts:
        place = measured.index(count)
        if parts and measured.index(parts[-1][-1]) == place - 1:
            parts[-1].append(count)
        else:
            parts.append([count])
    texts = [f"{part[0]}-{part[-1]}" if len(part) > 2 else ", ".join(map(str, part)) for part in parts]
    return "{" + ", ".join(texts) + "}"


def best_line(curve: Curve, best: BestSet, indifference: float) -> str:
    """Say which process counts one handler should run with."""
    where = f"{place_text(curve.host, curve.cores, curve.setting)}: {curve.handler}"
    left_out = f"; not judged, too few valid trials: {list(best.left_out)}" if best.left_out else ""
    if best.reason is not None:
        return f"{where}: no best process count is named: {best.reason}{left_out}"
    chosen = counts_text(best.best_set, [int(count) for count in best.processes])
    if len(best.best_set) == 1:
        text = f"{where}: {best.best_set[0]} processes are the best"
    else:
        text = f"{where}: best set {chosen}"
        gap = blocks_for_difference(best.residual_sd, indifference)
        if gap > best.blocks:
            text += (
                f" (to tell {100 * indifference:g} % apart takes about {gap} blocks, here are {best.blocks})"
            )
    return f"{text}; recommended {best.recommended}{left_out}"


def comparison_line(comparison: Comparison, cores: int, indifference: float) -> str:
    """Say what one handler gives over the other, each at its own best count."""
    where = place_text(comparison.host, cores, comparison.setting)
    pair = f"{comparison.handler} against {comparison.reference}"
    if comparison.best is None:
        return f"{where}: {pair}: nothing to compare, no blocks with valid trials of both"
    best = comparison.best
    verdict = verdict_text(best, indifference)
    counts = f"best against best ({best.choice} against {best.reference_choice} processes)"
    return f"{where}: {pair}, {counts}: {ratio_text(best.log_ratio)}: {verdict}"


def verdict_text(best: BestAgainstBest, indifference: float) -> str:
    """Return the verdict in words."""
    return verdict_words(best.verdict, best.log_ratio.n, best.blocks_needed, indifference)


def verdict_words(verdict: str, blocks: int, blocks_needed: int | None, indifference: float) -> str:
    """Return a verdict in words, with what would settle an open one."""
    if verdict == NO_DIFFERENCE:
        return f"NO DIFFERENCE larger than {100 * indifference:g} %"
    if verdict in (GAIN, LOSS):
        return verdict.upper()
    if blocks < BLOCKS_FOR_INTERVAL:
        return f"{INCONCLUSIVE.upper()}, {blocks} blocks: an interval takes at least {BLOCKS_FOR_INTERVAL}"
    return f"{INCONCLUSIVE.upper()}, about {blocks_needed} blocks would settle it"
