"""`python -m analysis.report [RUN]`: the report of a run, from its directory alone."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import matplotlib as mpl
import typer
from matplotlib.figure import Figure

from analysis import contents, page
from analysis.dataset import newest_run, read_run
from analysis.errors import AnalysisError
from analysis.figures.style import RC
from analysis.findings import Findings, find
from analysis.illustrations import illustrations

PNG_DPI = 130


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


def write_report(directory: Path, output: Path | None = None) -> Written:
    """Read a run and write its report.

    Parameters
    ----------
    directory : Path
        ``results/<run_id>``.
    output : Path, optional
        Where to; ``<directory>/report`` by default. Files of an older report are replaced.

    Returns
    -------
    Written
        The page and its statements.

    Raises
    ------
    AnalysisError
        When the directory cannot be read as a run.
    """
    findings = find(read_run(directory))
    output = output or directory / "report"
    (output / "figures").mkdir(parents=True, exist_ok=True)
    groups = contents.verdict_groups(findings)
    context: dict[str, Any] = {
        "title": contents.title(findings),
        "subtitle": contents.subtitle(findings),
        "banners": contents.banners(findings),
        "verdicts": groups,
        "compared": contents.compared(findings),
        "pictures": _draw(findings, output / "figures"),
        "tables": contents.tables(findings),
        "evidence": contents.evidence(findings),
        "commands": contents.commands(findings),
        "footer": f"fcgi-sweep report of {findings.run.run_id}; journal sha256 {findings.run.journal_sha256}",
    }
    index = output / "index.html"
    index.write_text(page.render_html(context), encoding="utf-8")
    (output / "report.md").write_text(page.render_markdown(context), encoding="utf-8")
    _write_data(findings, groups, output)
    lines = [*context["banners"], *(line for group in groups for line in group["lines"])]
    return Written(index, tuple(lines))


def _write_data(findings: Findings, groups: list[dict[str, Any]], output: Path) -> None:
    summary = contents.summary(findings, groups)
    (output / "summary.json").write_text(json.dumps(summary, indent=1, allow_nan=False), encoding="utf-8")
    findings.attempts.to_csv(output / "trials.csv", index=False)
    findings.attempts.to_parquet(output / "trials.parquet", index=False)


def _draw(findings: Findings, folder: Path) -> list[page.Picture]:
    pictures = []
    for old in folder.glob("*"):
        old.unlink()
    for item in illustrations(findings):
        if findings.run.synthetic:
            _watermark(item.figure)
        with mpl.rc_context(RC):
            item.figure.savefig(folder / f"{item.name}.png", dpi=PNG_DPI)
            # the layout is settled; solving it again for the second file would take as long as drawing
            item.figure.set_layout_engine("none")
            item.figure.savefig(folder / f"{item.name}.svg", metadata={"Date": None})
        encoded = base64.b64encode((folder / f"{item.name}.svg").read_bytes()).decode("ascii")
        pictures.append(page.Picture(item.name, item.title, item.alt, f"data:image/svg+xml;base64,{encoded}"))
    return pictures


def _watermark(figure: Figure) -> None:
    figure.text(
        0.5, 0.5, "SYNTHETIC — NOT MEASURED", ha="center", va="center", rotation=20, fontsize=20,
        color="#bb0000", alpha=0.25,
    )  # fmt: skip


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
