"""Hosts that fail while they are measured: real hosts, real ssh, the real agent, one fault a test.

In every case the other host goes on, no attempt outlasts its deadline, each is recorded with its kind, a
resume measures exactly what is missing, and nothing of ours is left on the host.
"""

from __future__ import annotations

import contextlib
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
from weather import failed_gates

from lab import Lab

ROOT = Path(__file__).parents[2]
OURS = ("lighttpd", "fcgi_handlers", "agent.pyz", "/ab ")
HANDLER = "-m fcgi_handlers threaded"  # a trial of the static ceiling has none
LOCK = "/home/bench/.fcgi-sweep/run/lock"
CLOCK = "/run/wall-clock"
# What these gates say depends on what else the machine does while the tests run.
DEADLINE_S = 25  # of a trial, beyond its measurement
SLACK_S = 5 + 10  # the controller's, and that of a machine that does much else
EXPERIMENT = """\
name: faults
question: What becomes of a run when its hosts fail?
hosts: {hosts}
factors: {{handler: [threaded], processes: 1}}
load: {{tool: ab, concurrency: 4, warmup_s: 0, measure_s: {measure_s}}}
design: {{blocks: {blocks}, seed: 3, sentinel: false, attempts: 10}}
"""

pytestmark = [pytest.mark.integration, pytest.mark.lab, pytest.mark.slow, pytest.mark.timeout(600)]


@dataclass
class Bench:
    """A run on the lab's hosts, driven as a user does it: by the command line."""

    lab: Lab
    inventory: Path
    directory: Path
    measure_s: float = 2
    valid_before_resume: int | None = None
    said: str = ""

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

    def start(
        self, blocks: int = 2, hosts: str = "lab", patience_s: float = 60, measure_s: float = 2
    ) -> subprocess.Popen[str]:
        path = self.directory / "faults.yml"
        self.measure_s = measure_s
        path.write_text(EXPERIMENT.format(hosts=hosts, blocks=blocks, measure_s=measure_s))
        return subprocess.Popen(
            self.command("run", str(path), "--patience", str(patience_s)),
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def resume(self) -> subprocess.CompletedProcess[str]:
        if self.valid_before_resume is None:
            self.valid_before_resume = len(self.valid())
        missing, made = set(self.scheduled()) - set(self.valid()), len(self.records())
        done = subprocess.run(
            self.command("resume"), cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
        )
        measured = {record["trial"] for record in self.records()[made:]}
        assert measured == missing if done.returncode == 0 else measured <= missing, done.stderr
        return done

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

    def ours(self, host: Any) -> list[Any]:
        return [each for each in host.processes() if any(name in each.command for name in OURS)]

    def kill(self, host: Any, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal, as fast as can be, to those of our processes that have `name` in their command."""
        for each in self.ours(host):
            if name in each.command and "sshd" not in each.command:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(each.pid, number)

    def wait_for(self, what: Callable[[], Any], limit_s: float = 90) -> None:
        deadline = time.monotonic() + limit_s
        while not what():
            assert time.monotonic() < deadline, "it did not happen"
            time.sleep(0.05)

    def wait_for_load_on_victim(self, *beside: str) -> None:
        """Wait for ab, at a moment when other things run as well."""

        def runs() -> bool:
            commands = [each.command for each in self.ours(self.victim)]
            return all(any(name in command for command in commands) for name in ("/ab ", *beside))

        self.wait_for(runs)

    def scheduled(self) -> list[str]:
        return [
            trial["trial"]
            for schedule in self.results.glob("*/schedule.json")
            for trial in json.loads(schedule.read_text())["trials"]
        ]

    def check_complete(self) -> None:
        assert sorted(self.valid()) == sorted(self.scheduled())
        for record in self.records():
            assert record["wall_s"] < self.measure_s + DEADLINE_S + SLACK_S, record

    def check_the_other_went_on(self) -> None:
        """Every trial of the other host was measured, although its gates may have had a bad day."""
        measured = {r["trial"] for r in self.records() if r["host"] == self.other.name and r["result"]}
        assert measured == {trial for trial in self.scheduled() if trial.startswith(self.other.name)}

    def check_clean(self) -> None:
        for host in (self.victim, self.other):
            self.wait_for(lambda host=host: not self.ours(host), 60)
            assert host.exec(["ls", str(Path(LOCK).parent)]).stdout.split() == ["lock"]
            assert host.exec(["flock", "--nonblock", LOCK, "true"]).returncode == 0, "somebody holds the lock"


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
    failed = [record for record in bench.of_victim() if failure_text(record)]
    said = bench.said or "".join(failure_text(record) for record in failed[:1])
    by_resume = 0 if bench.valid_before_resume is None else len(bench.valid()) - bench.valid_before_resume
    return {
        "test": test,
        "said": said.replace(str(bench.lab.state.path), "…").replace(bench.victim.name, "web1"),
        "attempts": len(bench.of_victim()),
        "longest_attempt_s": max((record["wall_s"] for record in failed), default=None),
        "left": [each.command for each in bench.ours(bench.victim)],
        "measured_by_resume": by_resume,
        "missing": len(bench.scheduled()) - len(bench.valid()),
    }


def failure_text(record: dict[str, Any]) -> str:
    """Why an attempt does not count; empty where only the weather was bad."""
    if record["failure"]:
        return f"{record['failure']['kind']}: {record['failure']['reason']}"
    return "; ".join(f"{name}: {detail}" for name, detail in failed_gates(record["result"]).items())


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
    bench.check_the_other_went_on()
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
    assert took_s < 150
    bench.check_the_other_went_on()
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
    bench.check_the_other_went_on()
    finish_by_resuming(bench)


def test_a_link_that_is_down_for_good_stops_only_its_own_host(bench: Bench) -> None:
    process = bench.start(patience_s=5)
    bench.wait_for_load_on_victim()
    bench.victim.link_down()
    code, text = finish(process)
    assert code == 1
    assert "trials stay missing" in text
    bench.check_the_other_went_on()
    bench.wait_for(lambda: not bench.ours(bench.victim), 60)  # with its link still down: the lease ended
    bench.victim.link_up()
    finish_by_resuming(bench)


def test_a_host_that_was_reset_is_measured_again_when_it_is_back(bench: Bench) -> None:
    process = bench.start()
    bench.wait_for_load_on_victim()
    bench.victim.power_off()
    bench.wait_for(bench.kinds)
    bench.victim.power_on()
    _, text = finish(process)
    assert bench.kinds() <= {"host_lost", "unreachable"}
    assert f"{bench.victim.name}: is back" in text
    assert {trial for trial in bench.scheduled() if trial.startswith(bench.victim.name)} <= {
        record["trial"] for record in bench.of_victim() if record["result"]
    }
    bench.check_the_other_went_on()
    finish_by_resuming(bench)


def test_a_handler_killed_in_the_middle_of_a_trial_makes_it_invalid(bench: Bench) -> None:
    process = bench.start(blocks=1, measure_s=5)
    bench.wait_for_load_on_victim(HANDLER)
    bench.kill(bench.victim, HANDLER)
    finish(process)
    (bad, *_) = [record for record in bench.of_victim() if failure_text(record)]
    gates = {gate["name"] for gate in (bad["result"] or {}).get("gates", ()) if not gate["passed"]}
    assert gates & {"handlers_alive", "responses", "error_log"} or bench.kinds() <= {
        "load_failed",
        "not_ready",
    }
    bench.check_the_other_went_on()
    finish_by_resuming(bench)


def test_an_agent_killed_with_its_lighttpd_leaves_orphans_that_the_next_trial_removes(bench: Bench) -> None:
    process = bench.start(blocks=1, measure_s=5)
    bench.wait_for_load_on_victim(HANDLER)
    bench.kill(bench.victim, "agent.pyz", signal.SIGSTOP)  # else it would end the handlers in time
    bench.kill(bench.victim, "sbin/lighttpd")
    bench.kill(bench.victim, "agent.pyz")
    _, text = finish(process)
    failed = [record for record in bench.of_victim() if record["failure"]]
    assert failed[0]["failure"]["kind"] == "internal"
    assert "the agent was killed and gave no result" in failed[0]["failure"]["reason"]
    orphans = [orphan for r in bench.of_victim() if r["result"] for orphan in r["result"]["orphans"]]
    assert any("fcgi_handlers" in orphan["cmd"] for orphan in orphans), text
    assert "processes of a dead trial were ended first" in text
    bench.check_the_other_went_on()
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
    (bench.said,) = (line for line in text.splitlines() if ": left out: unreachable: the host key of" in line)
    assert bench.said.startswith(bench.victim.name)
    assert "has CHANGED" in text
    assert {record["host"] for record in bench.records()} == {bench.other.name}
    assert doctor.returncode == 1
    assert "has CHANGED" in doctor.stdout


def test_a_full_disk_on_the_host_is_named(bench: Bench) -> None:
    bench.victim.fill_disk()
    try:
        code, text = finish(bench.start(blocks=1))
    finally:
        bench.victim.free_disk()
    assert code == 1
    assert "full" in text
    bench.check_the_other_went_on()
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
    bench.check_the_other_went_on()
    finish_by_resuming(bench)


def test_a_missing_load_generator_is_named(bench: Bench) -> None:
    bench.victim.exec(["mv", "/usr/bin/ab", "/usr/bin/ab.away"])
    try:
        code, text = finish(bench.start(blocks=1))
    finally:
        bench.victim.exec(["mv", "/usr/bin/ab.away", "/usr/bin/ab"])
    assert code == 1, text
    assert "/usr/bin/ab" in text
    bench.check_the_other_went_on()
    finish_by_resuming(bench)


@pytest.fixture
def jumping_clock(bench: Bench) -> Iterator[Callable[[int], None]]:
    """A function that moves the victim's wall clock by seconds; the clock of the machine is left alone."""
    host, source = bench.victim, Path(__file__).parent / "data" / "wall_clock.c"
    assert host.exec(["hostname"]).stdout.strip() == host.name, "its files are those of the machine"

    def move(seconds: int) -> None:
        pack = f"import struct; open('{CLOCK}', 'r+b').write(struct.pack('l', {seconds}))"
        assert host.exec(["python3", "-c", pack]).returncode == 0

    prepared = host.exec(
        ["sh", "-c", f"printf %s \"$1\" > /run/wall_clock.c && head -c 8 /dev/zero > {CLOCK}"
         f" && chmod 644 {CLOCK} && cc -shared -fPIC -o /usr/lib/wall_clock.so /run/wall_clock.c"
         " && echo /usr/lib/wall_clock.so > /etc/ld.so.preload", "sh", source.read_text()]
    )  # fmt: skip
    assert prepared.returncode == 0, prepared.stderr
    yield move
    move(0)
    host.exec(["rm", "/etc/ld.so.preload"])


def test_a_wall_clock_that_jumps_never_makes_a_number(
    bench: Bench, jumping_clock: Callable[[int], None]
) -> None:
    process = bench.start(blocks=1, hosts=bench.victim.name, measure_s=4)
    for tries, seconds in enumerate((3600, -7200)):  # an hour ahead, then three hours back
        bench.wait_for_load_on_victim()
        jumping_clock(seconds)
        bench.wait_for(lambda tries=tries: len(jumped(bench)) > tries)
    finish(process)
    for record in jumped(bench):
        assert record["wall_s"] < 4 + DEADLINE_S + SLACK_S
        if record["result"]:
            assert "the wall clock jumped by" in failure_text(record)
            assert 0 <= record["result"]["timings_s"]["measure"] < 20  # by the clock that nobody sets
        else:  # ab had three hours to go
            assert record["failure"]["kind"] == "load_failed"
    finish_by_resuming(bench)


def jumped(bench: Bench) -> list[dict[str, Any]]:
    return [record for record in bench.of_victim() if failure_text(record)]


def test_two_controllers_cannot_measure_one_host_at_once(bench: Bench, tmp_path: Path) -> None:
    second = Bench(bench.lab, bench.inventory, tmp_path / "second")
    second.directory.mkdir()
    first_run = bench.start(blocks=4, hosts=bench.victim.name)
    bench.wait_for_load_on_victim()
    second_run = second.start(blocks=2, hosts=bench.victim.name, patience_s=300)
    both: set[str] = set()
    while first_run.poll() is None or second_run.poll() is None:
        servers = {each.pid for each in bench.ours(bench.victim) if "sbin/lighttpd" in each.command}
        assert len(servers) <= 1, "two trials at a time"
        both |= {b.directory.name for b in (bench, second) if b.records()}
        time.sleep(0.1)
    finish(second_run)
    finish(first_run)
    assert len(both) == 2
    assert second.kinds() <= {"busy"}
    assert bench.kinds() <= {"busy"}
    for record in (r for b in (bench, second) for r in b.of_victim() if r["failure"]):
        reason = record["failure"]["reason"]
        assert "is measured here by process" in reason or "has just begun here" in reason
    finish_by_resuming(bench)
    finish_by_resuming(second)
