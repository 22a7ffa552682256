from __future__ import annotations

import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests

from analysis.comparison import (
    GAIN,
    INCONCLUSIVE,
    LOSS,
    NO_DIFFERENCE,
    best_against_best,
    blocks_to_settle,
    cliffs_delta,
    decide,
    equivalence_p,
    holm,
    paired_p,
    ratios_at_counts,
)

COUNTS = list(range(1, 9))


def _pair(blocks: int, ratio: float, noise: float = 0.01, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    second = rng.normal(8, noise, (blocks, 8)) + rng.normal(0, 0.1, (blocks, 1))
    return second + np.log(ratio) + rng.normal(0, noise, (blocks, 8)), second


@pytest.mark.parametrize(("ratio", "verdict"), [(1.08, GAIN), (0.92, LOSS), (1.0, NO_DIFFERENCE)])
def test_a_clear_case_gets_its_verdict(ratio: float, verdict: str) -> None:
    first, second = _pair(20, ratio)
    assert {row.verdict for row in ratios_at_counts(COUNTS, first, second, 0.02)} == {verdict}
    best = best_against_best(COUNTS, first, second, 0.02)
    assert best is not None
    assert best.verdict == verdict
    assert best.log_ratio.estimate == pytest.approx(np.log(ratio), abs=0.015)


def test_an_open_case_says_how_many_blocks_would_settle_it() -> None:
    first, second = _pair(6, 1.015, noise=0.05)
    rows = ratios_at_counts(COUNTS, first, second, 0.02)
    open_rows = [row for row in rows if row.verdict == INCONCLUSIVE]
    assert open_rows
    assert all(row.blocks_needed is not None and row.blocks_needed > 6 for row in open_rows)


def test_below_six_blocks_nothing_is_decided() -> None:
    first, second = _pair(5, 1.5)
    assert {row.verdict for row in ratios_at_counts(COUNTS, first, second, 0.02)} == {INCONCLUSIVE}
    best = best_against_best(COUNTS, first, second, 0.02)
    assert best is not None
    assert (best.verdict, best.log_ratio.drawn) == (INCONCLUSIVE, False)


def test_missing_trials_leave_out_their_pair_only() -> None:
    first, second = _pair(12, 1.08)
    first[2, 3] = np.nan
    second[:, 5] = np.nan
    rows = ratios_at_counts(COUNTS, first, second, 0.02)
    assert [row.log_ratio.n for row in rows] == [12, 12, 12, 11, 12, 0, 12, 12]
    best = best_against_best(COUNTS, first, second, 0.02)
    assert best is not None
    assert best.verdict == GAIN


def test_holm_agrees_with_statsmodels() -> None:
    p_values = np.random.default_rng(3).uniform(0, 0.2, 19)
    ours = holm(dict(enumerate(p_values.tolist())))
    assert [ours[i] for i in range(19)] == pytest.approx(multipletests(p_values, method="holm")[1].tolist())


def test_p_values_agree_with_scipy() -> None:
    from scipy import stats

    values = np.random.default_rng(4).normal(0.01, 0.02, 12)
    assert paired_p(values) == pytest.approx(stats.ttest_1samp(values, 0).pvalue)
    low = stats.ttest_1samp(values, -0.02, alternative="greater").pvalue
    high = stats.ttest_1samp(values, 0.02, alternative="less").pvalue
    assert equivalence_p(values, 0.02) == pytest.approx(max(low, high))


def test_cliffs_delta_counts_who_is_faster() -> None:
    assert cliffs_delta(np.array([3.0, 4.0]), np.array([1.0, 2.0])) == 1
    assert cliffs_delta(np.array([1.0, 2.0]), np.array([1.0, 2.0])) == 0


def test_equivalence_comes_before_the_sign() -> None:
    zone = 0.02
    assert decide((0.001, 0.015), (0.002, 0.014), zone) == NO_DIFFERENCE
    assert decide((0.001, 0.05), (0.002, 0.045), zone) == GAIN
    assert decide((-0.01, 0.05), (-0.005, 0.045), zone) == INCONCLUSIVE


def test_more_blocks_are_asked_for_where_the_noise_is_larger() -> None:
    rng = np.random.default_rng(5)
    small, large = rng.normal(0, 0.01, 10), rng.normal(0, 0.05, 10)
    needed_small, needed_large = blocks_to_settle(small, 0.02), blocks_to_settle(large, 0.02)
    assert needed_small is not None
    assert needed_large is not None
    assert needed_small < needed_large
