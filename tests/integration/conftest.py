"""Real hosts for the integration tests: a lab of their own, bare or provisioned, and this machine."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
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

from agent import handler_stats, marked
from agent.records import Failure, event_from_json
from fcgi_handlers import registry
from lab import Lab, LabHost, testing

sys.path.insert(0, str(Path(__file__).parent))  # for what the tests share: weather.py

PREFIX = "i"
PROJECT = Path(__file__).resolve().parents[2]
PROVISION_TIMEOUT_S = 1800
SYSTEM_PYTHON = "/usr/bin/python3"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give the test that happens to provision a host the time that builds from source take."""
    for item in items:
        if {"provisioned_lab", "provisioned_prefix"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.timeout(PROVISION_TIMEOUT_S + 300))


@pytest.fixture(scope="session")
def lab_hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Hosts with one and two cores; each test leaves them answering (`Lab.up` mends what is broken).

    FCGI_SWEEP_TEST_LAB names a lab that stays when the tests are over, and is found built by the next ones.
    """
    reason = testing.why_no_namespaces()
    if reason:
        pytest.skip(f"no lab in namespaces on this machine: {reason}")
    inventory = tmp_path_factory.mktemp("lab") / "10-lab.yml"
    given = os.environ.get("FCGI_SWEEP_TEST_LAB")
    if given:
        lab = Lab(given, inventory=inventory)
        lab.up()
        yield lab
        return
    testing.remove_stale(PREFIX)
    with Lab(testing.own_name(PREFIX), inventory=inventory) as lab:
        yield lab


@pytest.fixture(scope="session")
def lab_inventory(lab_hosts: Lab) -> Path:
    """Inventory file of `lab_hosts`."""
    record = lab_hosts.state.load()
    assert record is not None
    assert record.inventory is not None
    return Path(record.inventory)


@pytest.fixture(scope="session")
def provisioned_lab(lab_hosts: Lab, lab_inventory: Path, tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """`lab_hosts` after the playbook, without a way out of the lab and without root.

    One host builds; the others get a copy, which the playbook then finds to be what it would have built.
    """
    hosts = sorted(lab_hosts.hosts.values(), key=lambda host: -host.spec.cores)
    for host in hosts:
        host.exec(["ip", "route", "delete", "default"])
    facts = tmp_path_factory.mktemp("facts")
    builder, *others = hosts
    provision_lab(lab_inventory, [builder.name], facts)
    for host in others:
        copy_prefix(builder, host)
    provision_lab(lab_inventory, [host.name for host in others], facts)
    return lab_hosts


def provision_lab(inventory: Path, hosts: list[str], facts: Path) -> None:
    playbook = Path(sys.executable).with_name("ansible-playbook")
    arguments = ["-i", str(PROJECT / "inventory"), "-i", str(inventory)]
    arguments += ["--limit", ",".join(hosts), "--extra-vars", "system_packages_become=false"]
    done = subprocess.run(
        [playbook, "provision.yml", *arguments],
        cwd=PROJECT,
        env={**os.environ, "ANSIBLE_CACHE_PLUGIN_CONNECTION": str(facts)},
        capture_output=True,
        text=True,
        timeout=PROVISION_TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, f"provisioning failed: {done.stdout[-4000:]}{done.stderr[-2000:]}"


def copy_prefix(source: LabHost, target: LabHost) -> None:
    """Copy what provisioning left on a host to another one of the same lab, which has none yet."""
    homes = []
    for host in (source, target):
        first = host.first()
        assert first is not None
        homes.append(Path(f"/proc/{first.pid}/root/home/{host.access.user}"))
    if not (homes[1] / ".fcgi-sweep").exists():
        subprocess.run(["cp", "--archive", homes[0] / ".fcgi-sweep", homes[1]], check=True)


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
        timeout=PROVISION_TIMEOUT_S,
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

    def tell(self, request: dict[str, Any] | list[dict[str, Any]]) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()

    def hang_up(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()

    def documents(self, timeout_s: float = 60.0) -> list[Any]:
        """All that the agent says until it ends; stdin stays open."""
        assert self.process.stdout is not None
        self.process.wait(timeout_s)
        return [json.loads(line) for line in self.process.stdout.read().splitlines()]

    def events(self, timeout_s: float = 60.0) -> list[Any]:
        """The same, as the records of a trial."""
        return [event_from_json(document) for document in self.documents(timeout_s)]


class Host:
    """A prefix of its own with the provisioned programs, this checkout's handlers, and a free port."""

    def __init__(self, prefix: Path, archive: Path, provisioned: Path, handlers_home: Path) -> None:
        self.prefix = prefix
        self.archive = archive
        self.handlers_home = handlers_home
        self.manifest = json.loads((provisioned / "manifest.json").read_text())
        self.manifest["handlers"]["path"] = str(handlers_home)
        (prefix / "manifest.json").write_text(json.dumps(self.manifest))
        self.lighttpd = next(each["path"] for each in self.manifest["lighttpd"] if each["default"])
        self.python = next(each["path"] for each in self.manifest["python"] if each["default"])
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port: int = probe.getsockname()[1]
        self.agents: list[Agent] = []

    def request(
        self, handler: str = "threaded", processes: int = 2, *, does: str = "hello", **changes: Any
    ) -> dict[str, Any]:
        workload = registry.load_workload(does)
        model = None if handler == "static" else registry.load_model(handler)
        shares_socket = model is not None and model.shares_socket
        work_dir = f"{self.prefix}/run/{secrets.token_hex(4)}"
        load = {
            "tool": "ab",
            "path": shutil.which("ab"),
            "concurrency": 8,
            "warmup_s": 1.0,
            "measure_s": 1.0,
            "keepalive": False,
            "request_bytes": len(workload.request_body),
        }
        load.update(changes.pop("load", {}))
        load["path"] = changes.pop("load_path", shutil.which(load["tool"]))
        conf = {
            "work_dir": work_dir,
            "address": changes.get("address", "127.0.0.1"),
            "port": self.port,
            "modules_dir": "",
            "handler": handler,
            "processes": 1 if shares_socket else processes,
            "command": f"{self.python} -m fcgi_handlers {handler} {does}",
            "environment": {
                "PYTHONPATH": str(self.handlers_home),
                "FCGI_SWEEP_STATS": f"{work_dir}/stats",
                "FCGI_SWEEP_CHILDREN": str(processes),
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
            "promise": {
                "peak_in_process": None,
                "shares_socket": shares_socket,
                "is_ceiling": model is not None and model.is_ceiling,
            },
            "load": load,
        }
        request.update(changes)
        return request

    def agent(self, *command: str, environment: dict[str, str] | None = None) -> Agent:
        agent = Agent(self.archive, list(command), environment or {})
        self.agents.append(agent)
        return agent

    def start(self, request: dict[str, Any], environment: dict[str, str] | None = None) -> Agent:
        agent = self.agent("trial", environment=environment)
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
        self.await_load()
        return agent

    def await_load(self) -> None:
        """Wait until the load is well under way."""
        self.await_true(lambda: any(stats.done > 20 for stats in self.stats().values()))

    def await_true(self, condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
        until_s = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < until_s, "it did not happen in time"
            time.sleep(0.02)

    def lighttpd_pid(self) -> int:
        found = marked.find(str(self.prefix))
        return next(each.pid for each in found if each.cmd.startswith(self.lighttpd))

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


@pytest.fixture
def host(provisioned_prefix: Path, agent_archive: Path, handlers_home: Path) -> Iterator[Host]:
    """A host where nothing may be left after the test."""
    # Not tmp_path: the paths of sockets must stay short.
    with tempfile.TemporaryDirectory(prefix="fs-") as directory:
        host = Host(Path(directory), agent_archive, provisioned_prefix, handlers_home)
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
