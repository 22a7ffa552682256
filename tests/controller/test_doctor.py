from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import agent
import fcgi_handlers
from controller.findings import (
    Examined,
    Finding,
    Level,
    clock_finding,
    facts_findings,
    machine_findings,
    source_fingerprint,
)
from controller.host_facts import HostFacts
from controller.inventory import Host

ROOT = Path(__file__).parents[2]
BUNDLE = ROOT / "roles" / "bundles" / "files" / "bundle.py"
HOST = Host("web1", "web1", "192.0.2.1")
SURVEY = {"boot_id": None, "broken_programs": []}


def facts(**changes: Any) -> HostFacts:
    document = {
        "arch": "x86_64", "os": "linux", "cpus": [0, 1], "sockets": 1, "governor": None, "orphans": 0,
        "limits": {"nofile": 4096}, "virtualisation": None, "lock": None, "prefix": "/p", "manifest": None,
    }  # fmt: skip
    return HostFacts({**document, **changes})


def finding(found: list[Finding], check: str) -> Finding:
    (one,) = (each for each in found if each.check == check)
    return one


@pytest.mark.parametrize("package", [agent, fcgi_handlers])
def test_doctor_and_provisioning_agree_on_what_a_checkout_is(package: object, tmp_path: Path) -> None:
    source = Path(package.__path__[0])  # type: ignore[attr-defined]
    done = subprocess.run(
        [sys.executable, str(BUNDLE), str(source), str(tmp_path / "bundle.zip")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout)["fingerprint"] == source_fingerprint(source)


@pytest.mark.parametrize(
    ("governor", "level"), [("performance", Level.OK), (None, Level.OK), ("powersave", Level.HINT)]
)
def test_a_governor_that_follows_the_load_is_worth_a_hint(governor: str | None, level: Level) -> None:
    said = finding(list(facts_findings(HOST, SURVEY, facts(governor=governor))), "governor")
    assert said.level is level
    assert ("cpupower frequency-set -g performance" in said.text) == (level is Level.HINT)


def test_few_open_files_are_to_be_mended() -> None:
    said = finding(list(facts_findings(HOST, SURVEY, facts(limits={"nofile": 256}))), "open files")
    assert (said.level, said.text) == (
        Level.BAD,
        "limit 256; raise the user's nofile limit to 1024 or more",
    )


@pytest.mark.parametrize(
    ("kernel", "level"), [("5.4.0-26-generic", Level.OK), ("6.18.5", Level.OK), ("4.18.0-553.el8", Level.BAD)]
)
def test_a_kernel_on_which_the_agent_cannot_run_is_named(kernel: str, level: Level) -> None:
    said = finding(list(facts_findings(HOST, SURVEY, facts(kernel=kernel))), "kernel")
    assert said.level is level
    assert kernel in said.text


@pytest.mark.parametrize(("offset_s", "level"), [(0.3, Level.OK), (-1.9, Level.OK), (40.0, Level.HINT)])
def test_a_clock_that_is_off_is_worth_a_hint(offset_s: float, level: Level) -> None:
    assert clock_finding(HOST, offset_s).level is level


def guest(name: str, **changes: Any) -> Examined:
    host = replace(HOST, name=name, machine=name, **changes)
    return Examined(host, survey={"boot_id": name}, facts=facts(virtualisation="QEMU"))


def test_virtual_machines_are_asked_for_their_box_once() -> None:
    (said,) = machine_findings([guest("vm1"), guest("vm2"), guest("vm3")])
    assert said.level is Level.HINT
    assert said.text.startswith("vm1, vm2, vm3 are virtual machines without 'machine'; if some of them share")
    assert list(machine_findings([guest("vm1")])) == []
    boxed = [guest("vm1"), guest("vm2")]
    for each in boxed:
        each.host = replace(each.host, machine="box1")
    assert list(machine_findings(boxed)) == []


def test_hosts_whose_kernel_is_not_known_are_not_taken_for_one_machine() -> None:
    unknown = [Examined(replace(HOST, name=name, machine=name), survey=SURVEY) for name in ("a", "b")]
    assert list(machine_findings([*unknown, Examined(HOST)])) == []
