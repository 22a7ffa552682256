from __future__ import annotations

import numpy as np
import pytest

from analysis.models import AMDAHL, KNEE, USL, band_without, choose_model, fit_knee, fit_usl

# Data sets of the R package usl (github.com/smoeding/usl): SPEC SDM91 on a SPARCcenter 2000, and a
# ray tracer on an SGI Origin 2000. The package's README prints the coefficients of the first.
SPECSDM91 = (
    np.array([1, 18, 36, 72, 108, 144, 216.0]),
    np.array([64.9, 995.9, 1652.4, 1853.2, 1828.9, 1775.0, 1702.2]),
)
RAYTRACER = (
    np.array([1, 4, 8, 12, 16, 20, 24, 28, 32, 48, 64.0]),
    np.array([20, 78, 130, 170, 190, 210, 220, 245, 255, 280, 310.0]),
)


def test_specsdm91_gives_the_published_coefficients() -> None:
    fit = fit_usl(*SPECSDM91, relative=False)
    assert fit.gamma == pytest.approx(89.9952330, rel=1e-5)
    assert fit.alpha == pytest.approx(0.0277285, rel=1e-4)
    assert fit.beta == pytest.approx(0.0001044, rel=1e-3)
    assert fit.peak is not None
    assert round(fit.peak) in (96, 97)
    assert fit.predict(SPECSDM91[0]).round() == pytest.approx([90, 1078, 1541, 1850, 1879, 1822, 1646])


def test_the_packages_own_test_case_comes_out_as_printed() -> None:
    fit = fit_usl(
        np.array([1, 2, 4, 6, 8, 10.0]),
        np.array([1, 1.8868, 3.0769, 3.5294, 3.5398, 3.3557]),
        relative=False,
    )
    assert (fit.alpha, fit.beta, fit.gamma) == pytest.approx((0.02, 0.02, 1.0), rel=1e-3)


def test_the_ray_tracer_shows_no_decline() -> None:
    fit = fit_usl(*RAYTRACER, relative=False)
    assert fit.beta == pytest.approx(0, abs=1e-9)
    assert fit.alpha == pytest.approx(0.06, rel=1e-2)


def test_the_start_values_do_not_decide_the_fit() -> None:
    processes, speed = SPECSDM91
    order = np.array([4, 0, 6, 2, 5, 1, 3])
    shuffled = fit_usl(processes[order], speed[order], relative=False)
    assert shuffled.beta == pytest.approx(fit_usl(processes, speed, relative=False).beta, rel=1e-5)
    thousandfold = fit_usl(processes, 1000 * speed, relative=False)
    assert thousandfold.alpha == pytest.approx(0.0277285, rel=1e-4)


def test_a_knee_is_found_where_it_is() -> None:
    fit = fit_knee(np.arange(1, 13.0), 700 * np.minimum(np.arange(1, 13.0), 4))
    assert (fit.gamma, fit.limit) == pytest.approx((700, 2800))


COUNTS = np.arange(1, 17)
TRUTHS = {
    KNEE: np.minimum(COUNTS, 2.0),
    AMDAHL: COUNTS / (1 + 0.3 * (COUNTS - 1)),
    USL: COUNTS / (1 + 0.1 * (COUNTS - 1) + 0.01 * COUNTS * (COUNTS - 1)),
}


@pytest.mark.parametrize("truth", [KNEE, USL])
def test_the_model_that_made_the_data_is_chosen(truth: str) -> None:
    noise = np.random.default_rng(1).normal(0, 0.02, (12, 16))
    choice = choose_model(COUNTS, np.log(1000 * TRUTHS[truth]) + noise)
    assert choice is not None
    assert choice.fit.model == truth
    assert choice.declines == (truth == USL)


@pytest.mark.parametrize("truth", [KNEE, AMDAHL])
def test_a_curve_that_does_not_decline_has_no_peak(truth: str) -> None:
    declined = 0
    for seed in range(8):
        noise = np.random.default_rng(seed).normal(0, 0.02, (10, 16))
        choice = choose_model(COUNTS, np.log(1000 * TRUTHS[truth]) + noise)
        assert choice is not None
        declined += choice.declines
        assert (choice.peak_low is None) == (not choice.declines)
    assert declined <= 1


def test_the_peak_of_a_declining_curve_lies_in_its_interval() -> None:
    held = 0
    for seed in range(12):
        noise = np.random.default_rng(seed).normal(0, 0.02, (20, 16))
        choice = choose_model(COUNTS, np.log(1000 * TRUTHS[USL]) + noise)
        assert choice is not None
        assert choice.peak_low is not None
        assert choice.peak_high is not None
        held += choice.peak_low < np.sqrt(0.9 / 0.01) < choice.peak_high
    assert held >= 10


def test_too_few_counts_or_blocks_have_no_model() -> None:
    assert choose_model(COUNTS[:4], np.zeros((20, 4))) is None
    assert choose_model(COUNTS, np.zeros((5, 16))) is None


def test_a_spike_lies_outside_of_what_the_others_expect() -> None:
    noise = np.random.default_rng(3).normal(0, 0.01, (12, 16))
    logs = np.log(1000 * TRUTHS[KNEE]) + noise
    band = band_without(COUNTS, logs, 13)
    assert band is not None
    assert band[0] < np.log(2000) + 0.02
    assert band[1] < np.log(2000 * 1.05)
