from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from lab import Lab, LabError, machine, network, plan, procfs, testing
from lab.commands import run
from lab.state import State, cache_home, state_home

pytestmark = pytest.mark.lab


def traces(name: str) -> list[str]:
    """Everything on the machine that carries the name of a lab."""
    found = [f"interface {link}" for link in network.links() if link.startswith(plan.bridge_name(name))]
    found += [f"namespace {namespace}" for namespace in network.namespaces(name)]
    if plan.table_name(name) in run(["nft", "list", "tables"]).split():
        found.append("nft table")
    directory = str(State(name).path)
    found += [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if f"{name}-" in line]
    found += [str(process) for process in procfs.processes() if f"{directory}/" in process.command]
    found += [str(path) for path in state_home().glob(f"{name}*")]
    return found


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command line as a user does."""
    return subprocess.run(
        [sys.executable, "-m", "lab", *arguments],
        cwd=machine.PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("cores", ["1", "2"])
def test_a_host_has_only_its_own_cpus(lab: Lab, cores: str) -> None:
    host = lab.host(cores)
    affinity = "python3 -c 'import os; print(len(os.sched_getaffinity(0)))'"
    assert host.ssh([f"nproc; {affinity}; sudo nproc"]).stdout.split() == [cores] * 3
    assert host.exec(["nproc"]).stdout.strip() == cores


def test_bench_and_root_log_in_with_the_key_of_the_lab(lab: Lab) -> None:
    host = lab.host("1")
    assert host.ssh(["id -un; sudo -n id -un; pwd; hostname"]).stdout.split() == [
        "bench",
        "root",
        "/home/bench",
        host.name,
    ]
    assert host.ssh(["id -un; pwd"], user="root").stdout.split() == ["root", "/root"]


def test_limits_and_umask_are_those_of_a_login(lab: Lab) -> None:
    assert lab.host("1").ssh(["ulimit -Sn; umask; echo $LANG"]).stdout.split() == ["1024", "0022", "C.UTF-8"]


def test_nothing_private_of_the_machine_shows_through(lab: Lab) -> None:
    host = lab.host("2")
    private = {*map(str, machine.private_directories()), "/tmp", "/run/netns", "/mnt"}
    seen = host.ssh(["sudo find", *sorted(private), "-mindepth 1 2>/dev/null"]).stdout.split()
    allowed = ("/home/bench", "/root/.bashrc", "/root/.profile", "/root/.hushlogin")
    assert [path for path in seen if not path.startswith(allowed)] == []
    keys = host.ssh(["sudo sh -c 'cat /etc/ssh/ssh_host_*.pub /etc/ssh/ssh_host_*_key | wc -l'; ls /etc/ssh"])
    assert "ssh_host_rsa_key" not in keys.stdout


def test_processes_of_the_machine_and_of_other_hosts_are_out_of_sight(lab: Lab) -> None:
    commands = lab.host("1").ssh(["ps -eo comm --no-headers"]).stdout.split()
    assert len(commands) < 12
    assert not any(name.startswith("pytest") for name in commands)
    assert {process.pid for process in lab.host("1").processes()}.isdisjoint(
        process.pid for process in lab.host("2").processes()
    )


def test_what_a_host_writes_stays_on_that_host(lab: Lab) -> None:
    written = lab.host("1").ssh(
        ["echo mine | sudo tee /etc/motd /opt/mine /tmp/mine > /dev/null; cat /etc/motd"]
    )
    assert written.stdout == "mine\n"
    assert not Path("/opt/mine").exists()
    assert not Path("/tmp/mine").exists()
    assert lab.host("2").ssh(["cat /opt/mine"]).returncode != 0


def test_names_are_resolved_by_servers_that_a_host_can_reach(lab: Lab) -> None:
    host = lab.host("1")
    servers = [
        line for line in host.ssh(["cat /etc/resolv.conf"]).stdout.splitlines() if "nameserver" in line
    ]
    assert not any(server.split()[1].startswith("127.") for server in servers)
    assert host.ssh([f"getent hosts {lab.host('2').name}"]).stdout.split()[0] == lab.host("2").spec.address


def test_hosts_reach_each_other_and_the_world_through_the_machine(lab: Lab) -> None:
    host, other = lab.host("1"), lab.host("2")
    connect = "python3 -c 'import socket, sys; print(socket.create_connection((sys.argv[1], 22), 5).recv(4))'"
    assert host.ssh([f"{connect} {other.spec.address}"]).stdout == "b'SSH-'\n"
    table = run(["nft", "list", "table", "ip", plan.table_name(lab.name)])
    assert "masquerade" in table
    assert Path("/proc/sys/net/ipv4/ip_forward").read_text().strip() == "1"


def test_ansible_uses_the_inventory_that_up_wrote(lab: Lab) -> None:
    record = lab.state.load()
    assert record is not None
    assert record.inventory is not None
    hosts = yaml.safe_load(Path(record.inventory).read_text())["targets"]["children"]["lab"]["hosts"]
    assert sorted(hosts) == sorted(lab.hosts)
    ansible = Path(sys.executable).with_name("ansible")
    done = subprocess.run(
        [ansible, "-i", record.inventory, "-b", "-m", "ansible.builtin.command", "-a", "id -un", "lab"],
        cwd=Path(record.inventory).parent,  # no project configuration
        env={**os.environ, "ANSIBLE_NOCOLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.count("CHANGED") == 2, done.stdout + done.stderr
    assert done.stdout.count("\nroot") == 2


def test_a_second_up_leaves_living_hosts_alone_and_mends_a_dead_one(lab: Lab) -> None:
    before = {host.spec.name: host.pid for host in lab.status()}
    assert {deed.action for deed in lab.up()} == {"left alone, it is up"}
    assert {host.spec.name: host.pid for host in lab.status()} == before
    dying, living = lab.host("1"), lab.host("2")
    os.kill(before[dying.name], signal.SIGKILL)
    procfs.kill_all(lambda: [found] if (found := dying.first()) else [], "the host")
    assert {host.spec.name: host.condition for host in lab.status()} == {
        dying.name: "dead",
        living.name: "up",
    }
    actions = {deed.host: deed.action for deed in lab.up()}
    assert actions[living.name] == "left alone, it is up"
    assert "made again" in actions[dying.name]
    assert dying.ssh(["nproc"]).stdout == "1\n"


def test_a_host_can_be_added_to_a_lab_that_is_up_only_if_the_machine_has_the_cpus(lab: Lab) -> None:
    with pytest.raises(LabError, match="ask for fewer"):
        Lab(lab.name, cores=(150,)).up()
    assert len(lab.hosts) == 2


def test_what_contradicts_the_lab_that_is_up_is_refused(lab: Lab, tmp_path: Path) -> None:
    with pytest.raises(LabError, match="is up with --rootfs overlay"):
        Lab(lab.name, rootfs="debian:bookworm").up()
    with pytest.raises(LabError, match="is up in mode namespaces"):
        Lab(lab.name, mode="processes").up()
    with pytest.raises(LabError, match=r"use overlay or debian:<suite>"):
        Lab(lab.name, rootfs="windows").up()


def test_another_state_directory_does_not_take_over_a_lab(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = lab.state.path
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    with pytest.raises(LabError, match=f"is up already, with its state in {mine}"):
        Lab(lab.name).up()


def test_the_command_line_outlives_its_terminal_and_leaves_nothing(
    namespaces: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = testing.own_name("uc")
    inventory = tmp_path / "10-lab.yml"
    ssh_before = sorted(Path("~/.ssh").expanduser().glob("*"))
    forward_before = network.IP_FORWARD.read_text()
    others_before = network.other_notes(name)
    try:
        with subprocess.Popen(
            [
                sys.executable,
                "-m",
                "lab",
                "up",
                "--name",
                name,
                "--hosts",
                "1",
                "--inventory",
                str(inventory),
            ],
            cwd=machine.PROJECT,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        ) as up:
            said, _ = up.communicate()
            with contextlib.suppress(ProcessLookupError):
                os.killpg(up.pid, signal.SIGHUP)  # what the end of a terminal does to those who stayed
        assert f"{name}-1core" in said
        assert "started" in said
        status = command("status", "--name", name)
        assert (status.returncode, status.stdout.split()[-3:-1]) == (0, ["up", "pid"])
        assert inventory.exists()
        assert any(line.startswith("interface") for line in traces(name))
    finally:
        down = command("down", "--name", name)
    assert down.returncode == 0
    assert traces(name) == []
    assert not inventory.exists()
    if not others_before and not network.other_notes(name):
        assert network.IP_FORWARD.read_text() == forward_before
    assert sorted(Path("~/.ssh").expanduser().glob("*")) == ssh_before
    again = command("down", "--name", name)
    assert (again.returncode, again.stdout) == (0, f"removed nothing: there is no lab {name}\n")
    assert command("status", "--name", name).returncode == 1


def test_down_removes_no_inventory_that_it_did_not_write(namespaces: None, tmp_path: Path) -> None:
    name = testing.own_name("ui")
    inventory = tmp_path / "hosts.yml"
    with Lab(name, cores=(1,), inventory=inventory):
        inventory.write_text("mine: {}\n")
    assert inventory.read_text() == "mine: {}\n"
    assert traces(name) == []


KILLED = """
import os, signal, subprocess, sys
from lab import Lab
real, limit, calls = subprocess.run, int(sys.argv[3]), 0
def run(*args, **kwargs):
    global calls
    done = real(*args, **kwargs)
    calls += 1
    if calls == limit:
        os.kill(os.getpid(), signal.SIGKILL)
    return done
subprocess.run = run
getattr(Lab(sys.argv[1], cores=(1,)), sys.argv[2])()
print(calls)
"""


def kill_after(name: str, act: str, calls: int) -> int | None:
    """Kill `up` or `down` right after it has called so many tools; its number of calls if it got through."""
    done = subprocess.run(
        [sys.executable, "-c", KILLED, name, act, str(calls)],
        env={**os.environ, "PYTHONPATH": str(machine.PROJECT)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 0:
        return int(done.stdout)
    assert done.returncode == -signal.SIGKILL, done.stderr
    return None


@pytest.mark.slow
def test_down_is_clean_wherever_up_was_killed(namespaces: None) -> None:
    name = testing.own_name("uk")
    points = 0
    try:
        while kill_after(name, "up", points + 1) is None:
            points += 1
            Lab(name).down()
            assert traces(name) == [], f"up killed after {points} calls"
    finally:
        Lab(name).down()
    assert points >= 15


@pytest.mark.slow
def test_down_is_clean_wherever_a_former_down_was_killed(namespaces: None) -> None:
    name = testing.own_name("ud")
    points = 0
    try:
        while True:
            Lab(name, cores=(1,)).up()
            if kill_after(name, "down", points + 1) is not None:
                break
            points += 2
            Lab(name).down()
            assert traces(name) == [], f"down killed after {points - 1} calls"
    finally:
        Lab(name).down()
    assert points >= 6


def test_up_goes_on_where_a_killed_up_stopped(namespaces: None) -> None:
    name = testing.own_name("ug")
    try:
        for calls in (6, 12, 17):
            kill_after(name, "up", calls)
        Lab(name, cores=(1,)).up()
        assert Lab(name).host("1").ssh(["nproc"]).stdout == "1\n"
    finally:
        Lab(name).down()
    assert traces(name) == []


@pytest.mark.slow
@pytest.mark.timeout(1800)  # the first time on a machine debootstrap fetches a whole Debian
def test_a_bare_debian_host_has_python_and_sudo_and_little_else(namespaces: None) -> None:
    name = testing.own_name("ub")
    with Lab(name, cores=(1,), rootfs="debian:bookworm") as bare:
        host = bare.host("1")
        assert host.ssh(["nproc; sudo -n id -un; cat /etc/debian_version"]).stdout.split()[:2] == [
            "1",
            "root",
        ]
        assert host.ssh(["python3 -c 'import sys; print(sys.version_info[:2])'"]).stdout == "(3, 11)\n"
        assert host.ssh(["command -v gcc cmake ab git"]).stdout == ""
        updated = host.ssh(["sudo apt-get update"])  # by name, through the NAT of the machine
        assert updated.returncode == 0, updated.stderr
        lower = json.loads((bare.state.host_dir(host.name) / "plan.json").read_text())["root"]["lower"]
        assert lower.startswith(str(cache_home()))
    assert traces(name) == []


def test_a_debian_that_does_not_exist_is_named_with_the_log(
    namespaces: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    name = testing.own_name("ue")
    try:
        with pytest.raises(LabError, match=r"(?s)debootstrap of nosuchsuite from .* failed, exit 1: .*\.log"):
            Lab(name, cores=(1,), rootfs="debian:nosuchsuite").up()
    finally:
        Lab(name).down()
    assert traces(name) == []
