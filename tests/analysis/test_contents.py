"""What the report says of a run's conditions, without any statistics."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from analysis.contents import compared


def findings(handlers: list[str], measure_s: float) -> Any:
    trials = pd.DataFrame(
        [
            {
                "role": "cell",
                "handler": handler,
                "tool": "ab",
                "concurrency": 7,
                "status": "valid",
                "handlers_highest_id": 1,
                "handlers_peak_ids_per_connection": 1,
                "load_host": None,
            }
            for handler in handlers
        ]
    )
    experiment = {"load": {"warmup_s": 0.3, "measure_s": measure_s}}
    return SimpleNamespace(trials=trials, run=SimpleNamespace(experiment=experiment, measures_starts=False))


@pytest.mark.parametrize(("asked_s", "measured"), [(0.5, "then 1 s"), (1.5, "then 2 s"), (5.0, "then 5 s")])
def test_the_seconds_that_were_measured_are_named(asked_s: float, measured: str) -> None:
    assert f"0.3 s warm-up, {measured} measured." in " ".join(compared(findings(["threaded"], asked_s)))


def test_multiplexing_is_explained_where_it_was_measured_only() -> None:
    assert "“multiplexed” behind it" in compared(findings(["threaded", "multiplexed-stock"], 1))[0]
    assert "“multiplexed” behind it" not in compared(findings(["threaded", "prefork"], 1))[0]
