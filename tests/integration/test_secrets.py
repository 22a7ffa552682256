"""What a user trusts the inventory with stays there: passwords and keys, with every log turned up."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lab import Lab

pytestmark = [pytest.mark.integration, pytest.mark.lab, pytest.mark.slow, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]
PASSWORD, SUDO_PASSWORD = "correct horse battery staple", "Tr0ub4dor&3"
# as a user would debug it: every library says all that it can
CHATTY = """\
import logging, sys
logging.basicConfig(level=logging.DEBUG)
import controller.ssh
for name in ("paramiko", "fabric", "invoke"):
    logging.getLogger(name).propagate = True
    logging.getLogger(name).setLevel(logging.DEBUG)
from controller.cli import main
sys.argv[0] = "fcgi-sweep"
sys.exit(main())
"""
EXPERIMENT = """\
name: secrets
question: Does anything tell what it must not tell?
hosts: {host}
factors: {{handler: [threaded], processes: 1}}
load: {{tool: ab, concurrency: 2, warmup_s: 0, measure_s: 1}}
design: {{blocks: 1, seed: 3, sentinel: false, attempts: 10}}
"""


@dataclass
class Place:
    """A directory that holds all that the commands of a test may write, and all that they say."""

    path: Path
    host: Any
    said: str = ""

    def inventory(self, **variables: str) -> Path:
        state = self.host.state
        path = self.path / "inventory.json"
        common = f"-F none -o UserKnownHostsFile={state.known_hosts} -o StrictHostKeyChecking=yes"
        all_variables = {
            "ansible_host": self.host.spec.address, "ansible_user": self.host.access.user,
            "ansible_ssh_common_args": common, "ansible_become_password": SUDO_PASSWORD, **variables,
        }  # fmt: skip
        path.write_text(json.dumps({"targets": {"hosts": {self.host.name: all_variables}}}))
        return path

    def run(self, *command: str) -> str:
        written = self.path / "written"
        for name in ("tmp", "cache", "home"):
            (written / name).mkdir(parents=True, exist_ok=True)
        environment = {
            **os.environ, "TMPDIR": str(written / "tmp"), "XDG_CACHE_HOME": str(written / "cache"),
            "HOME": str(written / "home"), "ANSIBLE_VERBOSITY": "4", "INVOKE_DEBUG": "1",
        }  # fmt: skip
        done = subprocess.run(
            [sys.executable, *command], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )
        self.said += done.stdout + done.stderr
        return done.stdout + done.stderr

    def sweep(self, *command: str) -> str:
        return self.run("-c", CHATTY, *command, "--inventory", str(self.path / "inventory.json"))

    def check(self, secrets: list[str]) -> None:
        written = [
            path.read_bytes().decode(errors="replace")
            for path in (self.path / "written").rglob("*")
            if path.is_file()
        ]
        for secret in secrets:
            assert secret not in self.said
            assert not [text for text in written if secret in text]


@pytest.fixture
def place(provisioned_lab: Lab, tmp_path: Path) -> Iterator[Place]:
    yield Place(tmp_path, provisioned_lab.host(next(n for n in provisioned_lab.hosts if n.endswith("1core"))))
    provisioned_lab.up()


@pytest.fixture
def password_login(place: Place) -> Iterator[None]:
    """Let the bench user of the host log in with the password, and with nothing else."""
    host, config = place.host, "/etc/ssh/sshd_config"
    hashed = subprocess.run(["openssl", "passwd", "-6", PASSWORD], capture_output=True, text=True, check=True)
    user, before = host.access.user, host.exec(["cat", config]).stdout
    edits = "s/^PasswordAuthentication no/PasswordAuthentication yes/; /^AuthenticationMethods/d"
    script = f"sed -i '{edits}' {config}"
    assert host.exec(["sh", "-c", script]).returncode == 0
    assert host.exec(["usermod", "--password", hashed.stdout.strip(), user]).returncode == 0
    host.restart_sshd()
    yield
    host.exec(["sh", "-c", f'printf %s "$1" > {config}', "sh", before])
    host.exec(["usermod", "--password", "*", user])
    host.restart_sshd()


def measure_and_report(place: Place) -> None:
    experiment = place.path / "secrets.yml"
    experiment.write_text(EXPERIMENT.format(host=place.host.name))
    results = place.path / "written" / "results"
    assert place.host.name in place.sweep("doctor")
    said = place.sweep("run", str(experiment), "--results", str(results))
    assert "2/2 valid, 0 missing" in said
    assert "DEBUG:paramiko" in said, "the libraries are not as chatty as this test wants them"
    place.sweep("status", "--results", str(results))
    (run,) = results.iterdir()
    place.run("-m", "analysis.report", str(run))
    assert list(run.glob("report/*.html"))


def test_passwords_stay_in_the_inventory(place: Place, password_login: None) -> None:
    place.inventory(ansible_password=PASSWORD)
    measure_and_report(place)
    place.check([PASSWORD, SUDO_PASSWORD])


def test_keys_stay_in_their_files(place: Place) -> None:
    key = Path(place.host.access.private_key)
    place.inventory(ansible_ssh_private_key_file=str(key), ansible_password=PASSWORD)
    measure_and_report(place)
    body = [line for line in key.read_text().splitlines() if not line.startswith("-----")]
    place.check([PASSWORD, SUDO_PASSWORD, *body])


def test_a_refused_password_is_not_repeated(place: Place) -> None:
    place.inventory(ansible_password=PASSWORD)
    said = place.sweep("doctor")
    assert "was refused" in said
    place.check([PASSWORD, SUDO_PASSWORD])
