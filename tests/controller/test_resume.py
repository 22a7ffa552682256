from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from controller.catalogue import load_catalogue
from controller.errors import FingerprintChanged, JournalError, RunLocked, RunRefused
from controller.experiment import read_experiment
from controller.journal import attempts, read_journal
from controller.runs import Outcome, resume_run, run_standing, start_run

BROKEN = {"multiplexedx1": [{"fail": "not_ready"}]}


def start(fleet: Any, experiment: Path) -> Outcome:
    return start_run(
        fleet.workplace()[0], read_experiment(experiment, load_catalogue()), None, "fcgi-sweep run x"
    )


def half_done(fleet: Any, host: Any) -> Outcome:
    host.behave(trials=BROKEN)
    outcome = start(fleet, fleet.experiment(blocks=2, processes="1", design=", attempts: 1, sentinel: false"))
    assert [standing.missing for standing in outcome.standings] == [2]
    return outcome


def test_resume_measures_exactly_what_is_missing(fleet: Any, one_host: Any) -> None:
    outcome = half_done(fleet, one_host)
    before = len(one_host.trials_run())
    one_host.behave(trials={})
    again = resume_run(fleet.workplace()[0], outcome.run.run_id, False)
    assert again.complete
    fresh = one_host.trials_run()[before:]
    missing = {
        r["trial"]
        for r in attempts(read_journal(outcome.run.journal_path).records)
        if r["status"] == "failed"
    }
    assert {line.split()[0] for line in fresh} == missing
    assert [line.split()[1] for line in fresh] == ["2", "2"]
    workplace, text = fleet.workplace()
    assert resume_run(workplace, None, False).complete
    assert "nothing is missing" in text.getvalue()
    assert len(one_host.trials_run()) == before + 2


def change_kernel(facts: dict[str, Any]) -> None:
    facts["kernel"] = "6.9.9"


def change_handlers(facts: dict[str, Any]) -> None:
    facts["manifest"]["handlers"]["fingerprint"] = "e" * 64


def change_agent(facts: dict[str, Any]) -> None:
    facts["agent"]["fingerprint"] = "f" * 64


def change_lighttpd(facts: dict[str, Any]) -> None:
    facts["manifest"]["lighttpd"][0]["fingerprint"] = "9" * 64


def change_cores(facts: dict[str, Any]) -> None:
    facts["cpus"] = [0, 1, 2, 3]
    facts["cores"] = 4


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (change_kernel, r"hosts\.web1\.kernel: 6\.1\.0 -> 6\.9\.9"),
        (change_handlers, r"hosts\.web1\.handlers: d+ -> e+"),
        (change_agent, r"hosts\.web1\.agent: a+ -> f+"),
        (change_lighttpd, r"hosts\.web1\.lighttpd\.1\.4\.79: c+ -> 9+"),
        (change_cores, r"hosts\.web1\.cores: 2 -> 4"),
    ],
)
def test_resume_refuses_what_changed_by_name(fleet: Any, one_host: Any, change: Any, words: str) -> None:
    outcome = half_done(fleet, one_host)
    change(one_host.plan["facts"])
    one_host.behave(trials={})
    before = len(one_host.trials_run())
    with pytest.raises(FingerprintChanged, match=words) as caught:
        resume_run(fleet.workplace()[0], None, False)
    assert "--new-epoch" in str(caught.value)
    assert len(one_host.trials_run()) == before
    assert len(list(attempts(read_journal(outcome.run.journal_path).records))) == before


def test_resume_refuses_other_cpus_than_the_inventory_reserved(fleet: Any, one_host: Any) -> None:
    fleet.write_inventory(server_cpus=[0])
    half_done(fleet, one_host)
    one_host.behave(trials={})
    for changed, after in (({"server_cpus": [1]}, r"\[1\]"), ({}, r"\(missing\)")):
        fleet.write_inventory(**changed)
        with pytest.raises(FingerprintChanged, match=rf"hosts\.web1\.server_cpus: \[0\] -> {after}"):
            resume_run(fleet.workplace()[0], None, False)
    fleet.write_inventory(server_cpus="0")
    assert resume_run(fleet.workplace()[0], None, False).complete


def test_a_new_epoch_goes_on_and_leaves_a_seam(fleet: Any, one_host: Any) -> None:
    outcome = half_done(fleet, one_host)
    change_kernel(one_host.plan["facts"])
    one_host.behave(trials={})
    again = resume_run(fleet.workplace()[0], None, True)
    assert again.complete
    records = read_journal(outcome.run.journal_path).records
    (epoch,) = [r for r in records if r["kind"] == "epoch"]
    assert epoch["epoch"] == 2
    assert epoch["changes"] == [{"what": "hosts.web1.kernel", "before": "6.1.0", "after": "6.9.9"}]
    assert {r["epoch"] for r in attempts(records) if r["attempt"] == 1} == {1}
    assert {r["epoch"] for r in attempts(records) if r["attempt"] == 2} == {2}


def test_after_a_new_epoch_the_new_state_is_what_counts(fleet: Any, one_host: Any) -> None:
    half_done(fleet, one_host)
    change_kernel(one_host.plan["facts"])
    one_host.behave()
    assert not resume_run(fleet.workplace()[0], None, True).complete
    one_host.behave(trials={})
    assert resume_run(fleet.workplace()[0], None, False).complete


def test_resume_refuses_a_changed_experiment_and_names_the_key(fleet: Any, one_host: Any) -> None:
    half_done(fleet, one_host)
    path = fleet.root / "standin.yml"
    path.write_text(path.read_text().replace("concurrency: 4", "concurrency: 5"))
    with pytest.raises(FingerprintChanged, match=r"experiment\.load\.concurrency: 4 -> 5"):
        resume_run(fleet.workplace()[0], None, False)
    assert not resume_run(fleet.workplace()[0], None, True).complete
    one_host.behave(trials={})
    assert resume_run(fleet.workplace()[0], None, False).complete


def test_an_experiment_file_that_is_gone_does_not_matter(fleet: Any, one_host: Any) -> None:
    half_done(fleet, one_host)
    (fleet.root / "standin.yml").unlink()
    one_host.behave(trials={})
    assert resume_run(fleet.workplace()[0], None, False).complete


def test_resume_refuses_a_schedule_that_was_edited(fleet: Any, one_host: Any) -> None:
    outcome = half_done(fleet, one_host)
    path = outcome.run.path / "schedule.json"
    document = json.loads(path.read_text())
    document["trials"].pop()
    path.write_text(json.dumps(document))
    with pytest.raises(RunRefused, match="not the schedule that the run began with"):
        resume_run(fleet.workplace()[0], None, False)


def test_raw_output_that_cannot_be_written_stops_the_run_with_one_message(fleet: Any, one_host: Any) -> None:
    outcome = half_done(fleet, one_host)
    shutil.rmtree(outcome.run.path / "raw")
    (outcome.run.path / "raw").write_text("")
    with pytest.raises(JournalError, match=r"raw output cannot be written .*; mend that, then resume"):
        resume_run(fleet.workplace()[0], None, False)


def test_a_run_that_another_controller_drives_is_refused(fleet: Any, one_host: Any) -> None:
    outcome = half_done(fleet, one_host)
    assert outcome.run.driver() is None
    with outcome.run.locked():
        assert "pid" in str(outcome.run.driver())
        with pytest.raises(RunLocked, match=r"another controller drives this run \(pid \d+ on .* since"):
            resume_run(fleet.workplace()[0], None, False)
    assert outcome.run.driver() is None


def test_an_absent_host_does_not_keep_the_others_from_being_resumed(fleet: Any, one_host: Any) -> None:
    other = fleet.add("web2")
    other.behave(trials=BROKEN)
    outcome = half_done_two(fleet, one_host)
    one_host.behave(trials={})
    other.behave(trials={})
    agent = (other.prefix / "agent.pyz").read_text()
    (other.prefix / "agent.pyz").unlink()
    again = resume_run(fleet.workplace()[0], None, False)
    assert {s.host: s.missing for s in again.standings} == {"web1": 0, "web2": 2}
    assert "no agent" in again.left_out["web2"]
    (other.prefix / "agent.pyz").write_text(agent)
    final = resume_run(fleet.workplace()[0], outcome.run.run_id, False)
    assert final.complete


def half_done_two(fleet: Any, host: Any) -> Outcome:
    host.behave(trials=BROKEN)
    outcome = start(fleet, fleet.experiment(blocks=2, processes="1", design=", attempts: 1, sentinel: false"))
    assert [standing.missing for standing in outcome.standings] == [2, 2]
    return outcome


def test_a_host_that_left_the_inventory_is_named(fleet: Any, one_host: Any) -> None:
    fleet.add("web2")
    one_host.behave(trials=BROKEN)
    start(fleet, fleet.experiment(blocks=1, processes="1", design=", attempts: 1, sentinel: false"))
    del fleet.hosts["web1"]
    fleet.write_inventory()
    with pytest.raises(RunRefused, match="web1: is no longer in"):
        resume_run(fleet.workplace()[0], None, False)


def test_status_reads_a_dead_run_without_touching_it(fleet: Any, one_host: Any) -> None:
    outcome = half_done(fleet, one_host)
    journal = outcome.run.journal_path
    journal.write_bytes(journal.read_bytes() + b'{"schema":1,"kind":"att')
    before = journal.read_bytes()
    (standing,) = run_standing(outcome.run)
    assert (standing.scheduled, standing.valid, standing.missing, standing.tried) == (6, 4, 2, 2)
    assert standing.reasons == {"not_ready": 2}
    assert "not_ready: as asked" in standing.last
    assert journal.read_bytes() == before
    one_host.behave(trials={})
    assert resume_run(fleet.workplace()[0], None, False).complete
    (repair,) = [r for r in read_journal(journal).records if r["kind"] == "repair"]
    assert repair["dropped"] == '{"schema":1,"kind":"att'


def test_secrets_never_reach_the_run_directory_or_the_screen(fleet: Any, one_host: Any) -> None:
    secret = "correct horse battery staple"  # noqa: S105
    key = fleet.root / "id_secret"
    key.write_text("-----BEGIN OPENSSH PRIVATE KEY-----\nc2VjcmV0\n")
    fleet.write_inventory(
        ansible_password=secret, ansible_become_password=secret, ansible_ssh_private_key_file=str(key)
    )
    one_host.behave(trials={"threadedx1": ["die"], **BROKEN})
    workplace, text = fleet.workplace()
    experiment = read_experiment(
        fleet.experiment(blocks=1, processes="1", design=", attempts: 1, sentinel: false"), load_catalogue()
    )
    outcome = start_run(workplace, experiment, None, "x")
    written = [path.read_text() for path in outcome.run.path.rglob("*") if path.is_file()]
    written += [path.read_text() for path in (fleet.root / "cache").rglob("*") if path.is_file()]
    for content in [*written, text.getvalue()]:
        assert secret not in content
        assert "c2VjcmV0" not in content
        assert "id_secret" not in content
