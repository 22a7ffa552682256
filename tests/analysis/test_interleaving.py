"""What is said of handlers on the wire: re-use and interleaving apart, and the regime proven."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from synthetic_runs import Recipe, write_run

from analysis import report
from analysis.curves import trials_of, with_setting
from analysis.dataset import Run, read_run
from analysis.figures.wire import decomposition_figure, regime_figure
from analysis.interleaving import (
    Decomposition,
    decompose,
    decomposition_table,
    on_the_wire,
    regime_table,
)
from analysis.wire_verdicts import answer_line, cannot_lines, decomposition_line, regime_lines

FRESH, KEPT, DEEP = (8, 1, False), (8, 1, True), (1, 8, True)
REUSE, DEPTH = 1.25, 1.06


def _speed(cores: int, cell: dict[str, Any]) -> float:
    speed = {"threaded": 1500.0, "multiplexed": 1300.0}[cell["handler"]]
    return speed * (REUSE if cell["keep_conn"] else 1) * (DEPTH if cell["in_flight"] > 1 else 1)


RECIPE = Recipe(
    hosts={"lab-2core": 2},
    processes=(1,),
    regimes=(FRESH, KEPT, (2, 4, True), DEEP),
    blocks=12,
    noise=0.01,
    speed_of_cell=_speed,
    speed=lambda *_: 1500.0,
)


@pytest.fixture(scope="module")
def wire_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return read_run(write_run(tmp_path_factory.mktemp("wire"), RECIPE))


def _decompose(run: Run) -> dict[str, Decomposition]:
    trials = with_setting(trials_of(run.journal.attempts))
    return {item.handler: item for item in decompose(trials, run.indifference)}


def _changed(results: Path, recipe: Recipe, change: Callable[[dict[str, Any]], None]) -> Run:
    directory = write_run(results, recipe)
    journal = directory / "journal.jsonl"
    records = [json.loads(line) for line in journal.read_text(encoding="utf-8").splitlines()]
    for record in records:
        change(record)
    journal.write_text("".join(f"{json.dumps(record)}\n" for record in records), encoding="utf-8")
    return read_run(directory)


def test_re_use_times_interleaving_is_both(wire_run: Run) -> None:
    item = _decompose(wire_run)["multiplexed"]
    assert item.reuse is not None
    assert item.interleaving is not None
    assert item.whole is not None
    parts = item.reuse.log_ratio.estimate + item.interleaving.log_ratio.estimate
    assert parts == pytest.approx(item.whole.log_ratio.estimate, abs=1e-12)
    assert item.reuse.log_ratio.low is not None
    assert item.reuse.log_ratio.high is not None
    assert item.reuse.log_ratio.low < np.log(REUSE) < item.reuse.log_ratio.high
    assert item.interleaving.log_ratio.estimate == pytest.approx(np.log(DEPTH), abs=0.015)
    assert [name for name, _ in item.mixtures] == ["kept 2 x 4"]


def test_a_block_without_one_of_the_three_regimes_is_in_none_of_the_ratios(wire_run: Run) -> None:
    trials = with_setting(trials_of(wire_run.journal.attempts))
    lost = (trials["block"] == 3) & (trials["in_flight"] == 8)
    (item,) = [found for found in decompose(trials[~lost], 0.02) if found.interleaving is not None]
    assert item.reuse is not None
    assert item.reuse.log_ratio.n == 11


def test_the_title_is_answered_in_one_sentence_a_host(wire_run: Run) -> None:
    items = list(_decompose(wire_run).values())
    line = answer_line(items, 0.02)
    assert line.startswith("lab-2core (2 cores): Do you gain from FCGI connection multiplexing?")
    # interleaving gains 6 %, but threaded on kept connections is faster by 1500 / (1300 x 1.06)
    assert "Interleaving pays, but not against threaded" in line
    assert "8 requests interleaved on one connection" in line
    assert "= re-use of connections" in decomposition_line(items[0], 0.02)


@pytest.mark.parametrize(("depth", "answer"), [(1.3, "? Yes: "), (0.9, "? No: "), (1.0, "? No: ")])
def test_the_answer_follows_the_interleaving_ratio(tmp_path: Path, depth: float, answer: str) -> None:
    def speed(cores: int, cell: dict[str, Any]) -> float:
        return 1000.0 * (depth if cell["in_flight"] > 1 else 1)

    recipe = replace(RECIPE, speed_of_cell=speed, regimes=(FRESH, KEPT, DEEP), noise=0.005)
    run = read_run(write_run(tmp_path, recipe))
    assert answer in answer_line(list(_decompose(run).values()), 0.02)


def test_a_handler_that_cannot_interleave_is_said_so(wire_run: Run) -> None:
    trials = with_setting(trials_of(wire_run.journal.attempts))
    items = decompose(trials, 0.02)
    (line,) = cannot_lines(items, regime_table(trials), wire_run.one_at_a_time)
    assert line.startswith("lab-2core: threaded cannot interleave: it says itself")


def test_a_handler_that_refuses_interleaved_requests_is_named_with_its_faults(tmp_path: Path) -> None:
    def refuse(record: dict[str, Any]) -> None:
        if record["cell"]["in_flight"] == 8:
            record["status"] = "invalid"
            record["result"]["wire"]["faults"] = {"cant_mpx_conn": 7}

    trials = with_setting(trials_of(_changed(tmp_path, RECIPE, refuse).journal.attempts))
    lines = cannot_lines(decompose(trials, 0.02), regime_table(trials), {})
    assert any("multiplexed cannot interleave" in line and "cant_mpx_conn 7" in line for line in lines)


def test_the_regime_is_proven_by_what_client_and_handlers_counted(wire_run: Run) -> None:
    regimes = regime_table(with_setting(trials_of(wire_run.journal.attempts)))
    assert set(regimes["proven"]) == {"client and handlers"}
    fresh, *_, deep = regimes[regimes["handler"] == "multiplexed"].to_dict(orient="records")
    assert fresh["wire_requests_per_connection_mean"] == 1
    assert (deep["wire_connections_opened"], deep["handlers_highest_id"]) == (1, 8)
    assert "what was asked is what was measured" in regime_lines(regimes)[0]


def test_a_handler_that_saw_no_second_id_disproves_interleaving(tmp_path: Path) -> None:
    def one_id(record: dict[str, Any]) -> None:
        for handler in record["result"]["handlers"]:
            handler |= {"highest_id": 1, "peak_ids_per_connection": 1, "peak_in_process": 1}

    regimes = regime_table(with_setting(trials_of(_changed(tmp_path, RECIPE, one_id).journal.attempts)))
    assert set(regimes.loc[regimes["kind"] == "interleaved", "proven"]) == {"no"}
    lines = regime_lines(regimes)
    assert any("NOT WHAT WAS ASKED" in line for line in lines)
    assert any("serves them one by one" in line for line in lines)


def test_the_figures_show_the_tables_numbers(wire_run: Run) -> None:
    trials = with_setting(trials_of(wire_run.journal.attempts))
    regimes = regime_table(trials).assign(series=lambda frame: frame["handler"])
    dots = on_the_wire(trials).assign(series=lambda frame: frame["handler"])
    figure = regime_figure(regimes, dots[dots["status"] == "valid"])
    assert figure is not None
    drawn = sorted(float(value) for line in figure.axes[0].lines for value in line.get_ydata())
    assert drawn == pytest.approx(sorted(regimes["median_rps"]))
    rows = decomposition_table(list(_decompose(wire_run).values()))
    forest = decomposition_figure(rows.assign(series=rows["handler"]), 0.02)
    assert forest is not None
    points = [line for line in forest.axes[0].lines if line.get_linestyle() == "None"]
    assert sorted(float(x) for line in points for x in line.get_xdata()) == pytest.approx(
        sorted(rows["percent"])
    )


def test_a_wire_run_has_a_page_without_process_curves_or_claims(wire_run: Run, tmp_path: Path) -> None:
    written = report.write_report(wire_run.directory, tmp_path / "report")
    figures = {path.stem for path in (tmp_path / "report" / "figures").glob("*.png")}
    assert figures == {"regimes--8-requests-in-flight", "decomposition", "run-order"}
    assert not any(line.startswith("Claim") for line in written.lines)
    page = written.index.read_text(encoding="utf-8")
    assert "Which regime was measured" in page
    assert "really interleaves request ids" in page
    assert "lighttpd never multiplexes" not in page
