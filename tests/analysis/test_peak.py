from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from synthetic_runs import Recipe, knee_then_decline, write_run

from analysis.best_set import best_set
from analysis.confirmation import confirmation
from analysis.curves import curves_of, trials_of, with_setting
from analysis.dataset import read_run
from analysis.explanation import counter_table
from analysis.findings import find, judge_peaks
from analysis.peak import INCONCLUSIVE, NOISE, REAL, PeakVerdict

FOUR_CORES = {"lab-4core": 4}
COUNTS = (1, 2, 4, 6, 8, 11, 12, 13, 14, 15, 16)
NEAR = (4, 8, 11, 12, 13, 14, 15)


def _spike_at_13(cores: int, cell: dict[str, Any]) -> float:
    flat = knee_then_decline(cores, cell["handler"], min(cell["processes"], cores))
    return flat * (1.06 if cell["processes"] == 13 else 1.0)


def _spike_moves(cores: int, cell: dict[str, Any]) -> float:
    flat = knee_then_decline(cores, cell["handler"], min(cell["processes"], cores))
    return flat * (1.06 if cell["concurrency"] % cell["processes"] == 0 and cell["processes"] > 10 else 1.0)


def _flat(cores: int, cell: dict[str, Any]) -> float:
    return knee_then_decline(cores, cell["handler"], min(cell["processes"], cores))


def _run(results: Path, run_id: str, speed: Any, **changes: Any) -> Path:
    settings: dict[str, Any] = {
        "run_id": run_id,
        "hosts": FOUR_CORES,
        "handlers": ("threaded",),
        "processes": COUNTS,
        "concurrency": (39,),
        "blocks": 20,
        "noise": 0.015,
        "invalid_share": 0.0,
        "duplicates": False,
        "speed_of_cell": speed,
    }
    return write_run(results, Recipe(**{**settings, **changes}))


def _verdicts(directory: Path) -> list[PeakVerdict]:
    run = read_run(directory)
    trials = with_setting(trials_of(run.journal.attempts))
    curves = curves_of(trials)
    best = [best_set(curve.processes, curve.log_rps, run.indifference) for curve in curves]
    return judge_peaks(run, curves, best, counter_table(trials))


def _confirm(results: Path, speed: Any, **changes: Any) -> PeakVerdict:
    _run(results, "20261123-000000-explore", speed)
    suspect = {"host": "lab-4core", "setting": "", "handler": "threaded", "processes": 13, "cores": 4}
    meta = {
        "confirms": {"run_id": "20261123-000000-explore", "suspects": [suspect]},
        "created_at": "2026-11-24T05:00:00Z",
    }
    settings: dict[str, Any] = {
        "processes": NEAR,
        "concurrency": (39, 37, 46),
        "keepalive": (False, True),
        "tools": ("ab", "wrk"),
        "seed": 99,
        "extra_meta": meta,
    }
    (verdict,) = _verdicts(_run(results, "20261124-000000-confirm", speed, **{**settings, **changes}))
    return verdict


def test_real_is_impossible_from_exploratory_blocks_alone(tmp_path: Path) -> None:
    (verdict,) = _verdicts(_run(tmp_path, "20261123-000000-explore", _spike_at_13, noise=0.002))
    assert verdict.suspect.processes == 13
    assert verdict.verdict == INCONCLUSIVE
    assert "fcgi-sweep confirm" in verdict.reason


def test_a_peak_that_meets_every_part_of_the_rule_is_real(tmp_path: Path) -> None:
    verdict = _confirm(tmp_path, _spike_at_13, cheap_at=13)
    assert {item.status for item in verdict.conditions} == {"holds"}
    assert verdict.verdict == REAL


def test_a_peak_at_which_requests_cost_more_stays_open(tmp_path: Path) -> None:
    verdict = _confirm(tmp_path, _spike_at_13)
    assert verdict.verdict == INCONCLUSIVE
    assert "a request costs less there: fails" in verdict.reason


@pytest.mark.parametrize(
    ("changes", "missing"),
    [
        ({"seed": 2007}, "fresh seed, other day"),
        ({"concurrency": (39,)}, "stays at 3 load concurrencies"),
        ({"keepalive": (False,)}, "stays with keep-alive on and off"),
        ({"tools": ("ab",)}, "stays with another load generator"),
    ],
)
def test_a_missing_part_of_the_rule_leaves_the_peak_open(
    tmp_path: Path, changes: dict[str, Any], missing: str
) -> None:
    verdict = _confirm(tmp_path, _spike_at_13, **changes)
    assert verdict.verdict == INCONCLUSIVE
    assert missing in verdict.reason


def test_a_peak_that_moves_with_the_concurrency_is_an_artefact(tmp_path: Path) -> None:
    verdict = _confirm(tmp_path, _spike_moves, keepalive=(False,), tools=("ab",), concurrency=(39, 44, 45))
    assert verdict.verdict == NOISE
    assert "artefact of the load's concurrency" in verdict.reason


def test_a_peak_that_vanishes_is_noise(tmp_path: Path) -> None:
    verdict = _confirm(tmp_path, _flat, keepalive=(False,), tools=("ab",), noise=0.005, concurrency=(39,))
    assert verdict.verdict == NOISE


def test_the_confirmation_plan_holds_neighbours_rivals_and_other_conditions(tmp_path: Path) -> None:
    findings = find(read_run(_run(tmp_path, "20261123-000000-explore", _spike_at_13)))
    plan = confirmation(findings.curves[0], findings.best[0], 0.02)
    assert {11, 12, 13, 14, 15, 4, 8} <= set(plan.counts)
    levels = {condition["concurrency"] for condition in plan.conditions}
    assert len(levels) == 3
    assert all(int(str(level)) > max(plan.counts) for level in levels)
    assert {condition["keepalive"] for condition in plan.conditions} == {True, False}
    assert {condition["tool"] for condition in plan.conditions} == {"ab", "wrk"}
    assert plan.blocks >= 10
