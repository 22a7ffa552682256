"""The error rates of the statistics, by simulation: the same functions that write docs/statistics.md."""

from __future__ import annotations

import pytest

from analysis import simulate
from analysis.comparison import GAIN, LOSS, NO_DIFFERENCE

SWEEPS = 1000


@pytest.mark.parametrize("blocks", [10, 20])
def test_identical_cells_have_no_unique_best(blocks: int) -> None:
    assert simulate.unique_best(SWEEPS, blocks, 0.0) <= 0.05 * SWEEPS


def test_a_lead_of_three_percent_is_found_at_two_percent_noise_with_twenty_blocks() -> None:
    assert simulate.unique_best(SWEEPS, 20, 0.03) >= 0.75 * SWEEPS


@pytest.mark.parametrize("blocks", [10, 20])
def test_identical_handlers_have_no_gain_at_any_count(blocks: int) -> None:
    hits = simulate.false_difference_at_counts(SWEEPS, blocks)
    assert hits[GAIN] <= 0.05 * SWEEPS
    assert hits[GAIN] + hits[LOSS] <= 0.065 * SWEEPS  # 5 % and three standard errors of 1000 sweeps


def test_a_gain_of_three_percent_is_found_at_its_count() -> None:
    assert simulate.gain_at_count(SWEEPS, 20, 0.03) >= 0.75 * SWEEPS


@pytest.mark.parametrize("shape", list(simulate.SHAPES))
@pytest.mark.parametrize("blocks", [10, 20])
def test_equal_handlers_come_out_without_gain_or_loss(blocks: int, shape: str) -> None:
    verdicts = simulate.best_against_best_verdicts(SWEEPS, blocks, shape)
    assert verdicts.get(GAIN, 0) + verdicts.get(LOSS, 0) <= 0.05 * SWEEPS


def test_identical_flat_handlers_are_shown_to_be_equal() -> None:
    verdicts = simulate.best_against_best_verdicts(SWEEPS, 20, "both flat")
    assert verdicts[NO_DIFFERENCE] >= 0.95 * SWEEPS


@pytest.mark.parametrize("shape", ["both flat", "both peaked"])
def test_a_better_best_is_found(shape: str) -> None:
    verdicts = simulate.best_against_best_verdicts(SWEEPS, 20, shape, 0.03)
    assert verdicts.get(GAIN, 0) >= 0.75 * SWEEPS


@pytest.mark.parametrize("blocks", [6, 10, 20])
def test_median_intervals_cover(blocks: int) -> None:
    assert simulate.median_coverage(2 * SWEEPS, blocks) >= 0.94 * 2 * SWEEPS


@pytest.mark.parametrize("blocks", [10, 20])
def test_ratio_intervals_cover(blocks: int) -> None:
    assert 0.93 <= simulate.ratio_coverage(4 * SWEEPS, blocks) / (4 * SWEEPS) <= 0.97


@pytest.mark.parametrize("sentinels", [30, 60])
def test_steady_sentinels_raise_no_alarm(sentinels: int) -> None:
    assert simulate.false_change(SWEEPS, sentinels) <= 0.05 * SWEEPS


@pytest.mark.parametrize("blocks", [10, 20])
def test_bounds_for_all_counts_together_cover(blocks: int) -> None:
    assert simulate.simultaneous_coverage(SWEEPS, blocks) >= 0.94 * SWEEPS


def test_the_interval_of_a_crossing_covers_and_none_is_named_where_there_is_none() -> None:
    named, hits = simulate.crossing_coverage(SWEEPS, 10)
    assert named >= 0.9 * SWEEPS
    assert 0.93 <= hits / named <= 0.98
    assert simulate.false_crossing(SWEEPS, 10) <= 0.05 * SWEEPS
