from __future__ import annotations

import json
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from controller.ansible import run_playbook

PLAYBOOK = """\
- name: Try hosts
  hosts: all
  gather_facts: false
  tasks:
    - name: Do nothing
      ansible.builtin.command: "true"
      changed_when: true
    - name: Look at the disk
      ansible.builtin.fail: {msg: the disk is full}
      when: inventory_hostname == "full"
"""


def test_the_summary_names_each_host_and_what_failed(tmp_path: Path) -> None:
    (tmp_path / "try.yml").write_text(PLAYBOOK)
    local = f"{{ansible_connection: local, ansible_python_interpreter: {sys.executable}}}"
    (tmp_path / "inventory.yml").write_text(
        f"all: {{hosts: {{good: {local}, full: {local}, "
        "dark: {ansible_host: 127.0.0.1, ansible_port: 9}}}\n"
    )
    tasks: list[str] = []

    def tell(event: Mapping[str, Any]) -> None:
        if event["event"] == "playbook_on_task_start":
            tasks.append(event["event_data"]["task"])

    result = run_playbook(tmp_path / "try.yml", tmp_path / "inventory.yml", "all", tell)
    assert set(result.hosts) == {"good", "full", "dark"}
    assert result.hosts["good"].good
    assert result.hosts["good"].changed == 1
    assert (result.hosts["full"].failed, result.hosts["full"].reason) == (
        1,
        "Look at the disk: the disk is full",
    )
    assert result.hosts["dark"].unreachable
    assert "Connection refused" in result.hosts["dark"].reason
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert tasks == ["Do nothing", "Look at the disk"]


def test_a_playbook_that_ansible_cannot_read_has_no_hosts_but_an_output(tmp_path: Path) -> None:
    (tmp_path / "broken.yml").write_text("- hosts: [\n")
    (tmp_path / "inventory.yml").write_text("all: {hosts: {good: {ansible_connection: local}}}\n")
    result = run_playbook(tmp_path / "broken.yml", tmp_path / "inventory.yml", "all", lambda event: None)
    assert result.hosts == {}
    assert result.status == "failed"
    assert "broken.yml" in result.output


def test_facts_stay_where_the_configuration_above_the_playbook_wants_them(tmp_path: Path) -> None:
    (tmp_path / "ansible.cfg").write_text(
        "[defaults]\nfact_caching = jsonfile\nfact_caching_connection = cache\n"
    )
    playbook = tmp_path / "playbooks" / "look.yml"
    playbook.parent.mkdir()
    playbook.write_text("- {name: Look, hosts: all, gather_facts: true, gather_subset: ['!all', min]}\n")
    local = f"{{ansible_connection: local, ansible_python_interpreter: {sys.executable}}}"
    (tmp_path / "inventory.yml").write_text(f"all: {{hosts: {{here: {local}}}}}\n")
    assert run_playbook(playbook, tmp_path / "inventory.yml", "all", lambda event: None).hosts["here"].good
    (kept,) = (tmp_path / "cache").iterdir()
    assert "ansible_architecture" in kept.read_text()


def test_secrets_of_the_inventory_reach_neither_events_nor_files_nor_reasons(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets = ["correct horse battery staple", "Tr0ub4dor&3"]
    kept = tmp_path / "kept"
    kept.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(kept))
    monkeypatch.setenv("ANSIBLE_VERBOSITY", "4")
    (tmp_path / "try.yml").write_text(PLAYBOOK)
    common = {"ansible_password": secrets[0], "ansible_become_password": secrets[1]}
    local = {**common, "ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    dark = {**common, "ansible_host": "127.0.0.1", "ansible_port": 9}
    (tmp_path / "inventory.yml").write_text(
        json.dumps({"all": {"hosts": {"good": local, "full": local, "dark": dark}}})
    )
    said: list[str] = []
    result = run_playbook(
        tmp_path / "try.yml", tmp_path / "inventory.yml", "all", lambda event: said.append(json.dumps(event))
    )
    assert result.hosts["good"].good
    assert len(said) > 5
    written = [path.read_bytes().decode(errors="replace") for path in kept.rglob("*") if path.is_file()]
    for secret in secrets:
        assert not [text for text in [*said, *written, repr(result)] if secret in text]
