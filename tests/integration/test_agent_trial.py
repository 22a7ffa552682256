"""Trials with a real lighttpd, real handlers and a real load generator, and what can go wrong with them."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jinja2
import pytest

from agent import handler_stats, marked, procfs
from agent.records import Failure, Result, Started, event_from_json
from fcgi_handlers import registry

pytestmark = pytest.mark.integration

PROJECT = Path(__file__).resolve().parents[2]
SYSTEM_PYTHON = "/usr/bin/python3"
# What these gates say depends on what else the machine does while the tests run.
WEATHER = {"steady", "steal", "completed"}
LEAKY = {"multiplexed-stock"}


@pytest.fixture(scope="session")
def provisioned_prefix() -> Path:
    """A prefix with lighttpd built from source; FCGI_SWEEP_TEST_PREFIX names one, else it is made once."""
    given = os.environ.get("FCGI_SWEEP_TEST_PREFIX")
    if given:
        return Path(given)
    prefix = PROJECT / ".cache" / "test-prefix"
    playbook = Path(sys.executable).with_name("ansible-playbook")
    command = [playbook, "provision.yml", "-i", "inventory", "--limit", "this-machine"]
    done = subprocess.run(
        [*command, "-e", f"fcgi_sweep_prefix={prefix}"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    return prefix


@pytest.fixture(scope="session")
def agent_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The agent as it is deployed."""
    archive = tmp_path_factory.mktemp("agent") / "agent.pyz"
    packer = PROJECT / "roles/bundles/files/bundle.py"
    subprocess.run(
        [sys.executable, packer, "--runnable", PROJECT / "agent", archive], check=True, capture_output=True
    )
    return archive


class Agent:
    """An agent that measures, seen as the controller sees it."""

    def __init__(self, archive: Path, command: list[str], environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            [SYSTEM_PYTHON, str(archive), *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )

    def tell(self, request: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()

    def hang_up(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()

    def events(self, timeout_s: float = 60.0) -> list[Any]:
        """All that the agent says until it ends; stdin stays open."""
        assert self.process.stdout is not None
        self.process.wait(timeout_s)
        lines = self.process.stdout.read().splitlines()
        return [event_from_json(json.loads(line)) for line in lines]


class Host:
    """A prefix of its own with the provisioned programs, and a free port."""

    def __init__(self, prefix: Path, archive: Path, provisioned: Path) -> None:
        self.prefix = prefix
        self.archive = archive
        self.manifest = json.loads((provisioned / "manifest.json").read_text())
        shutil.copy(provisioned / "manifest.json", prefix)
        self.lighttpd = next(each["path"] for each in self.manifest["lighttpd"] if each["default"])
        self.python = next(each["path"] for each in self.manifest["python"] if each["default"])
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port: int = probe.getsockname()[1]
        self.agents: list[Agent] = []

    def request(self, handler: str = "threaded", processes: int = 2, **changes: Any) -> dict[str, Any]:
        workload = registry.load_workload("hello")
        work_dir = f"{self.prefix}/run/{secrets.token_hex(4)}"
        load = {
            "tool": "ab",
            "path": shutil.which("ab"),
            "concurrency": 8,
            "warmup_s": 1.0,
            "measure_s": 1.0,
            "keepalive": False,
        }
        load.update(changes.pop("load", {}))
        load["path"] = changes.pop("load_path", shutil.which(load["tool"]))
        conf = {
            "work_dir": work_dir,
            "address": "127.0.0.1",
            "port": self.port,
            "modules_dir": "",
            "handler": handler,
            "processes": processes,
            "command": f"{self.python} -m fcgi_handlers {handler} hello",
            "environment": {
                "PYTHONPATH": str(PROJECT),
                "FCGI_SWEEP_STATS": f"{work_dir}/stats",
                "FCGI_SWEEP_PREFIX": str(self.prefix),
                "FCGI_SWEEP_TRIAL": "test",
            },
            "url_path": workload.url_path,
            "keepalive": load["keepalive"],
            "concurrency": load["concurrency"],
        }
        template = (PROJECT / "controller/templates/lighttpd.conf.j2").read_text()
        environment = jinja2.Environment(undefined=jinja2.StrictUndefined)  # noqa: S701 - not HTML
        rendered = environment.from_string(template).render(conf=conf)
        request = {
            "schema": 1,
            "run_id": "20261123-051233-test",
            "trial_id": "test",
            "prefix": str(self.prefix),
            "work_dir": work_dir,
            "lighttpd": self.lighttpd,
            "lighttpd_conf": rendered,
            "address": "127.0.0.1",
            "port": self.port,
            "url_path": workload.url_path,
            "expected_bytes": len(workload.body),
            "expected_sha256": workload.sha256,
            "handler": handler,
            "processes": 0 if handler == "static" else processes,
            "promise": {"peak_in_process": None},
            "load": load,
        }
        request.update(changes)
        return request

    def start(self, request: dict[str, Any], environment: dict[str, str] | None = None) -> Agent:
        agent = Agent(self.archive, ["trial"], environment or {})
        self.agents.append(agent)
        agent.tell(request)
        return agent

    def trial(self, request: dict[str, Any]) -> Any:
        return self.start(request).events()[-1]

    def failure(self, request: dict[str, Any]) -> Failure:
        outcome = self.trial(request)
        assert isinstance(outcome, Failure), outcome
        return outcome

    def long_trial(self, handler: str = "threaded", **changes: Any) -> Agent:
        """Start a trial of 30 s without warm-up and return in the middle of its measurement."""
        agent = self.start(self.request(handler, load={"warmup_s": 0.0, "measure_s": 30.0}, **changes))
        await_true(lambda: any(stats.done > 20 for stats in self.stats().values()))
        return agent

    def stats(self) -> dict[int, handler_stats.HandlerStats]:
        found: dict[int, handler_stats.HandlerStats] = {}
        for directory in self.prefix.glob("run/*/stats"):
            with contextlib.suppress(FileNotFoundError):
                found.update(handler_stats.read(directory))
        return found

    def left(self) -> list[str]:
        return [f"{each.pid} {each.cmd}" for each in marked.find(str(self.prefix))]

    def assert_clean(self) -> None:
        assert self.left() == []
        run_dir = self.prefix / "run"
        if run_dir.exists():
            assert stat.S_IMODE(run_dir.stat().st_mode) == 0o700
            assert [path.name for path in run_dir.iterdir()] in ([], ["lock"])
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", self.port))


def await_true(condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
    until_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until_s, "it did not happen in time"
        time.sleep(0.02)


def lighttpd_pid(host: Host) -> int:
    return next(each.pid for each in marked.find(str(host.prefix)) if each.cmd.startswith(host.lighttpd))


@pytest.fixture
def host(provisioned_prefix: Path, agent_archive: Path) -> Iterator[Host]:
    """A host where nothing may be left after the test."""
    # Not tmp_path: the paths of sockets must stay short.
    with tempfile.TemporaryDirectory(prefix="fs-") as directory:
        host = Host(Path(directory), agent_archive, provisioned_prefix)
        yield host
        for agent in host.agents:
            if agent.process.poll() is None:
                agent.process.kill()
                agent.process.wait()
            for stream in (agent.process.stdin, agent.process.stdout):
                if stream is not None:
                    stream.close()
        left = host.left()
        marked.kill(directory)
        assert left == [], "the test left processes behind"


@pytest.mark.parametrize("handler", [*registry.model_names(), "static"])
def test_a_trial_of_each_handler_passes_its_gates_and_leaves_nothing(host: Host, handler: str) -> None:
    agent = host.start(host.request(handler))
    started, result = agent.events()
    assert isinstance(started, Started) and started.orphans == ()
    assert isinstance(result, Result), result
    assert agent.process.returncode == 0
    failed = {gate.name: gate.detail for gate in result.gates if not gate.passed and gate.name not in WEATHER}
    if handler not in LEAKY:
        assert failed == {}
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
def test_each_load_generator_measures(host: Host, tool: str, keepalive: bool) -> None:
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed")
    result = host.trial(host.request(load={"tool": tool, "keepalive": keepalive}))
    assert isinstance(result, Result), result
    failed = {gate.name: gate.detail for gate in result.gates if not gate.passed and gate.name not in WEATHER}
    assert failed == {}
    assert "keepalive" in {gate.name for gate in result.gates}
    assert "body_length" in {gate.name for gate in result.gates}


@pytest.mark.slow
def test_the_leaking_handler_is_never_crowned(host: Host) -> None:
    result = host.trial(
        host.request("multiplexed-stock", 1, load={"concurrency": 20, "warmup_s": 2.0, "measure_s": 4.0})
    )
    assert isinstance(result, Result), result
    assert not result.valid
    failed = {gate.name for gate in result.gates if not gate.passed}
    assert failed & {"growth", "responses", "error_log", "handlers_alive"}
    assert result.goodput_rps <= result.requests.throughput_rps


def test_the_agent_goes_when_its_controller_goes(host: Host) -> None:
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


def test_a_controller_that_goes_before_its_request_is_complete(host: Host) -> None:
    agent = Agent(host.archive, ["trial"], {})
    host.agents.append(agent)
    agent.hang_up()
    assert agent.events(10)[-1].kind == "interrupted"


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_the_agent_cleans_up_when_told_to_stop(host: Host, signum: signal.Signals) -> None:
    agent = host.long_trial()
    agent.process.send_signal(signum)
    failure = agent.events(10)[-1]
    assert failure.kind == "interrupted"
    assert signum.name in failure.reason
    host.assert_clean()


def test_the_deadline_ends_a_trial(host: Host) -> None:
    failure = host.failure(host.request(load={"warmup_s": 0.0, "measure_s": 30.0}, deadline_s=3.0))
    assert failure.kind == "timeout"
    assert "3 s" in failure.reason
    host.assert_clean()


def test_a_frozen_agent_keeps_its_deadline_when_it_thaws(host: Host) -> None:
    agent = host.long_trial(deadline_s=6.0)
    agent.process.send_signal(signal.SIGSTOP)
    time.sleep(6.5)
    agent.process.send_signal(signal.SIGCONT)
    assert agent.events(10)[-1].kind == "timeout"
    host.assert_clean()


def test_everything_dies_with_an_agent_that_is_killed(host: Host) -> None:
    agent = host.long_trial()
    agent.process.kill()
    await_true(lambda: host.left() == [], timeout_s=5)


def test_orphans_of_a_killed_agent_are_found_removed_and_recorded(host: Host) -> None:
    agent = host.long_trial()
    server = lighttpd_pid(host)
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


def test_clean_removes_orphans_and_work_directories(host: Host) -> None:
    agent = host.long_trial()
    server = lighttpd_pid(host)
    agent.process.send_signal(signal.SIGSTOP)
    os.kill(server, signal.SIGKILL)
    agent.process.kill()
    cleaned = Agent(host.archive, ["clean", "--prefix", str(host.prefix)], {})
    host.agents.append(cleaned)
    (event,) = cleaned.events()
    assert event.killed and len(event.removed) == 1
    host.assert_clean()


def test_a_handler_killed_during_the_measurement_invalidates_it(host: Host) -> None:
    agent = host.start(host.request(load={"warmup_s": 0.0, "measure_s": 3.0}))
    await_true(lambda: any(stats.done > 20 for stats in host.stats().values()))
    os.kill(min(host.stats()), signal.SIGKILL)
    result = agent.events()[-1]
    assert isinstance(result, Result), result
    gate = next(gate for gate in result.gates if gate.name == "handlers_alive")
    assert not gate.passed
    assert "ended: " in gate.detail
    host.assert_clean()


def test_a_lighttpd_that_dies_at_its_start_is_quoted(host: Host) -> None:
    request = host.request()
    request["lighttpd_conf"] += "\nserver.no-such-thing = \n"
    failure = host.failure(request)
    assert failure.kind == "not_ready"
    assert "lighttpd ended at once" in failure.reason
    assert "conf" in failure.reason
    host.assert_clean()


def test_a_handler_that_dies_at_its_start_is_quoted(host: Host) -> None:
    request = host.request()
    request["lighttpd_conf"] = request["lighttpd_conf"].replace("threaded hello", "threaded nonsense")
    failure = host.failure({**request, "ready_timeout_s": 3.0})
    assert failure.kind == "not_ready"
    assert "nonsense" in failure.reason
    host.assert_clean()


def test_a_wrong_body_is_never_measured(host: Host) -> None:
    failure = host.failure(host.request(expected_sha256="0" * 64))
    assert failure.kind == "not_ready"
    assert "1024 bytes, but not those that were expected" in failure.reason
    host.assert_clean()


def test_a_port_in_use_is_named_with_its_owner(host: Host) -> None:
    with socket.create_server(("127.0.0.1", host.port)):
        failure = host.failure(host.request())
    assert failure.kind == "not_ready"
    assert f"port {host.port} on 127.0.0.1 is in use by process {os.getpid()}" in failure.reason
    host.assert_clean()


def test_a_second_agent_is_told_who_measures(host: Host) -> None:
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
def test_what_is_missing_is_named(host: Host, changes: dict[str, Any], kind: str, said: str) -> None:
    failure = host.failure(host.request(**changes))
    assert failure.kind == kind
    assert said in failure.reason
    host.assert_clean()


def test_a_request_that_is_not_understood_is_refused(host: Host) -> None:
    failure = host.failure({**host.request(), "procesess": 2})
    assert failure.kind == "internal"
    assert "unknown key 'procesess'" in failure.reason


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small file system")
def test_a_full_disk_is_said_plainly(host: Host) -> None:
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


def test_a_jumping_wall_clock_changes_nothing(host: Host, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import itertools, time\n"
        "jumps = itertools.count(0, -3600)\n"
        "real = time.time\n"
        "time.time = lambda: real() + next(jumps)\n"
    )
    result = host.start(host.request(), {"PYTHONPATH": str(tmp_path)}).events()[-1]
    assert isinstance(result, Result), result
    assert 1.0 <= result.timings_s.measure < 5.0
    assert {gate.name for gate in result.gates if not gate.passed} <= WEATHER


def test_server_and_load_stay_on_their_processors(host: Host) -> None:
    cpu = min(os.sched_getaffinity(0))
    agent = host.long_trial(server_cpus=[cpu], load_cpus=[cpu])
    placed = {each.pid: os.sched_getaffinity(each.pid) for each in marked.find(str(host.prefix))}
    agent.hang_up()
    agent.events(10)
    assert len(placed) == 4  # lighttpd, two handlers, ab
    assert set(map(frozenset, placed.values())) == {frozenset({cpu})}
