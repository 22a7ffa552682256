"""Statements about the wire in plain words: does interleaving pay, and was it interleaving at all."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import pandas as pd

from analysis.comparison import GAIN, INCONCLUSIVE, LOSS, NO_DIFFERENCE, RatioAtCount
from analysis.handlers import REFERENCE_HANDLER
from analysis.interleaving import FRESH, INTERLEAVED, Decomposition
from analysis.verdicts import verdict_words
from analysis.wording import place_text, plural, ratio_text

QUESTION = "Do you gain from FCGI connection multiplexing?"


def answer_line(items: Sequence[Decomposition], indifference: float) -> str:
    """Answer the question of the study for one host, in one sentence.

    Parameters
    ----------
    items : sequence of Decomposition
        All of one host and background.
    indifference : float
        δ as a fraction.
    """
    where = place_text(items[0].host, items[0].cores, items[0].background)
    judged = [(item, item.interleaving) for item in items if item.interleaving is not None]
    if not judged:
        return f"{where}: {QUESTION} Not answered: no handler was measured with interleaved requests"
    texts = [_interleaving_text(item, ratio, items, indifference) for item, ratio in judged]
    rivals = [item.against_reference.verdict for item, _ in judged if item.against_reference is not None]
    answer = _answer([ratio.verdict for _, ratio in judged], rivals)
    return f"{where}: {QUESTION} {answer}: {'; '.join(texts)}"


def _answer(verdicts: list[str], rivals: list[str]) -> str:
    gains = sum(verdict == GAIN for verdict in verdicts)
    if gains and any(verdict in (LOSS, NO_DIFFERENCE) for verdict in rivals):
        return f"Interleaving pays, but not against {REFERENCE_HANDLER}, which does without"
    if gains == len(verdicts):
        return "Yes"
    if gains:
        return "It depends"
    return "Not decided" if INCONCLUSIVE in verdicts else "No"


def _interleaving_text(
    item: Decomposition, ratio: RatioAtCount, items: Sequence[Decomposition], indifference: float
) -> str:
    connections, in_flight = item.shape or (0, 0)
    on = "one connection" if connections == 1 else f"each of {connections} connections"
    text = (
        f"with {_name(item, items)}, {in_flight} requests interleaved on {on} make"
        f" {_judged(ratio, indifference)} over {item.total} kept connections"
    )
    if item.reuse is not None:
        text += f", and keeping connections makes {_judged(item.reuse, indifference)} over fresh ones"
    if item.against_reference is not None:
        text += (
            f"; against {REFERENCE_HANDLER} on {item.total} kept connections it is"
            f" {_judged(item.against_reference, indifference)}"
        )
    return text


def _judged(ratio: RatioAtCount, indifference: float) -> str:
    verdict = verdict_words(ratio.verdict, ratio.log_ratio.n, ratio.blocks_needed, indifference)
    return f"{ratio_text(ratio.log_ratio)} ({verdict})"


def _name(item: Decomposition, items: Sequence[Decomposition]) -> str:
    """Name the handler, and what else tells its decompositions on this host apart."""
    text = item.handler
    if len({other.processes for other in items}) > 1:
        text += f" in {plural(item.processes, 'process', 'processes')}"
    if len({other.total for other in items}) > 1:
        text += f" at {item.total} in flight"
    return text


def decomposition_line(item: Decomposition, indifference: float) -> str:
    """Say what one handler gains in all, and from what."""
    where = f"{place_text(item.host, item.cores, item.background)}: {item.handler}, "
    where += f"{plural(item.processes, 'process', 'processes')}, {item.total} requests in flight"
    if item.interleaving is None or item.whole is None:
        if item.reuse is None:
            return f"{where}: fresh and kept connections were not both measured"
        return (
            f"{where}: kept over fresh connections {_judged(item.reuse, indifference)}; nothing interleaved"
        )
    text = f"{where}: interleaved over fresh {ratio_text(item.whole.log_ratio)}"
    if item.reuse is not None:
        text += (
            f" = re-use of connections {ratio_text(item.reuse.log_ratio)}"
            f" x interleaving {ratio_text(item.interleaving.log_ratio)}"
        )
    mixed = [f"{name} {ratio_text(ratio.log_ratio)}" for name, ratio in item.mixtures]
    return f"{text}; mixtures over kept: {', '.join(mixed)}" if mixed else text


def regime_lines(regimes: pd.DataFrame) -> list[str]:
    """Say for each host whether the trials were what was asked, and which handler works on one at a time.

    Parameters
    ----------
    regimes : DataFrame
        `interleaving.regime_table`.
    """
    lines = []
    for host, own in regimes[regimes["n"] > 0].groupby("host", observed=True):
        other = own[own["proven"] == "no"]
        if other.empty:
            sides = " and ".join(
                ["the client", *(["the handlers"] if (own["proven"] == "client and handlers").all() else [])]
            )
            lines.append(
                f"{host}: {sides} counted connections and request ids in every valid trial: what was asked is"
                " what was measured"
            )
        for row in other.to_dict(orient="records"):
            lines.append(
                f"{host}: {row['handler']}, {row['regime']}: NOT WHAT WAS ASKED:"
                f" {row['wire_connections_opened']:.0f}"
                f" connections, highest request id {row['wire_highest_id']:.0f}, at most"
                f" {row['wire_peak_ids_per_connection']:.0f} ids at once on one"
            )
        lines += [_one_by_one(row) for row in own.to_dict(orient="records") if _is_one_by_one(row)]
    return lines


def _is_one_by_one(row: dict[Hashable, Any]) -> bool:
    return bool(row["kind"] == INTERLEAVED and row["handlers_peak_in_process"] == 1)


def _one_by_one(row: dict[Hashable, Any]) -> str:
    return (
        f"{row['host']}: {row['handler']} takes {row['in_flight']} interleaved requests and serves them"
        " one by"
        " one: never more than 1 at a time in a process"
    )


def cannot_lines(
    items: Sequence[Decomposition], regimes: pd.DataFrame, says_no: dict[str, set[str]]
) -> list[str]:
    """Say which handlers cannot interleave, and how that is known.

    Parameters
    ----------
    items : sequence of Decomposition
        Of the run.
    regimes : DataFrame
        `interleaving.regime_table`.
    says_no : dict
        Host to the handlers that declare that they do not multiplex.
    """
    lines = []
    for host in dict.fromkeys(item.host for item in items):
        own = [item for item in items if item.host == host]
        for model in dict.fromkeys(item.model for item in own):
            if any(item.interleaving is not None for item in own if item.model == model):
                continue
            rows = regimes[(regimes["host"] == host) & (regimes["handler"].str.startswith(model))]
            refused = rows[(rows["kind"] != FRESH) & (rows["in_flight"] > 1) & (rows["n"] == 0)]
            why = "no interleaved cell was measured"
            if not refused.empty:
                faults = next((fault for fault in refused["faults"] if fault), "no valid trial")
                why = f"asked with interleaved requests, no trial passed ({faults})"
            elif model in says_no.get(host, set()):
                why = "it says itself that it takes one request at a time on a connection"
            lines.append(f"{host}: {model} cannot interleave: {why}; its second factor does not exist")
    return lines
