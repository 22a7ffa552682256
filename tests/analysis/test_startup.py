"""Servers measured from their start on: what is served, where few processes win, and claim 5."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from synthetic_runs import Recipe, write_run

from analysis import report
from analysis.claims import FAILS, HOLDS, judge_costly_start
from analysis.curves import trials_of, with_setting
from analysis.dataset import Run, read_run
from analysis.startup import (
    Crossing,
    crossings,
    curve_table,
    horizons,
    start_table,
    start_trials,
    study_crossing,
)
from analysis.startup_verdicts import crossing_line

BASE_S, HORIZON_S = 0.3, 10.0
FEW, MANY, CORES = 1, 8, 2


def _ready_s(cell: dict[str, Any]) -> float:
    cost_s = int(cell["workload"].partition("(")[2].rstrip(")")) / 1000
    return BASE_S + cost_s * max(1.0, cell["processes"] / CORES)


def _speed(cores: int, cell: dict[str, Any]) -> float:
    handler = {"threaded": 1.0, "multiplexed": 0.9}[cell["handler"]]
    return 1500.0 * handler * (1.2 if cell["processes"] == MANY else 1.0)


RECIPE = Recipe(
    hosts={"lab-2core": CORES},
    processes=(FEW, MANY),
    workloads=("startup(0)", "startup(200)", "startup(1000)", "startup(2000)"),
    measure="startup",
    start_at=_ready_s,
    speed_of_cell=_speed,
    blocks=12,
    noise=0.01,
)


@pytest.fixture(scope="module")
def start_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return read_run(write_run(tmp_path_factory.mktemp("start"), RECIPE))


def _crossings(run: Run) -> list[Crossing]:
    trials = with_setting(trials_of(run.journal.attempts), apart=("workload",))
    return crossings(start_trials(trials), run.journal.starts, run.indifference)


def _study(run: Run) -> Crossing:
    found = study_crossing(_crossings(run), "lab-2core", "")
    assert found is not None
    return found


def test_what_is_served_in_the_first_seconds_is_counted_from_the_windows(start_run: Run) -> None:
    starts = start_trials(with_setting(trials_of(start_run.journal.attempts), apart=("workload",)))
    assert horizons(starts) == [2.0, 5.0, HORIZON_S]
    table = start_table(starts, start_run.journal.starts)
    row = table[(table["handler"] == "threaded") & (table["processes"] == MANY) & (table["cost_s"] == 1.0)]
    expected = 1800 * (HORIZON_S - BASE_S - 4.0)
    assert float(row["served_10_s"].iloc[0]) == pytest.approx(expected, rel=0.02)
    assert float(row["served_2_s"].iloc[0]) == 0
    assert float(row["first_answer_s"].iloc[0]) == pytest.approx(BASE_S + 4.01)


def test_the_curve_never_falls_and_ends_at_the_table(start_run: Run) -> None:
    starts = start_trials(with_setting(trials_of(start_run.journal.attempts), apart=("workload",)))
    curves = curve_table(starts, start_run.journal.starts)
    table = start_table(starts, start_run.journal.starts)
    for _, own in curves.groupby(["handler", "processes", "cost_s"], observed=True):
        assert (np.diff(own["served"]) >= 0).all()
    last = curves[curves["t_s"] == HORIZON_S]["served"]
    assert sorted(last) == pytest.approx(sorted(table["served_10_s"]))


def test_the_crossing_lies_where_the_served_requests_are_equal(start_run: Run) -> None:
    own = next(item for item in _crossings(start_run) if item.few_model == item.many_model == "threaded")
    assert own.cost_s is not None
    assert own.cost_s.low is not None
    assert own.cost_s.high is not None
    # few: 9.7 - c seconds at 1500/s; many: 9.7 - 4 c at 1800/s; a straight line between 0.2 and 1 s
    logs = [np.log(1500 * (9.7 - cost)) - np.log(1800 * (9.7 - 4 * cost)) for cost in (0.2, 1.0)]
    expected = 0.2 - logs[0] / (logs[1] - logs[0]) * 0.8
    assert own.cost_s.low <= expected <= own.cost_s.high
    assert "the few serve more where a process takes over" in crossing_line(own)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"workloads": ("startup(0)",)}, "takes two or more"),
        ({"blocks": 4}, "4 complete blocks"),
        ({"workloads": ("startup(1000)", "startup(2000)")}, "a crossing would lie below"),
        ({"workloads": ("startup(0)", "startup(10)")}, "the highest cost measured"),
    ],
)
def test_a_crossing_that_the_data_do_not_enclose_is_not_named(
    tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    item = _study(read_run(write_run(tmp_path, replace(RECIPE, **changes))))
    assert item.cost_s is None
    assert reason in item.reason
    assert "no crossing is named" in crossing_line(item)


def test_claim_5_fails_where_as_few_threads_serve_more(start_run: Run) -> None:
    claim = judge_costly_start(_study(start_run))
    assert (claim.number, claim.status) == (5, FAILS)
    assert "against 1 threaded process" in claim.detail


def test_claim_5_holds_where_few_multiplexed_processes_beat_both(tmp_path: Path) -> None:
    def speed(cores: int, cell: dict[str, Any]) -> float:
        return 1500.0 * (1.2 if cell["handler"] == "multiplexed" and cell["processes"] == FEW else 1.0)

    run = read_run(write_run(tmp_path, replace(RECIPE, speed_of_cell=speed)))
    assert judge_costly_start(_study(run)).status == HOLDS


def test_a_run_of_starts_has_a_page_of_its_own(start_run: Run, tmp_path: Path) -> None:
    written = report.write_report(start_run.directory, tmp_path / "report")
    figures = {path.stem for path in (tmp_path / "report" / "figures").glob("*.png")}
    assert figures == {"served-from-start", "few-against-many", "run-order"}
    assert [line for line in written.lines if line.startswith("Claim")] == [
        line for line in written.lines if line.startswith("Claim 5")
    ]
    assert "From the start to the full rate" in written.index.read_text(encoding="utf-8")
