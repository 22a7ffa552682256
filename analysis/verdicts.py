"""Statements in plain words, made from the numbers by rule."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from analysis.best_set import BestSet, blocks_for_difference
from analysis.claims import TEXTS, Claim
from analysis.comparison import GAIN, INCONCLUSIVE, LOSS, NO_DIFFERENCE, BestAgainstBest, Comparison
from analysis.curves import Curve
from analysis.drift import SENTINELS_FOR_CHANGE, Drift, OddCell
from analysis.intervals import BLOCKS_FOR_INTERVAL, Interval
from analysis.models import KNEE, ModelChoice
from analysis.peak import PeakVerdict
from analysis.steadiness import UNSTEADY_SHARE
from analysis.tables import percent
from analysis.wording import counts_text, place_text, plural, ratio_text

TREND_LEVEL = 0.01


def short_lines(
    judged: Sequence[tuple[Curve, BestSet]], comparisons: Sequence[Comparison], indifference: float
) -> list[str]:
    """Say in one sentence a host and setting what to run there.

    Parameters
    ----------
    judged : sequence of Curve and BestSet
        Curves with several process counts.
    comparisons : sequence of Comparison
        Of the run.
    indifference : float
        δ as a fraction.
    """
    places: dict[tuple[str, str], list[tuple[Curve, BestSet]]] = {}
    for curve, best in judged:
        places.setdefault((curve.host, curve.setting), []).append((curve, best))
    lines = []
    for (host, setting), known in places.items():
        pairs = [item for item in comparisons if (item.host, item.setting) == (host, setting)]
        counts = {curve.handler: best.recommended for curve, best in known if best.recommended}
        fastest = _fastest(pairs)
        texts = []
        if fastest in counts:
            texts.append(f"run {fastest} with {plural(counts[fastest], 'process', 'processes')}")
        texts += filter(None, (_in_short(item, indifference) for item in pairs))
        texts.append(_recommended(counts, indifference))
        lines.append(f"{place_text(host, known[0][0].cores, setting)}: {'; '.join(texts)}")
    return lines


def _fastest(pairs: Sequence[Comparison]) -> str:
    """Return the handler that all comparisons of a place favour, "" where they leave that open."""
    verdicts = {item.handler: item.best.verdict for item in pairs if item.best is not None}
    references = {item.reference for item in pairs}
    if len(references) != 1 or len(verdicts) < len(pairs):
        return ""
    gains = [handler for handler, verdict in verdicts.items() if verdict == GAIN]
    if len(gains) == 1 and all(verdict in {GAIN, LOSS, NO_DIFFERENCE} for verdict in verdicts.values()):
        return gains[0]
    return references.pop() if set(verdicts.values()) == {LOSS} else ""


def _recommended(counts: dict[str, int], indifference: float) -> str:
    if not counts:
        return "no process count is named yet"
    listed = ", ".join(f"{handler} {count}" for handler, count in counts.items())
    near = f"the fewest that measured within {100 * indifference:g} % of the best"
    return f"processes recommended ({near}): {listed}"


def _in_short(item: Comparison, indifference: float) -> str:
    best = item.best
    if best is None:
        return ""
    if best.verdict in {GAIN, LOSS}:
        word = "faster" if best.verdict == GAIN else "slower"
        ratio = f"{abs(percent(best.log_ratio.estimate)):.1f} %"
        if best.log_ratio.low is not None and best.log_ratio.high is not None:
            sizes = sorted(abs(percent(bound)) for bound in (best.log_ratio.low, best.log_ratio.high))
            ratio += f" [{sizes[0]:.1f}, {sizes[1]:.1f}]"
        return f"{item.handler} is {word} than {item.reference} by {ratio}, each at its best count"
    if best.verdict == NO_DIFFERENCE:
        return f"{item.handler} is as fast as {item.reference}, to within {100 * indifference:g} %"
    return f"whether {item.handler} or {item.reference} is faster is not decided"


def best_line(curve: Curve, best: BestSet, indifference: float) -> str:
    """Say which process counts one handler should run with."""
    where = f"{place_text(curve.host, curve.cores, curve.setting)}: {curve.handler}"
    left_out = f"; not judged, too few valid trials: {list(best.left_out)}" if best.left_out else ""
    if best.reason is not None:
        return f"{where}: no best process count is named: {best.reason}{left_out}"
    chosen = counts_text(best.best_set, sorted([*map(int, best.processes), *best.left_out]))
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
    if len(comparison.at_counts) == 1:
        counts = f"at {plural(best.choice, 'process', 'processes')}"
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
        have = plural(blocks, "block")
        return f"{INCONCLUSIVE.upper()}, {have}: an interval takes at least {BLOCKS_FOR_INTERVAL}"
    return f"{INCONCLUSIVE.upper()}, about {blocks_needed} blocks would settle it"


def without_flagged_line(curve: Curve, whole: BestSet, rest: BestSet) -> str:
    """Say what remains of a best set without the blocks that drift flags."""
    where = f"{place_text(curve.host, curve.cores, curve.setting)}: {curve.handler}"
    if rest.reason is not None:
        return f"{where}: without the flagged blocks: {rest.reason}"
    measured = [int(count) for count in rest.processes]
    same = "the same" if rest.recommended == whole.recommended else "another count"
    return (
        f"{where}: without the flagged blocks the best set is {counts_text(rest.best_set, measured)},"
        f" recommended {rest.recommended} ({same})"
    )


def peak_line(peak: PeakVerdict) -> str:
    """Say whether a peak off the core count is real."""
    suspect = peak.suspect
    where = f"{place_text(suspect.host, suspect.cores, suspect.setting)}: {suspect.handler}"
    return (
        f"{where}: peak at {plural(suspect.processes, 'process', 'processes')}: {peak.verdict}: {peak.reason}"
    )


def claim_line(claim: Claim) -> str:
    """Say how one claim fares in one place."""
    where = f"{claim.host}, {claim.setting}" if claim.setting else claim.host
    return f"Claim {claim.number}, {TEXTS[claim.number]}: {claim.status.upper()} on {where}: {claim.detail}"


def model_line(key: tuple[str, str, str], choice: ModelChoice) -> str:
    """Say which model describes a curve and whether a decline is shown."""
    host, setting, handler = key
    where = f"{host}, {setting}" if setting else host
    error = choice.errors_percent[choice.fit.model]
    text = (
        f"{where}: {handler} is described best by {choice.fit.model} (error at unseen counts {error:.1f} %)"
    )
    if not choice.declines or choice.peak_low is None or choice.peak_high is None:
        knee = ""
        if choice.fit.model == KNEE and choice.fit.limit < float("inf"):
            knee = f", level from about {choice.fit.limit / choice.fit.gamma:.1f} processes on"
        return f"{text}{knee}; no decline shown: peak undefined"
    if choice.peak_low > choice.range[1]:
        return f"{text}; its peak lies beyond the counts measured: peak undefined"
    low = max(choice.peak_low, choice.range[0])
    return (
        f"{text}; it declines after a peak at {low:.1f} to {max(choice.peak_high, low):.1f} processes (95 %)"
    )


def drift_lines(drift: Drift, indifference: float) -> list[str]:
    """Say whether a host changed while it was measured, and what its A/A pair shows."""
    lines = []
    if drift.change_orders:
        blocks = ", ".join(map(str, drift.flagged_blocks)) or "none"
        lines.append(
            f"{drift.host}: the sentinel's level changed {plural(len(drift.change_orders), 'time')}, before"
            f" attempt {', '.join(map(str, drift.change_orders))}; blocks outside the longest level: {blocks}"
        )
    elif 0 < drift.sentinels < SENTINELS_FOR_CHANGE:
        lines.append(
            f"{drift.host}: {plural(drift.sentinels, 'sentinel trial')}, too few to see a change of level"
        )
    elif drift.sentinels:
        lines.append(f"{drift.host}: no change of level in {drift.sentinels} sentinel trials")
    else:
        lines.append(f"{drift.host}: no sentinel trials: drift was not watched")
    if drift.sentinels and drift.trend_p < TREND_LEVEL:
        lines.append(
            f"{drift.host}: a trend of {drift.trend_percent:+.1f} % over the run (Spearman p ="
            f" {drift.trend_p:.3f})"
        )
    pair = drift.same_against_same
    if pair is not None:
        lines.append(
            f"{drift.host}: the same cell against itself (A/A):"
            f" {ratio_text(pair)}{_same_text(pair, indifference)}"
        )
    return lines


def _same_text(pair: Interval, indifference: float) -> str:
    if pair.low is None or pair.high is None:
        return ""
    if pair.low <= 0 <= pair.high:
        half = max(percent(pair.high), -percent(pair.low))
        if half <= 100 * indifference:
            return ": as it should be"
        return (
            f": no difference shown, but single comparisons on this host are good to about {half:.0f} % only"
        )
    return ": THE SAME CELL DIFFERS FROM ITSELF, distrust differences of this size"


def odd_line(cell: OddCell) -> str:
    """Say what is odd about a cell."""
    where = f"{cell.host}, {cell.setting}" if cell.setting else cell.host
    return f"{where}: {cell.handler} at {cell.processes} processes {cell.finding}"


def steadiness_lines(table: pd.DataFrame) -> list[str]:
    """Say which handlers' rates climbed or fell in more than a tenth of their attempts.

    Parameters
    ----------
    table : DataFrame
        `steadiness.steadiness_table`.
    """
    return [
        f"{row['host']}: {row['handler']}: the rate was not steady in {row['unsteady']} of"
        f" {row['attempts']} attempts"
        f" ({row['warming_up']} climbed, {row['slowing_down']} fell): a longer warm-up or measurement"
        " would help"
        for row in table.to_dict(orient="records")
        if row["unsteady"] > UNSTEADY_SHARE * row["attempts"]
    ]
