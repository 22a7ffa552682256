"""Gates fail for real: each test spoils a trial that would have passed, and sees the gate for it fail.

Those that no test can make a kernel or a hypervisor do, and the tools' own ugly outputs, are in
`tests/agent/test_gates_on_captured_outputs.py`.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from agent import marked
from agent.records import Gate, Result

pytestmark = pytest.mark.integration

LONG = {"warmup_s": 0.0, "measure_s": 4.0}


def gates_of(result: Any) -> dict[str, Gate]:
    assert isinstance(result, Result), result
    return {gate.name: gate for gate in result.gates}


def test_a_second_client_shows_in_the_count_of_requests(host: Any) -> None:
    agent = host.start(host.request(load=LONG))
    host.await_load()
    url = f"http://127.0.0.1:{host.port}/hello"
    subprocess.run([shutil.which("ab"), "-q", "-n", "500", "-c", "2", url], capture_output=True, check=True)
    gate = gates_of(agent.events()[-1])["server_count"]
    assert not gate.passed
    assert "the client received" in gate.detail


def test_more_requests_at_a_time_than_promised_are_seen_in_the_process(host: Any) -> None:
    result = host.trial(host.request("threaded", 1, promise={"peak_in_process": 1}))
    gate = gates_of(result)["peak_concurrency"]
    assert not gate.passed
    assert gate.value is not None and gate.value > 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may claim a whole core of a busy machine")
def test_a_load_generator_that_uses_up_its_core_is_seen(host: Any, tmp_path: Path) -> None:
    busy = tmp_path / "ab"
    busy.write_text(
        f"#!{sys.executable}\nimport os, pathlib, subprocess, sys\n"
        f"ab = subprocess.Popen([{shutil.which('ab')!r}, *sys.argv[1:]])\nos.nice(-20)\n"
        "session = pathlib.Path('/proc/self/autogroup')\n"
        "if session.exists():\n    session.write_text('-20')\n"
        "while ab.poll() is None:\n    sum(range(1000))\nsys.exit(ab.returncode)\n"
    )
    busy.chmod(0o755)
    gate = gates_of(host.trial(host.request("threaded", 1, load_path=str(busy))))["load_cpu"]
    assert not gate.passed
    assert "of a core" in gate.detail


def test_a_full_listen_queue_is_seen(host: Any) -> None:
    request = host.request(load={**LONG, "concurrency": 32})
    before = request["lighttpd_conf"]
    request["lighttpd_conf"] = "\n".join(
        "server.listen-backlog = 1" if line.startswith("server.listen-backlog") else line
        for line in before.splitlines()
    )
    assert request["lighttpd_conf"] != before
    agent = host.start(request)
    host.await_load()
    server = host.lighttpd_pid()
    os.kill(server, signal.SIGSTOP)
    time.sleep(1.5)  # the connections that were under way end, and new ones find no room
    os.kill(server, signal.SIGCONT)
    gate = gates_of(agent.events()[-1])["listen_drops"]
    assert not gate.passed
    assert "overflows of a listen queue" in gate.detail


def test_what_a_handler_complains_of_is_quoted(host: Any) -> None:
    agent = host.start(host.request(load=LONG))
    host.await_load()
    os.kill(min(host.stats()), signal.SIGKILL)
    gates = gates_of(agent.events()[-1])
    assert not gates["error_log"].passed
    assert "lines in the log, the first: " in gates["error_log"].detail


def test_a_process_that_outlives_its_trial_is_seen_and_killed(host: Any) -> None:
    agent = host.start(host.request(load=LONG))
    host.await_load()
    marks = {marked.PREFIX_MARK: str(host.prefix), marked.TRIAL_MARK: "test"}
    with subprocess.Popen(["sleep", "600"], env={**os.environ, **marks}) as straggler:
        gate = gates_of(agent.events()[-1])["leftovers"]
        assert not gate.passed
        assert f"{straggler.pid} sleep 600" in gate.detail
        assert straggler.wait(5) == -signal.SIGKILL
    host.assert_clean()


@pytest.mark.slow
def test_a_leak_is_seen_before_it_fails_a_request(host: Any) -> None:
    result = host.trial(host.request("multiplexed-stock", 1, load={"concurrency": 4, "measure_s": 2.0}))
    gate = gates_of(result)["growth"]
    assert not gate.passed
    assert "descriptors after 4 connections have ended" in gate.detail


@pytest.mark.slow
def test_a_server_that_slows_down_half_way_is_not_steady(host: Any) -> None:
    cpu = min(os.sched_getaffinity(0))
    agent = host.start(
        host.request("threaded", 1, server_cpus=[cpu], load={"warmup_s": 0.0, "measure_s": 6.0})
    )
    host.await_load()
    time.sleep(3.0)
    burn = f"import os\nos.sched_setaffinity(0, {{{cpu}}})\nwhile True: pass"
    # each in a session of its own: the kernel shares processors among sessions first
    rivals = [subprocess.Popen([sys.executable, "-c", burn], start_new_session=True) for _ in range(12)]
    try:
        gate = gates_of(agent.events()[-1])["steady"]
    finally:
        for rival in rivals:
            rival.kill()
            rival.wait()
    assert not gate.passed
    assert gate.value is not None and gate.value < -0.1
