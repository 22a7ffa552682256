"""Real hosts for the integration tests: a lab of their own, bare or provisioned."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import Lab, testing

PREFIX = "i"
PROJECT = Path(__file__).resolve().parents[2]
PROVISION_TIMEOUT_S = 1800


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give the test that happens to provision the hosts the time that builds from source take."""
    for item in items:
        if "provisioned_lab" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.timeout(PROVISION_TIMEOUT_S + 300))


@pytest.fixture(scope="session")
def lab_hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Hosts with one and two cores; each test leaves them answering (`Lab.up` mends what is broken)."""
    reason = testing.why_no_namespaces()
    if reason:
        pytest.skip(f"no lab in namespaces on this machine: {reason}")
    testing.remove_stale(PREFIX)
    inventory = tmp_path_factory.mktemp("lab") / "10-lab.yml"
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
def provisioned_lab(lab_hosts: Lab, lab_inventory: Path) -> Lab:
    """`lab_hosts` after one run of the playbook."""
    playbook = Path(sys.executable).with_name("ansible-playbook")
    inventories = ["-i", str(PROJECT / "inventory"), "-i", str(lab_inventory)]
    done = subprocess.run(
        [playbook, "provision.yml", *inventories, "--limit", ",".join(lab_hosts.hosts)],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=PROVISION_TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, f"provisioning failed: {done.stdout[-4000:]}{done.stderr[-2000:]}"
    return lab_hosts
