from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from synthetic_runs import Recipe, write_run

from analysis.curves import curves_of, trials_of, with_setting
from analysis.dataset import read_run
from analysis.drift import change_points, drift_of, odd_cells, splits_in_two


def test_a_host_that_slows_down_is_flagged_with_its_blocks(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path, Recipe(blocks=12, shift_at_block=9, invalid_share=0)))
    drift = drift_of(trials_of(run.journal.attempts), "lab-2core")
    assert len(drift.change_orders) == 1
    assert drift.flagged_blocks == (9, 10, 11, 12)
    assert drift.trend_percent < 0


def test_a_steady_host_is_not_flagged_and_agrees_with_itself(two_hosts: Path) -> None:
    drift = drift_of(trials_of(read_run(two_hosts).journal.attempts), "lab-2core")
    assert drift.change_orders == ()
    assert drift.flagged_blocks == ()
    assert drift.same_against_same is not None
    assert drift.same_against_same.low is not None
    assert drift.same_against_same.high is not None
    assert drift.same_against_same.low < 0 < drift.same_against_same.high


def test_a_shift_of_five_percent_is_found_at_two_percent_noise() -> None:
    rng = np.random.default_rng(4)
    found = sum(
        bool(change_points(np.r_[rng.normal(0, 0.02, 20), rng.normal(-0.05, 0.02, 20)])) for _ in range(100)
    )
    assert found >= 90


def test_constant_and_short_series_have_no_change_points() -> None:
    assert change_points(np.full(30, 7.0)) == ()
    assert change_points(np.array([1.0, 9.0] * 5)) == ()


def test_two_groups_are_told_from_one() -> None:
    rng = np.random.default_rng(5)
    two = np.r_[rng.normal(0, 0.1, 10), rng.normal(1, 0.1, 10)]
    assert splits_in_two(two, 0.001)
    assert sum(splits_in_two(rng.normal(size=20), 0.01) for _ in range(300)) <= 12


@pytest.mark.parametrize("kind", ["heteroscedastic", "bimodal"])
def test_a_cell_unlike_the_others_is_named(tmp_path: Path, kind: str) -> None:
    recipe = Recipe(hosts={"lab-2core": 2}, handlers=("threaded",), blocks=20, invalid_share=0)
    run = read_run(write_run(tmp_path, recipe))
    trials = with_setting(trials_of(run.journal.attempts))
    rows = trials.index[(trials["processes"] == 5) & (trials["role"] == "cell")]
    rng = np.random.default_rng(6)
    odd = rng.normal(0, 0.15, len(rows)) if kind == "heteroscedastic" else np.arange(len(rows)) % 2 * 0.2
    trials.loc[rows, "goodput_rps"] *= np.exp(odd)
    findings = odd_cells(curves_of(trials))
    assert {cell.processes for cell in findings} == {5}
    assert any(kind in cell.finding for cell in findings)
