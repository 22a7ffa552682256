"""Confirmation runs: which cells, which seed, and when they are refused."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from controller.catalogue import load_catalogue
from controller.confirmation import fresh_seed
from controller.confirmation_run import (
    confirm_run,
    earlier_confirmations,
    experiment_of,
    planned_trials,
    read_question,
)
from controller.errors import FingerprintChanged, RunLocked, RunRefused
from controller.experiment import read_experiment
from controller.run_directory import RunDirectory
from controller.runs import Outcome, resume_run, run_standing, start_run

ROOT = Path(__file__).parents[2]
BASE = {
    "concurrency": 4, "keepalive": False, "cores": 2, "placement": "shared", "workload": "hello",
    "tool": "ab", "lighttpd": "1.4.79",
}  # fmt: skip
CONDITIONS = [BASE, {**BASE, "concurrency": 7}, {**BASE, "keepalive": True}, {**BASE, "tool": "wrk"}]


def peak_plan(host: str = "web1", handler: str = "threaded", **changes: Any) -> dict[str, Any]:
    suspect = {"host": host, "setting": "", "handler": handler, "processes": 3, "cores": 2}
    return {"suspect": suspect, "counts": [2, 3, 4], "conditions": CONDITIONS, "blocks": 3, **changes}


def report(run: RunDirectory, *plans: dict[str, Any], nothing_for: tuple[str, ...] = ()) -> Path:
    path = run.path / "report" / "summary.json"
    path.parent.mkdir(exist_ok=True)
    summary = {
        "schema": 1,
        "journal_sha256": hashlib.sha256(run.journal_path.read_bytes()).hexdigest(),
        "confirmation": {"plans": list(plans), "nothing_for": list(nothing_for)},
    }
    path.write_text(json.dumps(summary))
    return path


def give_wrk(host: Any) -> None:
    generators = host.plan["facts"]["manifest"]["load_generators"]
    generators["wrk"] = {"path": "/usr/bin/wrk", "version": "4.1"}
    host.behave()


@pytest.fixture
def explored(fleet: Any, one_host: Any) -> RunDirectory:
    give_wrk(one_host)
    give_wrk(fleet.add("web2"))
    file = read_experiment(fleet.experiment(blocks=1, processes="[1, 2, 3]"), load_catalogue())
    run = start_run(fleet.workplace()[0], file, None, "fcgi-sweep run x").run
    report(run, peak_plan())
    return run


def confirm(fleet: Any, run: RunDirectory, blocks: int | None = 1) -> Outcome:
    question = read_question(run)
    return confirm_run(fleet.workplace()[0], question, experiment_of(question, blocks), "fcgi-sweep confirm")


def test_exactly_the_deciding_cells_are_measured_on_the_suspects_host(
    fleet: Any, explored: RunDirectory
) -> None:
    before = len(fleet.hosts["web2"].trials_run())
    run = confirm(fleet, explored, blocks=None).run
    trials = run.schedule()
    assert {trial.host for trial in trials} == {"web1"}
    assert len(fleet.hosts["web2"].trials_run()) == before
    for block in (1, 2, 3):
        own = [trial for trial in trials if trial.block == block]
        cells = {
            (t.cell.handler, t.cell.processes, t.cell.concurrency, t.cell.keepalive, t.cell.tool)
            for t in own
            if t.role == "cell"
        }
        assert cells == {
            ("threaded", count, level["concurrency"], level["keepalive"], level["tool"])
            for count in (2, 3, 4)
            for level in CONDITIONS
        }
        assert Counter(t.role for t in own) == {"cell": 12, "sentinel": 3, "duplicate": 1, "ceiling": 1}
    assert {t.cell for t in trials if t.role == "sentinel"} == {
        t.cell for t in explored.schedule() if t.role == "sentinel"
    }


def test_the_run_says_what_it_confirms_and_has_a_seed_of_its_own(fleet: Any, explored: RunDirectory) -> None:
    run = confirm(fleet, explored).run
    document = run.document()
    assert document["confirms"]["run_id"] == explored.run_id
    assert document["confirms"]["suspects"] == [peak_plan()["suspect"]]
    assert document["confirms"]["seed"] == 7
    assert document["seed"] == fresh_seed(7, explored.run_id)
    assert document["seed"] == document["experiment"]["design"]["seed"] != 7
    assert document["experiment"]["hosts"] == "web1"
    assert run.run_id.endswith("-standin-confirm")
    assert earlier_confirmations(read_question(explored)) == [run.run_id]


@pytest.mark.parametrize("seed", [0, 7, 2**62])
def test_the_fresh_seed_is_reproducible_and_never_that_of_the_run(seed: int) -> None:
    assert fresh_seed(seed, "a") == fresh_seed(seed, "a") != seed
    assert fresh_seed(seed, "a") != fresh_seed(seed, "b")


def test_a_hash_that_hits_the_seed_itself_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    class Hit:
        def digest(self) -> bytes:
            return bytes([0, 0, 0, 7, 9])

    monkeypatch.setattr("controller.confirmation.hashlib.sha256", lambda _: Hit())
    assert fresh_seed(7, "a") == 8


def test_two_suspects_share_one_run_and_one_block(fleet: Any, explored: RunDirectory) -> None:
    report(explored, peak_plan(), peak_plan("web2", "multiplexed", counts=[1, 3], blocks=2))
    question = read_question(explored)
    trials = planned_trials(fleet.workplace()[0], question, experiment_of(question, None))
    cells = Counter((t.host, t.cell.handler) for t in trials if t.role == "cell")
    assert cells == {("web1", "threaded"): 12 * 3, ("web2", "multiplexed"): 8 * 3}


def test_the_printed_plan_is_what_is_measured(fleet: Any, explored: RunDirectory) -> None:
    question = read_question(explored)
    planned = planned_trials(fleet.workplace()[0], question, experiment_of(question, 1))
    assert planned == confirm(fleet, explored).run.schedule()


def test_a_host_that_left_the_inventory_is_planned_as_the_run_recorded_it(
    fleet: Any, explored: RunDirectory
) -> None:
    question = read_question(explored)
    experiment = experiment_of(question, 1)
    known = planned_trials(fleet.workplace()[0], question, experiment)
    del fleet.hosts["web1"]
    fleet.write_inventory()
    workplace, told = fleet.workplace()
    assert planned_trials(workplace, question, experiment) == known
    assert "web1: is not in" in told.getvalue()
    assert "put the host there to measure it" in told.getvalue()


def test_a_broken_confirmation_is_resumed_and_its_standing_told(fleet: Any, explored: RunDirectory) -> None:
    host = fleet.hosts["web1"]
    host.behave(trials={"threadedx3": [{"fail": "not_ready"}]})
    outcome = confirm(fleet, explored)
    assert [standing.missing for standing in run_standing(outcome.run)] == [4]
    (fleet.root / "standin.yml").write_text("name: changed since\n")
    host.behave(trials={})
    again = resume_run(fleet.workplace()[0], outcome.run.run_id, False)
    assert again.complete
    assert again.run.schedule() == outcome.run.schedule()


def change_kernel(facts: dict[str, Any]) -> None:
    facts["kernel"] = "6.9.9"


def change_lighttpd(facts: dict[str, Any]) -> None:
    facts["manifest"]["lighttpd"][0]["fingerprint"] = "9" * 64


def change_ab(facts: dict[str, Any]) -> None:
    facts["manifest"]["load_generators"]["ab"]["version"] = "2.4"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (change_kernel, r"hosts\.web1\.kernel: 6\.1\.0 -> 6\.9\.9"),
        (change_lighttpd, r"hosts\.web1\.lighttpd\.1\.4\.79: c+ -> 9+"),
        (change_ab, r"hosts\.web1\.load_generators: "),
    ],
)
def test_a_changed_host_or_build_is_refused_by_name(
    fleet: Any, explored: RunDirectory, change: Callable[[dict[str, Any]], None], words: str
) -> None:
    host = fleet.hosts["web1"]
    change(host.plan["facts"])
    host.behave()
    before = len(host.trials_run())
    with pytest.raises(FingerprintChanged, match=words) as caught:
        confirm(fleet, explored)
    assert "run the experiment anew" in str(caught.value)
    assert len(host.trials_run()) == before
    assert len(list(fleet.results.iterdir())) == 1


def test_a_load_generator_that_was_added_since_is_no_change(fleet: Any, explored: RunDirectory) -> None:
    host = fleet.hosts["web1"]
    host.plan["facts"]["manifest"]["load_generators"]["h2load"] = {"path": "/h", "version": "1"}
    host.behave()
    assert confirm(fleet, explored).complete


def test_a_host_without_the_second_load_generator_is_refused_with_the_remedy(
    fleet: Any, one_host: Any
) -> None:
    file = read_experiment(fleet.experiment(blocks=1), load_catalogue())
    run = start_run(fleet.workplace()[0], file, None, "x").run
    report(run, peak_plan())
    with pytest.raises(RunRefused, match=r"wrk is not there \(fcgi_sweep_load_generators has to list it\)"):
        confirm(fleet, run)
    assert len(list(fleet.results.iterdir())) == 1


def test_cpus_that_are_shared_otherwise_are_refused(fleet: Any, explored: RunDirectory) -> None:
    fleet.write_inventory(server_cpus=[0])
    with pytest.raises(RunRefused, match=r"hosts\.web1\.server_cpus: \(missing\) -> \[0\]"):
        confirm(fleet, explored)


def test_without_a_report_the_remedy_is_its_command(fleet: Any, explored: RunDirectory) -> None:
    (explored.path / "report" / "summary.json").unlink()
    remedy = rf"is missing; write the report first: python -m analysis\.report {explored.run_id} --results"
    with pytest.raises(RunRefused, match=remedy):
        read_question(explored)


def test_a_report_older_than_the_journal_is_refused(explored: RunDirectory) -> None:
    with explored.open_journal() as journal:
        journal.append({"kind": "repair", "at": "now"})
    with pytest.raises(RunRefused, match=r"is older than the journal of the run; write the report first"):
        read_question(explored)


@pytest.mark.parametrize(
    "change",
    [
        lambda summary: summary.pop("confirmation"),
        lambda summary: summary["confirmation"]["plans"][0].pop("counts"),
        lambda summary: summary["confirmation"]["plans"][0].update(counts="all"),
        lambda summary: summary.pop("journal_sha256"),
    ],
)
def test_a_report_of_another_version_is_refused(explored: RunDirectory, change: Any) -> None:
    path = report(explored, peak_plan())
    summary = json.loads(path.read_text())
    change(summary)
    path.write_text(json.dumps(summary))
    with pytest.raises(RunRefused, match=r"does not say what to confirm .*; write the report first: "):
        read_question(explored)
    path.write_text("{")
    with pytest.raises(RunRefused, match=r"does not say what to confirm"):
        read_question(explored)


def test_a_run_under_way_is_not_confirmed(explored: RunDirectory) -> None:
    with explored.locked(), pytest.raises(RunLocked, match=r"is under way \(pid \d+"):
        read_question(explored)


def sweep(fleet: Any, *arguments: str) -> subprocess.CompletedProcess[str]:
    where = ["--inventory", str(fleet.inventory), "--results", str(fleet.results)]
    return subprocess.run(
        [sys.executable, "-m", "controller", *arguments, *where],
        capture_output=True, text=True, timeout=100, check=False, cwd=ROOT,
    )  # fmt: skip


def test_the_command_prints_the_plan_then_measures(fleet: Any, explored: RunDirectory) -> None:
    before = len(fleet.hosts["web1"].trials_run())
    plan = sweep(fleet, "confirm", explored.run_id, "--plan", "--blocks", "1")
    assert plan.returncode == 0, plan.stderr
    assert plan.stdout.splitlines() == [
        "web1 (2 cores): is the peak of threaded at 3 real?",
        "  processes 2, 3, 4: the suspect, its neighbours, the cores, twice the cores, the runner-up: it "
        "must beat all",
        "  concurrency 4, keepalive False, cores 2, placement shared, workload hello, tool ab, lighttpd "
        "1.4.79: new blocks under the same conditions: those that suggest a peak cannot also prove it",
        "  and concurrency 7: a peak that moves with the load's concurrency is its artefact; REAL takes "
        "three levels",
        "  and keepalive True: a peak that is there only with connections kept, or only with new ones, is "
        "not REAL",
        "  and tool wrk: a peak that only one load generator shows may be its own doing",
        "17 trials in 1 blocks, about 31 s",
        "  12 x cell: what decides, as above",
        "  3 x sentinel: the reference cell at the start, middle and end of a block: did the host hold "
        "still?",
        "  1 x duplicate: the same under another label: by how much does a cell differ from itself?",
        "  1 x ceiling: lighttpd with a static file: what server and load generator can do at all",
        f"seed {fresh_seed(7, explored.run_id)}, from that of {explored.run_id} and its name",
    ]
    assert "asks for 3 blocks; with fewer the verdict may stay open" in plan.stderr
    assert "no peak is REAL before it is confirmed on another day" in plan.stderr
    assert len(fleet.hosts["web1"].trials_run()) == before
    done = sweep(fleet, "confirm", explored.run_id, "--blocks", "1")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(plan.stdout)
    assert "17/17 valid, 0 missing" in done.stdout
    assert sweep(fleet, "status").returncode == 0
    again = sweep(fleet, "confirm", explored.run_id, "--plan")
    assert "confirmed before by " in again.stderr


def test_nothing_to_confirm_is_said_with_the_reason(fleet: Any, explored: RunDirectory) -> None:
    report(explored, nothing_for=("web1 (2 cores): threaded: no peak is suspected: 2 processes lead",))
    done = sweep(fleet, "confirm", explored.run_id)
    assert (done.returncode, done.stdout) == (0, f"run {explored.run_id}: nothing to confirm\n")
    assert done.stderr == "web1 (2 cores): threaded: no peak is suspected: 2 processes lead\n"
    assert len(list(fleet.results.iterdir())) == 1
