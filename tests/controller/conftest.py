from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import controller.inventory
from controller.runs import Workplace
from controller.sweep import Patience

QUICK = Patience(absence_s=1.0, first_pause_s=0.05, longest_pause_s=0.2)
STANDIN = Path(__file__).parent / "data" / "standin_agent.py"


def facts_document(prefix: Path, cores: int = 2) -> dict[str, Any]:
    return {
        "schema": 1, "hostname": prefix.name, "os": "linux", "os_release": "Debian 12", "kernel": "6.1.0",
        "arch": "x86_64", "cpu_model": "Test CPU", "cpus": list(range(cores)), "cores": cores,
        "sockets": 1, "threads_per_core": 1, "memory_bytes": 1 << 30, "governor": None, "turbo": None,
        "virtualisation": None, "sysctls": {}, "limits": {"nofile": 4096}, "python": "3.11.2",
        "clock": {"wall_s": 1.0, "monotonic_s": 1.0},
        "agent": {"version": "1", "fingerprint": "a" * 64}, "prefix": str(prefix), "orphans": 0,
        "disk_free_bytes": 1 << 34, "uid": 1000, "lock": None,
        "handlers": [
            {"name": "threaded", "peak_in_process": None, "multiplexes": False},
            {"name": "multiplexed", "peak_in_process": None, "multiplexes": True},
        ],
        "workloads": [{"name": "hello", "url_path": "/hello", "bytes": 1024, "sha256": "b" * 64}],
        "manifest": {
            "schema": 1, "prefix": str(prefix),
            "lighttpd": [
                {"version": "1.4.79", "path": "/l/sbin/lighttpd", "modules": "/l/lib",
                 "fingerprint": "c" * 64, "pcre_flavour": "pcre2", "pcre_version": "10.46", "default": True},
            ],
            "python": [
                {"name": "system", "path": "/v/python", "version": "3.11.2", "gil": True, "default": True},
            ],
            "handlers": {"path": "/h", "fingerprint": "d" * 64},
            "agent": {"path": "/a", "fingerprint": "a" * 64},
            "load_generators": {"ab": {"path": "/usr/bin/ab", "version": "2.3"}},
        },
    }  # fmt: skip


@dataclass
class StandinHost:
    """A local host whose agent is the stand-in."""

    name: str
    prefix: Path
    machine: str
    cores: int
    plan: dict[str, Any] = field(default_factory=dict)

    def behave(self, **changes: Any) -> None:
        self.plan.update(changes)
        self.prefix.mkdir(parents=True, exist_ok=True)
        (self.prefix / "behaviour.json").write_text(json.dumps(self.plan))
        (self.prefix / "agent.pyz").write_text(STANDIN.read_text())

    def trials_run(self) -> list[str]:
        log = self.prefix / "trials.log"
        return log.read_text().splitlines() if log.exists() else []


@dataclass
class Fleet:
    """Stand-in hosts, their inventory, and where results go."""

    root: Path
    hosts: dict[str, StandinHost] = field(default_factory=dict)
    patience: Patience = field(default_factory=lambda: QUICK)
    results_name: str = "results"

    def add(self, name: str, machine: str | None = None, cores: int = 2) -> StandinHost:
        prefix = self.root / name
        host = StandinHost(name, prefix, machine or name, cores)
        host.behave(facts=facts_document(prefix, cores))
        self.hosts[name] = host
        self.write_inventory()
        return host

    def write_inventory(self, **extra: Any) -> None:
        hosts = {
            host.name: {
                "ansible_connection": "local", "machine": host.machine, "fcgi_sweep_prefix": str(host.prefix),
                "ansible_python_interpreter": "/usr/bin/python3", **extra,
            }
            for host in self.hosts.values()
        }  # fmt: skip
        (self.root / "inventory.yml").write_text(json.dumps({"targets": {"hosts": hosts}}))

    @property
    def inventory(self) -> Path:
        return self.root / "inventory.yml"

    @property
    def results(self) -> Path:
        return self.root / self.results_name

    def workplace(self) -> tuple[Workplace, io.StringIO]:
        text = io.StringIO()
        console = Console(file=text, width=200, force_terminal=False)
        return Workplace(self.inventory, self.results, console, self.patience), text

    def experiment(
        self, blocks: int = 2, processes: str = "[1, 2]", design: str = "", more: str = ""
    ) -> Path:
        path = self.root / "standin.yml"
        path.write_text(
            "name: standin\nquestion: Does the controller do its part?\n"
            f"factors: {{handler: [threaded, multiplexed], processes: {processes}{more}}}\n"
            "load: {concurrency: 4, warmup_s: 0, measure_s: 0.5}\n"
            f"design: {{blocks: {blocks}, seed: 7{design}}}\n"
        )
        return path


def quick_inventory(inventory: Path, pattern: str, playbook_dir: Path) -> dict[str, Any]:
    """Answer for Ansible, which takes seconds; test_inventory.py and the integration tests ask itself."""
    hosts = json.loads(inventory.read_text())["targets"]["hosts"]
    wanted = set(pattern.split(","))
    return {"_meta": {"hostvars": {n: v for n, v in hosts.items() if wanted & {"targets", "all", n}}}}


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fleet:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(controller.inventory, "read_inventory_document", quick_inventory)
    return Fleet(tmp_path)


@pytest.fixture
def one_host(fleet: Fleet) -> StandinHost:
    return fleet.add("web1")


@dataclass
class SmallDisk:
    """A file system of a few megabytes that a test may fill."""

    path: Path

    def fill(self) -> None:
        with (self.path / "filler").open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(b"x" * 4096)

    def free(self) -> None:
        (self.path / "filler").unlink()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"no small file system can be mounted here: {mounted.stderr.decode().strip()}")
    yield SmallDisk(disk)
    subprocess.run(["umount", str(disk)], check=True)
