"""`python -m analysis.report [RUN]`: the report of a run, from its directory alone."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from analysis import contents, page
from analysis.dataset import newest_run, read_run
from analysis.drawing import start_drawing
from analysis.errors import AnalysisError
from analysis.evidence_tables import evidence
from analysis.findings import Findings, find
from analysis.illustration import Illustration
from analysis.illustrations import illustrations
from analysis.result_tables import tables
from analysis.summary import summary
from analysis.tables import write_csv
from analysis.workers import workers

WATERMARK = "SYNTHETIC — NOT MEASURED"


@dataclass(frozen=True)
class Written:
    """Where a report is and what it says.

    Parameters
    ----------
    index : Path
        The page.
    lines : tuple of str
        Banners and verdicts, as printed.
    """

    index: Path
    lines: tuple[str, ...]


def write_report(directory: Path, output: Path | None = None, *, processes: int | None = None) -> Written:
    """Read a run and write its report.

    Parameters
    ----------
    directory : Path
        ``results/<run_id>``.
    output : Path, optional
        Where to; ``<directory>/report`` by default. Files of an older report are replaced.
    processes : int, optional
        Processes that share the work, see `workers.workers`. The files do not depend on it.

    Returns
    -------
    Written
        The page and its statements.

    Raises
    ------
    AnalysisError
        When the directory cannot be read as a run.
    """
    with workers(directory / "journal.jsonl", processes) as pool:
        findings = find(read_run(directory, pool), pool)
        output = output or directory / "report"
        figures = _emptied(output / "figures")
        watermark = WATERMARK if findings.run.synthetic else ""
        drawn = start_drawing(illustrations(findings), figures, pool, watermark=watermark)
        groups = contents.verdict_groups(findings)
        _write_data(findings, groups, output)
        context: dict[str, Any] = {
            "title": contents.title(findings),
            "subtitle": contents.subtitle(findings),
            "banners": contents.banners(findings),
            "verdicts": groups,
            "compared": contents.compared(findings),
            "tables": tables(findings),
            "evidence": evidence(findings),
            "commands": contents.commands(findings),
            "footer": f"fcgi-sweep report of {findings.run.run_id};"
            f" journal sha256 {findings.run.journal_sha256}",
            "pictures": [_picture(item, figures) for item in drawn],
        }
    index = output / "index.html"
    index.write_text(page.render_html(context), encoding="utf-8")
    (output / "report.md").write_text(page.render_markdown(context), encoding="utf-8")
    lines = [*context["banners"], *(line for group in groups for line in group["lines"])]
    return Written(index, tuple(lines))


def _emptied(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*"):
        old.unlink()
    return folder


def _picture(item: Illustration, folder: Path) -> page.Picture:
    encoded = base64.b64encode((folder / f"{item.name}.svg").read_bytes()).decode("ascii")
    return page.Picture(item.name, item.title, item.alt, f"data:image/svg+xml;base64,{encoded}")


def _write_data(findings: Findings, groups: list[dict[str, Any]], output: Path) -> None:
    document = summary(findings, groups)
    (output / "summary.json").write_text(json.dumps(document, indent=1, allow_nan=False), encoding="utf-8")
    findings.attempts.to_parquet(output / "trials.parquet", index=False)
    write_csv(findings.attempts, output / "trials.csv")


def main(
    run: Annotated[str | None, typer.Argument(help="Run id or directory; default: the newest run.")] = None,
    results: Annotated[Path, typer.Option(help="The directory that holds runs.")] = Path("results"),
    output: Annotated[Path | None, typer.Option(help="Where to write; default: <run>/report.")] = None,
) -> None:
    """Write the report of a run and print its verdicts."""
    try:
        directory = newest_run(results) if run is None else find_run(run, results)
        written = write_report(directory, output)
    except AnalysisError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None
    for line in written.lines:
        typer.echo(line)
    typer.echo(f"Report: {written.index}")


def find_run(run: str, results: Path) -> Path:
    """Return the directory of a run that is given by its id or its path."""
    return Path(run) if Path(run).is_dir() else results / run


if __name__ == "__main__":
    typer.run(main)
