"""Which figures a report has, with the words that say what each one shows."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pandas as pd

from analysis.best_set import BestSet
from analysis.bounds import bound_lines
from analysis.curves import Curve
from analysis.figures.comparisons import forest_figure, p_best_figure, ratio_figure
from analysis.figures.evidence import (
    counters_figure,
    latency_figure,
    model_figure,
    order_figure,
)
from analysis.figures.throughput import host_figure, normalised_figure, per_core_figure
from analysis.findings import Findings
from analysis.illustration import Illustration, file_name
from analysis.models import ModelChoice
from analysis.tables import latency_table, order_table, percent
from analysis.wire_illustrations import startup_illustrations, wire_illustrations

HOSTS_IN_GRID = 4


def illustrations(findings: Findings) -> Iterator[Illustration]:
    """Yield the figures of a report, not drawn yet."""
    yield from wire_illustrations(findings)
    yield from startup_illustrations(findings)
    settings = findings.swept_settings
    for setting in settings:
        for host in findings.hosts:
            yield from _host(findings, host, setting)
    for setting in settings:
        yield from _across_hosts(findings, setting)
    yield _peaks(findings)
    for setting in settings:
        yield from _explanations(findings, setting)
    yield _run_order(findings)


def _named(title: str, setting: str) -> str:
    return f"{title} ({setting})" if setting else title


def _host(findings: Findings, host: str, setting: str) -> Iterator[Illustration]:
    cells = _of(findings.cells, setting, host)
    if cells.empty or not (cells["n"] > 0).any():
        return
    columns = ["host", "setting", "role", "handler", "model", "processes", "status", "goodput_rps"]
    attempts = _of(findings.attempts[columns], setting, host)
    attempts = attempts[attempts["role"] == "cell"]
    ceiling = findings.ceilings.get(host)
    label = findings.run.label(host)
    yield Illustration(
        file_name(label, setting),
        _named(f"{label}: requests/s against processes", setting),
        _host_alt(findings, host, setting),
        partial(
            host_figure,
            cells,
            attempts,
            None if ceiling is None else ceiling.estimate,
            _of(findings.bounds, setting, host),
        ),
    )


def _of(frame: pd.DataFrame, setting: str, host: str | None = None) -> pd.DataFrame:
    own = frame[frame["setting"] == setting]
    return own if host is None else own[own["host"] == host]


def _host_alt(findings: Findings, host: str, setting: str) -> str:
    parts = []
    for curve, best in zip(findings.curves, findings.best, strict=True):
        if (curve.host, curve.setting) == (host, setting):
            parts.append(_curve_alt(findings, curve, best))
    parts += bound_lines(_of(findings.bounds, setting, host))
    return f"Goodput in requests/s against the number of processes on {host}. " + " ".join(parts)


def _curve_alt(findings: Findings, curve: Curve, best: BestSet) -> str:
    cells = _of(findings.cells, curve.setting, curve.host)
    own = cells[(cells["handler"] == curve.handler) & (cells["n"] > 0)]
    if own.empty:
        return f"{curve.handler}: no valid trial."
    ordered = own.sort_values("median_rps")
    low, high = ordered.iloc[0], ordered.iloc[-1]
    chosen = f" Best set: {', '.join(map(str, best.best_set))}." if best.best_set else ""
    return (
        f"{curve.handler}: medians from {low['median_rps']:,.0f} at {low['processes']}"
        f" to {high['median_rps']:,.0f} at {high['processes']} processes.{chosen}"
    )


def _across_hosts(findings: Findings, setting: str) -> Iterator[Illustration]:
    cells = _of(findings.cells, setting)
    ratios = _of(findings.ratios, setting) if not findings.ratios.empty else findings.ratios
    yield Illustration(
        file_name("hosts-side-by-side", setting),
        _named("Hosts side by side, each on its own scale", setting),
        "Speed relative to each host's own reference cell (threaded, processes = cores) against"
        f" processes per core, one panel a host: {_listed(findings)}. {_relative_alt(cells)}",
        partial(normalised_figure, cells),
    )
    yield Illustration(
        file_name("speed-up-per-core", setting),
        _named("Speed-up per core, by core count", setting),
        f"Speed-up over one process divided by the cores, hosts of different core counts in one"
        f" panel a handler: {_listed(findings)}. 1 means that every core is used as well as the first.",
        partial(per_core_figure, cells),
    )
    yield Illustration(
        file_name("handler-against-handler", setting),
        _named("Handler against handler, at each process count", setting),
        "" if ratios.empty else _ratio_alt(ratios),
        partial(ratio_figure, ratios, findings.run.indifference),
    )
    for part, hosts in _in_groups(findings):
        own = cells[cells["host"].isin(hosts)]
        label = ", ".join(filter(None, (setting, part)))
        alt = "Share of block resamples in which each process count has the highest mean."
        yield Illustration(
            file_name("best-count", label),
            _named("How often each count comes out on top", label),
            f"{alt} {_p_best_alt(own)}",
            partial(p_best_figure, own),
        )


def _peaks(findings: Findings) -> Illustration:
    rows = pd.DataFrame(
        [
            {
                "host": f"{peak.suspect.host} {peak.suspect.setting}".strip(),
                "handler": peak.suspect.handler,
                "processes": peak.suspect.processes,
                "difference_percent": percent(peak.difference),
                "low_percent": percent(peak.difference - peak.margin),
                "high_percent": percent(peak.difference + peak.margin),
            }
            for peak in findings.peaks
            if pd.notna(peak.margin)
        ]
    )
    alt = " ".join(
        f"{row['host']}, {row['handler']}: {row['processes']} processes lead by"
        f" {row['difference_percent']:+.1f} % [{row['low_percent']:+.1f}, {row['high_percent']:+.1f}]."
        for _, row in rows.iterrows()
    )
    title = "Leading counts off the core count, against the best other count"
    draw = partial(forest_figure, rows, findings.run.indifference)
    return Illustration("suspected-peaks", title, f"Forest plot. {alt}", draw)


def _in_groups(findings: Findings) -> Iterator[tuple[str, list[str]]]:
    """Yield hosts in groups that fit into one grid, each with a suffix for file and title."""
    groups = [findings.hosts[i : i + HOSTS_IN_GRID] for i in range(0, len(findings.hosts), HOSTS_IN_GRID)]
    for number, hosts in enumerate(groups, start=1):
        yield (f"part {number} of {len(groups)}" if len(groups) > 1 else ""), hosts


def _explanations(findings: Findings, setting: str) -> Iterator[Illustration]:
    latency = _of(latency_table(findings.trials), setting)
    for part, hosts in _in_groups(findings):
        label = ", ".join(filter(None, (setting, part)))
        counters = _of(findings.counters, setting)
        models = {
            (host, handler): choice
            for (host, own, handler), choice in findings.models.items()
            if own == setting and host in hosts
        }
        yield _costs(counters[counters["host"].isin(hosts)], label)
        yield _fits(_of(findings.cells, setting), models, label)
        yield _latency(latency[latency["host"].isin(hosts)], label)


def _costs(counters: pd.DataFrame, label: str) -> Illustration:
    alt = "CPU time, context switches, run-queue wait, memory and threads against processes."
    return Illustration(
        file_name("costs-per-request", label),
        _named("What one request costs", label),
        f"{alt} {_cost_alt(counters)}",
        partial(counters_figure, counters),
    )


def _fits(cells: pd.DataFrame, models: dict[tuple[str, str], ModelChoice], label: str) -> Illustration:
    alt = " ".join(
        f"{host}, {handler}: {choice.fit.model}, error at unseen counts"
        f" {choice.errors_percent[choice.fit.model]:.1f} %."
        for (host, handler), choice in models.items()
    )
    return Illustration(
        file_name("models", label),
        _named("The model that predicts best, within the counts measured", label),
        f"Medians with the fitted model, and below what the model misses. {alt}",
        partial(model_figure, cells, models),
    )


def _latency(latency: pd.DataFrame, label: str) -> Illustration:
    level = ", ".join(str(item) for item in sorted(latency["concurrency"].unique()))
    return Illustration(
        file_name("latency", label),
        _named(f"Latency, closed loop, c = {level}", label),
        f"Median over server starts of the latency percentiles p50, p90 and p99 against processes, closed"
        f" loop with c = {level}. {_latency_alt(latency)}",
        partial(latency_figure, latency),
    )


def _cost_alt(counters: pd.DataFrame) -> str:
    groups = counters.groupby(["host", "handler"], observed=True)["handlers_cpu_us"]
    return " ".join(
        f"{host}, {handler}: {costs.min():,.0f} to {costs.max():,.0f} microseconds of handler CPU a request."
        for (host, handler), costs in groups
        if costs.notna().any()
    )


def _latency_alt(latency: pd.DataFrame) -> str:
    groups = latency.groupby(["host", "handler"], observed=True)["latency_p99_ms"]
    return " ".join(
        f"{host}, {handler}: p99 from {values.min():.1f} to {values.max():.1f} ms."
        for (host, handler), values in groups
        if values.notna().any()
    )


def _run_order(findings: Findings) -> Illustration:
    changes = " ".join(
        f"{host}: {len(drift.change_orders)} changes of level in {drift.sentinels} sentinels."
        for host, drift in findings.drifts.items()
    )
    if findings.run.journal.epochs:
        changes += f" The run went on after changes: {len(findings.run.journal.epochs)} times."
    columns = ["host", "order", "block", "role", "epoch", "deviation_percent"]
    return Illustration(
        "run-order",
        "Run order: every trial against its own cell's median",
        f"Deviation of each trial from the median of its cell, in the order of the run. {changes}",
        partial(order_figure, order_table(findings.trials)[columns], findings.drifts),
    )


def _listed(findings: Findings) -> str:
    return ", ".join(f"{host} ({findings.run.cores(host)} cores)" for host in findings.hosts)


def _relative_alt(cells: pd.DataFrame) -> str:
    groups = cells.dropna(subset=["relative"]).groupby(["host", "handler"], observed=True)["relative"]
    return " ".join(
        f"{host}, {handler}: {values.min():.2f} to {values.max():.2f}." for (host, handler), values in groups
    )


def _ratio_alt(ratios: pd.DataFrame) -> str:
    groups = ratios.groupby(["host", "handler", "reference"], observed=True)
    return " ".join(
        f"{host}: {handler} over {reference} lies between {own['percent'].min():+.1f} % and"
        f" {own['percent'].max():+.1f} % across process counts."
        for (host, handler, reference), own in groups
    )


def _p_best_alt(cells: pd.DataFrame) -> str:
    top = (
        cells.dropna(subset=["p_best"])
        .sort_values("p_best")
        .drop_duplicates(["host", "handler"], keep="last")
    )
    return " ".join(
        f"{row['host']}, {row['handler']}: {row['processes']} processes in {100 * row['p_best']:.0f} %."
        for _, row in top.iterrows()
    )
