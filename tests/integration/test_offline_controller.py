"""A controller without a network: what was fetched ahead is all it takes, and what is missing is named.

The controller runs in a network namespace that has no interface but a loopback.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lab import testing

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
WHEEL = "flup-1.0.3-py3-none-any.whl"
ARCHIVES = ("lighttpd-1.4.79.tar.xz", "pcre2-10.46.tar.gz")

pytestmark = [pytest.mark.integration, pytest.mark.lab, pytest.mark.slow, pytest.mark.timeout(600)]


@dataclass
class Controller:
    """A controller with a cache of its own, and one host that is refused as soon as work on it begins."""

    directory: Path

    @property
    def cache(self) -> Path:
        return self.directory / "cache" / "fcgi-sweep"

    def play(self, playbook: str, online: bool, variables: Mapping[str, Any]) -> str:
        """Run a playbook and return what it said."""
        inventory = self.directory / "hosts.json"
        host = {
            "ansible_connection": "local",
            "ansible_python_interpreter": "/usr/bin/python3",
            "fcgi_sweep_prefix": "/no-such-directory/fcgi-sweep",
        }
        inventory.write_text(json.dumps({"targets": {"hosts": {"web1": host}}}))
        command = [str(BIN / "ansible-playbook"), playbook, "-i", str(inventory), "-e", json.dumps(variables)]
        done = subprocess.run(
            command if online else ["unshare", "--net", *command],
            cwd=ROOT, capture_output=True, text=True, check=False, timeout=500,
            env={
                **os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1",
                "ANSIBLE_CACHE_PLUGIN_CONNECTION": str(self.directory / "facts"), "PIP_RETRIES": "0",
                "XDG_CACHE_HOME": str(self.directory / "cache"),
            },
        )  # fmt: skip
        return done.stdout + done.stderr


@pytest.fixture
def controller(tmp_path: Path) -> Controller:
    reason = testing.why_no_namespaces()
    if reason:
        pytest.skip(f"no network namespaces on this machine: {reason}")
    return Controller(tmp_path)


def own_cache() -> Path:
    """Return the cache of the user who runs the tests: the archives need not come over the network again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "fcgi-sweep"


def test_after_a_fetch_provisioning_needs_no_network(controller: Controller) -> None:
    (controller.cache / "archives").mkdir(parents=True)
    for file in ARCHIVES:
        if (own_cache() / "archives" / file).exists():
            shutil.copy(own_cache() / "archives" / file, controller.cache / "archives")
    fetched = controller.play("playbooks/fetch.yml", True, {})
    assert "failed=0" in fetched, fetched[-3000:]
    assert {path.name for path in (controller.cache / "archives").iterdir()} == set(ARCHIVES)
    assert WHEEL in {path.name for path in (controller.cache / "wheels").iterdir()}
    said = controller.play("provision.yml", False, {})
    assert "/no-such-directory does not exist on this host" in said, said[-3000:]
    assert "changed=0" in said


def test_all_that_is_missing_or_damaged_is_named_at_once_with_its_sum_and_its_place(
    controller: Controller,
) -> None:
    damaged, absent = (controller.cache / "archives" / file for file in ARCHIVES)
    damaged.parent.mkdir(parents=True)
    damaged.write_bytes(b"something else")
    said = controller.play("provision.yml", False, {"source_archives_sources": ["upstream"]})
    summary = said[said.index("1 of 1 hosts did not go through") :]
    assert f"wrong checksum: {damaged}" in summary
    assert "Remedy: if the file is damaged, delete it" in summary
    assert f"Remedy: put {absent.name} into {absent.parent}/ yourself and provision again" in summary
    assert f"({absent.name}, sha256 " in summary
    assert "resolution" in summary
    assert f"Remedy: put these files into {controller.cache}/wheels/ on this controller" in summary
    assert f"{WHEEL}  sha256 " in summary
