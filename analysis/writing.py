"""The files of a report, made from a run."""

from __future__ import annotations

import base64
import json
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis import contents, page
from analysis.dataset import read_run
from analysis.drawing import start_drawing
from analysis.evidence_tables import evidence
from analysis.findings import Findings, find
from analysis.illustration import Illustration
from analysis.illustrations import illustrations
from analysis.result_tables import tables
from analysis.summary import summary
from analysis.tables import write_csv

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


def written_report(directory: Path, output: Path, pool: Executor | None) -> Written:
    """Read a run and write its report, see `report.write_report`.

    Parameters
    ----------
    directory, output : Path
        ``results/<run_id>``, and where to.
    pool : Executor or None
        Processes that share the work.
    """
    findings = find(read_run(directory, pool), pool)
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
        "footer": f"fcgi-sweep report of {findings.run.run_id}; journal sha256 {findings.run.journal.sha256}",
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
