from __future__ import annotations

import io
import os
import shlex
import signal
import socket
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from lab import Lab, LabError, machine, preflight, process_host, procfs, testing

pytestmark = pytest.mark.lab


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[Lab]:
    """A lab of plain processes."""
    try:
        preflight.require(preflight.NEEDED)
    except LabError as error:
        pytest.skip(str(error))
    lab = Lab(testing.own_name("up"), cores=(1,), mode="processes", inventory=tmp_path / "10-lab.yml")
    try:
        lab.up()
        yield lab
    finally:
        lab.down()


def test_a_plain_host_has_its_own_cpus_key_and_prefix(plain: Lab, tmp_path: Path) -> None:
    host = plain.host("1")
    assert host.spec.address.startswith("127.")
    assert host.ssh(["nproc"]).stdout == "1\n"
    inventory = yaml.safe_load((tmp_path / "10-lab.yml").read_text())
    variables = inventory["targets"]["children"]["lab"]["hosts"][host.name]
    assert variables["fcgi_sweep_prefix"] == str(process_host.prefix(host.name))
    assert variables["ansible_port"] == host.spec.port
    assert {deed.action for deed in plain.up()} == {"left alone, it is up"}


def test_faults_of_a_plain_host_are_the_real_ones_or_refused(plain: Lab) -> None:
    host = plain.host("1")
    host.freeze()
    assert not host.answers(0.3)
    host.thaw()
    host.wait_ready()
    host.kill_sshd()
    assert not host.answers(0.3)
    assert [deed.action for deed in plain.up()] == ["its sshd was dead: started again"]
    host.change_host_key()
    assert "HOST IDENTIFICATION HAS CHANGED" in host.ssh(["true"]).stderr
    host.restore_host_key()
    assert host.ssh(["true"]).returncode == 0
    for fault in (host.link_down, host.link_up, host.power_off, host.fill_disk, host.free_disk):
        with pytest.raises(LabError, match="neither a cable nor a disk"):
            fault()


def test_orphans_of_a_plain_host_are_seen_and_go_with_it(plain: Lab) -> None:
    host = plain.host("1")
    assert host.ssh(["(setsid sleep 64 > /dev/null 2>&1 &)"]).returncode == 0
    deadline = time.monotonic() + 5
    while [process.command for process in host.guests()] != ["sleep 64"]:
        assert time.monotonic() < deadline, host.guests()
        time.sleep(0.05)
    process_host.prefix(host.name).mkdir()
    first = host.first()
    assert first is not None
    os.kill(first.pid, signal.SIGKILL)  # without its keeper the rest must still be found
    removed = plain.down()
    assert f"host {host.name}" in removed
    assert not any(process.command == "sleep 64" for process in procfs.processes())
    assert not process_host.prefix(host.name).exists()
    assert process_host.existing(plain.name) == []


def test_a_port_in_use_is_passed_over() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.11", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert process_host.free_port("127.0.0.11", port) > port


def test_an_unprivileged_user_gets_plain_hosts_and_is_told(lab: Lab) -> None:
    """Run the lab inside a lab host, whose bench user may not make namespaces."""
    host = lab.host("2")
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.add(
            machine.PROJECT / "lab",
            "lab",
            filter=lambda member: None if "__pycache__" in member.name else member,
        )
    script = (
        "from lab import Lab\n"
        "lab = Lab('inner', say=print)\n"
        "print([deed.action for deed in lab.up()])\n"
        "print([host.ssh(['nproc']).stdout for host in lab.hosts.values()])\n"
        "print([host.condition for host in lab.status()])\n"
        "print(len(lab.down()), lab.down())\n"
    )
    done = subprocess.run(
        ["ssh", "-F", str(lab.state.ssh_config), host.name, f"tar x && python3 -c {shlex.quote(script)}"],
        input=packed.getvalue(),
        capture_output=True,
        check=False,
        timeout=60,
    )
    lines = done.stdout.decode().splitlines()
    assert done.returncode == 0, done.stderr.decode()
    assert lines[0].startswith("namespaces are not permitted here (this user is not root)")
    assert lines[1:] == ["['started', 'started']", r"['1\n', '2\n']", "['up', 'up']", "3 []"]
    assert host.guests() == []
