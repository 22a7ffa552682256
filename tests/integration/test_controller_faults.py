"""Hosts that fail while they are measured: real hosts, real ssh, the real agent, one fault a test.

In every case the other host goes on, the attempt is recorded with its kind, a resume measures exactly what is
missing, and nothing of ours is left on the host.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lab import Lab

ROOT = Path(__file__).parents[2]
OURS = ("lighttpd", "fcgi_handlers", "agent.pyz", "/ab ")
EXPERIMENT = """\
name: faults
question: What becomes of a run when its hosts fail?
hosts: {hosts}
factors: {{handler: [threaded], processes: 1}}
load: {{tool: ab, concurrency: 4, warmup_s: 0, measure_s: 2}}
design: {{blocks: {blocks}, seed: 3, sentinel: false, attempts: 10}}
"""

pytestmark = [pytest.mark.integration, pytest.mark.lab, pytest.mark.slow, pytest.mark.timeout(600)]


@dataclass
class Bench:
    """A run on the lab's hosts, driven as a user does it: by the command line."""

    lab: Lab
    inventory: Path
    directory: Path
    valid_before_resume: int | None = None

    @property
    def victim(self) -> Any:
        return self.lab.host(next(name for name in self.lab.hosts if name.endswith("1core")))

    @property
    def other(self) -> Any:
        return self.lab.host(next(name for name in self.lab.hosts if name.endswith("2core")))

    @property
    def results(self) -> Path:
        return self.directory / "results"

    def command(self, *words: str) -> list[str]:
        where = ["--inventory", str(self.inventory), "--results", str(self.results)]
        return [sys.executable, "-m", "controller", *words, *where]

    def start(self, blocks: int = 2, hosts: str = "lab", patience_s: float = 60) -> subprocess.Popen[str]:
        path = self.directory / "faults.yml"
        path.write_text(EXPERIMENT.format(hosts=hosts, blocks=blocks))
        return subprocess.Popen(
            self.command("run", str(path), "--patience", str(patience_s)),
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def resume(self) -> subprocess.CompletedProcess[str]:
        if self.valid_before_resume is None:
            self.valid_before_resume = len(self.valid())
        return subprocess.run(
            self.command("resume"), cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
        )

    def records(self) -> list[dict[str, Any]]:
        found = list(self.results.glob("*/journal.jsonl"))
        lines = found[0].read_bytes().split(b"\n")[:-1] if found else []
        return [record for record in map(json.loads, lines) if record["kind"] == "attempt"]

    def valid(self) -> list[str]:
        return [record["trial"] for record in self.records() if record["status"] == "valid"]

    def of_victim(self) -> list[dict[str, Any]]:
        return [record for record in self.records() if record["host"] == self.victim.name]

    def kinds(self) -> set[str]:
        return {record["failure"]["kind"] for record in self.of_victim() if record["failure"]}

    def ours(self, host: Any) -> list[str]:
        return [p for p in host.exec(["ps", "-eo", "args"]).stdout.splitlines() if any(o in p for o in OURS)]

    def wait_for(self, what: Callable[[], Any], limit_s: float = 90) -> None:
        deadline = time.monotonic() + limit_s
        while not what():
            assert time.monotonic() < deadline, "it did not happen"
            time.sleep(0.1)

    def wait_for_load_on_victim(self) -> None:
        self.wait_for(lambda: any("/ab " in line for line in self.ours(self.victim)))

    def scheduled(self) -> list[str]:
        return [
            trial["trial"]
            for schedule in self.results.glob("*/schedule.json")
            for trial in json.loads(schedule.read_text())["trials"]
        ]

    def check_complete(self) -> None:
        assert sorted(self.valid()) == sorted(self.scheduled())

    def check_clean(self) -> None:
        for host in (self.victim, self.other):
            self.wait_for(lambda host=host: not self.ours(host), 60)
            left = host.exec(["sh", "-c", "ls /home/bench/.fcgi-sweep/run"]).stdout.split()
            assert set(left) <= {"lock"}


@pytest.fixture
def bench(
    provisioned_lab: Lab, lab_inventory: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Bench]:
    bench = Bench(provisioned_lab, lab_inventory, tmp_path)
    yield bench
    provisioned_lab.up()
    if "FCGI_SWEEP_FAULT_MATRIX" in os.environ:
        with Path(os.environ["FCGI_SWEEP_FAULT_MATRIX"]).open("a") as rows:
            rows.write(json.dumps(matrix_row(request.node.name, bench)) + "\n")


def matrix_row(test: str, bench: Bench) -> dict[str, Any]:
    """What one fault led to, for the table of docs/reliability.md."""
    failed = [record for record in bench.of_victim() if record["status"] != "valid"]
    said = [failure_text(record).replace(bench.victim.name, "web1") for record in failed[:1]]
    by_resume = 0 if bench.valid_before_resume is None else len(bench.valid()) - bench.valid_before_resume
    return {
        "test": test,
        "said": "".join(said),
        "longest_attempt_s": max((record["wall_s"] for record in failed), default=None),
        "left": bench.ours(bench.victim),
        "measured_by_resume": by_resume,
        "missing": len(bench.scheduled()) - len(bench.valid()),
    }


def failure_text(record: dict[str, Any]) -> str:
    if record["failure"]:
        return f"{record['failure']['kind']}: {record['failure']['reason']}"
    gates = (gate for gate in record["result"]["gates"] if not gate["passed"])
    return "; ".join(f"{gate['name']}: {gate['detail']}" for gate in gates)


def finish(process: subprocess.Popen[str], limit_s: float = 400) -> tuple[int, str]:
    out, errors = process.communicate(timeout=limit_s)
    assert "Traceback" not in errors, errors
    return process.returncode, out + errors


def finish_by_resuming(bench: Bench) -> None:
    for _ in range(3):
        done = bench.resume()
        assert done.returncode in (0, 1), done.stderr
        if done.returncode == 0:
            break
    bench.check_complete()
    bench.check_clean()


def test_a_run_over_ssh_measures_every_host_and_leaves_nothing(bench: Bench) -> None:
    code, text = finish(bench.start())
    if code != 0:  # a busy machine fails the gates of some trials
        finish_by_resuming(bench)
    bench.check_complete()
    bench.check_clean()
    assert not bench.kinds(), text


def test_sshd_killed_in_the_middle_of_a_trial(bench: Bench) -> None:
    process = bench.start()
    bench.wait_for_load_on_victim()
    bench.victim.kill_sshd()
    bench.wait_for(bench.kinds)
    assert bench.kinds() == {"host_lost"}
    bench.wait_for(lambda: not bench.ours(bench.victim), 60)
    bench.victim.restart_sshd()
    _, text = finish(process)
    assert "the others go on" in text
    finish_by_resuming(bench)


def test_a_frozen_host_costs_no_more_than_the_trials_deadline(bench: Bench) -> None:
    process = bench.start(blocks=1, patience_s=5)
    bench.wait_for_load_on_victim()
    frozen_at = time.monotonic()
    bench.victim.freeze()
    try:
        code, text = finish(process, 200)
        took_s = time.monotonic() - frozen_at
    finally:
        bench.victim.thaw()
    assert code == 1
    assert bench.kinds() == {"host_lost"}
    assert "given up for now" in text
    lost = [record for record in bench.of_victim() if record["failure"]]
    assert all(record["wall_s"] < 2 + 25 + 5 + 10 for record in lost)
    assert took_s < 150
    assert any(record["host"] == bench.other.name for record in bench.records())
    finish_by_resuming(bench)


def test_a_link_that_is_down_for_20_s(bench: Bench) -> None:
    process = bench.start()
    bench.wait_for_load_on_victim()
    bench.victim.link_down()
    time.sleep(20)
    bench.victim.link_up()
    finish(process)
    assert bench.kinds() <= {"host_lost", "unreachable", "busy"}
    assert bench.kinds()
    finish_by_resuming(bench)


def test_a_link_that_is_down_for_good_stops_only_its_own_host(bench: Bench) -> None:
    process = bench.start(patience_s=5)
    bench.wait_for_load_on_victim()
    bench.victim.link_down()
    code, text = finish(process)
    assert code == 1
    assert "trials stay missing" in text
    assert len({r["trial"] for r in bench.records() if r["host"] == bench.other.name}) == 4
    bench.victim.link_up()
    finish_by_resuming(bench)


def test_a_handler_killed_in_the_middle_of_a_trial_makes_it_invalid(bench: Bench) -> None:
    process = bench.start(hosts=bench.victim.name)
    bench.wait_for(lambda: any("-m fcgi_handlers" in line for line in bench.ours(bench.victim)))
    bench.wait_for_load_on_victim()
    bench.victim.exec(["sh", "-c", "kill -9 $(pgrep -f 'm fcgi_handlers threaded')"])
    finish(process)
    bad = [record for record in bench.of_victim() if record["status"] != "valid"]
    assert bad
    gates = {gate["name"] for r in bad if r["result"] for gate in r["result"]["gates"] if not gate["passed"]}
    assert gates & {"handlers_alive", "responses", "error_log"} or bench.kinds() <= {
        "load_failed",
        "not_ready",
    }
    finish_by_resuming(bench)


def test_the_controller_killed_leaves_nothing_on_the_host(bench: Bench) -> None:
    process = bench.start()
    bench.wait_for_load_on_victim()
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    bench.check_clean()
    finish_by_resuming(bench)


def test_a_changed_host_key_is_refused_and_the_other_host_is_measured(bench: Bench) -> None:
    bench.victim.change_host_key()
    try:
        code, text = finish(bench.start(blocks=1))
        doctor = subprocess.run(
            [sys.executable, "-m", "controller", "doctor", "--accept-host-keys", "-i", str(bench.inventory)],
            cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip
    finally:
        bench.victim.restore_host_key()
    assert code == 1
    assert f"{bench.victim.name}: left out: unreachable: the host key of" in text
    assert "has CHANGED" in text
    assert {record["host"] for record in bench.records()} == {bench.other.name}
    assert doctor.returncode == 1
    assert "has CHANGED" in doctor.stdout


def test_a_full_disk_on_the_host_is_named(bench: Bench) -> None:
    bench.victim.fill_disk()
    try:
        code, text = finish(bench.start(blocks=1, hosts=bench.victim.name))
    finally:
        bench.victim.free_disk()
    assert code == 1
    assert "full" in text
    finish_by_resuming(bench)


def test_a_lighttpd_that_dies_at_its_start_is_quoted(bench: Bench) -> None:
    library = bench.victim.exec(
        ["sh", "-c", "readlink -f /home/bench/.fcgi-sweep/pcre2-*/lib/libpcre2-8.so.0"]
    ).stdout.strip()
    # not only taken away: the loader would fall back on the system's own
    bench.victim.exec(["sh", "-c", f"cp -p {library} {library}.away && : > {library}"])
    try:
        code, text = finish(bench.start(blocks=1))
    finally:
        bench.victim.exec(["mv", f"{library}.away", library])
    assert code == 1, text
    assert bench.kinds() == {"not_ready"}
    assert "libpcre2-8.so.0" in failure_text(bench.of_victim()[0])
    assert any(record["host"] == bench.other.name for record in bench.records())
    finish_by_resuming(bench)


def test_a_missing_load_generator_is_named(bench: Bench) -> None:
    bench.victim.exec(["mv", "/usr/bin/ab", "/usr/bin/ab.away"])
    try:
        code, text = finish(bench.start(blocks=1))
    finally:
        bench.victim.exec(["mv", "/usr/bin/ab.away", "/usr/bin/ab"])
    assert code == 1, text
    assert "/usr/bin/ab" in text
    assert any(record["host"] == bench.other.name for record in bench.records())
    finish_by_resuming(bench)


def test_two_controllers_cannot_measure_one_host_at_once(bench: Bench, tmp_path: Path) -> None:
    second = Bench(bench.lab, bench.inventory, tmp_path / "second")
    second.directory.mkdir()
    first_run = bench.start(blocks=4, hosts=bench.victim.name)
    bench.wait_for_load_on_victim()
    second_run = second.start(blocks=1, hosts=bench.victim.name, patience_s=300)
    finish(second_run)
    finish(first_run)
    assert second.kinds() <= {"busy"}
    assert bench.kinds() <= {"busy"}
    if second.kinds() | bench.kinds():
        busy = [r for b in (bench, second) for r in b.of_victim() if r["failure"]]
        assert "run" in busy[0]["failure"]["reason"]
    finish_by_resuming(bench)
    finish_by_resuming(second)
