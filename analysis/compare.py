"""`python -m analysis.compare RUN_A RUN_B`: two runs of the same experiment, cell by cell."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer
from scipy import stats

from analysis.choice import RESULTS, find_run
from analysis.comparison import ALPHA, holm
from analysis.contents import SYNTHETIC
from analysis.curves import WIRE_CONDITIONS, Curve, FloatArray, curves_of, trials_of, with_setting
from analysis.dataset import Run, read_run
from analysis.errors import AnalysisError
from analysis.intervals import BLOCKS_FOR_INTERVAL, Interval, median_interval
from analysis.tables import percent

SMALLEST_P = 0.0005

LEGEND = """requests/s: median over n server starts ± the larger half of its 95 % interval
B over A: ~ where no change is shown; p of a Mann-Whitney test, Holm over the cells of a host"""


def compare_runs(first: Run, second: Run) -> pd.DataFrame:
    """Compare the cells that two runs share.

    Blocks of different runs are not pairs, so the test is unpaired (Mann-Whitney), Holm-adjusted over
    the cells of a host.

    Parameters
    ----------
    first, second : Run
        Old and new.

    Returns
    -------
    DataFrame
        host, setting, handler, processes, n_a, n_b, median and interval of both (requests/s),
        percent, p_holm and ``change``: percent as text, or ``~`` where nothing can be said.
    """
    old, new = _cells(first), _cells(second)
    rows = [_row(key, old[key], new[key]) for key in old if key in new]
    table = pd.DataFrame(rows)
    if table.empty:
        return table
    adjusted: dict[int, float] = {}
    for _, own in table.groupby("host"):
        adjusted |= holm({int(str(place)): float(p) for place, p in own["p"].items() if np.isfinite(p)})
    table["p_holm"] = [adjusted.get(place, float("nan")) for place in range(len(table))]
    table["change"] = [_change(row) for row in table.to_dict(orient="records")]
    return table.drop(columns="p")


def _cells(run: Run) -> dict[tuple[str, str, str, int], FloatArray]:
    curves = curves_of(with_setting(trials_of(run.journal.attempts), run.interpreters))
    return {
        (curve.host, _conditions(curve), curve.handler, int(count)): curve.rps[:, place]
        for curve in curves
        for place, count in enumerate(curve.processes)
    }


def _conditions(curve: Curve) -> str:
    """Return the conditions that must agree; what was built may differ, that is a question one asks."""
    names = ("concurrency", "keepalive", "cores", "placement", "workload", "tool", *WIRE_CONDITIONS)
    known = {name: curve.conditions[name] for name in names}
    return ", ".join(f"{name}={level}" for name, level in known.items() if level is not None)


def _row(key: tuple[str, str, str, int], old: FloatArray, new: FloatArray) -> dict[str, Any]:
    before, after = median_interval(old), median_interval(new)
    a, b = old[np.isfinite(old)], new[np.isfinite(new)]
    enough = min(len(a), len(b)) >= BLOCKS_FOR_INTERVAL
    p = float(stats.mannwhitneyu(a, b).pvalue) if enough else float("nan")
    change = float(np.log(after.estimate / before.estimate)) if len(a) and len(b) else float("nan")
    names = ("host", "setting", "handler", "processes")
    return {
        **dict(zip(names, key, strict=True)),
        "a": _benchstat(before),
        "b": _benchstat(after),
        "percent": percent(change),
        "p": p,
        "n_a": len(a),
        "n_b": len(b),
    }


def _benchstat(speed: Interval) -> str:
    """Return a median with its interval as benchstat writes it: the larger half-width in percent."""
    if speed.n == 0:
        return "-"
    if speed.low is None or speed.high is None:
        return f"{speed.estimate:,.0f} ± ∞"
    half = max(speed.high - speed.estimate, speed.estimate - speed.low) / speed.estimate
    return f"{speed.estimate:,.0f} ± {100 * half:.0f}%"


def _change(row: dict[Any, Any]) -> str:
    n = f"n={row['n_a']}+{row['n_b']}"
    if not np.isfinite(row["p_holm"]):
        return f"~ (too few blocks, {n})"
    p = "p<0.001" if row["p_holm"] < SMALLEST_P else f"p={row['p_holm']:.3f}"
    return f"~ ({p} {n})" if row["p_holm"] >= ALPHA else f"{row['percent']:+.2f}% ({p} {n})"


def geometric_means(table: pd.DataFrame) -> Iterator[str]:
    """Yield the geometric mean of the ratios, a line a host and handler."""
    for (host, handler), own in table.groupby(["host", "handler"]):
        logs = np.log1p(own["percent"].to_numpy(dtype=float) / 100)
        logs = logs[np.isfinite(logs)]
        if len(logs):
            mean = f"geomean {percent(float(logs.mean())):+.2f}% over {len(logs)} cells"
            shown = not own["change"].str.startswith("~").all()
            yield f"{host} {handler}: {mean if shown else f'~ ({mean}, none of which shows a change)'}"


def _name(run: Run) -> str:
    attempts = run.journal.attempts
    valid = attempts.loc[attempts["status"] == "valid", "trial"].nunique()
    if valid == len(run.schedule):
        return run.run_id
    return f"{run.run_id}, unfinished: {valid} of {len(run.schedule)} trials are valid"


def differences(first: Run, second: Run) -> list[str]:
    """Say what differs in the configuration of two runs."""
    found = []
    for name in ("experiment", "versions", "git"):
        found += _unlike(name, first.meta.get(name, {}), second.meta.get(name, {}))
    prints = [run.meta.get("fingerprint", {}).get("hosts", {}) for run in (first, second)]
    for host in sorted(set(prints[0]) | set(prints[1])):
        if host not in prints[0] or host not in prints[1]:
            found.append(f"host {host}: only in {'the second' if host in prints[1] else 'the first'} run")
        else:
            found += _unlike(f"host {host}", prints[0][host], prints[1][host])
    return found


def _unlike(name: str, old: Any, new: Any) -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        keys = sorted(set(old) | set(new))
        return [line for key in keys for line in _unlike(f"{name}.{key}", old.get(key), new.get(key))]
    if old == new:
        return []
    return [f"{name}: {json.dumps(old)} -> {json.dumps(new)}"]


def main(
    first: Annotated[str, typer.Argument(metavar="RUN_A", help="The old run: id or directory.")],
    second: Annotated[str, typer.Argument(metavar="RUN_B", help="The new run: id or directory.")],
    results: Annotated[Path, typer.Option(help="The directory that holds runs.")] = RESULTS,
) -> None:
    """Compare two runs of the same experiment: `~` where nothing can be said."""
    try:
        old, new = (read_run(find_run(run, results)) for run in (first, second))
    except AnalysisError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None
    if old.synthetic or new.synthetic:
        typer.echo(SYNTHETIC)
    table = compare_runs(old, new)
    if table.empty:
        typer.echo("error: the runs share no cell: compare runs of the same experiment and hosts", err=True)
        raise typer.Exit(2)
    typer.echo(f"A: {_name(old)}\nB: {_name(new)}\n{LEGEND}")
    for (host, setting, handler), own in table.groupby(["host", "setting", "handler"]):
        typer.echo(f"\n{host}: {handler} ({setting})")
        typer.echo(f"  {'processes':>9}  {'A':>16}  {'B':>16}  B over A")
        for row in own.itertuples():
            typer.echo(f"  {row.processes:>9}  {row.a:>16}  {row.b:>16}  {row.change}")
    typer.echo("")
    for line in geometric_means(table):
        typer.echo(line)
    typer.echo("\nWhat differs in the configuration:")
    for line in differences(old, new) or ["nothing that was recorded"]:
        typer.echo(f"  {line}")


if __name__ == "__main__":
    typer.run(main)
