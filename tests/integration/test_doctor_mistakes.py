"""The mistakes that people make with hosts, made for real: the doctor finds each and says how to mend it.

The table in docs/adding-hardware.md has a row for each of them.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from controller.doctor import examine
from controller.findings import Finding, Level
from controller.inventory import Host, read_hosts
from lab import Lab
from lab.host import LabHost

ROOT = Path(__file__).parents[2]
PREFIX = "/home/bench/.fcgi-sweep"
# appends a module to the agent of the host, as if it were of another version
OTHER_AGENT = f"import zipfile; zipfile.ZipFile('{PREFIX}/agent.pyz', 'a').writestr('agent/more.py', '')"

pytestmark = [pytest.mark.integration, pytest.mark.lab, pytest.mark.slow]


@dataclass
class Ward:
    """A provisioned host that tests make ill, and a second one beside it."""

    host: Host
    patient: LabHost
    other: Host
    neighbour: LabHost
    inventory: Path

    def bad(self, *hosts: Host, load_hosts: dict[str, Host | None] | None = None) -> dict[str, str]:
        """Return what is wrong with the hosts, by default the patient, by check."""
        found = wrong(examine(hosts or (self.host,), False, load_hosts))
        for text in found.values():
            assert "; " in text, f"a fact and a next step: {text}"
        return found

    @contextmanager
    def manifest(self, **changes: Any) -> Iterator[None]:
        """Let the patient's manifest say something else."""
        path = f"{PREFIX}/manifest.json"
        before = shell(self.patient, f"cat {path}")
        after = json.dumps({**json.loads(before), **changes})
        with self.broken(*(f"printf %s {shlex.quote(text)} >{path}" for text in (after, before))):
            yield

    @contextmanager
    def broken(self, do: str, undo: str) -> Iterator[None]:
        """Break the patient by a shell command that root runs there, and mend it afterwards."""
        shell(self.patient, do)
        try:
            yield
        finally:
            shell(self.patient, undo)


def wrong(findings: Sequence[Finding]) -> dict[str, str]:
    return {finding.check: finding.text for finding in findings if finding.level is Level.BAD}


def shell(host: LabHost, script: str) -> str:
    done = host.exec(["sh", "-c", script])
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def ward(provisioned_lab: Lab, lab_inventory: Path) -> Ward:
    provisioned_lab.up()
    hosts = {host.name.split("-")[1]: host for host in read_hosts(lab_inventory, "lab", ROOT)}
    patient, neighbour = (provisioned_lab.host(hosts[size].name) for size in ("2core", "1core"))
    patient.ssh([f"mkdir -p -m 700 {PREFIX}/run"])  # as after a trial
    return Ward(hosts["2core"], patient, hosts["1core"], neighbour, lab_inventory)


def test_a_host_without_mistakes_has_nothing_to_mend(ward: Ward) -> None:
    assert ward.bad(ward.host, ward.other) == {}


def test_the_exit_status_tells_whether_there_is_something_to_mend(ward: Ward) -> None:
    command = [sys.executable, "-m", "controller", "doctor", "-i", str(ward.inventory), "-l", ward.host.name]
    healthy = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert healthy.returncode == 0, healthy.stdout + healthy.stderr
    with ward.broken(f"chown root {PREFIX}/run", f"chown bench {PREFIX}/run"):
        ill = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ill.returncode == 1, ill.stderr
    assert f"BAD  {ward.host.name:<20} prefix " in ill.stdout


def test_a_host_that_is_not_there(ward: Ward) -> None:
    refused = ward.bad(replace(ward.host, port=9))["unreachable"]
    assert "Connection refused" in refused
    assert "are ansible_host and ansible_port right?" in refused
    unknown = ward.bad(replace(ward.host, address="no-such-host.invalid"))["unreachable"]
    assert "no-such-host.invalid" in unknown


def test_a_host_key_that_changed(ward: Ward) -> None:
    ward.patient.change_host_key()
    try:
        assert "has CHANGED" in ward.bad()["host key"]
        assert f"ssh-keygen -R {ward.host.address} -f {ward.host.known_hosts[0]}" in ward.bad()["host key"]
    finally:
        ward.patient.restore_host_key()


def test_a_host_key_that_nobody_looked_at(ward: Ward, tmp_path: Path) -> None:
    known = tmp_path / "known_hosts"
    text = ward.bad(replace(ward.host, known_hosts=(str(known),)))["host key"]
    assert f"is not in {known}" in text
    assert "doctor --accept-host-keys" in text
    assert not known.exists()


def test_a_user_or_a_key_that_the_host_refuses(ward: Ward, tmp_path: Path) -> None:
    stranger = ward.bad(replace(ward.host, user="stranger"))["unreachable"]
    assert f"login as stranger@{ward.host.address}:22 was refused; check ansible_user" in stranger
    key = tmp_path / "id_other"
    assert f"{key} is not there; correct" in ward.bad(replace(ward.host, private_key=str(key)))["ssh key"]
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    refused = ward.bad(replace(ward.host, private_key=str(key)))["unreachable"]
    assert "was refused; check ansible_user and ansible_ssh_private_key_file" in refused
    key.chmod(0o644)
    assert f"chmod 600 {key}" in ward.bad(replace(ward.host, private_key=str(key)))["ssh key"]
    locked = tmp_path / "id_locked"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", str(locked)], check=True)
    assert "has a passphrase" in ward.bad(replace(ward.host, private_key=str(locked)))["unreachable"]


def test_a_python_that_is_missing_or_too_old(ward: Ward) -> None:
    missing = ward.bad(replace(ward.host, python="/opt/python/bin/python3"))
    assert set(missing) == {"python"}
    assert "/opt/python/bin/python3 does not run there" in missing["python"]
    assert f"set ansible_python_interpreter for {ward.host.name}" in missing["python"]
    with ward.broken(
        "printf '#!/bin/sh\\necho 3.6\\n' >/tmp/python; chmod 755 /tmp/python", "rm /tmp/python"
    ):
        old = ward.bad(replace(ward.host, python="/tmp/python"))
    assert "/tmp/python is Python 3.6, 3.9 or later is needed; set" in old["python"]


def test_a_shell_that_talks_at_login(ward: Ward) -> None:
    bashrc = "/home/bench/.bashrc"
    with ward.broken(f"echo 'echo Welcome' >{bashrc}", f"rm {bashrc}"):
        assert "(Welcome)" in ward.bad()["python"]


def test_a_host_that_is_not_provisioned(ward: Ward) -> None:
    remedy = f"run 'fcgi-sweep provision --limit {ward.host.name}'"
    bare = ward.bad(replace(ward.host, prefix="~/elsewhere"))
    assert bare == {"not_provisioned": f"no agent at /home/bench/elsewhere/agent.pyz; {remedy}"}
    with ward.broken(f"mv {PREFIX}/manifest.json /tmp/", f"mv /tmp/manifest.json {PREFIX}/"):
        assert ward.bad() == {"provisioned": f"provisioning never finished there; {remedy}"}


def test_a_host_that_was_provisioned_from_another_checkout(ward: Ward) -> None:
    agent = f"{PREFIX}/agent.pyz"
    with (
        ward.broken(f'cp -p {agent} /tmp; python3 -c "{OTHER_AGENT}"', f"mv /tmp/agent.pyz {agent}"),
        ward.manifest(handlers={"path": f"{PREFIX}/handlers", "fingerprint": "0" * 64}),
    ):
        found = ward.bad()
    assert set(found) == {"agent", "handlers"}
    for text in found.values():
        assert text.startswith("of another version than this checkout; run 'fcgi-sweep provision --limit")


def test_a_port_that_another_server_has(ward: Ward) -> None:
    listen = (
        "import socket; s = socket.create_server(('127.0.0.1', 8080)); print('up', flush=True); s.accept()"
    )
    server = shell(
        ward.patient,
        f'python3 -c "{listen}" >/tmp/up 2>&1 & while [ ! -s /tmp/up ]; do sleep 0.05; done; echo $!',
    )
    try:
        assert ward.bad()["port"].startswith("8080 is in use there ('ss -ltnp' tells by whom); stop that")
    finally:
        shell(ward.patient, f"kill {server}; rm /tmp/up")
    assert "set fcgi_sweep_port" in ward.bad(replace(ward.host, listen_port=80))["port"]


def test_a_load_generator_that_is_gone(ward: Ward) -> None:
    with ward.broken("mv /usr/bin/ab /usr/bin/ab.gone", "mv /usr/bin/ab.gone /usr/bin/ab"):
        assert "do not run any more: /usr/bin/ab (is not there); run" in ward.bad()["programs"]


def test_a_server_whose_library_is_broken(ward: Ward) -> None:
    library = f"{PREFIX}/pcre2-10.46/lib/libpcre2-8.so.0"
    # an empty one in its place, else the loader would take the system's
    with ward.broken(f"mv {library} {library}.gone; touch {library}", f"mv {library}.gone {library}"):
        assert "libpcre2-8.so.0" in ward.bad()["programs"]


def test_a_disk_that_is_nearly_full(ward: Ward) -> None:
    ward.patient.fill_disk(left_bytes=50 << 20)
    try:
        # others of the host may have written a little since
        said = ward.bad()["disk"]
        assert re.match(r"(4\d|50) MiB free where /home/bench/\.fcgi-sweep lies; make room", said)
    finally:
        ward.patient.free_disk()


def test_a_prefix_that_belongs_to_somebody_else(ward: Ward) -> None:
    with ward.broken(f"chown root {PREFIX}", f"chown bench {PREFIX}"):
        assert (
            "user bench may not write: /home/bench/.fcgi-sweep belongs to root; give" in ward.bad()["prefix"]
        )


def test_two_hosts_that_are_one_machine_and_do_not_say_so(ward: Ward) -> None:
    found = ward.bad(replace(ward.host, machine="one"), replace(ward.other, machine="two"))
    assert set(found) == {"machine"}
    assert f"is one machine with {ward.other.name}" in found["machine"]
    assert "by 'machine' they are one, two" in found["machine"]
    assert "give them the same 'machine'" in found["machine"]


def test_cpus_that_the_host_does_not_have_or_that_both_sides_use(ward: Ward) -> None:
    assert "server_cpus names CPU 7, the host has" in ward.bad(replace(ward.host, server_cpus=(7,)))["cpus"]
    cpus = ward.patient.spec.cpus
    both = ward.bad(replace(ward.host, server_cpus=cpus, load_cpus=cpus[-1:]))["cpus"]
    assert f"server_cpus and load_cpus both name CPU {cpus[-1]}" in both


def test_what_a_dead_trial_left(ward: Ward) -> None:
    left = f"exec env FCGI_SWEEP_PREFIX={PREFIX} sleep 300 >/dev/null 2>&1 </dev/null"
    assert ward.patient.ssh([f"({left} & echo $! >orphan)"]).returncode == 0
    try:
        text = ward.bad()["orphans"]
        assert "1 processes of a dead trial; the next trial ends them, or at once, on the host: " in text
        remedy = text.rpartition(": ")[2]
        assert '"killed": [{' in ward.patient.ssh([remedy]).stdout
        assert ward.bad() == {}
    finally:
        shell(ward.patient, "rm -f /home/bench/orphan")


def test_a_host_that_is_being_measured(ward: Ward) -> None:
    lock = f"{PREFIX}/run/lock"
    holder = '{"run_id": "r1", "trial_id": "t1", "pid": 5, "since": "noon"}'
    held = shell(
        ward.patient,
        f"echo '{holder}' >{lock}; chown bench {lock}; "
        f"flock {lock} sh -c 'touch /tmp/held; exec sleep 300' >/dev/null 2>&1 & "
        "while [ ! -e /tmp/held ]; do sleep 0.05; done; echo $!",
    )
    try:
        found = ward.bad()
    finally:
        shell(ward.patient, f"pkill -P {held}; rm -f {lock} /tmp/held")
    assert found == {"lock": "trial t1 of run r1 is measured there by process 5 since noon; wait for its end"}


def test_a_load_host_that_nobody_knows_or_that_cannot_be_reached(ward: Ward) -> None:
    server = replace(ward.host, load_from="gen9")
    assert (
        "load_from names 'gen9', which is no host of the inventory; add"
        in ward.bad(server, load_hosts={server.name: None})["load host"]
    )
    away = replace(ward.other, port=9)
    found = ward.bad(server, load_hosts={server.name: away})
    assert found["load host"] == f"{away.name} cannot be used; mend what is said of it"
    assert "Connection refused" in found["unreachable"]


def test_a_load_host_without_a_load_generator(ward: Ward) -> None:
    # the patient is the load host this time
    server = replace(ward.other, load_from=ward.host.name)
    with ward.manifest(load_generators={}):
        found = ward.bad(server, load_hosts={server.name: ward.host})
    assert f"{ward.host.name} has no load generator; name one in" in found["load host"]


def test_a_load_host_behind_a_firewall(ward: Ward) -> None:
    server = replace(ward.host, load_from=ward.other.name)
    pair: dict[str, Host | None] = {server.name: ward.other}
    assert ward.bad(server, load_hosts=pair) == {}
    chain = "add chain inet t c { type filter hook input priority 0; }; add rule inet t c tcp dport 8080 drop"
    with ward.broken(f"nft 'add table inet t; {chain}'", "nft delete table inet t"):
        text = ward.bad(server, load_hosts=pair)["load host"]
    assert f"{ward.other.name} cannot reach {server.address} port 8080 (timed out)" in text
    assert "open the firewall between them, or set fcgi_sweep_address" in text
    elsewhere = replace(server, listen_address="192.0.2.7")
    assert "cannot listen on 192.0.2.7" in ward.bad(elsewhere, load_hosts=pair)["load host"]


def test_a_jump_host_whose_key_nobody_looked_at(ward: Ward, tmp_path: Path) -> None:
    lines = Path(ward.host.known_hosts[0]).read_text().splitlines(keepends=True)
    known = tmp_path / "known_hosts"
    known.write_text("".join(line for line in lines if not line.startswith(f"{ward.other.address} ")))
    gate = f"{ward.other.user}@{ward.other.address}"
    behind = replace(ward.host, proxy_jump=gate, known_hosts=(str(known),))
    text = ward.bad(behind)["host key"]
    assert f"of the jump host {ward.other.address}: is not in {known}" in text
    assert wrong(examine([behind], accept_host_keys=True)) == {}
    assert ward.bad(behind) == {}
