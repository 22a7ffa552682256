"""Which figures a report has, with the words that say what each one shows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd
from matplotlib.figure import Figure

from analysis.best_set import BestSet
from analysis.curves import Curve
from analysis.figures.comparisons import p_best_figure, ratio_figure
from analysis.figures.throughput import host_figure, normalised_figure, per_core_figure
from analysis.findings import Findings


@dataclass(frozen=True)
class Illustration:
    """One figure with its file name (without suffix), title and alternative text."""

    name: str
    title: str
    alt: str
    figure: Figure


def illustrations(findings: Findings) -> Iterator[Illustration]:
    """Yield the figures one by one, so that only one is in memory."""
    for setting in findings.settings:
        for host in findings.hosts:
            yield from _host(findings, host, setting)
    for setting in findings.settings:
        yield from _across_hosts(findings, setting)


def file_name(*parts: str) -> str:
    """Return a file name from parts; what is no letter, digit, dot, dash or underscore becomes a dash."""
    return "--".join(re.sub(r"[^\w.-]+", "-", part) for part in parts if part)


def _named(title: str, setting: str) -> str:
    return f"{title} ({setting})" if setting else title


def _host(findings: Findings, host: str, setting: str) -> Iterator[Illustration]:
    cells = _of(findings.cells, setting, host)
    if cells.empty or not (cells["n"] > 0).any():
        return
    attempts = _of(findings.attempts, setting, host)
    attempts = attempts[attempts["role"] == "cell"]
    ceiling = findings.ceilings.get(host)
    label = findings.run.label(host)
    yield Illustration(
        file_name(label, setting),
        _named(f"{label}: requests/s against processes", setting),
        _host_alt(findings, host, setting),
        host_figure(cells, attempts, None if ceiling is None else ceiling.estimate),
    )


def _of(frame: pd.DataFrame, setting: str, host: str | None = None) -> pd.DataFrame:
    own = frame[frame["setting"] == setting]
    return own if host is None else own[own["host"] == host]


def _host_alt(findings: Findings, host: str, setting: str) -> str:
    parts = []
    for curve, best in zip(findings.curves, findings.best, strict=True):
        if (curve.host, curve.setting) == (host, setting):
            parts.append(_curve_alt(findings, curve, best))
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
    normalised = normalised_figure(cells)
    if normalised is not None:
        yield Illustration(
            file_name("hosts-side-by-side", setting),
            _named("Hosts side by side, each on its own scale", setting),
            "Speed relative to each host's own reference cell (threaded, processes = cores) against"
            f" processes per core, one panel a host: {_listed(findings)}. {_relative_alt(cells)}",
            normalised,
        )
    per_core = per_core_figure(cells)
    if per_core is not None:
        yield Illustration(
            file_name("speed-up-per-core", setting),
            _named("Speed-up per core, by core count", setting),
            f"Speed-up over one process divided by the cores, hosts of different core counts in one"
            f" panel a handler: {_listed(findings)}. 1 means that every core is used as well as the first.",
            per_core,
        )
    ratio = ratio_figure(ratios, findings.run.indifference)
    if ratio is not None:
        yield Illustration(
            file_name("handler-against-handler", setting),
            _named("Handler against handler, at each process count", setting),
            _ratio_alt(ratios),
            ratio,
        )
    p_best = p_best_figure(cells)
    if p_best is not None:
        yield Illustration(
            file_name("best-count", setting),
            _named("How often each count comes out on top", setting),
            "Share of block resamples in which each process count has the highest mean. "
            + _p_best_alt(cells),
            p_best,
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
