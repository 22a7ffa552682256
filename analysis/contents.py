"""What stands on the page: verdict lines, tables and evidence, from findings."""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from analysis.claims import TEXTS
from analysis.confirmation import confirmation_document
from analysis.explanation import COUNTERS, limit_lines
from analysis.findings import Findings
from analysis.page import Table, table_of, value
from analysis.verdicts import (
    best_line,
    claim_line,
    comparison_line,
    drift_lines,
    model_line,
    odd_line,
    peak_line,
    without_flagged_line,
)
from analysis.wording import rps_text

ROWS_SHOWN = 300
"""Longer lists are cut on the page, with a note; trials.csv has them all."""

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
    if run.damage:
        first = run.damage[0]
        found.append(
            f"The journal is damaged: {len(run.damage)} line(s) could not be used (the first is line"
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
    return found + _unlike_builds(findings)


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
    cores = {curve.host: curve.cores for curve in findings.curves}
    pairs = [comparison_line(item, cores[item.host], delta) for item in findings.comparisons]
    best = [
        best_line(curve, judged, delta) for curve, judged in zip(findings.curves, findings.best, strict=True)
    ]
    for curve, judged in zip(findings.curves, findings.best, strict=True):
        rest = findings.best_without_flagged.get((curve.host, curve.setting, curve.handler))
        if rest is not None:
            best.append(without_flagged_line(curve, judged, rest))
    groups = [
        {"title": "Handler against handler", "lines": pairs},
        {"title": "How many processes", "lines": best},
        {
            "title": "Is a peak off the core count real?",
            "lines": [peak_line(item) for item in findings.peaks],
        },
        {
            "title": "The claims of the 2007 study",
            "lines": [claim_line(item) for item in sorted(findings.claims, key=lambda item: item.number)],
        },
        {
            "title": "Shape of the curves",
            "lines": [model_line(key, item) for key, item in findings.models.items()],
        },
        {"title": "What limits the speed", "lines": limit_lines(findings.limits)},
        {
            "title": "Did the hosts hold still?",
            "lines": [
                *(line for drift in findings.drifts.values() for line in drift_lines(drift)),
                *(odd_line(item) for item in findings.odd),
            ],
        },
    ]
    return [group for group in groups if group["lines"]]


def compared(findings: Findings) -> list[str]:
    """Return what was actually compared: what lighttpd and the load generator make of the question."""
    load = findings.run.experiment.get("load", {})
    concurrency = sorted({curve.concurrency for curve in findings.curves})
    tools = sorted({str(curve.conditions["tool"]) for curve in findings.curves})
    return [
        "lighttpd never multiplexes FastCGI: every request reaches the handler as request id 1 on a"
        " connection of"
        " its own. So “multiplexed” here measures what flup's multiplexing code path costs (a thread a"
        " request and"
        " a lock round every record) against “threaded” (a thread a connection), not interleaved requests.",
        f"The load is closed loop: {', '.join(tools)} keeps c = {', '.join(map(str, concurrency))}"
        " requests in"
        " flight, so latency is what remains when each connection waits for its answer. It is no latency"
        " under a"
        " given arrival rate.",
        f"One value is one server start: {load.get('warmup_s', '?')} s warm-up, then"
        f" {load.get('measure_s', '?')} s"
        " measured. Goodput counts correct responses only. Hosts are compared on their own scale, never"
        " ranked by"
        " raw rate.",
    ]


def tables(findings: Findings) -> list[Table]:
    """Return the tables of results."""
    cells = findings.cells
    shown = {
        "host": ("host", ""),
        "setting": ("setting", ""),
        "handler": ("handler", ""),
        "processes": ("processes", "d"),
        "n": ("n", "d"),
        "median_rps": ("median (requests/s)", ",.0f"),
        "low_rps": ("95 % low", ",.0f"),
        "high_rps": ("95 % high", ",.0f"),
        "relative": ("relative to reference", ".3f"),
        "p_best": ("P(best)", ".2f"),
        "best_set": ("in best set", ""),
        "recommended": ("recommended", ""),
    }
    if not any(findings.settings):
        del shown["setting"]
    found = [
        table_of(
            cells,
            "cells",
            "Goodput by cell",
            shown,
            "Median over server starts with its exact binomial interval (none below 6). Relative: to"
            " threaded at"
            " processes = cores of the same block. Best set: multiple comparisons with the best, 95 %"
            " simultaneous.",
        )
    ]
    if not findings.ratios.empty:
        found.append(_ratio_table(findings))
    found += [_claims_table(findings), _peaks_table(findings), _models_table(findings)]
    found += [_counters_table(findings), _limits_table(findings)]
    return found


def _claims_table(findings: Findings) -> Table:
    rows = [
        [value(item.number, "d"), value(TEXTS[item.number]), value(item.host), value(item.setting or "—"),
         value(item.status), value(item.detail)]
        for item in findings.claims
    ]  # fmt: skip
    columns = ["claim", "text", "where", "setting", "status", "numbers"]
    return Table("claims", "The five claims of 2007", columns, rows)


def _peaks_table(findings: Findings) -> Table:
    rows = [
        [value(peak.suspect.host), value(peak.suspect.handler), value(peak.suspect.processes, "d"),
         value(peak.verdict), value(item.name), value(item.status), value(item.detail)]
        for peak in findings.peaks
        for item in peak.conditions
    ]  # fmt: skip
    note = (
        "All parts must hold for REAL. Empty for an exploratory run: it can never show that a peak is real."
    )
    columns = ["host", "handler", "processes", "verdict", "part of the rule", "status", "numbers"]
    return Table("peaks", "Confirmation of suspected peaks", columns, rows, note)


def _models_table(findings: Findings) -> Table:
    rows = [
        [value(host), value(setting or "—"), value(handler), value(item.fit.model),
         *(value(item.errors_percent[name], ".2f") for name in sorted(item.errors_percent)),
         value(item.fit.gamma, ",.1f"), value(item.fit.alpha, ".4f"), value(item.beta_low, ".2e"),
         value(item.beta_high, ".2e"), value(item.declines)]
        for (host, setting, handler), item in findings.models.items()
    ]  # fmt: skip
    note = (
        "Chosen by the error at counts that were left out of the fit. A decline is shown where the Universal"
        " Scalability Law predicts best and the block-bootstrap interval of its beta excludes 0."
    )
    first = next(iter(findings.models.values()), None)
    names = sorted(first.errors_percent) if first else []
    errors = [f"error of {name} (%)" for name in names]
    fit = ["gamma (requests/s)", "alpha", "USL beta 95 % low", "high", "decline shown"]
    return Table("models", "Models", ["host", "setting", "handler", "chosen", *errors, *fit], rows, note)


def _counters_table(findings: Findings) -> Table:
    columns = {name: (name, "") for name in ("host", "setting", "handler")}
    columns |= {"processes": ("processes", "d")}
    columns |= {name: (text, ",.2f") for name, text in COUNTERS.items()}
    return table_of(
        findings.counters, "counters", "What one request costs", columns, "Medians over server starts."
    )


def _limits_table(findings: Findings) -> Table:
    columns = {
        "host": ("host", ""),
        "setting": ("setting", ""),
        "handler": ("handler", ""),
        "processes": ("processes", "d"),
        "handlers_cores": ("handlers (cores busy)", ".2f"),
        "lighttpd_cores": ("lighttpd (cores busy)", ".2f"),
        "load_cores": ("load generator (cores busy)", ".2f"),
        "idle_share": ("host idle (share)", ".2f"),
        "ceiling_share": ("share of static ceiling", ".2f"),
        "limit": ("other limit", ""),
    }
    return table_of(findings.limits, "limits", "Who was busy", columns, "Medians over server starts.")


def _ratio_table(findings: Findings) -> Table:
    columns = {
        "host": ("host", ""),
        "setting": ("setting", ""),
        "handler": ("handler", ""),
        "reference": ("against", ""),
        "processes": ("processes", "d"),
        "n": ("blocks", "d"),
        "percent": ("difference (%)", "+.2f"),
        "low_percent": ("95 % low", "+.2f"),
        "high_percent": ("95 % high", "+.2f"),
        "p_holm": ("p (Holm)", ".4f"),
        "p_equivalence": ("p (within δ)", ".4f"),
        "cliffs_delta": ("Cliff's δ", "+.2f"),
        "verdict": ("verdict", ""),
        "blocks_needed": ("blocks needed", ".0f"),
    }
    if not any(findings.settings):
        del columns["setting"]
    return table_of(
        findings.ratios,
        "ratios",
        "Handler against handler by process count",
        columns,
        "Paired by block; geometric-mean ratio with a BCa interval over blocks; p of a paired t, Holm"
        " over the counts of"
        f" a host; two one-sided tests against ±{100 * findings.run.indifference:g} %.",
    )


def evidence(findings: Findings) -> list[Table]:
    """Return what the numbers rest on."""
    return [
        _status_table(findings),
        _invalid_table(findings),
        _gate_table(findings),
        _ceiling_table(findings),
        _facts_table(findings),
        _fingerprint_table(findings),
        _run_table(findings),
        _damage_table(findings),
    ]


def _status_table(findings: Findings) -> Table:
    counts = findings.attempts.groupby(["host", "status"], observed=True).size().to_dict()
    rows = []
    for host in findings.hosts:
        scheduled = int((findings.run.schedule["host"] == host).sum())
        statuses = [
            value(int(counts.get((host, status), 0)), "d") for status in ("valid", "invalid", "failed")
        ]
        rows.append([value(host), value(scheduled, "d"), *statuses])
    columns = ["host", "trials scheduled", "attempts valid", "invalid", "failed"]
    return Table("attempts", "Trials and attempts", columns, rows)


def _invalid_table(findings: Findings) -> Table:
    attempts = findings.attempts
    bad = attempts[attempts["status"] != "valid"]
    note = "Kept and tried again, never dropped; never part of a statistic."
    if len(bad) > ROWS_SHOWN:
        note += f" The first {ROWS_SHOWN} of {len(bad)}; trials.csv has all."
    columns = {
        "trial": ("trial", ""),
        "attempt": ("attempt", "d"),
        "role": ("role", ""),
        "handler": ("handler", ""),
        "processes": ("processes", "d"),
        "status": ("status", ""),
        "goodput_rps": ("goodput (requests/s)", ",.0f"),
        "reason": ("reason", ""),
    }
    return table_of(bad.head(ROWS_SHOWN), "invalid", "Invalid and failed attempts", columns, note)


def _gate_table(findings: Findings) -> Table:
    asked = findings.attempts["gates"].value_counts()
    failed = findings.attempts["failed_gates"].value_counts()
    applied: dict[str, int] = {}
    missed: dict[str, int] = {}
    for names, count in asked.items():
        for name in filter(None, str(names).split(",")):
            applied[name] = applied.get(name, 0) + int(count)
    for names, count in failed.items():
        for name in filter(None, str(names).split(", ")):
            missed[name] = missed.get(name, 0) + int(count)
    rows = [
        [value(name), value(applied[name], "d"), value(missed.get(name, 0), "d")] for name in sorted(applied)
    ]
    return Table("gates", "Gates", ["gate", "attempts checked", "attempts that failed it"], rows)


def _ceiling_table(findings: Findings) -> Table:
    rows = [
        [value(host), value(rps_text(findings.ceilings[host]))]
        for host in findings.hosts
        if host in findings.ceilings
    ]
    note = "lighttpd alone with a static file of the same size: what server and load generator can do at all."
    return Table("ceilings", "Static ceiling", ["host", "goodput"], rows, note)


_FACTS = (
    "cpu_model", "cores", "sockets", "threads_per_core", "memory_bytes", "arch", "os_release", "kernel",
    "governor", "turbo", "virtualisation", "python", "limits", "sysctls",
)  # fmt: skip


def _facts_table(findings: Findings) -> Table:
    hosts = [host for host in findings.hosts if host in findings.run.hosts]
    documents = [findings.run.hosts[host] for host in hosts]
    rows = [
        [value("label"), *(value(document.get("label")) for document in documents)],
        [value("machine"), *(value(document.get("machine")) for document in documents)],
    ]
    for fact in _FACTS:
        contents = [document.get("facts", {}).get(fact) for document in documents]
        if any(content is not None for content in contents):
            rows.append([value(fact), *(_plain(content) for content in contents)])
    return Table("facts", "Hosts", ["fact", *hosts], rows)


def _plain(content: Any) -> Any:
    return value(json.dumps(content) if isinstance(content, dict | list) else content)


def _fingerprint_table(findings: Findings) -> Table:
    fingerprints = findings.run.meta.get("fingerprint", {}).get("hosts", {})
    names = sorted({name for prints in fingerprints.values() for name in prints})
    hosts = [host for host in findings.hosts if host in fingerprints]
    rows = [[value(name), *(_plain(fingerprints[host].get(name)) for host in hosts)] for name in names]
    return Table("fingerprints", "Builds", ["fingerprint", *hosts], rows)


def _run_table(findings: Findings) -> Table:
    run = findings.run
    git = run.meta.get("git", {})
    rows = [
        ("run", run.run_id),
        ("started", run.meta.get("created_at")),
        ("command", run.meta.get("command")),
        ("commit", f"{git.get('commit')}{' (changed working copy)' if git.get('dirty') else ''}"),
        ("seed", str(run.meta.get("seed"))),
        ("blocks", str(run.schedule["block"].nunique())),
        ("trials scheduled", str(len(run.schedule))),
        ("versions", json.dumps(run.meta.get("versions", {}))),
        ("journal sha256", run.journal_sha256),
        ("experiment", json.dumps(run.meta.get("experiment", {}))),
    ]
    return Table("run", "Run", ["what", "value"], [[value(name), value(content)] for name, content in rows])


def _damage_table(findings: Findings) -> Table:
    damage = findings.run.damage
    note = f"The first {ROWS_SHOWN} of {len(damage)}." if len(damage) > ROWS_SHOWN else ""
    rows = [[value(item.line, "d"), value(item.reason)] for item in damage[:ROWS_SHOWN]]
    return Table("damage", "Damaged lines of the journal", ["line", "what is wrong"], rows, note)


def commands(findings: Findings) -> list[str]:
    """Return the commands that measure again and that write this report again."""
    run = findings.run
    return [
        str(run.meta.get("command", "")),
        f"python -m analysis.report {shlex.quote(run.run_id)} --results"
        f" {shlex.quote(str(run.directory.parent))}",
    ]


def summary(findings: Findings, groups: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the report for machines.

    Returns
    -------
    dict
        ``schema`` 1: run, verdicts, curves, comparisons; rates in requests/s, differences in percent.
    """
    run = findings.run
    return {
        "schema": 1,
        "run_id": run.run_id,
        "synthetic": run.synthetic,
        "journal_sha256": run.journal_sha256,
        "indifference": run.indifference,
        "damaged_lines": len(run.damage),
        "banners": banners(findings),
        "verdicts": {group["title"]: group["lines"] for group in groups},
        "cells": records(findings.cells),
        "best": [
            {
                "host": curve.host,
                "setting": curve.setting,
                "handler": curve.handler,
                "blocks": judged.blocks,
                "best_set": list(judged.best_set),
                "recommended": judged.recommended,
                "left_out": list(judged.left_out),
                "residual_sd_percent": number(100 * judged.residual_sd),
                "reason": judged.reason,
            }
            for curve, judged in zip(findings.curves, findings.best, strict=True)
        ],
        "ratios": records(findings.ratios),
        "claims": [dataclasses.asdict(item) | {"text": TEXTS[item.number]} for item in findings.claims],
        "peaks": [_plain_numbers(dataclasses.asdict(item)) for item in findings.peaks],
        "confirmation": _plain_numbers(confirmation_document(findings)),
        "models": [
            {"host": host, "setting": setting, "handler": handler} | _plain_numbers(dataclasses.asdict(item))
            for (host, setting, handler), item in findings.models.items()
        ],
        "drift": [_plain_numbers(dataclasses.asdict(item)) for item in findings.drifts.values()],
        "odd_cells": [dataclasses.asdict(item) for item in findings.odd],
        "counters": records(findings.counters),
        "limits": records(findings.limits),
        "best_against_best": [
            {
                "host": item.host,
                "setting": item.setting,
                "handler": item.handler,
                "reference": item.reference,
                "choice": item.best.choice,
                "reference_choice": item.best.reference_choice,
                "ratio": number(np.exp(item.best.log_ratio.estimate)),
                "low": None if item.best.log_ratio.low is None else number(np.exp(item.best.log_ratio.low)),
                "high": None
                if item.best.log_ratio.high is None
                else number(np.exp(item.best.log_ratio.high)),
                "blocks": item.best.log_ratio.n,
                "verdict": item.best.verdict,
                "blocks_needed": item.best.blocks_needed,
            }
            for item in findings.comparisons
            if item.best is not None
        ],
    }


def _plain_numbers(content: Any) -> Any:
    if isinstance(content, dict):
        return {name: _plain_numbers(item) for name, item in content.items()}
    if isinstance(content, list | tuple):
        return [_plain_numbers(item) for item in content]
    return number(content)


def number(content: Any) -> Any:
    """Return a number that JSON can hold: NaN becomes null."""
    if isinstance(content, float | np.floating):
        return None if not np.isfinite(content) else float(content)
    return content.item() if isinstance(content, np.generic) else content


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return a DataFrame as JSON records."""
    return list(_records(frame))


def _records(frame: pd.DataFrame) -> Iterator[dict[str, Any]]:
    for row in frame.astype(object).to_dict(orient="records"):
        yield {str(name): number(content) for name, content in row.items()}
