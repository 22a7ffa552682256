from __future__ import annotations

import json
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from controller import conversation as conversation_module
from controller import local as local_module
from controller import sweep as sweep_module
from controller import trial as trial_module
from controller.catalogue import load_catalogue
from controller.errors import JournalError, RunRefused
from controller.experiment import read_experiment
from controller.journal import DiskFull, attempts, read_journal
from controller.runs import Outcome, resume_run, start_run


def run(fleet: Any, experiment: Path) -> tuple[Outcome, str]:
    workplace, text = fleet.workplace()
    outcome = start_run(workplace, read_experiment(experiment, load_catalogue()), None, "fcgi-sweep run x")
    return outcome, text.getvalue()


def records(outcome: Outcome) -> list[dict[str, Any]]:
    return list(attempts(read_journal(outcome.run.journal_path).records))


def test_every_scheduled_trial_gets_one_valid_attempt(fleet: Any, one_host: Any) -> None:
    outcome, text = run(fleet, fleet.experiment())
    schedule = outcome.run.schedule()
    found = records(outcome)
    assert outcome.complete
    assert [record["trial"] for record in found] == [trial.trial for trial in schedule]
    assert {record["status"] for record in found} == {"valid"}
    assert len(one_host.trials_run()) == len(schedule) == 2 * (4 + 3 + 1 + 1)
    first = found[0]
    assert set(first) == {
        "schema", "kind", "trial", "host", "block", "position", "role", "cell", "attempt", "epoch", "status",
        "failure", "started_at", "wall_s", "overhead_s", "result", "raw",
    }  # fmt: skip
    assert "raw" not in first["result"]
    assert (outcome.run.path / first["raw"] / "load.txt").read_text() == "This is ApacheBench\n"
    assert "server.port = 8080" in (outcome.run.path / first["raw"] / "lighttpd.conf").read_text()
    assert "1,000 requests/s" in text


def test_the_run_directory_tells_all_before_the_first_trial(fleet: Any, one_host: Any) -> None:
    one_host.behave(trials={"threadedx2": ["die"]})
    outcome, _ = run(fleet, fleet.experiment(blocks=1, design=", attempts: 1"))
    document = outcome.run.document()
    assert document["experiment"]["factors"]["processes"] == [1, 2]
    assert document["experiment_text"].startswith("name: standin")
    assert document["fingerprint"]["hosts"]["web1"]["lighttpd"] == {"1.4.79": "c" * 64}
    assert outcome.run.facts("web1")["label"] == "web1_x86_64-1x2c_linux"
    assert outcome.run.path.name.endswith("-standin")
    assert not list(outcome.run.path.glob(".reserve"))
    assert outcome.run.experiment().normalised() == document["experiment"]


def test_an_invalid_trial_is_tried_again_at_the_end_of_its_block(fleet: Any, one_host: Any) -> None:
    one_host.behave(trials={"multiplexedx1": ["invalid", "ok"]})
    outcome, text = run(fleet, fleet.experiment())
    assert outcome.complete
    found = records(outcome)
    bad = [record for record in found if record["status"] == "invalid"]
    assert len(bad) == 2
    for record in bad:
        block = [other for other in found if other["block"] == record["block"]]
        assert block[-1]["trial"] == record["trial"]
        assert (block[-1]["attempt"], block[-1]["status"]) == (2, "valid")
        assert record["failure"] is None
    assert "invalid (attempt 1): responses: 1000 of 1000 responses are not 2xx" in text
    assert [standing.last for standing in outcome.standings] == [""]


def test_attempts_are_bounded_and_the_rest_goes_on(fleet: Any, one_host: Any) -> None:
    one_host.behave(trials={"multiplexedx1": [{"fail": "not_ready"}]})
    outcome, text = run(fleet, fleet.experiment(blocks=1, design=", attempts: 2"))
    (standing,) = outcome.standings
    assert (standing.missing, standing.tried, standing.reasons) == (1, 1, {"not_ready": 2})
    assert not outcome.complete
    assert "given up after 2 attempts: not_ready: as asked" in text
    failed = [record for record in records(outcome) if record["status"] == "failed"]
    assert [record["failure"] for record in failed] == [{"kind": "not_ready", "reason": "as asked"}] * 2
    assert (outcome.run.path / failed[0]["raw"] / "error.log").read_text() == "all is lost\n"


@pytest.mark.parametrize(
    ("step", "kind", "words"),
    [
        ("die", "internal", "ended with 3 and gave no result: Traceback: it died"),
        ("garbage", "internal", "speaks another language"),
        ("old", "internal", "speaks another language"),
        ({"fail": "load_failed"}, "load_failed", "as asked"),
    ],
)
def test_whatever_an_agent_does_is_recorded_with_its_kind(
    fleet: Any, one_host: Any, step: Any, kind: str, words: str
) -> None:
    one_host.behave(trials={"threadedx1": [step]})
    outcome, _ = run(
        fleet, fleet.experiment(blocks=1, processes="1", design=", attempts: 1, sentinel: false")
    )
    (failed,) = [record for record in records(outcome) if record["status"] == "failed"]
    assert failed["failure"]["kind"] == kind
    assert words in failed["failure"]["reason"]


def test_a_silent_host_is_lost_at_the_deadline_and_the_others_go_on(
    fleet: Any, one_host: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial_module, "READY_TIMEOUT_S", 0.3)
    monkeypatch.setattr(trial_module, "START_AND_STOP_S", 0.2)
    monkeypatch.setattr(trial_module, "SLACK_S", 1.5)
    monkeypatch.setattr(local_module, "CLOSE_PATIENCE_S", 0.2)
    fleet.add("web2")
    one_host.behave(trials={"threadedx1": ["silent"]})
    began = time.monotonic()
    outcome, text = run(fleet, fleet.experiment(blocks=1, processes="1", design=", sentinel: false"))
    assert time.monotonic() - began < 60
    by_host = {standing.host: standing for standing in outcome.standings}
    assert by_host["web2"].missing == 0
    assert by_host["web1"].missing == 1
    assert set(by_host["web1"].reasons) == {"host_lost"}
    assert by_host["web1"].reasons["host_lost"] <= 4
    assert "given up for now, 1 trials stay missing: went away 3 times" in text


def test_hosts_of_one_machine_are_never_measured_at_the_same_time(fleet: Any) -> None:
    for name in ("a", "b"):
        fleet.add(name, machine="box").behave(delay_s=0.05)
    outcome, _ = run(fleet, fleet.experiment(blocks=2, processes="1", design=", sentinel: false"))
    hosts = [record["host"] for record in records(outcome)]
    assert hosts == ["a"] * 3 + ["b"] * 3 + ["a"] * 3 + ["b"] * 3


def test_machines_are_measured_at_the_same_time(fleet: Any) -> None:
    for name in ("a", "b"):
        fleet.add(name).behave(delay_s=0.2)
    outcome, _ = run(fleet, fleet.experiment(blocks=1, processes="1", design=", sentinel: false"))
    hosts = [record["host"] for record in records(outcome)]
    assert "b" in hosts[:2]
    assert "a" in hosts[:2]


def test_an_unreachable_or_bare_host_is_left_out_and_the_others_go_on(fleet: Any, one_host: Any) -> None:
    bare = fleet.add("bare")
    (bare.prefix / "agent.pyz").unlink()
    half = fleet.add("half")
    half.plan["facts"]["manifest"] = None
    half.behave()
    outcome, text = run(fleet, fleet.experiment(blocks=1))
    assert set(outcome.left_out) == {"bare", "half"}
    assert not outcome.complete
    assert [standing.host for standing in outcome.standings] == ["web1"]
    assert "bare: left out: not_provisioned: no agent at" in text
    assert "half: left out: not_provisioned: provisioning never finished there" in text
    assert "run 'fcgi-sweep provision --limit bare'" in text


def test_without_any_usable_host_nothing_is_started(fleet: Any, one_host: Any) -> None:
    (one_host.prefix / "agent.pyz").unlink()
    with pytest.raises(RunRefused, match="no host can run this experiment"):
        run(fleet, fleet.experiment())
    assert not fleet.results.exists()


def test_a_host_without_the_handler_is_told_to_be_provisioned(fleet: Any, one_host: Any) -> None:
    one_host.plan["facts"]["handlers"].pop()
    one_host.behave()
    with pytest.raises(RunRefused, match=r"no handler 'multiplexed'.*provision --limit web1"):
        run(fleet, fleet.experiment())


def test_a_host_that_comes_back_goes_on_with_its_trials(fleet: Any, one_host: Any) -> None:
    fleet.patience = sweep_module.Patience(absence_s=20.0, losses=3, first_pause_s=0.05, longest_pause_s=0.2)
    one_host.behave(delay_s=0.1)
    agent = one_host.prefix / "agent.pyz"
    hidden = one_host.prefix / "hidden"
    workplace, _ = fleet.workplace()
    experiment = read_experiment(fleet.experiment(blocks=2), load_catalogue())

    def vanish() -> None:
        while len(one_host.trials_run()) < 3:
            time.sleep(0.01)
        agent.rename(hidden)
        time.sleep(0.6)
        hidden.rename(agent)

    thread = threading.Thread(target=vanish)
    thread.start()
    outcome = start_run(workplace, experiment, None, "x")
    thread.join()
    # without its agent the host answers not_provisioned: a failure of the trial, retried within its bounds
    assert sum(standing.valid for standing in outcome.standings) >= 3
    while not outcome.complete:
        outcome = resume_run(workplace, None, False)
    assert len({r["trial"] for r in records(outcome) if r["status"] == "valid"}) == len(
        outcome.run.schedule()
    )
    assert sum(r["status"] == "valid" for r in records(outcome)) == len(outcome.run.schedule())


def test_a_busy_host_is_asked_again_until_it_is_free(fleet: Any, one_host: Any) -> None:
    one_host.behave(trials={"threadedx1": [{"fail": "busy"}, "ok"]})
    outcome, text = run(fleet, fleet.experiment(blocks=1, processes="1", design=", sentinel: false"))
    assert outcome.complete
    assert "web1: away: as asked" in text
    assert "web1: is back" in text


def test_a_host_that_comes_back_changed_is_given_up(fleet: Any, one_host: Any) -> None:
    one_host.behave(trials={"threadedx1": [{"fail": "busy"}]}, delay_s=0.3)
    workplace, text = fleet.workplace()
    experiment = read_experiment(
        fleet.experiment(blocks=1, processes="1", design=", sentinel: false"), load_catalogue()
    )

    def upgrade() -> None:
        while not one_host.trials_run():
            time.sleep(0.01)
        one_host.plan["facts"]["kernel"] = "6.2.0"
        one_host.behave()

    thread = threading.Thread(target=upgrade)
    thread.start()
    outcome = start_run(workplace, experiment, None, "x")
    thread.join()
    assert not outcome.complete
    assert "came back changed: kernel: 6.1.0 -> 6.2.0" in text.getvalue()


def test_ctrl_c_stops_the_agent_and_records_the_interruption(fleet: Any, one_host: Any) -> None:
    one_host.behave(trials={"multiplexedx1": ["hang"], "threadedx1": ["hang"]})
    workplace, text = fleet.workplace()
    experiment = read_experiment(fleet.experiment(blocks=1), load_catalogue())

    def interrupt() -> None:
        while not any(line.endswith("hang") for line in one_host.trials_run()):
            time.sleep(0.01)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        start_run(workplace, experiment, None, "x")
    thread.join()
    assert any(line.startswith("interrupted ") for line in one_host.trials_run())
    (run_directory,) = fleet.results.iterdir()
    last = json.loads((run_directory / "journal.jsonl").read_text().splitlines()[-1])
    assert (last["failure"]["kind"], last["failure"]["reason"]) == ("interrupted", "the run was interrupted")
    assert f"resume {run_directory.name}" in text.getvalue()


def test_ctrl_c_pressed_again_loses_no_record(
    fleet: Any, one_host: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversation_module, "GRACE_S", 1.0)
    monkeypatch.setattr(local_module, "CLOSE_PATIENCE_S", 0.2)
    one_host.behave(trials={"multiplexedx1": ["silent"], "threadedx1": ["silent"]})
    workplace, _ = fleet.workplace()
    experiment = read_experiment(fleet.experiment(blocks=1, processes="1"), load_catalogue())

    def interrupt() -> None:
        while not any(line.endswith("silent") for line in one_host.trials_run()):
            time.sleep(0.01)
        for _ in range(3):
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
            time.sleep(0.1)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        start_run(workplace, experiment, None, "x")
    thread.join()
    (run_directory,) = fleet.results.iterdir()
    last = json.loads((run_directory / "journal.jsonl").read_text().splitlines()[-1])
    assert last["failure"]["kind"] == "interrupted"


def test_a_full_disk_stops_the_run_and_loses_nothing(fleet: Any, one_host: Any, small_disk: Any) -> None:
    fleet.results_name = str(small_disk.path / "results")
    one_host.behave(delay_s=0.2)
    workplace, text = fleet.workplace()
    experiment = read_experiment(fleet.experiment(blocks=1), load_catalogue())

    def fill() -> None:
        while len(one_host.trials_run()) < 3:
            time.sleep(0.01)
        small_disk.fill()

    thread = threading.Thread(target=fill)
    thread.start()
    with pytest.raises(DiskFull, match=r"No space left on device; \d records are safe.*free some space"):
        start_run(workplace, experiment, None, "x")
    thread.join()
    assert "go on with: " in text.getvalue()
    (run_directory,) = fleet.results.iterdir()
    content = read_journal(run_directory / "journal.jsonl")
    measured = len(one_host.trials_run())
    assert len(content.records) == measured >= 3
    small_disk.free()
    outcome = resume_run(fleet.workplace()[0], None, False)
    assert outcome.complete
    assert len(one_host.trials_run()) == len(outcome.run.schedule())


def test_a_results_directory_that_cannot_be_written_is_one_message(fleet: Any, one_host: Any) -> None:
    fleet.results.write_text("a file is in the way")
    with pytest.raises(JournalError, match=r"the run cannot be written .*nothing was measured"):
        run(fleet, fleet.experiment())
    assert one_host.trials_run() == []
