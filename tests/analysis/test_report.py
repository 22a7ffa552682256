from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from synthetic_runs import Recipe, write_run
from typer.testing import CliRunner

from analysis import report
from analysis.dataset import read_run
from analysis.figures.evidence import order_figure
from analysis.findings import find
from analysis.tables import order_table


@pytest.fixture(scope="module")
def written(two_hosts: Path, tmp_path_factory: pytest.TempPathFactory) -> report.Written:
    return report.write_report(two_hosts, tmp_path_factory.mktemp("report"))


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.alts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.links += [str(found[name]) for name in ("src", "href") if found.get(name)]
        if tag == "img":
            self.alts.append(str(found.get("alt", "")))


def test_each_host_has_its_figure_named_like_the_studys(written: report.Written) -> None:
    names = {path.name for path in (written.index.parent / "figures").iterdir()}
    assert {"lab-2core_x86_64-1x2c_linux.png", "lab-2core_x86_64-1x2c_linux.svg"} <= names
    assert {"lab-1core_x86_64-1x1c_linux.png", "lab-1core_x86_64-1x1c_linux.svg"} <= names


def test_the_page_needs_nothing_from_the_network(written: report.Written) -> None:
    links = _Links()
    links.feed(written.index.read_text(encoding="utf-8"))
    outside = [link for link in links.links if re.match(r"(https?:)?//", link)]
    assert outside == []
    local = [link for link in links.links if not link.startswith(("data:", "#"))]
    assert local
    assert all((written.index.parent / link).is_file() for link in local)


def test_every_picture_says_in_words_what_it_shows(written: report.Written) -> None:
    links = _Links()
    links.feed(written.index.read_text(encoding="utf-8"))
    assert links.alts
    assert all(len(alt) > 60 and re.search(r"\d", alt) for alt in links.alts)


def test_a_synthetic_run_is_never_shown_as_measured(written: report.Written) -> None:
    assert written.lines[0].startswith("SYNTHETIC RUN")
    assert "SYNTHETIC RUN" in written.index.read_text(encoding="utf-8")
    assert "SYNTHETIC RUN" in (written.index.parent / "report.md").read_text(encoding="utf-8")
    assert (
        json.loads((written.index.parent / "summary.json").read_text(encoding="utf-8"))["synthetic"] is True
    )


def test_the_report_comes_out_again_with_identical_bytes(written: report.Written, two_hosts: Path) -> None:
    again = report.write_report(two_hosts, written.index.parent.parent / "again")
    for name in ("index.html", "report.md", "summary.json", "trials.csv"):
        assert (again.index.parent / name).read_bytes() == (written.index.parent / name).read_bytes()


def test_invalid_attempts_stand_on_the_page_with_their_reason(written: report.Written) -> None:
    trials = pd.read_parquet(written.index.parent / "trials.parquet")
    bad = trials[trials["status"] != "valid"]
    page = written.index.read_text(encoding="utf-8")
    assert len(bad) > 0
    assert all(reason in page for reason in bad["reason"])


def test_a_real_loss_is_called_a_loss_with_its_interval(written: report.Written) -> None:
    assert any(
        re.search(r"lab-2core .*multiplexed against threaded.*-\d+\.\d % \[-\d+\.\d, -\d+\.\d\]: LOSS", line)
        for line in written.lines
    )


def test_below_ten_blocks_no_best_count_is_named_and_the_reason_is_printed(tmp_path: Path) -> None:
    run = write_run(tmp_path, Recipe(blocks=8, invalid_share=0))
    lines = report.write_report(run).lines
    reason = "no best process count is named: a best process count is named from 10 blocks on, here are 8"
    refusals = [line for line in lines if reason in line]
    assert len(refusals) == 4
    assert not any("recommended" in line for line in lines)


def test_below_six_blocks_no_interval_is_given(tmp_path: Path) -> None:
    run = write_run(tmp_path, Recipe(blocks=3, invalid_share=0))
    written = report.write_report(run)
    summary = json.loads((written.index.parent / "summary.json").read_text(encoding="utf-8"))
    assert {cell["low_rps"] for cell in summary["cells"]} == {None}
    assert any("INCONCLUSIVE, 3 blocks" in line for line in written.lines)


def test_a_host_whose_trials_all_failed_does_not_stop_the_report(tmp_path: Path) -> None:
    run = write_run(tmp_path, Recipe(blocks=6))
    journal = run / "journal.jsonl"
    lines = []
    for line in journal.read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        if record["host"] == "lab-1core":
            record.update(status="failed", result=None, failure={"kind": "unreachable", "reason": "no route"})
        lines.append(json.dumps(record))
    journal.write_text("\n".join(lines) + "\n", encoding="utf-8")
    written = report.write_report(run)
    assert "unreachable: no route" in written.index.read_text(encoding="utf-8")
    assert any(line.startswith("lab-2core") for line in written.lines)


def test_a_damaged_journal_is_reported_with_a_banner(two_hosts: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(two_hosts, tmp_path / "run"))
    with (run / "journal.jsonl").open("ab") as journal:
        journal.write(b'{"schema":1,"kin')
    written = report.write_report(run)
    assert any("The journal is damaged: 1 line(s) could" in line for line in written.lines)


def test_a_run_that_went_on_after_a_change_shows_its_seam(two_hosts: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(two_hosts, tmp_path / "run"))
    records = [json.loads(line) for line in (run / "journal.jsonl").read_text().splitlines()]
    for record in records:
        record["epoch"] = 2 if record["block"] > 5 else 1
    change = {"what": "hosts.lab-2core.kernel", "before": "6.1.0", "after": "6.2.0"}
    seam = {
        "schema": 1,
        "kind": "epoch",
        "epoch": 2,
        "at": "2026-11-23T06:00:00Z",
        "changes": [change],
        "hosts": {},
    }
    records.append(seam)
    (run / "journal.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    written = report.write_report(run)
    page = written.index.read_text(encoding="utf-8")
    assert "The run has a seam: it went on at 2026-11-23T06:00:00Z (epoch 2)" in page
    assert "hosts.lab-2core.kernel: 6.1.0 -&gt; 6.2.0" in page
    assert "The run went on after changes: 1 times." in page
    figure = order_figure(order_table(find(read_run(run)).trials), {})
    assert figure is not None
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert "seam (new epoch)" in labels


def test_the_command_prints_the_verdicts_and_where_the_report_is(two_hosts: Path) -> None:
    result = CliRunner().invoke(_app(), ["--results", str(two_hosts.parent)])
    assert result.exit_code == 0
    assert "best against best" in result.output
    assert f"Report: {two_hosts / 'report' / 'index.html'}" in result.output


def test_a_missing_run_is_bad_input(tmp_path: Path) -> None:
    result = CliRunner().invoke(_app(), ["nothing", "--results", str(tmp_path)])
    assert result.exit_code == 2
    assert "run.json: missing" in result.output


def test_many_hosts_are_drawn_in_grids_that_can_be_read(tmp_path: Path) -> None:
    hosts = {f"host-{number}": number for number in range(1, 7)}
    run = write_run(tmp_path, Recipe(hosts=hosts, processes=(1, 2, 4, 6, 8), blocks=6))
    names = {path.stem for path in (report.write_report(run).index.parent / "figures").glob("*.png")}
    assert {"latency--part-1-of-2", "latency--part-2-of-2"} <= names
    assert {f"host-{number}_x86_64-1x{number}c_linux" for number in hosts.values()} <= names


def _app() -> object:
    import typer

    app = typer.Typer()
    app.command()(report.main)
    return app
