from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.intervals import block_weights, mean_interval, median_interval, median_ranks


@pytest.mark.parametrize(
    ("n", "ranks"), [(6, (1, 6)), (10, (2, 9)), (12, (3, 10)), (20, (6, 15)), (30, (10, 21))]
)
def test_exact_median_ranks_are_those_of_the_binomial_table(n: int, ranks: tuple[int, int]) -> None:
    found = median_ranks(n)
    assert found is not None
    assert (found[0] + 1, found[1] + 1) == ranks


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
def test_below_six_values_there_is_no_interval(n: int) -> None:
    values = np.arange(1.0, n + 1)
    assert not median_interval(values).drawn
    assert not mean_interval(values).drawn
    assert median_interval(values).n == n


def test_missing_values_are_left_out() -> None:
    values = np.array([1.0, 2, 3, 4, 5, 6, np.nan, np.nan])
    interval = median_interval(values)
    assert (interval.n, interval.low, interval.high, interval.estimate) == (6, 1.0, 6.0, 3.5)
    assert median_interval(np.array([np.nan])).n == 0


def test_the_same_values_give_the_same_interval_again() -> None:
    values = np.random.default_rng(1).normal(size=12)
    assert mean_interval(values) == mean_interval(values)
    assert block_weights(12).sum(axis=1) == pytest.approx(12)


def test_constant_values_have_an_interval_of_no_width() -> None:
    interval = mean_interval(np.full(8, 0.25))
    assert (interval.low, interval.high) == (0.25, 0.25)


@given(st.lists(st.floats(-1, 1, width=32), min_size=6, max_size=30), st.floats(-2, 2))
def test_intervals_bracket_the_estimate_and_move_with_the_data(values: list[float], shift: float) -> None:
    array = np.array(values)
    interval = mean_interval(array, resamples=500)
    assert interval.low is not None
    assert interval.high is not None
    assert interval.low <= interval.estimate + 1e-9
    assert interval.high >= interval.estimate - 1e-9
    moved = median_interval(array + shift)
    assert moved.estimate == pytest.approx(median_interval(array).estimate + shift, abs=1e-9)
