from __future__ import annotations

import numpy as np
import pytest

from analysis.best_set import best_set
from analysis.comparison import GAIN, INCONCLUSIVE, LOSS, NO_DIFFERENCE, BestAgainstBest, Comparison
from analysis.curves import Curve
from analysis.intervals import Interval
from analysis.page import emphasised, value
from analysis.verdicts import short_lines

LOG_RATIOS = {GAIN: 0.1, LOSS: -0.1, NO_DIFFERENCE: 0.0, INCONCLUSIVE: 0.0}
CONDITIONS: dict[str, object] = {"cores": 2, "concurrency": 32}


def _curve(handler: str) -> Curve:
    rps = np.random.default_rng(1).normal([500.0, 1000.0, 900.0], 1.0, size=(10, 3))
    return Curve("web", handler, handler, "", CONDITIONS, np.array([1, 2, 4]), np.arange(10), rps)


def _short(verdicts: dict[str, str]) -> str:
    judged = [
        (curve, best_set(curve.processes, curve.log_rps, 0.02))
        for curve in map(_curve, ["threaded", *verdicts])
    ]
    comparisons = [
        Comparison("web", "", handler, "threaded", (), _best(verdict))
        for handler, verdict in verdicts.items()
    ]
    (line,) = short_lines(judged, comparisons, 0.02)
    return line


def _best(verdict: str) -> BestAgainstBest:
    middle = LOG_RATIOS[verdict]
    return BestAgainstBest(Interval(middle, middle - 0.05, middle + 0.05, 10), None, 2, 2, verdict, None)


@pytest.mark.parametrize(
    ("verdicts", "run"),
    [
        ({"multiplexed": LOSS}, "threaded"),
        ({"multiplexed": GAIN}, "multiplexed"),
        ({"multiplexed": LOSS, "serial": GAIN}, "serial"),
        ({"multiplexed": LOSS, "serial": LOSS}, "threaded"),
    ],
)
def test_the_handler_that_all_comparisons_favour_is_the_one_to_run(
    verdicts: dict[str, str], run: str
) -> None:
    assert f"run {run} with 2 processes;" in _short(verdicts)


@pytest.mark.parametrize(
    "verdicts",
    [
        {"multiplexed": NO_DIFFERENCE},
        {"multiplexed": INCONCLUSIVE},
        {"multiplexed": GAIN, "serial": INCONCLUSIVE},
        {"multiplexed": GAIN, "serial": GAIN},
        {"multiplexed": LOSS, "serial": INCONCLUSIVE},
    ],
)
def test_no_handler_is_named_where_a_comparison_leaves_it_open(verdicts: dict[str, str]) -> None:
    assert "run " not in _short(verdicts)


def test_a_loss_is_given_with_its_interval_from_the_smaller_size_up() -> None:
    assert "slower than threaded by 9.5 % [4.9, 13.9]" in _short({"multiplexed": LOSS})


def test_commands_in_a_line_become_code_and_other_signs_stay_text() -> None:
    assert emphasised("NOISE: `fcgi-sweep confirm <RUN>`") == (
        "<strong>NOISE</strong>: <code>fcgi-sweep confirm &lt;RUN&gt;</code>"
    )


def test_a_small_number_is_never_shown_as_zero() -> None:
    assert [value(p, ".4f").text for p in (0.0, 0.00001, 0.2)] == ["0.0000", "<0.0001", "0.2000"]
