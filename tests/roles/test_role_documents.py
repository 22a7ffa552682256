"""What is said about the roles: specifications, READMEs, lint rules."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

PROJECT = Path(__file__).resolve().parents[2]
ROLES = sorted(path for path in (PROJECT / "roles").iterdir() if (path / "tasks").is_dir())


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_each_option_has_a_type_and_a_meaning(role: Path) -> None:
    specification = yaml.safe_load((role / "meta" / "argument_specs.yml").read_text())
    main = specification["argument_specs"]["main"]
    assert main["short_description"]
    for name, option in main.get("options", {}).items():
        assert name.startswith(f"{role.name}_")
        assert option["type"]
        assert option["description"]


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_each_default_is_a_declared_option(role: Path) -> None:
    file = role / "defaults" / "main.yml"
    if file.exists():
        options = yaml.safe_load((role / "meta" / "argument_specs.yml").read_text())["argument_specs"][
            "main"
        ]["options"]
        assert set(yaml.safe_load(file.read_text())) <= set(options)


def test_the_readmes_are_current() -> None:
    script = PROJECT / "scripts" / "role_readmes.py"
    done = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_derived_groups_need_no_hand(tmp_path: Path) -> None:
    facts = tmp_path / "s1_web1"
    facts.write_text(
        '{"__payload__": "{\\"ansible_processor_nproc\\": 4, \\"ansible_architecture\\": \\"aarch64\\",'
        ' \\"ansible_distribution\\": \\"Debian\\", \\"ansible_distribution_major_version\\": \\"13\\"}"}'
    )
    hosts = tmp_path / "hosts.yml"
    hosts.write_text("targets: {hosts: {web1: {}, web2: {}}}\n")
    derived = PROJECT / "inventory" / "90-derived.yml"
    graph = subprocess.run(
        [Path(sys.executable).with_name("ansible-inventory"), "-i", hosts, "-i", derived, "--graph"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "ANSIBLE_CACHE_PLUGIN_CONNECTION": str(tmp_path)},
    ).stdout
    for group in ("cores_4", "arch_aarch64", "os_debian_13"):
        assert f"@{group}:\n  |  |--web1" in graph
    assert graph.count("web2") == 1
