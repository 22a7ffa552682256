"""The tables of results, from findings."""

from __future__ import annotations

import pandas as pd

from analysis.claims import TEXTS
from analysis.explanation import COUNTERS
from analysis.findings import Findings
from analysis.interleaving import decomposition_table
from analysis.page import Table, table_of, value


def tables(findings: Findings) -> list[Table]:
    """Return the tables of results; what a run does not measure has none."""
    found = []
    if findings.decompositions:
        found += [_decomposition_table(findings), _regime_table(findings)]
    if not findings.start_cells.empty:
        found += [_start_table(findings), _crossing_table(findings)]
    if not findings.cells.empty:
        found.append(_cell_table(findings))
    if not findings.ratios.empty:
        found.append(_ratio_table(findings))
    if findings.claims:
        found.append(_claims_table(findings))
    if findings.curves:
        found += [_peaks_table(findings), _models_table(findings)]
    if not findings.bounds.empty:
        found.append(_bounds_table(findings))
    return [*found, _counters_table(findings), _limits_table(findings)]


def _cell_table(findings: Findings) -> Table:
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
    return table_of(
        findings.cells,
        "cells",
        "Goodput by cell",
        _without_setting(findings, shown),
        "Median over server starts with its exact binomial interval (none below 6). Relative: to threaded at"
        " processes = cores of the same block. Best set: multiple comparisons with the best, 95 %"
        " simultaneous.",
    )


def _without_setting(findings: Findings, columns: dict[str, tuple[str, str]]) -> dict[str, tuple[str, str]]:
    """Return the columns of a table, the setting only where one varies."""
    varies = (findings.trials["setting"] != "").any()
    return {name: shown for name, shown in columns.items() if name != "setting" or varies}


_PLACE = {"host": ("host", ""), "background": ("setting", ""), "handler": ("handler", "")}


def _placed(frame: pd.DataFrame, columns: dict[str, tuple[str, str]]) -> dict[str, tuple[str, str]]:
    """Return the columns of a table that begins with its place, the setting only where there is one."""
    place = {name: shown for name, shown in _PLACE.items() if name != "background" or frame[name].any()}
    return place | columns


def _decomposition_table(findings: Findings) -> Table:
    frame = decomposition_table(findings.decompositions)
    columns = {
        "processes": ("processes", "d"),
        "total": ("requests in flight", "d"),
        "part": ("what it is", ""),
        "ratio": ("ratio", ""),
        "n": ("blocks", "d"),
        "percent": ("difference (%)", "+.2f"),
        "low_percent": ("95 % low", "+.2f"),
        "high_percent": ("95 % high", "+.2f"),
        "p_holm": ("p (Holm)", ".4f"),
        "p_equivalence": ("p (within δ)", ".4f"),
        "verdict": ("verdict", ""),
        "blocks_needed": ("blocks needed", ".0f"),
    }
    note = (
        "Paired by block, geometric means, BCa intervals over blocks; Holm over the ratios of one kind"
        " on a host."
        " Re-use x interleaving = both, over the blocks in which all three regimes were measured."
    )
    return table_of(
        frame, "decomposition", "What re-use of connections buys and what interleaving buys",
        _placed(frame, columns), note,
    )  # fmt: skip


def _regime_table(findings: Findings) -> Table:
    columns = {
        "processes": ("processes", "d"),
        "regime": ("regime", ""),
        "n": ("n", "d"),
        "median_rps": ("median (requests/s)", ",.0f"),
        "low_rps": ("95 % low", ",.0f"),
        "high_rps": ("95 % high", ",.0f"),
        "latency_p50_ms": ("p50 (ms)", ".2f"),
        "latency_p99_ms": ("p99 (ms)", ".2f"),
        "wire_connections_opened": ("connections opened", ",.0f"),
        "wire_requests_per_connection_mean": ("requests a connection", ",.1f"),
        "wire_highest_id": ("highest id sent", ".0f"),
        "wire_peak_ids_per_connection": ("ids at once on one", ".0f"),
        "wire_peak_in_flight": ("in flight", ".0f"),
        "wire_interleaved_answers": ("interleaved answers", ",.0f"),
        "wire_out_of_order_answers": ("out of order", ",.0f"),
        "handlers_connections": ("connections the handlers took", ",.0f"),
        "handlers_highest_id": ("highest id they saw", ".0f"),
        "handlers_peak_ids_per_connection": ("ids at once they saw", ".0f"),
        "handlers_peak_in_process": ("at once in a process", ".0f"),
        "without_valid": ("trials without a valid attempt", "d"),
        "faults": ("faults", ""),
        "proven": ("as asked, says", ""),
    }
    note = (
        "Counts are medians over server starts, peaks and ids the highest. The regime is proven where"
        " every valid"
        " trial opened the connections and used the ids that were asked, counted by the client and by"
        " the handlers."
    )
    return table_of(
        findings.regimes, "regimes", "Which regime was measured", _placed(findings.regimes, columns), note
    )


def _start_table(findings: Findings) -> Table:
    frame = findings.start_cells
    columns = {
        "processes": ("processes", "d"),
        "cost_s": ("start-up cost (s)", ".2f"),
        "n": ("n", "d"),
        "first_answer_s": ("first answer (s)", ".2f"),
        "first_answer_s_low": ("95 % low", ".2f"),
        "first_answer_s_high": ("95 % high", ".2f"),
        "full_rate_s": ("full rate (s)", ".2f"),
        "full_rate_s_low": ("95 % low", ".2f"),
        "full_rate_s_high": ("95 % high", ".2f"),
        "full_rate_reached": ("starts that reached it", "d"),
    }
    for name in [str(name) for name in frame if str(name).startswith("served_") and str(name).endswith("_s")]:
        seconds = name.removeprefix("served_").removesuffix("_s")
        columns |= {
            name: (f"requests in {seconds} s", ",.0f"),
            f"{name}_low": ("95 % low", ",.0f"),
            f"{name}_high": ("95 % high", ",.0f"),
        }
    note = "Seconds since lighttpd's start; medians over server starts with exact binomial intervals."
    return table_of(frame, "starts", "From the start to the full rate", _placed(frame, columns), note)


def _crossing_table(findings: Findings) -> Table:
    rows = [
        [value(item.host), value(item.background or "—"), value(item.few[0]), value(item.few[1], "d"),
         value(item.many[0]), value(item.many[1], "d"), value(item.seconds, "g"),
         *(value(None if item.cost_s is None else getattr(item.cost_s, name), ".2f") for name in
           ("estimate", "low", "high")), value(item.reason or "—")]
        for item in findings.crossings
    ]  # fmt: skip
    columns = ["host", "setting", "few", "processes", "many", "processes", "first (s)", "crossing (s)",
               "95 % low", "95 % high", "why none is named"]  # fmt: skip
    note = (
        "The start-up cost above which few processes serve more in the first seconds. Named only where"
        " many are"
        " shown to serve more at the lowest cost and few at the highest; interval over blocks."
    )
    return Table("crossings", "Few processes against many", columns, rows, note)


def _bounds_table(findings: Findings) -> Table:
    columns = {
        "host": ("host", ""),
        "setting": ("setting", ""),
        "handler": ("handler", ""),
        "processes": ("processes", "d"),
        "median_rps": ("median (requests/s)", ",.0f"),
        "cores_rps": ("cores / CPU demand", ",.0f"),
        "process_rps": ("bound of the processes", ",.0f"),
        "process_text": ("which is", ""),
    }
    note = (
        "Requests/s. CPU demand as measured: handlers, lighttpd, and the load generator where it"
        " shares the cores."
    )
    return table_of(findings.bounds, "bounds", "Queueing bounds", _without_setting(findings, columns), note)


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
    columns = _without_setting(findings, columns)
    note = (
        "Medians over server starts. Context switches are those of all threads, where every handler process"
        " could tell them; run-queue wait is that of threads that lived to the end of the measurement."
    )
    return table_of(findings.counters, "counters", "What one request costs", columns, note)


def _limits_table(findings: Findings) -> Table:
    columns = {
        "host": ("host", ""),
        "setting": ("setting", ""),
        "handler": ("handler", ""),
        "processes": ("processes", "d"),
        "handlers_cores": ("handlers (cores busy)", ".2f"),
        "lighttpd_cores": ("lighttpd (cores busy)", ".2f"),
        "load_cores": ("load generator (cores busy)", ".2f"),
        "busy_share": ("server's cores busy (share)", ".2f"),
        "idle_share": ("host idle (share)", ".2f"),
        "ceiling_share": ("share of static ceiling", ".2f"),
        "limit": ("other limit", ""),
    }
    columns = _without_setting(findings, columns)
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
        "low_all_percent": ("all counts low", "+.2f"),
        "high_all_percent": ("all counts high", "+.2f"),
        "p_holm": ("p (Holm)", ".4f"),
        "p_equivalence": ("p (within δ)", ".4f"),
        "cliffs_delta": ("Cliff's δ", "+.2f"),
        "verdict": ("verdict", ""),
        "blocks_needed": ("blocks needed", ".0f"),
    }
    return table_of(
        findings.ratios,
        "ratios",
        "Handler against handler by process count",
        _without_setting(findings, columns),
        "Paired by block; geometric-mean ratio with a BCa interval over blocks; all counts: 95 % for"
        " all counts of a"
        " pair together (Bonferroni t); p of a paired t, Holm over the counts; two one-sided tests against"
        f" ±{100 * findings.run.indifference:g} %.",
    )
