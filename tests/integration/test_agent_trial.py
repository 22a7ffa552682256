"""Trials with a real lighttpd, real handlers and a real load generator, and what can go wrong with them."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from weather import failed_gates

from agent import marked, procfs
from agent.records import Failure, Result, Started
from fcgi_handlers import registry

pytestmark = pytest.mark.integration

LEAKY = {"multiplexed-stock"}


@pytest.mark.parametrize("handler", [*registry.model_names(), "static"])
def test_a_trial_of_each_handler_passes_its_gates_and_leaves_nothing(
    host: Any, handler: str, absent_models: dict[str, str]
) -> None:
    if handler in absent_models:
        pytest.skip(absent_models[handler])
    agent = host.start(host.request(handler))
    started, result = agent.events()
    assert isinstance(started, Started) and started.orphans == ()
    assert isinstance(result, Result), result
    assert agent.process.returncode == 0
    if handler not in LEAKY:
        assert failed_gates(result) == {}
        assert result.goodput_rps == pytest.approx(result.requests.complete / result.requests.measured_s)
    if handler != "static":
        assert len(result.handlers) == 2
        assert all(count.requests > 0 and count.peak_in_process >= 1 for count in result.handlers)
        assert sum(window.requests for window in result.windows) > 0
        assert (
            result.counters.handlers.ctx_voluntary is not None and result.counters.handlers.ctx_voluntary > 0
        )
    assert result.counters.lighttpd.cpu_sys_s is not None
    assert {"lighttpd.conf", "load.txt", "error.log"} <= set(result.raw)
    host.assert_clean()


@pytest.mark.parametrize(
    ("tool", "keepalive"), [("ab", True), ("wrk", True), ("wrk", False), ("h2load", True)]
)
def test_each_load_generator_measures(host: Any, tool: str, keepalive: bool) -> None:
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed")
    result = host.trial(host.request(load={"tool": tool, "keepalive": keepalive}))
    assert isinstance(result, Result), result
    assert failed_gates(result) == {}
    assert "keepalive" in {gate.name for gate in result.gates}
    assert "body_length" in {gate.name for gate in result.gates}


@pytest.mark.slow
def test_the_leaking_handler_is_never_crowned(host: Any) -> None:
    result = host.trial(
        host.request("multiplexed-stock", 1, load={"concurrency": 20, "warmup_s": 2.0, "measure_s": 4.0})
    )
    if isinstance(result, Failure):  # it can leak so much that the load generator gives up
        assert result.kind == "load_failed", result
        return
    assert not result.valid
    failed = {gate.name for gate in result.gates if not gate.passed}
    assert failed & {"growth", "responses", "error_log", "handlers_alive"}
    assert result.goodput_rps <= result.requests.throughput_rps


def test_the_agent_goes_when_its_controller_goes(host: Any) -> None:
    agent = host.long_trial()
    began_s = time.monotonic()
    agent.hang_up()
    failure = agent.events(10)[-1]
    assert time.monotonic() - began_s < 5
    assert (failure.kind, agent.process.returncode) == ("interrupted", 1)
    assert "controller went away" in failure.reason
    assert failure.timings_s.measure > 0
    assert "lighttpd.conf" in failure.raw
    host.assert_clean()


def test_a_controller_that_goes_before_its_request_is_complete(host: Any) -> None:
    agent = host.agent("trial")
    agent.hang_up()
    assert agent.events(10)[-1].kind == "interrupted"


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_the_agent_cleans_up_when_told_to_stop(host: Any, signum: signal.Signals) -> None:
    agent = host.long_trial()
    agent.process.send_signal(signum)
    failure = agent.events(10)[-1]
    assert failure.kind == "interrupted"
    assert signum.name in failure.reason
    host.assert_clean()


def test_the_deadline_ends_a_trial(host: Any) -> None:
    failure = host.failure(host.request(load={"warmup_s": 0.0, "measure_s": 30.0}, deadline_s=3.0))
    assert failure.kind == "timeout"
    assert "3 s" in failure.reason
    host.assert_clean()


def test_a_frozen_agent_keeps_its_deadline_when_it_thaws(host: Any) -> None:
    agent = host.long_trial(deadline_s=6.0)
    agent.process.send_signal(signal.SIGSTOP)
    time.sleep(6.5)
    agent.process.send_signal(signal.SIGCONT)
    assert agent.events(10)[-1].kind == "timeout"
    host.assert_clean()


def test_everything_dies_with_an_agent_that_is_killed(host: Any) -> None:
    agent = host.long_trial()
    agent.process.kill()
    host.await_true(lambda: host.left() == [], timeout_s=5)


def test_orphans_of_a_killed_agent_are_found_removed_and_recorded(host: Any) -> None:
    agent = host.long_trial()
    server = host.lighttpd_pid()
    agent.process.send_signal(signal.SIGSTOP)
    os.kill(server, signal.SIGKILL)
    agent.process.kill()
    orphans = {pid for pid in host.stats() if procfs.is_running(pid)}
    assert orphans
    started, result = host.start(host.request()).events()
    assert {orphan.pid for orphan in started.orphans} >= orphans
    assert all("fcgi_handlers" in orphan.cmd or "ab" in orphan.cmd for orphan in started.orphans)
    assert isinstance(result, Result), result
    assert result.orphans == started.orphans
    host.assert_clean()


def test_clean_removes_orphans_and_work_directories(host: Any) -> None:
    agent = host.long_trial()
    server = host.lighttpd_pid()
    agent.process.send_signal(signal.SIGSTOP)
    os.kill(server, signal.SIGKILL)
    agent.process.kill()
    cleaned = host.agent("clean", "--prefix", str(host.prefix))
    (event,) = cleaned.events()
    assert event.killed and len(event.removed) == 1
    host.assert_clean()


def test_a_handler_killed_during_the_measurement_invalidates_it(host: Any) -> None:
    agent = host.start(host.request(load={"warmup_s": 0.0, "measure_s": 3.0}))
    host.await_load()
    os.kill(min(host.stats()), signal.SIGKILL)
    result = agent.events()[-1]
    assert isinstance(result, Result), result
    gate = next(gate for gate in result.gates if gate.name == "handlers_alive")
    assert not gate.passed
    assert "ended: " in gate.detail
    host.assert_clean()


def test_a_lighttpd_that_dies_at_its_start_is_quoted(host: Any) -> None:
    request = host.request()
    request["lighttpd_conf"] += "\nserver.no-such-thing = \n"
    failure = host.failure(request)
    assert failure.kind == "not_ready"
    assert "lighttpd ended at once" in failure.reason
    assert "conf" in failure.reason
    host.assert_clean()


def test_a_handler_that_dies_at_its_start_is_quoted(host: Any) -> None:
    request = host.request()
    request["lighttpd_conf"] = request["lighttpd_conf"].replace("threaded hello", "threaded nonsense")
    failure = host.failure({**request, "ready_timeout_s": 3.0})
    assert failure.kind == "not_ready"
    assert "nonsense" in failure.reason
    host.assert_clean()


def test_a_wrong_body_is_never_measured(host: Any) -> None:
    failure = host.failure(host.request(expected_sha256="0" * 64))
    assert failure.kind == "not_ready"
    assert "1024 bytes, but not those that were expected" in failure.reason
    host.assert_clean()


def test_servers_are_proven_in_turn_whatever_became_of_the_one_before(host: Any) -> None:
    wrong = host.request(expected_sha256="0" * 64)
    agent = host.agent("prove")
    agent.tell([wrong, host.request("threaded"), host.request("static")])
    failure, *proven = [event for event in agent.documents() if event["event"] != "started"]
    assert failure["kind"] == "not_ready"
    assert "but not those that were expected" in failure["reason"]
    said = [(each["event"], each["answers"], each["leftovers"]) for each in proven]
    assert said == [("proved", 20, [])] * 2
    host.assert_clean()


def test_a_port_in_use_is_named_with_its_owner(host: Any) -> None:
    with socket.create_server(("127.0.0.1", host.port)):
        failure = host.failure(host.request())
    assert failure.kind == "not_ready"
    assert f"port {host.port} on 127.0.0.1 is in use by process {os.getpid()}" in failure.reason
    host.assert_clean()


def test_a_second_agent_is_told_who_measures(host: Any) -> None:
    first = host.long_trial()
    failure = host.failure(host.request())
    assert failure.kind == "busy"
    assert "20261123-051233-test" in failure.reason
    assert str(first.process.pid) in failure.reason
    assert first.process.poll() is None
    first.hang_up()
    first.events(10)
    host.assert_clean()


@pytest.mark.parametrize(
    ("changes", "kind", "said"),
    [
        ({"load_path": "/nowhere/ab"}, "not_provisioned", "the load generator is not at /nowhere/ab"),
        ({"lighttpd": "/nowhere/lighttpd"}, "not_provisioned", "lighttpd is not at /nowhere/lighttpd"),
        ({"load_path": "/bin/false"}, "load_failed", "ab ended with status 1: no output"),
        ({"load": {"tool": "siege"}, "load_path": "/bin/true"}, "load_failed", "no load generator is called"),
        ({"work_dir": "/tmp/elsewhere"}, "internal", "is not in"),
    ],
)
def test_what_is_missing_is_named(host: Any, changes: dict[str, Any], kind: str, said: str) -> None:
    failure = host.failure(host.request(**changes))
    assert failure.kind == kind
    assert said in failure.reason
    host.assert_clean()


def test_a_request_that_is_not_understood_is_refused(host: Any) -> None:
    failure = host.failure({**host.request(), "procesess": 2})
    assert failure.kind == "internal"
    assert "unknown key 'procesess'" in failure.reason


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small file system")
def test_a_full_disk_is_said_plainly(host: Any) -> None:
    run_dir = host.prefix / "run"
    run_dir.mkdir(mode=0o700)
    with tempfile.TemporaryDirectory(prefix="fs-") as directory:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "none", directory], check=True)
        try:
            small = host.request()
            text = json.dumps(small).replace(str(host.prefix), directory)
            failure = host.failure(json.loads(text))
        finally:
            subprocess.run(["umount", directory], check=True)
    assert failure.kind == "not_ready"
    assert f"the disk that holds {directory} is full" in failure.reason


def test_a_server_that_has_only_an_ipv6_address_is_measured(host: Any) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError as error:
        pytest.skip(f"no IPv6 on this machine: {error}")
    result = host.trial(host.request(address="::1"))
    assert failed_gates(result) == {}
    assert result.requests.ok > 0


def test_a_jumping_wall_clock_is_seen_and_no_duration_follows_it(host: Any, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import itertools, time\n"
        "jumps = itertools.count(0, -3600)\n"
        "real = time.time\n"
        "time.time = lambda: real() + next(jumps)\n"
    )
    result = host.start(host.request(), {"PYTHONPATH": str(tmp_path)}).events()[-1]
    assert isinstance(result, Result), result
    assert 1.0 <= result.timings_s.measure < 5.0
    assert set(failed_gates(result)) == {"clock"}


def open_files(pid: int) -> Iterator[str]:
    """What a process has open; it may close any of it meanwhile."""
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            yield str(link.readlink())


def test_nothing_listens_beyond_the_chosen_address(host: Any) -> None:
    agent = host.long_trial()
    sockets = {target for each in marked.find(str(host.prefix)) for target in open_files(each.pid)}
    listening = {
        row.split()[1]
        for table in ("tcp", "tcp6")
        for row in Path(f"/proc/net/{table}").read_text().splitlines()[1:]
        if row.split()[3] == "0A" and f"socket:[{row.split()[9]}]" in sockets
    }
    assert listening == {f"0100007F:{host.port:04X}"}
    agent.hang_up()
    agent.events(10)


def test_server_and_load_stay_on_their_processors(host: Any) -> None:
    cpu = min(os.sched_getaffinity(0))
    agent = host.long_trial(server_cpus=[cpu], load_cpus=[cpu])
    placed = {each.pid: os.sched_getaffinity(each.pid) for each in marked.find(str(host.prefix))}
    agent.hang_up()
    agent.events(10)
    assert len(placed) == 4  # lighttpd, two handlers, ab
    assert set(map(frozenset, placed.values())) == {frozenset({cpu})}


@pytest.mark.parametrize(
    ("tool", "keepalive"), [("ab", False), ("ab", True), ("wrk", False), ("h2load", True)]
)
def test_each_load_generator_uploads(host: Any, tool: str, keepalive: bool) -> None:
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed")
    load = {"tool": tool, "keepalive": keepalive}
    result = host.trial(host.request(does="upload(100000)", load=load))
    assert isinstance(result, Result), result
    assert failed_gates(result) == {}
    assert result.requests.ok > 0


def test_the_ceiling_of_uploads_is_a_file_that_is_posted_to(host: Any) -> None:
    result = host.trial(host.request("static", does="upload(100000)"))
    assert isinstance(result, Result), result
    assert failed_gates(result) == {}
    assert result.requests.ok > 0


def test_the_processes_of_a_preforking_server_are_counted_one_by_one(host: Any) -> None:
    result = host.trial(host.request("prefork", 3, promise={"peak_in_process": 1, "shares_socket": True}))
    assert isinstance(result, Result), result
    assert failed_gates(result) == {}
    assert len(result.handlers) == 3
    assert all(count.requests > 0 and count.peak_in_process == 1 for count in result.handlers)
    assert result.counters.handlers.processes == 4  # their parent, which watches them, included


@pytest.mark.parametrize(("handler", "processes"), [("threaded", 1), ("prefork", 2), ("serial", 2)])
def test_a_start_is_measured_from_lighttpd_s_first_moment(host: Any, handler: str, processes: int) -> None:
    request = host.request(
        handler,
        processes,
        does="startup(300)",
        load={"warmup_s": 0.0, "measure_s": 8.0},
        startup_cost_s=0.3,
        ready_timeout_s=20.0,
    )
    result = host.trial(request)
    assert isinstance(result, Result), result
    assert failed_gates(result) == {}
    start = result.startup
    assert start is not None
    assert 0.3 < start.first_answer_s < start.horizon_s == 8.0
    assert start.full_rate_s is None or start.full_rate_s <= 6.0
    before_s = start.first_answer_s - 0.1
    assert sum(window.requests for window in start.windows if window.t_s < before_s) == 0
    assert [window.t_s for window in start.windows] == sorted(window.t_s for window in start.windows)
    served = sum(window.requests for window in start.windows)
    assert 0 < served <= sum(count.requests for count in result.handlers)
    assert len(result.handlers) == processes


def test_a_start_without_an_answer_is_no_result(host: Any) -> None:
    request = host.request(
        "serial", 2, does="startup(5000)", load={"warmup_s": 0.0, "measure_s": 1.0}, startup_cost_s=5.0
    )
    failure = host.failure(request)
    assert failure.kind == "not_ready"
    assert "nothing was answered in the first 1 s" in failure.reason
    assert "choose a longer measure_s" in failure.reason
    host.assert_clean()


def test_the_client_on_the_wire_uploads(host: Any) -> None:
    request = host.request(
        "multiplexed",
        1,
        does="upload(100000)",
        load={"tool": "fcgi", "concurrency": 4, "keepalive": True, "warmup_s": 0.2},
        load_path=str(host.archive),
        lighttpd="",
        lighttpd_conf="",
        promise={"peak_in_process": None, "multiplexes": True},
    )
    request["wire"] = {
        "command": [host.python, "-m", "fcgi_handlers", "multiplexed", "upload(100000)"],
        "environment": {
            "PYTHONPATH": str(host.handlers_home),
            "FCGI_SWEEP_STATS": f"{request['work_dir']}/stats",
        },
        "backlog": 1024,
        "connections": 2,
        "in_flight": 2,
        "keep_conn": True,
    }
    result = host.trial(request)
    assert isinstance(result, Result), result
    assert failed_gates(result) == {}
    assert result.wire["faults"] == {}
    assert result.requests.ok > 0
