from __future__ import annotations

import json
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from controller.catalogue import load_catalogue
from controller.errors import JournalError, RunRefused
from controller.experiment import digest, read_experiment
from controller.run_directory import RunDirectory, create_run, find_run, git_state
from controller.runs import resume_command


def test_runs_that_begin_in_the_same_second_do_not_touch_each_other(fleet: Any) -> None:
    file = read_experiment(fleet.experiment(), load_catalogue())

    def create(number: int) -> RunDirectory:
        facts = {f"web{each}": {"schema": 1, "number": number} for each in range(20)}
        return create_run(fleet.results, file, [], facts, {}, command=str(number))

    with ThreadPoolExecutor(8) as pool:
        runs = list(pool.map(create, range(8)))
    assert len({run.run_id for run in runs}) == 8
    for number, run in enumerate(runs):
        assert run.document()["run_id"] == run.run_id
        assert run.document()["command"] == str(number)
        assert run.facts("web19")["number"] == number
    assert sorted(path.name for path in fleet.results.iterdir()) == sorted(run.run_id for run in runs)


def test_results_that_cannot_be_written_are_named(fleet: Any, tmp_path: Path) -> None:
    file = read_experiment(fleet.experiment(), load_catalogue())
    (tmp_path / "file").write_text("")
    with pytest.raises(JournalError, match=r"file: the run cannot be written \(.*\); nothing was measured"):
        create_run(tmp_path / "file", file, [], {}, {}, command="x")


def test_hosts_and_experiments_of_ones_own_do_not_make_a_checkout_a_changed_one(tmp_path: Path) -> None:
    assert git_state(tmp_path) == {"commit": None, "dirty": None}
    files = [tmp_path / folder / "file" for folder in ("inventory", "experiments", "agent")]
    for file in files:
        file.parent.mkdir()
        file.write_text("as published\n")
    author = ("-c", "user.name=Me", "-c", "user.email=me@example.net")
    for order in (["init", "--quiet"], ["add", "."], [*author, "commit", "--quiet", "--message", "all"]):
        subprocess.run(["git", *order], cwd=tmp_path, check=True)
    hosts, experiment, agent = files
    hosts.write_text("web1\n")
    experiment.write_text("mine\n")
    assert git_state(tmp_path)["dirty"] is False
    agent.write_text("changed\n")
    assert git_state(tmp_path)["dirty"] is True


def begun(fleet: Any) -> RunDirectory:
    file = read_experiment(fleet.experiment(), load_catalogue())
    return create_run(fleet.results, file, [], {}, {}, command="x")


def test_a_run_is_found_by_name_by_path_and_from_inside(fleet: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    run = begun(fleet)
    (fleet.results / ".20990101-000000-unborn.new").mkdir()
    (fleet.results / ".20990101-000000-unborn.new" / "run.json").write_text("{}")
    monkeypatch.chdir(run.path)
    for name in (None, run.run_id, str(run.path), "."):
        found = find_run(fleet.results if name != "." else fleet.root, name)
        assert (found.run_id, found.path) == (run.run_id, run.path)
    workplace, _ = fleet.workplace()
    elsewhere = replace(workplace, results=fleet.root / "elsewhere")
    assert f"resume {run.run_id} --results {fleet.results} " in resume_command(elsewhere, run)


def without(key: str, document: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name != key}


@pytest.mark.parametrize(
    ("file", "change", "words"),
    [
        ("run.json", lambda document: [document], "has schema None; this version reads 1"),
        ("run.json", lambda document: without("experiment", document), "the key 'experiment' is missing"),
        ("run.json", lambda document: {**document, "experiment": {"name": 3}}, "validation errors? for Exp"),
        ("schedule.json", lambda document: {**document, "trials": [{"trial": "t"}]}, r"\('role'\); use the"),
    ],
)
def test_a_run_of_another_version_is_named(fleet: Any, file: str, change: Any, words: str) -> None:
    run = begun(fleet)
    path = run.path / file
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    if file == "schedule.json":
        document = run.document()
        document["fingerprint"]["schedule"] = digest(json.loads(path.read_text()))
        (run.path / "run.json").write_text(json.dumps(document))
    with pytest.raises(RunRefused, match=f"{path}: .*{words}"):
        run.experiment()
        run.schedule()
