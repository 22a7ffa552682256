from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator

import pytest

from lab import Lab, LabHost

pytestmark = pytest.mark.lab


@pytest.fixture
def host(lab: Lab) -> Iterator[LabHost]:
    """A host that works, before the test and after."""
    host = lab.host("2")
    assert host.answers()
    yield host
    lab.up()
    host.wait_ready()


def guest(host: LabHost, command: str) -> subprocess.Popen[str]:
    """Run something on a host through ssh and come back when it runs."""
    client = subprocess.Popen(
        ["ssh", "-F", str(host.state.ssh_config), "-o", "ServerAliveInterval=30", host.name, command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    deadline = time.monotonic() + 10
    while not any(process.command == command for process in host.guests()):
        assert time.monotonic() < deadline, f"{command} does not run on {host.name}"
        time.sleep(0.05)
    return client


def test_a_frozen_host_is_silent_and_goes_on_when_thawed(lab: Lab, host: LabHost) -> None:
    with guest(host, "sleep 61") as client:
        host.freeze()
        assert {process.state for process in host.processes()} == {"T"}
        assert not host.answers(0.3)
        assert lab.host("1").answers()
        host.thaw()
        assert host.ssh(["true"]).returncode == 0
        assert [process.command for process in host.guests()] == ["sleep 61"]
        assert client.poll() is None
        host.restart()
        assert client.wait(10) == 255


def test_a_host_without_cable_cannot_be_reached_until_it_is_back(lab: Lab, host: LabHost) -> None:
    host.link_down()
    assert not host.answers(0.3)
    assert lab.host("1").answers()
    host.link_up()
    host.wait_ready()


def test_killing_sshd_ends_sessions_but_not_what_they_started(lab: Lab, host: LabHost) -> None:
    with guest(host, "sleep 62") as client:
        host.kill_sshd()
        assert client.wait(10) == 255
    assert [process.command for process in host.guests()] == ["sleep 62"]
    assert not host.answers(0.3)
    actions = {deed.host: deed.action for deed in lab.up()}
    assert actions[host.name] == "its sshd was dead: started again"
    assert host.ssh(["pgrep -c -x sleep; nproc"]).stdout.split() == ["1", "2"]
    host.restart()
    assert host.guests() == []


def test_up_lets_a_frozen_or_unplugged_host_go_on_without_losing_its_disk(lab: Lab, host: LabHost) -> None:
    assert host.ssh(["touch kept"]).returncode == 0
    host.freeze()
    host.link_down()
    assert {deed.host: deed.action for deed in lab.up()}[host.name] == "it was frozen or cut off: let go on"
    assert host.ssh(["ls"]).stdout == "kept\n"


def test_a_full_disk_refuses_every_writer_and_can_be_emptied(host: LabHost) -> None:
    host.fill_disk()
    assert host.disk_free_bytes() == 0
    for place in ("/home/bench/x", "/tmp/x", "/var/x"):
        done = host.ssh([f"sudo dd if=/dev/zero of={place} bs=64k count=1"])
        assert "No space left on device" in done.stderr
    host.free_disk()
    assert host.ssh(["dd if=/dev/zero of=y bs=64k count=1 && sudo rm -f x y /tmp/x /var/x"]).returncode == 0
    host.fill_disk(left_bytes=1 << 20)
    assert 0 < host.disk_free_bytes() <= (1 << 20) + 4096
    host.free_disk()


def test_a_reset_keeps_the_disk_and_nothing_else(host: LabHost) -> None:
    assert host.ssh(["echo 1 > kept; echo 1 > /tmp/lost; nohup sleep 63 > /dev/null 2>&1 &"]).returncode == 0
    assert [process.command for process in host.guests()] == ["sleep 63"]
    host.power_off()
    assert not host.answers(0.3)
    assert len(host.processes()) == 1
    host.power_on()
    assert host.ssh(["cat kept; ls /tmp; id -un; sudo id -un; nproc"]).stdout.split() == [
        "1",
        "bench",
        "root",
        "2",
    ]
    assert host.guests() == []


def test_a_changed_host_key_is_refused_by_a_strict_client(host: LabHost) -> None:
    host.change_host_key()
    assert "HOST IDENTIFICATION HAS CHANGED" in host.ssh(["true"]).stderr
    host.restore_host_key()
    assert host.ssh(["true"]).returncode == 0


def test_limits_and_cpus_are_the_same_after_sshd_was_started_again(host: LabHost) -> None:
    before = host.ssh(["nproc; ulimit -Sn; ulimit -Hn; umask"]).stdout
    host.restart_sshd()
    assert host.ssh(["nproc; ulimit -Sn; ulimit -Hn; umask"]).stdout == before


def test_orphans_are_adopted_and_buried_by_the_first_process(host: LabHost) -> None:
    assert host.ssh(["(sleep 0.2 &) ; true"]).returncode == 0
    time.sleep(0.5)
    assert host.ssh(["ps -eo stat --no-headers | grep -c Z"]).stdout == "0\n"
    assert host.guests() == []
