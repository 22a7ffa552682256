from __future__ import annotations

import random
import statistics
import time
from pathlib import Path

import pytest

from agent.records import Window
from agent.start_windows import STEP_S, StartWindows, full_rate_s
from fcgi_handlers import counters


def windows(*rates: tuple[float, float], seed: int | None = None) -> list[Window]:
    """Windows of a server that serves at each rate for so many seconds, evenly or with noise."""
    noise = None if seed is None else random.Random(seed)  # noqa: S311
    found: list[Window] = []
    for rps, seconds in rates:
        for _ in range(round(seconds / STEP_S)):
            mean = rps * STEP_S
            requests = mean if noise is None else max(0.0, noise.gauss(mean, 1.5 * mean**0.5))
            found.append(Window(t_s=round((len(found) + 1) * STEP_S, 6), requests=round(requests)))
    return found


@pytest.mark.parametrize(
    ("rates", "expected_s"),
    [
        ([(0, 1), (1000, 9)], 1.0),
        ([(0, 0.5), (400, 2.5), (1000, 7)], 3.0),
        ([(0, 1), (1000, 2), (200, 1), (1000, 6)], 3.5),
        ([(1000, 10)], 0.0),
    ],
)
def test_the_rate_is_full_from_where_it_stays_near_the_final_one(
    rates: list[tuple[float, float]], expected_s: float
) -> None:
    assert full_rate_s(windows(*rates)) == pytest.approx(expected_s, abs=0.5)


def test_noise_seldom_delays_it() -> None:
    found = [full_rate_s(windows((0, 1), (1000, 9), seed=seed)) or 99.0 for seed in range(40)]
    assert statistics.median(found) == pytest.approx(1.0, abs=0.06)
    assert sum(abs(full_s - 1.0) > 0.2 for full_s in found) <= 4


@pytest.mark.parametrize(
    "rates",
    [
        [(0, 10)],
        [(0, 9), (1000, 1)],
        [(500, 8.5), (1000, 1.5)],
    ],
)
def test_a_rate_that_never_settles_is_never_full(rates: list[tuple[float, float]]) -> None:
    assert full_rate_s(windows(*rates)) is None


def test_no_windows_tell_nothing() -> None:
    assert full_rate_s([]) is None


@pytest.mark.usefixtures("usr1_restored")
def test_the_clock_runs_from_the_server_s_start_and_the_first_answer_is_noted(tmp_path: Path) -> None:
    began_s = time.monotonic() - 0.5
    found = StartWindows(tmp_path, began_s, 1.0)
    found.begin(1)
    found.look()
    assert found.first_answer_s is None
    assert found.pause_s() <= 0.005
    counted = counters.shared(str(tmp_path))
    counted.enter(1, 1, True)
    counted.leave(1)
    found.look()
    first_answer_s = found.first_answer_s
    assert first_answer_s is not None and 0.5 <= first_answer_s < 5
    time.sleep(2 * STEP_S)
    found.look()
    assert sum(window.requests for window in found.done) == 1
    assert found.first_answer_s == first_answer_s
