"""Queueing bounds, ceilings and interpreters in the study's figure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from synthetic_runs import Recipe, write_run

from analysis.bounds import bound_lines, wait_s
from analysis.dataset import read_run
from analysis.figures.throughput import host_figure
from analysis.findings import Findings, find


@pytest.mark.parametrize(
    ("workload", "seconds"),
    [("cpu(500)", 0.0), ("wait(20)", 0.02), ("mixed(500,5)", 0.005), ("wait", 0.01), ("hello", None)],
)
def test_the_demand_of_a_workload_is_read_from_its_name(workload: str, seconds: float | None) -> None:
    assert wait_s(workload, {"wait": "/wait(10)"}) == seconds


def _waiting(cores: int, cell: dict[str, Any]) -> float:
    if cell["handler"] == "limit":
        return 1200.0
    # 0.6 ms of handler CPU and 10 ms of waiting keep one serial process for 10.6 ms
    return cell["processes"] / 0.0106 if cell["handler"] == "serial" else 700.0


@pytest.fixture(scope="module")
def waiting(tmp_path_factory: pytest.TempPathFactory) -> Findings:
    recipe = Recipe(
        hosts={"lab-2core": 2},
        handlers=("serial", "threaded", "limit"),
        workloads=("wait(10)",),
        processes=(1, 2, 4, 8),
        speed_of_cell=_waiting,
        invalid_share=0,
    )
    return find(read_run(write_run(tmp_path_factory.mktemp("bounds"), recipe)))


def test_a_serial_process_is_bound_by_its_total_demand(waiting: Findings) -> None:
    own = waiting.bounds[waiting.bounds["handler"] == "serial"]
    assert set(own["process_text"]) == {"processes / total demand"}
    assert own["process_rps"].to_numpy() == pytest.approx(own["processes"].to_numpy() / 0.0106, rel=1e-3)
    (line,) = [line for line in bound_lines(waiting.bounds) if "serial with 8 processes" in line]
    assert "limited by processes / total demand" in line


def test_threads_overlap_waits_and_are_bound_by_their_lock(waiting: Findings) -> None:
    own = waiting.bounds[waiting.bounds["handler"] == "threaded"]
    assert set(own["process_text"]) == {"processes / CPU demand (one lock each)"}
    # the generator's handlers take 0.6 ms of CPU a request
    assert own["process_rps"].iloc[0] == pytest.approx(1 / 0.0006, rel=1e-3)


def test_bounds_and_ceiling_are_drawn_with_the_data(waiting: Findings) -> None:
    attempts = waiting.attempts[waiting.attempts["role"] == "cell"]
    axes = host_figure(waiting.cells, attempts, None, waiting.bounds).axes[0]
    labels = axes.get_legend_handles_labels()[1]
    assert {"serial: processes / total demand", "serial: cores / CPU demand"} <= set(labels)
    assert "FastCGI ceiling: a responder in C" in labels
    assert "limit, median" not in labels
    drawn = {label: line for line in axes.lines if (label := str(line.get_label()))}
    wanted = waiting.bounds[waiting.bounds["handler"] == "serial"]["process_rps"]
    assert list(drawn["serial: processes / total demand"].get_ydata()) == pytest.approx(list(wanted))


def test_the_ceiling_is_no_rival_and_has_no_best_count(waiting: Findings) -> None:
    assert {item.handler for item in waiting.comparisons} == {"serial"}
    assert not any(peak.suspect.handler == "limit" for peak in waiting.peaks)


def _without_a_lock(cores: int, cell: dict[str, Any]) -> float:
    free = cell["python"] == "3.14t"
    return 800.0 * cores if free else 1000.0 * min(cores, cell["processes"])


def test_interpreters_stand_side_by_side_with_their_lock_named(tmp_path: Path) -> None:
    recipe = Recipe(
        hosts={"lab-2core": 2},
        pythons=("system", "3.14t"),
        processes=(1, 2, 4),
        blocks=8,
        speed_of_cell=_without_a_lock,
    )
    findings = find(read_run(write_run(tmp_path, recipe)))
    assert findings.settings == [""]
    assert {curve.handler for curve in findings.curves} >= {
        "threaded (system, GIL)",
        "threaded (3.14t, no GIL)",
    }
    pairs = {(item.handler, item.reference) for item in findings.comparisons}
    assert ("threaded (3.14t, no GIL)", "threaded (system, GIL)") in pairs
    assert ("multiplexed (3.14t, no GIL)", "threaded (3.14t, no GIL)") in pairs
    assert ("multiplexed (3.14t, no GIL)", "threaded (system, GIL)") not in pairs
    assert {claim.setting for claim in findings.claims} == {"python system", "python 3.14t"}
