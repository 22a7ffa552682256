from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from controller.cells import Cell, Role, Trial
from controller.progress import LiveProgress, PlainProgress, duration, open_progress
from controller.trial import Attempt

CELL = Cell("threaded", 2, 8, False, 2, "shared", "hello", "ab", "1.4.79")
TRIALS = [Trial(f"{h}.b01.00{n}", h, "box", 1, n, Role.CELL, CELL) for h in ("a", "b") for n in (1, 2)]


def failed(trial: Trial) -> Attempt:
    return Attempt(trial, 1, 1, "2026-11-23T05:00:00.000Z", 4.0, kind="not_ready", reason="[no] markup")


def test_plain_lines_name_trial_cell_outcome_and_what_is_left() -> None:
    text = io.StringIO()
    with PlainProgress(Console(file=text, width=40), TRIALS, expected_s=2.0) as progress:
        progress.started(TRIALS[0])
        progress.ended(failed(TRIALS[0]))
        progress.dropped("a", 1)
        progress.ended(failed(TRIALS[1]))
    first, second = text.getvalue().splitlines()
    assert first == (
        "a.b01.001 [0/2, 12 s left] threaded x2, c=8, 2 cores: failed (attempt 1): not_ready: [no] markup"
    )
    assert "[0/2, 8 s left]" in second


def test_a_terminal_gets_a_table_that_ends_with_the_last_state() -> None:
    text = io.StringIO()
    console = Console(file=text, width=100, force_terminal=True)
    with LiveProgress(console, TRIALS, expected_s=2.0) as progress:
        progress.started(TRIALS[0])
        progress.ended(failed(TRIALS[0]))
        progress.started(TRIALS[2])
        progress.told("b", "away: [gone]")
    shown = text.getvalue()
    assert "a.b01.001: failed (attempt 1): not_ready: [no] markup" in shown
    assert "b: away: [gone]" in shown
    assert "block 1: threaded x2, c=8, 2 cores" in shown
    assert "left" in shown


def test_the_display_suits_the_console() -> None:
    for terminal, kind in ((True, LiveProgress), (False, PlainProgress)):
        console = Console(file=io.StringIO(), force_terminal=terminal)
        assert isinstance(open_progress(console, TRIALS, 1.0), kind)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59, "59 s"), (60, "1 min"), (200, "3 min 20 s"), (20_160, "5 h 36 min")],
)
def test_durations_are_written_for_people(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_cell_says_what_is_unusual_about_it() -> None:
    assert str(replace(CELL, keepalive=True, placement="split", cores=1)) == (
        "threaded x2, c=8, 1 core, keep-alive, split"
    )
    assert str(replace(CELL, handler="static", processes=0)).startswith("static, c=8")
