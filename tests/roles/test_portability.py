"""What the roles take for granted of a host's operating system."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

ROLES = Path(__file__).resolve().parents[2] / "roles"
NAMES = ROLES / "system_packages" / "vars"
# package managers and service managers; Python's and Ansible's own modules of these names included
OF_ONE_SYSTEM = re.compile(
    r"\b(apt|apt-get|dpkg|dpkg-query|yum|dnf|apk|pkgng?|brew|systemd|systemctl|service)\b"
)


def test_only_files_named_for_it_know_a_package_manager_or_a_service_manager() -> None:
    knowing = {
        str(path.relative_to(ROLES))
        for path in (*ROLES.glob("*/tasks/*.yml"), *ROLES.glob("*/files/*.sh"))
        if any(OF_ONE_SYSTEM.search(line.partition("#")[0].partition("include_tasks")[0])
               for line in path.read_text().splitlines())
    }  # fmt: skip
    assert {Path(path).name for path in knowing} <= {"apt_install.sh", "apt_remove.sh"}


@pytest.mark.parametrize("system", ["Debian", "RedHat", "Alpine", "FreeBSD", "Darwin"])
def test_each_system_has_names_for_every_need(system: str) -> None:
    known = yaml.safe_load((NAMES / f"{system}.yml").read_text())
    needs = yaml.safe_load((NAMES / "main.yml").read_text())["system_packages_tests"]
    assert set(known["system_packages_names"]) == set(needs)
    assert known["system_packages_by_hand"]
    untested = "Not tested here" in (NAMES / f"{system}.yml").read_text()
    assert untested == (system != "Debian")
