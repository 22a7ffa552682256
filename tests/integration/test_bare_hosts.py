"""Debian 11, 12 and 13 as debootstrap leaves them, with sshd and Python alone: from nothing to a trial.

One provisioning of all three, side by side, serves every test of this file.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from weather import failed_gates

from controller.ansible import HostSummary, run_playbook
from lab import Lab, testing
from lab.host import LabHost

ROOT = Path(__file__).parents[2]
SUITES = {"bullseye": "11", "bookworm": "12", "trixie": "13"}
PREFIXES = {"bullseye": "bl", "bookworm": "bk", "trixie": "bx"}
# Compilers take half the time; what is proven here is that all that a build needs is there.
UNOPTIMIZED = ["-DCMAKE_C_FLAGS_RELEASE=-O0"]
NOT_BARE = ("cc", "make", "cmake", "ab", "lighttpd", "pip3")
STATE = "dpkg-query --show --showformat='${Package} ${Status}\\n'; ls -A | grep -vx .ansible"
# A package that somebody installs after provisioning, and that needs what provisioning installed.
LATE = """\
set -e
mkdir -p late/DEBIAN
printf '%s\\n' 'Package: late' 'Version: 1' 'Architecture: all' 'Depends: cmake' \\
    'Maintainer: Nobody <nobody@example.net>' 'Description: came later' >late/DEBIAN/control
dpkg-deb --build late
sudo dpkg --install late.deb
rm -r late late.deb
"""
EXPERIMENT = """\
name: bare-hosts
question: Does a host that had nothing measure?
hosts: lab
factors: {handler: [threaded], processes: 1}
load: {concurrency: 4, warmup_s: 0.2, measure_s: 1}
design: {blocks: 1, seed: 11, sentinel: false, attempts: 1}
"""
# What these gates say depends on what else the machine does while the tests run.

pytestmark = [pytest.mark.integration, pytest.mark.lab, pytest.mark.slow, pytest.mark.timeout(1800)]


@dataclass
class BareHosts:
    """One bare host a Debian release, before and after one provisioning of all of them.

    Provisioning takes agent and handlers from `project`, which nobody edits while the tests run.
    """

    hosts: dict[str, LabHost]
    inventory: Path
    project: Path
    found: dict[str, str] = field(default_factory=dict)
    before: dict[str, str] = field(default_factory=dict)
    provisioned: Mapping[str, HostSummary] = field(default_factory=dict)

    def play(self, playbook: str, limit: str = "lab", **variables: object) -> Mapping[str, HostSummary]:
        extra = {
            "bundles_project": str(self.project),
            "pcre_cmake_options": UNOPTIMIZED,
            "lighttpd_cmake_options": UNOPTIMIZED,
            **variables,
        }
        result = run_playbook(ROOT / playbook, self.inventory, limit, lambda event: None, extra)
        assert result.hosts, result.output
        return result.hosts


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BareHosts]:
    reason = testing.why_no_namespaces()
    if reason:
        pytest.skip(f"no lab in namespaces on this machine: {reason}")
    inventory, project = tmp_path_factory.mktemp("inventory"), tmp_path_factory.mktemp("project")
    for package in ("agent", "fcgi_handlers"):
        shutil.copytree(ROOT / package, project / package)
    cores = min(2, len(os.sched_getaffinity(0)))
    with contextlib.ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setenv("ANSIBLE_CACHE_PLUGIN_CONNECTION", str(tmp_path_factory.mktemp("facts")))
        hosts: dict[str, LabHost] = {}
        for suite, prefix in PREFIXES.items():
            testing.remove_stale(prefix)
            file = inventory / f"{suite}.yml"
            made = Lab(testing.own_name(prefix), (cores,), f"debian:{suite}", inventory=file)
            hosts[suite] = stack.enter_context(made).host(str(cores))
        bare = BareHosts(hosts, inventory, project)
        bare.found = {suite: present(host) for suite, host in hosts.items()}
        bare.before = {suite: host.ssh([STATE]).stdout for suite, host in hosts.items()}
        bare.provisioned = bare.play("provision.yml")
        yield bare


def present(host: LabHost) -> str:
    """Return which of the programs that provisioning brings a host has already."""
    return host.ssh([f"for p in {' '.join(NOT_BARE)}; do command -v $p; done; true"]).stdout


@pytest.fixture(params=SUITES)
def suite(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_a_bare_debian_is_provisioned(bare: BareHosts, suite: str) -> None:
    assert bare.found[suite] == ""
    host = bare.hosts[suite]
    assert host.ssh(["grep VERSION_ID /etc/os-release"]).stdout.strip() == f'VERSION_ID="{SUITES[suite]}"'
    summary = bare.provisioned[host.name]
    assert summary.good, summary.reason
    manifest = json.loads(host.ssh(["cat .fcgi-sweep/manifest.json"]).stdout)
    (server,) = manifest["lighttpd"]
    said = host.ssh([f"{server['path']} -v"])
    assert server["version"] in said.stdout, said.stderr
    assert set(manifest["load_generators"]) == {"ab"}
    assert host.ssh(["find .fcgi-sweep ! -user bench"]).stdout == ""


@pytest.fixture(scope="module")
def verified(bare: BareHosts) -> Mapping[str, HostSummary]:
    return bare.play("playbooks/verify.yml")


def test_every_handler_answers_on_a_debian_that_was_bare(
    bare: BareHosts, verified: Mapping[str, HostSummary], suite: str
) -> None:
    summary = verified[bare.hosts[suite].name]
    assert summary.good, summary.reason


@pytest.fixture(scope="module")
def measured(bare: BareHosts, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    directory = tmp_path_factory.mktemp("run")
    (directory / "bare-hosts.yml").write_text(EXPERIMENT)
    done = subprocess.run(
        [sys.executable, "-m", "controller", "run", str(directory / "bare-hosts.yml"),
         "--inventory", str(bare.inventory), "--results", str(directory / "results")],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode in {0, 1}, done.stdout + done.stderr
    (journal,) = directory.glob("results/*/journal.jsonl")
    return [json.loads(line) for line in journal.read_text().splitlines()]


def test_a_trial_over_ssh_is_measured_on_a_debian_that_was_bare(
    bare: BareHosts, measured: list[dict[str, Any]], suite: str
) -> None:
    host = bare.hosts[suite]
    records = [record for record in measured if record.get("host") == host.name]
    assert {record["cell"]["handler"] for record in records} == {"threaded", "static"}
    for record in records:
        assert record["failure"] is None, record["failure"]
        assert failed_gates(record["result"]) == {}
        assert record["result"]["goodput_rps"] > 0


@pytest.fixture(scope="module")
def again(bare: BareHosts) -> Mapping[str, HostSummary]:
    return bare.play("provision.yml")


def test_a_second_run_changes_nothing_on_a_debian_that_was_bare(
    bare: BareHosts, again: Mapping[str, HostSummary], suite: str
) -> None:
    summary = again[bare.hosts[suite].name]
    assert summary.good, summary.reason
    assert summary.changed == 0


def test_a_teardown_refuses_to_take_along_what_came_later(bare: BareHosts) -> None:
    host = bare.hosts["bookworm"]
    installed = host.ssh([LATE])
    assert installed.returncode == 0, installed.stderr
    try:
        before = host.ssh([STATE]).stdout
        summary = bare.play("playbooks/teardown.yml", host.name, teardown_packages=True)[host.name]
        assert not summary.good
        assert "would go with them: late" in summary.reason
        assert "run the teardown without teardown_packages" in summary.reason
        assert host.ssh([STATE]).stdout == before
    finally:
        host.ssh(["sudo dpkg --purge late"])


def test_a_teardown_takes_its_packages_along_and_no_others(bare: BareHosts) -> None:
    host = bare.hosts["bookworm"]
    assert host.ssh([STATE]).stdout != bare.before["bookworm"]
    summary = bare.play("playbooks/teardown.yml", host.name, teardown_packages=True)[host.name]
    assert summary.good, summary.reason
    assert host.ssh([STATE]).stdout == bare.before["bookworm"]
