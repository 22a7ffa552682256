"""A run, its report, the confirmation that the controller makes of it, and the verdict on the pair."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from synthetic_runs import Recipe, knee_then_decline, write_run

from analysis import report
from analysis.best_set import best_set
from analysis.confirmation import confirmation_document
from analysis.contents import verdict_groups
from analysis.curves import curves_of, trials_of, with_setting
from analysis.dataset import read_run
from analysis.explanation import counter_table
from analysis.findings import Findings, find, judge_peaks
from analysis.peak import INCONCLUSIVE, NOISE, REAL, PeakVerdict
from analysis.summary import summary
from controller.confirmation import (
    Confirmation,
    ConfirmationAnswer,
    confirming_experiment,
    plan_confirmation,
)
from controller.confirmation_run import report_command
from controller.experiment import Experiment
from controller.placement import CpuPool
from controller.plan import PlannedHost
from controller.run_directory import RunDirectory
from controller.schedule import make_schedule

COUNTS = (1, 2, 4, 6, 8, 11, 12, 13, 14, 15, 16)
FIRST, SECOND = "20261123-000000-explore", "20261124-000000-explore-confirm"
NEXT_DAY, SAME_DAY = "2026-11-24T05:00:00Z", "2026-11-23T21:00:00Z"
Speed = Callable[[int, dict[str, Any]], float]


def flat(cores: int, cell: dict[str, Any]) -> float:
    return knee_then_decline(cores, cell["handler"], min(cell["processes"], cores))


def spike(cores: int, cell: dict[str, Any]) -> float:
    return flat(cores, cell) * (1.06 if cell["processes"] == 13 else 1.0)


def as_many_as_cores(cores: int, cell: dict[str, Any]) -> float:
    return 100.0 * min(cell["processes"], cores) / cell["processes"] ** 0.2


def explore(results: Path, speed: Speed, **changes: Any) -> Path:
    recipe: dict[str, Any] = {
        "run_id": FIRST,
        "hosts": {"lab-4core": 4},
        "handlers": ("threaded",),
        "processes": COUNTS,
        "concurrency": (39,),
        "blocks": 20,
        "noise": 0.015,
        "invalid_share": 0.0,
        "duplicates": False,
        "speed_of_cell": speed,
    }
    return write_run(results, Recipe(**{**recipe, **changes}))


def derived(first: Path, answer: dict[str, Any]) -> Confirmation:
    """Return what the controller would measure."""
    plans = ConfirmationAnswer.model_validate(answer).plans
    confirmed = Experiment.model_validate(read_run(first).meta["experiment"])
    return confirming_experiment(first.name, confirmed, plans, None)


def confirm(
    first: Path, answer: dict[str, Any], speed: Speed, created_at: str = NEXT_DAY, **changes: Any
) -> Path:
    """Measure, in a made-up world, the schedule that the controller makes of a report."""
    experiment = derived(first, answer)
    host = PlannedHost(
        "lab-4core", "lab-4core-box", CpuPool((0, 1, 2, 3)), {"1.4.79": "1.4.79"}, {"system": "system"}
    )
    trials = make_schedule(experiment, [plan_confirmation(experiment, host)])
    confirms = {"run_id": first.name, "suspects": [plan["suspect"] for plan in answer["plans"]]}
    recipe = Recipe(
        run_id=SECOND,
        hosts={"lab-4core": 4},
        seed=experiment.design.seed,
        noise=changes.pop("noise", 0.015),
        invalid_share=0.0,
        speed_of_cell=speed,
        extra_meta={
            "confirms": confirms, "created_at": created_at, "experiment": experiment.normalised(),
        },
        **changes,
    )  # fmt: skip
    return write_run(first.parent, recipe, [trial.to_json() for trial in trials])


def answer_of(findings: Findings) -> dict[str, Any]:
    """Return the report's answer as the controller reads it: through JSON."""
    whole = json.dumps(summary(findings, []), allow_nan=False)
    answer: dict[str, Any] = json.loads(whole)["confirmation"]
    return answer


def verdicts(directory: Path) -> list[PeakVerdict]:
    run = read_run(directory)
    trials = with_setting(trials_of(run.journal.attempts))
    curves = curves_of(trials)
    best = [best_set(curve.processes, curve.log_rps, run.indifference) for curve in curves]
    return judge_peaks(run, curves, best, counter_table(trials))


def test_a_true_peak_is_real_after_its_confirmation_and_not_before(tmp_path: Path) -> None:
    first = explore(tmp_path, spike, cheap_at=13)
    findings = find(read_run(first))
    (before,) = findings.peaks
    assert (before.suspect.processes, before.verdict) == (13, INCONCLUSIVE)
    second = confirm(first, answer_of(findings), spike, cheap_at=13)
    found = find(read_run(second))
    (verdict,) = found.peaks
    assert {item.status for item in verdict.conditions} == {"holds"}
    assert verdict.verdict == REAL
    claims = [claim for claim in found.claims if claim.number == 4 and claim.status == "holds"]
    assert [claim.setting for claim in claims] == [verdict.suspect.setting]
    assert "c=39" in verdict.suspect.setting
    assert answer_of(found)["plans"] == []
    assert f"this run confirms {FIRST}" in answer_of(found)["nothing_for"][0]


def test_a_fluke_is_noise_after_its_confirmation(tmp_path: Path) -> None:
    first = explore(tmp_path, spike)
    second = confirm(first, answer_of(find(read_run(first))), flat, noise=0.005)
    (verdict,) = verdicts(second)
    assert verdict.verdict == NOISE
    assert "on the same day" not in verdict.reason


@pytest.mark.slow
def test_identical_counts_are_never_called_a_real_peak(tmp_path: Path) -> None:
    seen = []
    for seed in range(12):
        first = explore(tmp_path / str(seed), flat, seed=seed, noise=0.03, blocks=12, cheap_at=13)
        answer = answer_of(find(read_run(first)))
        if answer["plans"]:
            seen += verdicts(confirm(first, answer, flat, noise=0.03, cheap_at=13))
    assert len(seen) >= 8
    assert {verdict.verdict for verdict in seen} <= {NOISE, INCONCLUSIVE}


@pytest.mark.parametrize(("truth", "noise", "expected"), [(spike, 0.015, INCONCLUSIVE), (flat, 0.005, NOISE)])
def test_a_confirmation_on_the_same_day_says_so_whatever_the_verdict(
    tmp_path: Path, truth: Speed, noise: float, expected: str
) -> None:
    first = explore(tmp_path, spike, cheap_at=13)
    answer = answer_of(find(read_run(first)))
    (verdict,) = verdicts(confirm(first, answer, truth, SAME_DAY, noise=noise, cheap_at=13))
    assert verdict.verdict == expected
    words = "confirmed on the same day as the exploration (2026-11-23): the rule asks for another day"
    assert words in verdict.reason
    if expected == INCONCLUSIVE:
        assert verdict.reason == f"fresh seed, other day: fails ({words})"


def test_a_confirmation_from_before_the_end_of_the_exploration_says_so(tmp_path: Path) -> None:
    first = explore(tmp_path, spike, cheap_at=13)
    answer = answer_of(find(read_run(first)))
    (verdict,) = verdicts(confirm(first, answer, spike, "2026-11-22T05:00:00Z", cheap_at=13))
    assert verdict.verdict == INCONCLUSIVE
    assert "confirmed before the end of the exploration (2026-11-23)" in verdict.reason


def test_a_confirmation_without_trials_of_the_suspect_leaves_it_open(tmp_path: Path) -> None:
    first = explore(tmp_path, spike)
    second = confirm(first, answer_of(find(read_run(first))), spike)
    lines = (second / "journal.jsonl").read_text().splitlines()
    kept = [line for line in lines if '"role":"cell"' not in line]
    (second / "journal.jsonl").write_text("\n".join(kept) + "\n")
    (verdict,) = verdicts(second)
    assert (verdict.verdict, verdict.reason) == (INCONCLUSIVE, "the confirmation has no trial of it yet")


def test_a_confirmed_run_that_is_gone_leaves_the_rest_of_the_report(tmp_path: Path) -> None:
    first = explore(tmp_path, spike)
    second = confirm(first, answer_of(find(read_run(first))), spike)
    first.rename(tmp_path / "elsewhere")
    lines = [line for group in verdict_groups(find(read_run(second))) for line in group["lines"]]
    (line,) = [line for line in lines if "peak at 13 processes" in line]
    assert f"INCONCLUSIVE: the run that it confirms cannot be read: {tmp_path / FIRST}" in line
    assert any("recommended" in line for line in lines)


def test_the_written_summary_is_what_the_controller_reads(tmp_path: Path) -> None:
    first = explore(tmp_path, spike)
    written = report.write_report(first).index.parent / "summary.json"
    answer = ConfirmationAnswer.model_validate(json.loads(written.read_text())["confirmation"])
    (plan,) = answer.plans
    assert (plan.suspect.host, plan.suspect.processes, plan.suspect.cores) == ("lab-4core", 13, 4)
    assert {4, 8, 11, 12, 13, 14, 15} <= set(plan.counts)
    assert report_command(RunDirectory(first)) == f"python -m analysis.report {FIRST} --results {tmp_path}"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"speed_of_cell": as_many_as_cores},
         "no peak is suspected: 4 processes, as many as cores, lead"),
        ({"blocks": 6}, "no peak is suspected: a best process count is named from 10 blocks on, here are 6"),
        ({"speed_of_cell": flat, "noise": 0.002}, "is noise: "),
    ],
)  # fmt: skip
def test_a_curve_that_needs_no_confirmation_says_why(
    tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    answer = confirmation_document(find(read_run(explore(tmp_path, spike, **changes))))
    assert answer["plans"] == []
    assert words in answer["nothing_for"][0]


@pytest.mark.parametrize("concurrency", [2, 8, 15, 36, 39, 64])
def test_three_concurrencies_above_the_largest_count_are_planned_whatever_was_explored(
    tmp_path: Path, concurrency: int
) -> None:
    first = explore(tmp_path, spike, concurrency=(concurrency,))
    ((plan,), _) = confirmation_document(find(read_run(first))).values()
    levels = {condition["concurrency"] for condition in plan["conditions"]}
    assert len([level for level in levels if level > max(plan["counts"])]) == 3
    assert concurrency in levels


@pytest.mark.parametrize(
    ("tool", "keepalive", "expected"),
    [
        ("ab", False, {("ab", False), ("ab", True), ("wrk", False)}),
        ("wrk", True, {("wrk", True), ("wrk", False), ("ab", True)}),
        ("h2load", True, {("h2load", True), ("wrk", True)}),
    ],
)
def test_the_other_load_generator_can_do_what_the_first_did(
    tmp_path: Path, tool: str, keepalive: bool, expected: set[tuple[str, bool]]
) -> None:
    first = explore(tmp_path, spike, tools=(tool,), keepalive=(keepalive,))
    ((plan,), _) = confirmation_document(find(read_run(first))).values()
    assert {(level["tool"], level["keepalive"]) for level in plan["conditions"]} == expected
