from __future__ import annotations

import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from controller.catalogue import load_catalogue
from controller.errors import JournalError
from controller.experiment import read_experiment
from controller.run_directory import RunDirectory, create_run, git_state


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
