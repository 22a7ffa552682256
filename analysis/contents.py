"""What stands on the page: verdict lines, tables and evidence, from findings."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from analysis.bounds import bound_lines
from analysis.curves import WIRE_TOOL
from analysis.explanation import limit_lines
from analysis.findings import Findings
from analysis.handlers import LIMIT
from analysis.interleaving import Decomposition
from analysis.startup_verdicts import crossing_line, start_lines
from analysis.verdicts import (
    best_line,
    claim_line,
    comparison_line,
    drift_lines,
    model_line,
    odd_line,
    peak_line,
    short_lines,
    steadiness_lines,
    without_flagged_line,
)
from analysis.wire_verdicts import answer_line, cannot_lines, decomposition_line, regime_lines

SEAM_CHARACTERS = 60
SYNTHETIC = "SYNTHETIC RUN: these numbers were made up by a generator. Nothing here was measured."


def title(findings: Findings) -> str:
    """Return the heading of the page: the experiment and its question."""
    experiment = findings.run.experiment
    return f"{experiment.get('name', 'run')}: {experiment.get('question', 'no question given')}"


def subtitle(findings: Findings) -> str:
    """Return which run this is and where it was measured."""
    hosts = ", ".join(findings.hosts) or "no host"
    return f"Run {findings.run.run_id}, {len(findings.trials)} trials on {hosts}"


def banners(findings: Findings) -> list[str]:
    """Return what a reader must know before any number."""
    run = findings.run
    found = [SYNTHETIC] if run.synthetic else []
    if run.journal.damage:
        first = run.journal.damage[0]
        found.append(
            f"The journal is damaged: {len(run.journal.damage)} line(s) could not be used (the first is line"
            f" {first.line}:"
            f" {first.reason}). The rest is reported; the damaged lines are listed under Evidence."
        )
    missing = len(run.schedule) - findings.trials["trial"].nunique()
    if missing:
        found.append(
            f"The run is not complete: {missing} of {len(run.schedule)} scheduled trials have no attempt yet;"
            f" continue it with `fcgi-sweep resume {run.run_id}`."
        )
    if run.meta.get("git", {}).get("dirty"):
        found.append("The run was started from a changed working copy: its commit does not say what was run.")
    return found + _seams(findings) + _unlike_builds(findings)


def _seams(findings: Findings) -> list[str]:
    """Return a banner for each epoch: what had changed when the run went on all the same."""
    trials = findings.trials
    found = []
    for epoch in findings.run.journal.epochs:
        changes = "; ".join(
            f"{change['what']}: {_brief(change['before'])} -> {_brief(change['after'])}"
            for change in epoch["changes"]
        )
        after = int((trials["epoch"] >= epoch["epoch"]).sum())
        found.append(
            f"The run has a seam: it went on at {epoch['at']} (epoch {epoch['epoch']}) although this had"
            f" changed: {changes}. {after} of {len(trials)} trials were measured after it; where cells lie on"
            " both sides, the change is mixed with what is compared."
        )
    return found


def _brief(value: Any) -> str:
    text = str(value)
    return text if len(text) <= SEAM_CHARACTERS else text[:12] + "…"


def _unlike_builds(findings: Findings) -> list[str]:
    """Return banners where hosts that stand side by side were not built alike."""
    fingerprints = findings.run.meta.get("fingerprint", {}).get("hosts", {})
    unlike = []
    for name in ("lighttpd", "handlers", "agent"):
        seen = {
            json.dumps(prints[name], sort_keys=True) for prints in fingerprints.values() if name in prints
        }
        if len(seen) > 1:
            unlike.append(name)
    if not unlike:
        return []
    return [
        f"The hosts were not built alike: {', '.join(unlike)} differ (see Builds). Comparisons between"
        " hosts mix"
        " the build with the hardware."
    ]


def verdict_groups(findings: Findings) -> list[dict[str, Any]]:
    """Return the verdict lines in groups, the first group first."""
    delta = findings.run.indifference
    judged = [
        (curve, best)
        for curve, best in zip(findings.curves, findings.best, strict=True)
        if curve.swept and curve.model != LIMIT
    ]
    groups = {
        "In short": short_lines(judged, findings.comparisons, delta),
        "Multiplexing on the wire": _wire_lines(findings),
        "While servers start": [
            *(crossing_line(item) for item in findings.crossings),
            *start_lines(findings.start_cells),
        ],
        "Handler against handler": [
            comparison_line(item, findings.cores[item.host], delta) for item in findings.comparisons
        ],
        "How many processes": [
            *(best_line(curve, best, delta) for curve, best in judged),
            *_without_flagged_lines(findings),
        ],
        "Is a peak off the core count real?": [peak_line(item) for item in findings.peaks],
        "The claims of the 2007 study": [
            claim_line(item) for item in sorted(findings.claims, key=lambda item: item.number)
        ],
        "Shape of the curves": [model_line(key, item) for key, item in findings.models.items()],
        "What limits the speed": []
        if findings.run.measures_starts
        else [*bound_lines(findings.bounds), *limit_lines(findings.limits)],
        "Did the hosts hold still?": [
            *(line for drift in findings.drifts.values() for line in drift_lines(drift, delta)),
            *(odd_line(item) for item in findings.odd),
            *steadiness_lines(findings.steadiness),
        ],
    }
    return [{"title": title, "lines": lines} for title, lines in groups.items() if lines]


def _without_flagged_lines(findings: Findings) -> Iterator[str]:
    for curve, judged in zip(findings.curves, findings.best, strict=True):
        rest = findings.best_without_flagged.get((curve.host, curve.setting, curve.handler))
        if rest is not None and judged.reason is None and curve.swept:
            yield without_flagged_line(curve, judged, rest)


def _wire_lines(findings: Findings) -> list[str]:
    places: dict[tuple[str, str], list[Decomposition]] = {}
    for item in findings.decompositions:
        places.setdefault((item.host, item.background), []).append(item)
    if not places:
        return []
    delta = findings.run.indifference
    return [
        *(answer_line(items, delta) for items in places.values()),
        *(decomposition_line(item, delta) for item in findings.decompositions),
        *cannot_lines(findings.decompositions, findings.regimes, findings.run.one_at_a_time),
        *regime_lines(findings.regimes),
    ]


def compared(findings: Findings) -> list[str]:
    """Return what was actually compared: what web server and load generator make of the question."""
    cells = findings.trials[findings.trials["role"] == "cell"]
    load = findings.run.experiment.get("load", {})
    tools = sorted(str(tool) for tool in cells["tool"].unique())
    concurrency = sorted(int(level) for level in cells["concurrency"].unique())
    lines = [_behind_lighttpd(cells)] if set(tools) != {WIRE_TOOL} else []
    if WIRE_TOOL in tools:
        lines.append(
            "On the wire there is no web server: the client drives the handlers on their own sockets"
            " and really"
            " interleaves request ids on one connection. Every regime has the same number of requests"
            " in flight;"
            " few connections also mean fewer system calls on both sides, and the mixtures show how much of a"
            " difference that is."
        )
    if findings.run.measures_starts:
        lines.append(
            "Servers are measured from lighttpd's start on, under load from the first moment: a request"
            " counts"
            " when it is answered, and processes that still start answer nothing."
        )
    lines.append(
        f"The load is closed loop: {', '.join(tools)} keeps c = {', '.join(map(str, concurrency))}"
        " requests in"
        " flight, so latency is what remains when each connection waits for its answer. It is no"
        " latency under a"
        " given arrival rate."
    )
    remote = sorted(str(host) for host in cells["load_host"].dropna().unique())
    if remote:
        lines.append(
            f"The load came from another host ({', '.join(remote)}) in trials with placement remote:"
            " the network"
            " between is part of what was measured, and both hosts' counters are under Evidence."
        )
    warm_up = "" if findings.run.measures_starts else f"{load.get('warmup_s', '?')} s warm-up, then "
    lines.append(
        f"One value is one server start: {warm_up}{_whole_seconds(load)} s measured."
        " Goodput counts correct responses only."
        " Hosts are compared on their own scale, never ranked by raw rate."
    )
    return lines


def _whole_seconds(load: Mapping[str, Any]) -> int | str:
    """Return how long the load of a trial ran: the agent rounds up, since ab knows whole seconds only."""
    return math.ceil(load["measure_s"]) if "measure_s" in load else "?"


def _behind_lighttpd(cells: pd.DataFrame) -> str:
    """Say what lighttpd makes of multiplexing, with the handlers' own count where they kept one."""
    text = (
        "lighttpd never multiplexes FastCGI: every request reaches the handler as request id 1 on a"
        " connection of"
        " its own."
    )
    counted = cells[(cells["tool"] != WIRE_TOOL) & (cells["status"] == "valid")]
    counted = counted[counted["handlers_highest_id"].notna()]
    if len(counted):
        text += (
            " The handlers counted it here: highest request id"
            f" {counted['handlers_highest_id'].max():.0f}, at most"
            f" {counted['handlers_peak_ids_per_connection'].max():.0f} at once on a connection, in"
            f" {len(counted)} trials."
        )
    if not cells["handler"].str.startswith("multiplexed").any():
        return text
    return (
        f"{text} So “multiplexed” behind it measures what flup's multiplexing code path costs (a thread"
        " a request"
        " and a lock round every record) against “threaded” (a thread a connection), not interleaved"
        " requests."
    )


def commands(findings: Findings) -> list[str]:
    """Return the commands that measure again and that write this report again."""
    run = findings.run
    return [
        str(run.meta.get("command", "")),
        f"python -m analysis.report {shlex.quote(run.run_id)} --results"
        f" {shlex.quote(str(run.directory.parent))}",
    ]
