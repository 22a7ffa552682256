"""Trials whose load comes from another host: who may, what is sent where, and what becomes of failures."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from controller import local as local_module
from controller import trial as trial_module
from controller.catalogue import load_catalogue
from controller.errors import FingerprintChanged, InventoryError, RunRefused
from controller.experiment import Experiment, read_experiment
from controller.inventory import Host, host_from_variables
from controller.journal import attempts, read_journal
from controller.load_hosts import server_address
from controller.machines import joined
from controller.placement import CpuPool, share_cpus
from controller.plan import PlannedHost, joined_machines, plan_host
from controller.runs import Outcome, resume_run, start_run
from controller.schedule import expected_duration_s, make_schedule

REMOTE = ", placement: remote"
ONE = {"blocks": 1, "processes": "1", "design": ", attempts: 1, sentinel: false", "more": REMOTE}


def experiment(tool: str = "ab", keepalive: bool = False, **factors: Any) -> Experiment:
    load = {"tool": tool, "keepalive": keepalive}
    factors = {"handler": ["threaded"], "processes": [1, 2], **factors}
    return Experiment.model_validate({"name": "t", "question": "q", "factors": factors, "load": load})


def planned(name: str = "h", machine: str = "m", **load: Any) -> PlannedHost:
    return PlannedHost(name, machine, CpuPool((0, 1)), {"default": "1.4.79"}, {"default": "system"}, **load)


def test_without_load_from_remote_cells_are_dropped_with_the_reason() -> None:
    asked = experiment(placement=["shared", "remote"])
    plan = plan_host(asked, planned())
    assert {cell.placement for cell in plan.cells} == {"shared"}
    (dropped,) = plan.dropped
    assert dropped.cells == 2
    assert "placement remote: the host has no load_from" in dropped.reason


def test_a_remote_cell_says_the_cores_of_the_server_which_has_all_of_them() -> None:
    plan = plan_host(experiment(placement="remote", cores=[1, "all"]), planned(load_from="g"))
    assert {(cell.placement, cell.cores) for cell in plan.cells} == {("remote", 1), ("remote", 2)}
    share = share_cpus(CpuPool((0, 1, 2), server=(1, 2), load=(0,)), "all", "remote")
    assert (share.server, share.load) == ((1, 2), ())


def test_h2load_measures_no_connection_per_request_and_the_plan_says_so() -> None:
    plan = plan_host(experiment("h2load"), planned())
    assert plan.cells == ()
    assert plan.dropped[0].reason == "keepalive false: h2load always keeps its connections; use ab or wrk"
    assert plan_host(experiment("h2load", keepalive=True), planned()).dropped == ()


@pytest.mark.parametrize("tool", ["ab", "wrk"])
@pytest.mark.parametrize("keepalive", [True, False])
def test_ab_and_wrk_do_both(tool: str, keepalive: bool) -> None:
    assert plan_host(experiment(tool, keepalive), planned()).dropped == ()


def test_machines_are_joined_over_any_number_of_links() -> None:
    assert joined([]) == {}
    assert joined([("b", "a"), ("c", "b"), ("x", "y")]) == {
        "a": "a", "b": "a", "c": "a", "x": "x", "y": "x",
    }  # fmt: skip
    assert joined([("a", "b"), ("c", "d"), ("b", "c")]) == dict.fromkeys("abcd", "a")


def test_the_expected_duration_counts_joined_machines_as_one() -> None:
    asked = experiment(placement=["shared", "remote"])
    server = plan_host(asked, planned("s", "m1", load_from="g", load_machine="m2"))
    other = plan_host(asked, planned("g", "m2"))
    trials = make_schedule(asked, [server, other])
    together = expected_duration_s(asked, trials, joined_machines([server, other]))
    assert together == pytest.approx(len(trials) * expected_duration_s(asked, trials[:1]))
    assert joined_machines([plan_host(experiment(), planned(load_from="g", load_machine="m2"))]) == {}


def test_a_host_makes_no_load_for_itself(tmp_path: Path) -> None:
    with pytest.raises(InventoryError, match="web1: load_from names the host itself"):
        host_from_variables("web1", {"load_from": "web1"}, tmp_path)


@pytest.mark.parametrize("address", ["0.0.0.0", "*", "::"])  # noqa: S104
def test_no_server_listens_everywhere(address: str, tmp_path: Path) -> None:
    with pytest.raises(InventoryError, match="one address of the host, not all"):
        host_from_variables("web1", {"fcgi_sweep_address": address}, tmp_path)


def test_the_server_listens_on_the_hosts_own_address() -> None:
    assert server_address(Host("a", "a", "192.0.2.7")) == "192.0.2.7"
    assert server_address(Host("a", "a", "192.0.2.7", listen_address="10.0.0.1")) == "10.0.0.1"
    with pytest.raises(ValueError, match="another host cannot reach"):
        server_address(Host("a", "a", "localhost"))
    with pytest.raises(ValueError, match="cannot be resolved"):
        server_address(Host("a", "a", "no-such-host.invalid"))


# --- with stand-in agents


@pytest.fixture
def pair(fleet: Any) -> Any:
    """A server and the host that makes its load; only the server is measured."""
    fleet.add("server")
    fleet.add("loader")
    document = json.loads(fleet.inventory.read_text())
    hosts = document["targets"]["hosts"]
    hosts["server"].update(load_from="loader", fcgi_sweep_address="127.0.0.1")
    fleet.inventory.write_text(json.dumps(document))
    return fleet


def run(fleet: Any, limit: str | None = "server", **asked: Any) -> tuple[Outcome, str]:
    workplace, text = fleet.workplace()
    file = read_experiment(fleet.experiment(**{**ONE, **asked}), load_catalogue())
    return start_run(workplace, file, limit, "fcgi-sweep run x"), text.getvalue()


def records(outcome: Outcome) -> list[dict[str, Any]]:
    return list(attempts(read_journal(outcome.run.journal_path).records))


def test_both_agents_take_part_and_one_record_holds_both_sides(pair: Any) -> None:
    outcome, text = run(pair)
    assert outcome.complete, text
    for record in records(outcome):
        host = record["result"]["load_host"]
        assert host["host"] == "loader"
        assert host["system"]["window_s"] == 1.0
        assert abs(host["clock"]["offset_s"]) <= host["clock"]["uncertainty_s"] + 0.001
        assert (outcome.run.path / record["raw"] / "load.txt").read_text() == "This is ApacheBench\n"
        conf = (outcome.run.path / record["raw"] / "lighttpd.conf").read_text()
        assert 'server.bind = "127.0.0.1"' in conf
        assert record["overhead_s"] == pytest.approx(record["wall_s"] - 0.3, abs=0.001)
    loaded = [line for line in pair.hosts["loader"].trials_run() if line.startswith("load ")]
    assert len(loaded) == len(records(outcome)) == 3
    assert outcome.run.facts("server")["load_from"]["host"] == "loader"


@pytest.mark.parametrize(
    ("step", "kind", "reason"),
    [
        ("die", "internal", "load host loader: the agent ended with 3 and gave no result"),
        ({"fail": "load_failed"}, "load_failed", "load host loader: as asked"),
        ({"fail": "not_provisioned"}, "not_provisioned", "load host loader: as asked"),
    ],
)
def test_what_the_load_host_does_is_recorded_under_its_name(
    pair: Any, step: Any, kind: str, reason: str
) -> None:
    pair.hosts["loader"].behave(load=step)
    outcome, _ = run(pair)
    for record in records(outcome):
        assert record["failure"]["kind"] == kind
        assert record["failure"]["reason"].startswith(reason)
    # the server's agent was stopped, not left to its deadline
    assert any("interrupted while waiting" in line for line in pair.hosts["server"].trials_run())


def test_a_silent_load_host_is_lost_and_the_server_is_stopped(
    pair: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial_module, "START_AND_STOP_S", 0.2)
    monkeypatch.setattr(trial_module, "SLACK_S", 1.5)
    monkeypatch.setattr(local_module, "CLOSE_PATIENCE_S", 0.2)
    pair.hosts["loader"].behave(load="silent")
    outcome, text = run(pair)
    assert {record["failure"]["kind"] for record in records(outcome)} == {"host_lost"}
    assert "load host loader: no word from the agent" in records(outcome)[0]["failure"]["reason"]
    assert "given up for now" in text
    assert any("interrupted while waiting" in line for line in pair.hosts["server"].trials_run())


def test_a_load_host_that_is_not_provisioned_leaves_its_server_out(pair: Any) -> None:
    (pair.hosts["loader"].prefix / "agent.pyz").unlink()
    with pytest.raises(RunRefused, match="server: not_provisioned: load host loader: no agent at"):
        run(pair, more=", placement: [shared, remote]")


def test_a_load_generator_that_is_missing_there_is_named(pair: Any) -> None:
    facts = pair.hosts["loader"].plan["facts"]
    facts["manifest"]["load_generators"] = {}
    pair.hosts["loader"].behave(facts=facts)
    with pytest.raises(RunRefused, match=r"load host loader: the load generator ab .* --limit loader"):
        run(pair, more=", placement: [shared, remote]")


def test_load_from_a_host_that_is_not_there_is_an_error_in_the_inventory(pair: Any) -> None:
    document = json.loads(pair.inventory.read_text())
    document["targets"]["hosts"]["server"]["load_from"] = "nobody"
    pair.inventory.write_text(json.dumps(document))
    with pytest.raises(InventoryError, match="server: load_from names 'nobody'"):
        run(pair)
    assert run(pair, more="")[0].complete  # it matters only where it is used


def test_nothing_is_measured_on_the_load_host_meanwhile(pair: Any) -> None:
    for host in pair.hosts.values():
        host.behave(delay_s=0.1)
    outcome, _ = run(pair, limit=None, more=", placement: [shared, remote]")
    assert outcome.complete
    assert {record["host"] for record in records(outcome)} == {"server", "loader"}
    free_at = 0.0
    for record in sorted(records(outcome), key=lambda record: record["started_at"]):
        began_at = datetime.fromisoformat(record["started_at"]).timestamp()
        assert began_at > free_at - 0.01
        free_at = began_at + record["wall_s"]


def test_a_load_host_that_changed_is_a_change_of_the_run(pair: Any) -> None:
    pair.hosts["server"].behave(trials={"threadedx1": ["invalid", "ok"]})
    outcome, _ = run(pair)
    assert not outcome.complete
    facts = pair.hosts["loader"].plan["facts"]
    pair.hosts["loader"].behave(facts={**facts, "kernel": "6.2.0"})
    workplace, _ = pair.workplace()
    with pytest.raises(FingerprintChanged, match=r"hosts.server.load_from.kernel: 6.1.0 -> 6.2.0"):
        resume_run(workplace, None, new_epoch=False)
    pair.hosts["loader"].behave(facts=facts)
    assert resume_run(workplace, None, new_epoch=False).complete
