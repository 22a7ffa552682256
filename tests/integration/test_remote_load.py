"""A load that comes from another host: two lab hosts, real ssh, real lighttpd and ab, one record of both."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from weather import failed_gates

from lab import Lab

ROOT = Path(__file__).parents[2]
OURS = ("lighttpd", "fcgi_handlers", "agent.pyz", "/ab ")
# What these gates say depends on what else the machine does while the tests run.
EXPERIMENT = """\
name: remote-load
question: What does the server do when the load is made elsewhere?
hosts: {host}
factors: {{handler: [threaded], processes: 2, placement: remote}}
load: {{tool: ab, concurrency: 5, warmup_s: 0.5, measure_s: {measure_s}}}
design: {{blocks: 1, seed: 3, sentinel: false, attempts: {attempts}}}
"""

pytestmark = [pytest.mark.integration, pytest.mark.lab, pytest.mark.slow, pytest.mark.timeout(600)]


@dataclass
class Pair:
    """A server and the host that makes its load, driven by the command line."""

    server: Any
    loader: Any
    inventories: Path
    directory: Path

    def start(self, measure_s: float, attempts: int = 1) -> subprocess.Popen[str]:
        path = self.directory / "remote-load.yml"
        path.write_text(EXPERIMENT.format(host=self.server.name, measure_s=measure_s, attempts=attempts))
        where = ["--inventory", str(self.inventories), "--results", str(self.directory / "results")]
        return subprocess.Popen(
            [sys.executable, "-m", "controller", "run", str(path), "--patience", "5", *where],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def records(self) -> list[dict[str, Any]]:
        found = list((self.directory / "results").glob("*/journal.jsonl"))
        lines = found[0].read_bytes().split(b"\n")[:-1] if found else []
        return [record for record in map(json.loads, lines) if record["kind"] == "attempt"]

    def check_clean(self, limit_s: float = 60) -> None:
        for host in (self.server, self.loader):
            wait_for(lambda host=host: not ours(host), limit_s)
            left = host.exec(["sh", "-c", "ls /home/bench/.fcgi-sweep/run"]).stdout.split()
            assert set(left) <= {"lock"}


def ours(host: Any) -> list[str]:
    return [
        line for line in host.exec(["ps", "-eo", "args"]).stdout.splitlines() if any(o in line for o in OURS)
    ]


def wait_for(what: Callable[[], Any], limit_s: float = 90) -> None:
    deadline = time.monotonic() + limit_s
    while not what():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.1)


@pytest.fixture
def pair(provisioned_lab: Lab, lab_inventory: Path, tmp_path: Path) -> Iterator[Pair]:
    server, loader = (
        provisioned_lab.host(next(name for name in provisioned_lab.hosts if name.endswith(size)))
        for size in ("2core", "1core")
    )
    inventories = tmp_path / "inventory"
    inventories.mkdir()
    (inventories / "10-lab.yml").write_text(lab_inventory.read_text())
    (inventories / "20-load.yml").write_text(
        json.dumps({"lab": {"hosts": {server.name: {"load_from": loader.name}}}})
    )
    yield Pair(server, loader, inventories, tmp_path)
    provisioned_lab.up()


def finish(process: subprocess.Popen[str]) -> str:
    out, errors = process.communicate(timeout=300)
    assert "Traceback" not in errors, errors
    return out + errors


def test_a_remote_trial_holds_the_counters_of_both_sides(pair: Pair) -> None:
    process = pair.start(measure_s=3)
    wait_for(lambda: any("/ab " in line for line in ours(pair.loader)))
    on_server, on_loader = ours(pair.server), ours(pair.loader)
    sockets = pair.server.exec(["cat", "/proc/net/tcp"]).stdout.splitlines()
    text = finish(process)

    assert any("lighttpd" in line for line in on_server)
    assert not any("/ab " in line for line in on_server)
    assert not any("lighttpd -D" in line or "-m fcgi_handlers" in line for line in on_loader)
    listening = {line.split()[1] for line in sockets[1:] if line.split()[3] == "0A"}
    assert [each for each in listening if each.endswith(":1F90")] != []  # 8080
    assert "00000000:1F90" not in listening

    measured = [record for record in pair.records() if record["role"] == "cell"]
    (record,) = measured
    assert record["failure"] is None, text
    result, host = record["result"], record["result"]["load_host"]
    assert failed_gates(result) == {}
    names = {gate["name"] for gate in result["gates"]}
    assert {"load_cpu", "steal", "littles_law", "server_count", "listen_drops", "handlers_alive"} <= names
    assert record["cell"]["cores"] == 2
    assert host["host"] == pair.loader.name
    assert host["system"]["window_s"] >= result["requests"]["measured_s"]
    assert result["counters"]["system"]["window_s"] >= result["requests"]["measured_s"]
    assert result["counters"]["load"]["cpu_user_s"] + result["counters"]["load"]["cpu_sys_s"] > 0
    assert result["counters"]["handlers"]["cpu_user_s"] > 0
    # both hosts have the clock of this machine
    assert abs(host["clock"]["offset_s"]) <= host["clock"]["uncertainty_s"] + 0.005
    assert host["clock"]["uncertainty_s"] < 1
    assert sum(window["requests"] for window in result["windows"]) <= result["requests"]["complete"] * 1.01
    pair.check_clean()


def test_a_load_host_whose_link_goes_down_is_named_and_nothing_is_left(pair: Pair) -> None:
    process = pair.start(measure_s=8)
    wait_for(lambda: any("/ab " in line for line in ours(pair.loader)))
    time.sleep(1.5)  # the warm-up is over
    pair.loader.link_down()
    try:
        wait_for(pair.records, 120)
        wait_for(lambda: not ours(pair.server), 20)
        wait_for(lambda: not ours(pair.loader), 60)  # its link is still down: its own lease ends it
    finally:
        pair.loader.link_up()
    finish(process)
    first = pair.records()[0]
    assert first["failure"]["kind"] in {"host_lost", "unreachable"}
    assert first["failure"]["reason"].startswith(f"load host {pair.loader.name}: ")
    pair.check_clean()
