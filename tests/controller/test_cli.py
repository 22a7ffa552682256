"""The command line as a user has it: a process, its two streams, its exit code."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def sweep(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "controller", *arguments],
        capture_output=True, text=True, timeout=100, check=False, cwd=cwd or ROOT,
    )  # fmt: skip


def where(fleet: Any) -> list[str]:
    return ["--inventory", str(fleet.inventory), "--results", str(fleet.results)]


def test_plan_prints_the_schedule_and_touches_no_host(fleet: Any, one_host: Any) -> None:
    (one_host.prefix / "agent.pyz").unlink()
    done = sweep("plan", str(fleet.experiment()), "--inventory", str(fleet.inventory), "--cores", "4")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 18
    assert done.stdout.startswith("web1.b01.001  sentinel   threaded x4, c=4, 4 cores")
    assert "web1: its cores are not known yet; planned with 4 (--cores)" in done.stderr
    assert "18 trials in 2 blocks, about 32 s" in done.stderr


def test_plan_points_to_processes_that_would_idle(fleet: Any, one_host: Any) -> None:
    (one_host.prefix / "agent.pyz").unlink()
    experiment = str(fleet.experiment(processes="[1, 4, 5]"))
    done = sweep("plan", experiment, "--inventory", str(fleet.inventory), "--cores", "1", "--json")
    assert json.loads(done.stdout)["seed"] == 7
    assert "web1: 1 core (assumed), 6 cells, " in done.stderr
    assert "web1: 2 of these cells have more processes than requests in flight" in done.stderr


def test_run_status_and_resume_agree(fleet: Any, one_host: Any) -> None:
    one_host.behave(trials={"multiplexedx1": [{"fail": "not_ready"}]})
    experiment = str(fleet.experiment(blocks=1, design=", attempts: 1"))
    done = sweep("run", experiment, *where(fleet))
    assert done.returncode == 1, done.stderr
    assert (
        "8/9 valid, 1 missing (1 of them tried in vain); attempts that do not count: not_ready 1x"
        in done.stdout
    )
    assert "go on with: " in done.stderr
    run_id = next(fleet.results.iterdir()).name
    resume = next(line for line in done.stderr.splitlines() if line.startswith("go on with: ")).split(": ")[1]
    assert f"resume {run_id}" in resume
    status = sweep("status", *where(fleet))
    assert (status.returncode, status.stderr) == (1, "")
    assert f"run {run_id}: nobody drives it" in status.stdout
    assert "last: " in status.stdout
    one_host.behave(trials={})
    again = subprocess.run(["sh", "-c", resume], capture_output=True, text=True, cwd=ROOT, check=False)
    assert again.returncode == 0, again.stderr
    assert "9/9 valid, 0 missing" in again.stdout
    assert sweep("status", *where(fleet)).returncode == 0
    assert "command" in json.loads((fleet.results / run_id / "run.json").read_text())


def test_the_version_is_told() -> None:
    assert re.fullmatch(r"fcgi-sweep \d+\.\d+\.\d+\n", sweep("--version").stdout)


def test_bad_input_is_one_message_and_exit_code_2(fleet: Any, one_host: Any) -> None:
    experiment = fleet.experiment()
    experiment.write_text(experiment.read_text().replace("blocks", "bloks"))
    done = sweep("run", str(experiment), *where(fleet))
    assert done.returncode == 2
    assert done.stderr == f"{experiment}:5: unknown key 'bloks' in 'design'; did you mean 'blocks'?\n"
    assert not fleet.results.exists()
    experiment = fleet.experiment()
    experiment.write_text("hosts: web9\n" + experiment.read_text())
    done = sweep("run", str(experiment), *where(fleet))
    assert done.returncode == 2
    assert done.stderr.startswith(f"{experiment}:1: ")
    assert "the host pattern 'web9' selects no host; groups: targets; hosts: web1" in done.stderr
    assert sweep("run").returncode == 2
    assert sweep("resume", "nonsense", *where(fleet)).returncode == 2
    assert sweep("run", str(fleet.experiment()), "--inventory", "/nonexistent").returncode == 2


def test_files_of_this_machine_that_cannot_be_used_are_one_message(fleet: Any, one_host: Any) -> None:
    experiment = fleet.experiment(blocks=1, processes="1", design=", sentinel: false")
    assert sweep("run", str(experiment), *where(fleet)).returncode == 0
    (journal,) = fleet.results.glob("*/journal.jsonl")
    journal.unlink()
    journal.mkdir()
    done = sweep("status", *where(fleet))
    assert (done.returncode, done.stdout) == (1, "")
    assert (
        done.stderr
        == f"this machine: [Errno 21] Is a directory: '{journal}'; mend that and call the command again\n"
    )


def test_doctor_names_what_is_wrong_and_the_remedy(fleet: Any, one_host: Any) -> None:
    one_host.plan["facts"].update(lock={"run_id": "other"})
    one_host.behave()
    crashed = fleet.add("web2")
    crashed.plan["facts"].update(orphans=2)
    crashed.behave()
    bare = fleet.add("bare")
    (bare.prefix / "agent.pyz").unlink()
    done = sweep("doctor", "--inventory", str(fleet.inventory))
    assert done.returncode == 1
    lines = {tuple(line.split()[:3]): line for line in done.stdout.splitlines()}
    assert "run 'fcgi-sweep provision --limit bare'" in lines["BAD", "bare", "not_provisioned"]
    assert "2 processes of a dead trial" in lines["BAD", "web2", "orphans"]
    assert "of run other is measured there" in lines["BAD", "web1", "lock"]
    assert "of another version than this checkout" in lines["BAD", "web1", "handlers"]
    assert lines["BAD", "web1", "handlers"].endswith("run 'fcgi-sweep provision --limit web1'")
    assert "against this machine" in next(line for line in lines.values() if " clock " in line)


def test_ctrl_c_ends_with_130_and_the_resume_command(fleet: Any, one_host: Any) -> None:
    one_host.behave(delay_s=0.3)
    process = subprocess.Popen(
        [sys.executable, "-m", "controller", "run", str(fleet.experiment()), *where(fleet)],
        stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while len(one_host.trials_run()) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "what is measured is safe; go on with: " in errors
    assert "Traceback" not in errors
    assert sweep("resume", *where(fleet)).returncode == 0


def test_a_run_under_nohup_outlives_its_terminal(fleet: Any, one_host: Any) -> None:
    one_host.behave(delay_s=0.2)
    process = subprocess.Popen(
        ["nohup", sys.executable, "-m", "controller", "run", str(fleet.experiment(blocks=1)), *where(fleet)],
        stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not one_host.trials_run() and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGHUP)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert "9/9 valid, 0 missing" in output


def test_status_tells_a_run_under_way_from_a_dead_one_and_what_it_would_take(
    fleet: Any, one_host: Any
) -> None:
    one_host.behave(delay_s=0.5)
    fleet.add("web2").behave(trials={"multiplexedx1": [{"fail": "not_ready"}]})
    process = subprocess.Popen(
        [sys.executable, "-m", "controller", "run", str(fleet.experiment()), *where(fleet)],
        stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while len(one_host.trials_run()) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    under_way = sweep("status", *where(fleet))
    refused = sweep("resume", *where(fleet))
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    dead = sweep("status", *where(fleet))
    assert under_way.returncode == 1
    assert f"under way (pid {process.pid} on " in under_way.stdout
    assert "go on with" not in under_way.stdout
    assert re.search(r"^missing: \d+ of \d+ trials, about ", under_way.stdout, re.MULTILINE)
    assert refused.returncode == 2
    assert f"another controller drives this run (pid {process.pid} on " in refused.stderr
    assert ": nobody drives it" in dead.stdout
    assert "go on with: " in dead.stdout
    web1, web2 = (line for line in dead.stdout.splitlines() if line.startswith("web"))
    assert "/18 valid, " in web1
    assert "not_ready" in web2
    assert "last: web2." in dead.stdout
