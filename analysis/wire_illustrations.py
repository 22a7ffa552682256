"""Figures of what is no sweep of process counts: regimes on the wire, and servers that start."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pandas as pd

from analysis.figures.startup import crossing_figure, served_figure
from analysis.figures.wire import decomposition_figure, regime_figure
from analysis.findings import Findings
from analysis.illustration import Illustration, file_name
from analysis.interleaving import decomposition_table, on_the_wire
from analysis.startup import curve_table
from analysis.startup_verdicts import crossing_line
from analysis.wording import plural


def wire_illustrations(findings: Findings) -> Iterator[Illustration]:
    """Yield the figures of the cells that were driven on the wire, not drawn yet."""
    if findings.regimes.empty:
        return
    regimes = _with_series(findings.regimes, ["processes"])
    trials = on_the_wire(findings.trials)
    trials = _with_series(trials[trials["status"] == "valid"], ["processes"])
    columns = ["host", "series", "regime", "goodput_rps"]
    for (background, total), own in regimes.groupby(["background", "concurrency"], observed=True):
        label = ", ".join(filter(None, (str(background), f"{total} requests in flight")))
        dots = trials[(trials["background"] == background) & (trials["concurrency"] == total)]
        yield Illustration(
            file_name("regimes", label),
            f"On the wire: goodput by regime ({label})",
            f"Goodput in requests/s by connections and request ids at once on each. {_regimes_alt(own)}",
            partial(regime_figure, own, dots[columns]),
        )
    rows = decomposition_table(findings.decompositions)
    if not rows.empty:
        rows = _with_series(rows, ["background", "processes", "total"])
        yield Illustration(
            "decomposition",
            "On the wire: what re-use of connections buys and what interleaving buys",
            f"Forest plot of goodput ratios with 95 % intervals. {_decomposition_alt(rows)}",
            partial(decomposition_figure, rows, findings.run.indifference),
        )


def startup_illustrations(findings: Findings) -> Iterator[Illustration]:
    """Yield the figures of servers that start, not drawn yet."""
    if findings.starts.empty:
        return
    curves = _with_series(
        curve_table(findings.starts, findings.run.journal.starts), ["processes"], always=True
    )
    curves = curves.assign(place=_joined(curves["host"], curves["background"]))
    yield Illustration(
        "served-from-start",
        "Requests served from lighttpd's start on, by start-up cost of a process",
        f"Median over server starts with its interval, one column a start-up cost. {_served_alt(curves)}",
        partial(served_figure, curves),
    )
    yield Illustration(
        "few-against-many",
        "Few processes against many, by start-up cost of a process",
        f"Requests in the first seconds, few over many. {' '.join(map(crossing_line, findings.crossings))}",
        partial(crossing_figure, list(findings.crossings), findings.run.indifference),
    )


def _with_series(frame: pd.DataFrame, by: list[str], *, always: bool = False) -> pd.DataFrame:
    """Name the series of a figure: the handler, and what else varies in the frame."""
    series = frame["handler"].astype(str)
    for name in by:
        if always or frame[name].nunique() > 1:
            values = frame[name]
            words = values.map(_words.get(name, str)).astype(str)
            series = _joined(series, words)
    return frame.assign(series=series)


_words = {
    "processes": lambda count: plural(int(count), "process", "processes"),
    "total": lambda count: f"{count} in flight",
}


def _joined(left: pd.Series[str], right: pd.Series[str]) -> pd.Series[str]:
    left, right = left.astype(str), right.astype(str)
    return left + pd.Series(", ", index=left.index).where(right != "", "") + right


def _regimes_alt(own: pd.DataFrame) -> str:
    return " ".join(
        f"{row['host']}, {row['series']}, {row['regime']}: {row['median_rps']:,.0f}."
        for row in own[own["n"] > 0].to_dict(orient="records")
    )


def _decomposition_alt(rows: pd.DataFrame) -> str:
    return " ".join(
        f"{row['host']}, {row['series']}, {row['ratio']}: {row['percent']:+.1f} %"
        f" [{row['low_percent']:+.1f}, {row['high_percent']:+.1f}]."
        for row in rows.to_dict(orient="records")
    )


def _served_alt(curves: pd.DataFrame) -> str:
    last = curves[curves["t_s"] == curves["t_s"].max()]
    return " ".join(
        f"{row['place']}, {row['cost_s']:g} s, {row['series']}: {row['served']:,.0f} in {row['t_s']:g} s."
        for row in last.to_dict(orient="records")
    )
