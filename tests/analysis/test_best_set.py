from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from analysis.best_set import additive_fit, best_set, dunnett_critical

COUNTS = np.arange(1, 9)


def _matrix(
    blocks: int, lead: float = 0.0, seed: int = 1
) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    matrix = np.random.default_rng(seed).normal(8, 0.02, (blocks, 8))
    matrix[:, 5] += lead
    return matrix


def test_two_counts_need_the_critical_value_of_one_comparison() -> None:
    assert dunnett_critical(2, 10) == pytest.approx(stats.t.ppf(0.95, 10), abs=2e-3)


def test_critical_values_leave_five_percent_outside_of_the_joint_distribution() -> None:
    shape = np.full((5, 5), 0.5) + 0.5 * np.eye(5)
    joint = stats.multivariate_t(shape=shape, df=20, seed=1)
    assert joint.cdf(np.full(5, dunnett_critical(6, 20))) == pytest.approx(0.95, abs=2e-3)


@pytest.mark.parametrize("blocks", [2, 5, 9])
def test_below_ten_blocks_no_best_is_named(blocks: int) -> None:
    judged = best_set(COUNTS, _matrix(blocks, lead=0.5), 0.02)
    assert judged.best_set == ()
    assert judged.recommended is None
    assert judged.reason is not None
    assert str(blocks) in judged.reason


def test_a_clear_lead_is_the_only_best() -> None:
    judged = best_set(COUNTS, _matrix(20, lead=0.1), 0.02)
    assert judged.best_set == (6,)
    assert judged.recommended == 6
    assert judged.p_best[5] == 1


def test_the_recommended_count_is_the_smallest_within_the_zone() -> None:
    matrix = _matrix(20)
    matrix[:, :2] -= 0.2
    judged = best_set(COUNTS, matrix, 0.02)
    assert judged.recommended == 3
    assert {1, 2}.isdisjoint(judged.best_set)
    assert judged.p_best.sum() == pytest.approx(1)


def test_block_effects_do_not_matter() -> None:
    matrix = _matrix(12, lead=0.05)
    shifted = matrix + np.random.default_rng(2).normal(0, 1, (12, 1))
    assert best_set(COUNTS, matrix, 0.02).best_set == best_set(COUNTS, shifted, 0.02).best_set


def test_missing_trials_change_the_estimate_little() -> None:
    whole = _matrix(20, lead=0.05)
    holed = whole.copy()
    holed[[1, 4, 7], [0, 5, 2]] = np.nan
    means, residual_sd, df = additive_fit(holed)
    assert means == pytest.approx(additive_fit(whole)[0], abs=0.01)
    assert residual_sd == pytest.approx(0.02, rel=0.2)
    assert df == 19 * 7 - 3
    assert best_set(COUNTS, holed, 0.02).best_set == (6,)


def test_a_count_with_too_few_valid_trials_is_left_out_and_named() -> None:
    matrix = _matrix(20)
    matrix[:15, 2] = np.nan
    judged = best_set(COUNTS, matrix, 0.02)
    assert judged.left_out == (3,)
    assert 3 not in judged.best_set
