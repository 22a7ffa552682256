"""A trend is found, noise is not: on made-up series and on series that were really measured."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import handler_stats, steadiness
from agent.tally import Tally, Work
from agent.windows import Windows

Series = npt.NDArray[np.float64]

CAPTURED = json.loads((Path(__file__).parent / "data" / "windows.json").read_text())
MIDDLES = (np.arange(steadiness.POINTS) + 0.5) / steadiness.POINTS
SHAPES: dict[str, Callable[[Series], Series]] = {
    "falls by half, evenly": lambda t: 4 / 3 - 2 / 3 * t,
    "climbs by half, evenly": lambda t: 0.8 + 0.4 * t,
    "drops by 30 % in the middle": lambda t: np.where(t < 0.5, 1.0, 0.7),
    "collapses at the end": lambda t: np.where(t < 0.8, 1.0, 0.4),
    "is slow for a fifth of the time": lambda t: np.where(t < 0.2, 0.4, 1.0),
    "warms up slowly": lambda t: 1 - 0.5 * np.exp(-t / 0.4),
}


def noise(series: int, spread: float, dependence: float, seed: int = 1) -> Series:
    """Rates round 1 whose neighbours depend on each other, as those of windows on a busy machine do."""
    random = np.random.default_rng(seed)
    fresh = random.standard_normal((series, steadiness.POINTS))
    found = fresh.copy()
    for i in range(1, steadiness.POINTS):
        found[:, i] = dependence * found[:, i - 1] + np.sqrt(1 - dependence**2) * fresh[:, i]
    return np.exp(spread * found)


def is_steady(rates: list[float]) -> bool:
    drift = steadiness.drift(rates)
    assert drift is not None
    return abs(drift.change) <= drift.limit


def marked_share(many: Series) -> float:
    return float(np.mean([not is_steady(list(each)) for each in many]))


def test_the_limit_of_agreement_is_exceeded_by_noise_in_one_of_a_hundred_series() -> None:
    random = np.random.default_rng(7)
    waves = random.standard_normal((100_000, steadiness.WAVES))
    waves /= np.linalg.norm(waves, axis=1, keepdims=True)
    shapes = np.array(steadiness._shapes(steadiness.POINTS))
    best = ((waves @ shapes.T) ** 2).max(axis=1)
    assert np.mean(best > steadiness.AGREEMENT) == pytest.approx(0.01, abs=0.0015)


@pytest.mark.parametrize(
    ("spread", "dependence", "most"),
    [
        (0.03, 0.0, 0.0),
        (0.1, 0.0, 0.01),
        (0.1, 0.3, 0.02),
        (0.2, 0.3, 0.03),
        (0.2, 0.6, 0.07),
        (0.3, 0.6, 0.09),
    ],
)
def test_noise_without_a_trend_is_seldom_marked(spread: float, dependence: float, most: float) -> None:
    assert marked_share(noise(2000, spread, dependence)) <= most


@pytest.mark.parametrize("requests_a_window", [3, 10, 100])
def test_few_requests_in_a_window_are_no_trend(requests_a_window: int) -> None:
    counts = np.random.default_rng(2).poisson(requests_a_window, (2000, steadiness.POINTS)).astype(float)
    assert marked_share(counts) <= 0.025


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize(("spread", "dependence", "least"), [(0.03, 0.0, 0.99), (0.05, 0.3, 0.94)])
def test_a_trend_beyond_the_noise_is_marked(
    name: str, spread: float, dependence: float, least: float
) -> None:
    assert marked_share(noise(1000, spread, dependence) * SHAPES[name](MIDDLES)) >= least


@pytest.mark.parametrize("factor", [0.45, 2.2])
def test_a_change_beyond_a_factor_of_two_is_marked_however_noisy(factor: float) -> None:
    halves = np.where(MIDDLES < 0.5, 1.0, factor)
    many = noise(1000, 0.3, 0.6)
    many /= many.reshape(1000, 2, -1).mean(axis=2).repeat(steadiness.POINTS // 2, axis=1)
    assert marked_share(many * halves) == 1.0


def test_a_small_change_is_let_pass_even_where_it_is_certain() -> None:
    drift = steadiness.drift([100 + i * 0.4 for i in range(20)])
    assert drift is not None
    assert drift.is_trend
    assert abs(drift.change) <= drift.limit == 0.10


@pytest.mark.parametrize("trial", CAPTURED["falls"] + CAPTURED["climbs"], ids=lambda trial: trial["what"])
def test_a_real_trial_that_climbs_or_falls_is_marked(trial: dict[str, object]) -> None:
    rates = steadiness.equal_windows(trial["windows"])  # type: ignore[arg-type]
    drift = steadiness.drift(rates)
    assert drift is not None
    assert not is_steady(rates)
    assert (drift.change > 0) == str(trial["what"]).startswith("climbs")


def test_real_trials_on_a_busy_machine_are_seldom_marked() -> None:
    """Nothing was changed during these; a fixed limit of 20 % marks a third of them."""
    trials = [steadiness.equal_windows(trial["windows"]) for trial in CAPTURED["noise"]]
    marked = sum(not is_steady(rates) for rates in trials)
    assert len(trials) >= 30
    assert marked / len(trials) <= 0.12


@given(st.lists(st.floats(0, 1e6), max_size=3))
def test_few_windows_say_nothing(few: list[float]) -> None:
    assert steadiness.drift(few) is None


@given(st.floats(0.5, 1e6), st.integers(4, 30))
def test_a_constant_rate_is_steady(rate: float, count: int) -> None:
    assert is_steady([rate] * count)


def test_a_server_that_wakes_up_late_is_not_steady() -> None:
    assert not is_steady([0.0] * 10 + [100.0] * 10)


@given(st.lists(st.tuples(st.floats(0.001, 2), st.integers(0, 10**6)), min_size=1, max_size=60))
def test_equal_windows_lose_no_request(lengths_and_counts: list[tuple[float, int]]) -> None:
    windows, end_s = [], 0.0
    for length_s, count in lengths_and_counts:
        end_s += length_s
        windows.append((end_s, count))
    rates = steadiness.equal_windows(windows)
    assert len(rates) == min(len(windows), steadiness.POINTS)
    assert sum(rates) * end_s / len(rates) == pytest.approx(sum(count for _, count in windows))


def test_a_late_look_makes_no_spike() -> None:
    looks = [(0.05 * i, 10) for i in range(1, 21)]
    looks[9:11] = [(0.549, 19), (0.55, 1)]
    assert steadiness.equal_windows(looks) == pytest.approx([200.0] * 20, rel=0.1)


def stats_file(directory: Path, pid: int, done: int, in_flight: int = 0) -> None:
    begin = np.array([handler_stats.MAGIC, done, in_flight], dtype=np.uint64).tobytes()
    file = os.open(directory / str(pid), os.O_RDWR | os.O_CREAT)  # not truncated: it may be mapped
    os.truncate(file, handler_stats._LAYOUT.size)
    os.pwrite(file, begin, 0)
    os.close(file)


def test_a_tally_sees_counts_change_and_new_processes(tmp_path: Path) -> None:
    stats_file(tmp_path, 10, 5)
    (tmp_path / "11.new").write_bytes(b"")
    tally = Tally(tmp_path)
    assert tally.read() == Work(done=5, in_flight=0)
    with (tmp_path / "10").open("r+b") as file:
        file.seek(8)
        file.write((9).to_bytes(8, "little"))
    stats_file(tmp_path, 11, 2, in_flight=3)
    assert tally.read() == Work(done=11, in_flight=3)


@pytest.mark.parametrize(("seconds", "windows"), [(1, 20), (5, 20), (20, 20), (30, 30)])
def test_windows_are_at_least_twenty_and_at_most_a_second_long(
    tmp_path: Path, seconds: int, windows: int
) -> None:
    found = Windows(tmp_path)
    found.begin(seconds)
    assert len(found._ahead_s) == windows
    assert found._ahead_s[-1] == pytest.approx(seconds)


def test_windows_begin_with_the_first_request_and_a_late_look_counts_for_those_it_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = 100.0
    monkeypatch.setattr("agent.windows.time.monotonic", lambda: now_s)
    stats_file(tmp_path, 10, done=7)
    found = Windows(tmp_path)
    found.begin(1)
    now_s = 100.4
    found.look()
    assert found.done == ()  # the load generator is still on its way
    stats_file(tmp_path, 10, done=7, in_flight=1)
    found.look()
    stats_file(tmp_path, 10, done=30)
    now_s = 100.63
    found.look()
    found.look()
    assert [(window.t_s, window.requests) for window in found.done] == [(0.23, 23)]
    assert found.pause_s() == pytest.approx(0.02)
