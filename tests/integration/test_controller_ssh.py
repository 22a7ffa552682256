"""The one way in over ssh, against real sshd: who is trusted, what is noticed, how long things may take."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from controller.errors import HostLost, HostUnreachable
from controller.host_keys import accept_key, offered_key
from controller.inventory import Host, read_hosts
from controller.remote import NoLineYet, run_for_line
from controller.ssh import SshTransport, Timeouts
from lab import Lab
from lab.state import state_home

ROOT = Path(__file__).parents[2]
SHORT = Timeouts(connect_s=3, banner_s=3, login_s=5, channel_s=3, keepalive_s=1, dead_s=4)

pytestmark = [pytest.mark.integration, pytest.mark.lab]


@pytest.fixture
def hosts(lab_hosts: Lab, lab_inventory: Path) -> Iterator[dict[str, Host]]:
    found = {host.name: host for host in read_hosts(lab_inventory, "lab", ROOT)}
    yield {
        "one": found[next(n for n in found if "1core" in n)],
        "two": found[next(n for n in found if "2core" in n)],
    }
    lab_hosts.up()


def say(host: Host, command: str) -> str:
    transport = SshTransport(host, SHORT)
    with contextlib.closing(transport):
        return run_for_line(transport, command, 10)[0]


def test_a_command_runs_with_its_streams_apart_and_its_exit_code(hosts: dict[str, Host]) -> None:
    transport = SshTransport(hosts["one"], SHORT)
    with contextlib.closing(transport):
        assert run_for_line(transport, "echo out; echo err >&2; exit 3", 10) == ("out", 3, "err\n")
        assert run_for_line(transport, "nproc", 10)[0] == "1"  # over the same connection


def test_a_command_that_is_killed_is_no_lost_host(hosts: dict[str, Host]) -> None:
    transport = SshTransport(hosts["one"], SHORT)
    with contextlib.closing(transport), contextlib.closing(transport.start("kill -KILL $$")) as process:
        assert process.read_line(5) is None
        assert process.exit_code(5) == -1
        assert run_for_line(transport, "echo still there", 10)[0] == "still there"


def test_the_end_of_standard_input_reaches_the_command(hosts: dict[str, Host]) -> None:
    transport = SshTransport(hosts["one"], SHORT)
    with contextlib.closing(transport), contextlib.closing(transport.start("cat; echo end")) as process:
        process.write("one line\n")
        assert process.read_line(5) == "one line"
        with pytest.raises(NoLineYet):
            process.read_line(0.3)
        process.close_input()
        assert process.read_line(5) == "end"
        assert process.read_line(5) is None
        assert process.exit_code(5) == 0


def test_a_command_loses_its_input_when_the_connection_is_closed(
    hosts: dict[str, Host], lab_hosts: Lab
) -> None:
    transport = SshTransport(hosts["one"], SHORT)
    process = transport.start("cat >/dev/null; touch /tmp/lease-ended")
    process.write("x\n")
    transport.close()
    deadline = time.monotonic() + 10
    while lab_hosts.host(hosts["one"].name).exec(["test", "-e", "/tmp/lease-ended"]).returncode != 0:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    lab_hosts.host(hosts["one"].name).exec(["rm", "/tmp/lease-ended"])


def test_an_unknown_host_key_is_refused_until_it_is_accepted(hosts: dict[str, Host], tmp_path: Path) -> None:
    known = tmp_path / "known_hosts"
    host = replace(hosts["one"], known_hosts=(str(known),))
    with pytest.raises(HostUnreachable, match=r"is not known in .*known_hosts; .*doctor --accept-host-keys"):
        say(host, "true")
    assert not known.exists()
    offered = offered_key(host)
    assert (offered.known, offered.conflict) == (False, False)
    accept_key(offered)
    assert offered_key(host).known
    assert say(host, "echo in") == "in"


def test_a_key_is_known_whatever_other_keys_the_host_has(
    hosts: dict[str, Host], lab_hosts: Lab, tmp_path: Path
) -> None:
    box, config, key = lab_hosts.host(hosts["one"].name), "/etc/ssh/sshd_config", "/etc/ssh/ssh_host_rsa_key"
    script = f"ssh-keygen -q -t rsa -N '' -f {key}; echo 'HostKey {key}' >> {config}; cat {key}.pub"
    before, public = box.exec(["cat", config]).stdout, box.exec(["sh", "-c", script]).stdout.split()
    box.restart_sshd()
    known = tmp_path / "known_hosts"
    known.write_text(f"{hosts['one'].address} {public[0]} {public[1]}\n")
    host = replace(hosts["one"], known_hosts=(str(known),))
    try:
        assert say(host, "echo in") == "in"
        offered = offered_key(host)
    finally:
        box.exec(["sh", "-c", f'rm {key} {key}.pub; printf %s "$1" > {config}', "sh", before])
        box.restart_sshd()
    assert (offered.key.get_name(), offered.known, offered.conflict) == ("ssh-rsa", True, False)


def test_doctor_accepts_unknown_keys_when_told_to(hosts: dict[str, Host], tmp_path: Path) -> None:
    known, inventory, host = tmp_path / "known_hosts", tmp_path / "inventory.yml", hosts["one"]
    inventory.write_text(
        f"targets:\n  hosts:\n    web1: {{ansible_host: {host.address}, ansible_user: {host.user}, "
        f"ansible_ssh_private_key_file: {host.private_key}, "
        f"ansible_ssh_common_args: -o UserKnownHostsFile={known}}}\n"
    )
    doctor = [sys.executable, "-m", "controller", "doctor", "-i", str(inventory)]
    before = subprocess.run(doctor, cwd=ROOT, capture_output=True, text=True, check=False)
    assert "BAD  web1                 host key" in before.stdout
    assert not known.exists()
    subprocess.run([*doctor, "--accept-host-keys"], cwd=ROOT, capture_output=True, check=False)
    after = subprocess.run(doctor, cwd=ROOT, capture_output=True, text=True, check=False)
    assert "ok   web1                 host key" in after.stdout


def test_a_changed_host_key_is_refused_with_both_keys_and_the_remedy(
    hosts: dict[str, Host], lab_hosts: Lab
) -> None:
    victim = lab_hosts.host(hosts["one"].name)
    victim.change_host_key()
    try:
        with pytest.raises(HostUnreachable, match=r"has CHANGED: it is ssh-\S+ SHA256:.*ssh-keygen -R"):
            say(hosts["one"], "true")
        assert offered_key(hosts["one"]).conflict
    finally:
        victim.restore_host_key()
    assert say(hosts["one"], "echo in") == "in"


def test_a_jump_host_is_used_and_its_key_checked_as_well(hosts: dict[str, Host], tmp_path: Path) -> None:
    gate, inner = hosts["one"], hosts["two"]
    through = replace(inner, proxy_jump=f"{gate.user}@{gate.address}")
    assert say(through, "echo $SSH_CONNECTION").split()[0] == gate.address
    assert say(replace(inner, proxy_jump="none"), "echo direct") == "direct"
    known = tmp_path / "known_hosts"
    lines = Path(inner.known_hosts[0]).read_text().splitlines()
    known.write_text("\n".join(line for line in lines if not line.startswith(gate.address + " ")) + "\n")
    with pytest.raises(HostUnreachable, match="not known"):
        say(replace(through, known_hosts=(str(known),)), "true")


def test_the_way_through_a_jump_host_is_closed_with_the_connection(
    hosts: dict[str, Host], lab_hosts: Lab
) -> None:
    gate, inner = hosts["one"], hosts["two"]
    through = replace(inner, proxy_jump=f"{gate.user}@{gate.address}")
    assert say(through, "echo in") == "in"
    offered_key(through)
    with pytest.raises(HostUnreachable):
        say(replace(through, user="stranger"), "true")
    deadline = time.monotonic() + 10
    while sessions := [each for each in lab_hosts.host(gate.name).processes() if "bench" in each.command]:
        assert time.monotonic() < deadline, sessions
        time.sleep(0.1)


def new_key(path: Path, kind: str = "ed25519", passphrase: str = "") -> Path:
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-f", str(path)], check=True)
    return path


@pytest.mark.parametrize("kind", ["ed25519", "rsa", "ecdsa"])
def test_a_refused_login_names_user_and_place(hosts: dict[str, Host], tmp_path: Path, kind: str) -> None:
    key = new_key(tmp_path / "id_other", kind)
    with pytest.raises(HostUnreachable, match=rf"login as bench@{hosts['one'].address}:22 was refused"):
        say(replace(hosts["one"], private_key=str(key)), "true")


def test_a_file_that_is_no_key_is_named(hosts: dict[str, Host], tmp_path: Path) -> None:
    key = new_key(tmp_path / "id_other")
    with pytest.raises(
        HostUnreachable, match=rf"{key}\.pub is no private key that can be used here; correct"
    ):
        say(replace(hosts["one"], private_key=f"{key}.pub"), "true")
    with pytest.raises(HostUnreachable, match=r"cannot be read \(No such file or directory\); correct"):
        say(replace(hosts["one"], private_key=f"{key}.gone"), "true")


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run an ssh-agent without keys, for a user who has none in the home directory either."""
    monkeypatch.setenv("XDG_STATE_HOME", str(state_home().parents[1]))  # the lab's own
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    with tempfile.TemporaryDirectory() as short:  # the path of a socket must be
        monkeypatch.setenv("SSH_AUTH_SOCK", f"{short}/agent")
        process = subprocess.Popen(["ssh-agent", "-D", "-a", f"{short}/agent"], stdout=subprocess.DEVNULL)
        while not Path(short, "agent").exists():
            time.sleep(0.02)
        yield
        process.terminate()
        process.wait()


def test_a_key_with_a_passphrase_is_used_through_the_agent(
    hosts: dict[str, Host], tmp_path: Path, agent: None
) -> None:
    host = hosts["one"]
    locked = tmp_path / "id_locked"
    shutil.copy(str(host.private_key), locked)
    subprocess.run(["ssh-keygen", "-q", "-p", "-P", "", "-N", "secret", "-f", str(locked)], check=True)
    with pytest.raises(HostUnreachable, match=r"id_locked has a passphrase.*and ssh-agent has no key"):
        say(replace(host, private_key=str(locked)), "true")
    with pytest.raises(
        HostUnreachable, match=r"was refused: ssh-agent has no key for it.*ssh-add the key, or"
    ):
        say(replace(host, private_key=None), "true")
    subprocess.run(["ssh-add", "-q", str(host.private_key)], check=True)
    assert say(replace(host, private_key=str(locked)), "echo in") == "in"
    assert say(replace(host, private_key=None), "echo in") == "in"


def test_a_jump_host_is_offered_the_user_s_own_keys_as_well(
    hosts: dict[str, Host], lab_hosts: Lab, tmp_path: Path, agent: None
) -> None:
    gate, inner, key = hosts["one"], hosts["two"], new_key(tmp_path / "id_inner")
    box, keys = lab_hosts.host(inner.name), "/etc/ssh/authorized_keys"
    before, public = box.exec(["cat", keys]).stdout, Path(f"{key}.pub").read_text()
    through = replace(inner, proxy_jump=f"{gate.user}@{gate.address}", private_key=str(key))
    box.exec(["sh", "-c", f'printf %s "$1" > {keys}', "sh", public])
    try:
        with pytest.raises(
            HostUnreachable, match=rf"login as bench@{gate.address}:22 .*the user in ProxyJump"
        ):
            say(through, "true")
        subprocess.run(["ssh-add", "-q", str(gate.private_key)], check=True)
        assert say(through, "echo in") == "in"
    finally:
        box.exec(["sh", "-c", f'printf %s "$1" > {keys}', "sh", before])


def test_nobody_listening_is_told_at_once(hosts: dict[str, Host]) -> None:
    began = time.monotonic()
    with pytest.raises(HostUnreachable, match="is the host up and sshd running"):
        say(replace(hosts["one"], port=9), "true")
    assert time.monotonic() - began < 10


def test_a_frozen_host_is_given_up_within_the_time_limits(hosts: dict[str, Host], lab_hosts: Lab) -> None:
    victim = lab_hosts.host(hosts["one"].name)
    transport = SshTransport(hosts["one"], SHORT)
    assert run_for_line(transport, "echo in", 10)[0] == "in"
    victim.freeze()
    try:
        began = time.monotonic()
        with pytest.raises(HostLost):
            run_for_line(transport, "echo in", 2)
        with pytest.raises(HostUnreachable):
            transport.start("true")
        assert time.monotonic() - began < 30
    finally:
        victim.thaw()
        transport.close()
    assert say(hosts["one"], "echo back") == "back"


def test_a_dead_link_ends_a_waiting_read(hosts: dict[str, Host], lab_hosts: Lab) -> None:
    victim = lab_hosts.host(hosts["one"].name)
    transport = SshTransport(hosts["one"], SHORT)
    process = transport.start("sleep 100")
    victim.link_down()
    try:
        began = time.monotonic()
        line: str | None = "nothing yet"
        while line is not None and time.monotonic() - began < 60:
            with contextlib.suppress(NoLineYet):
                line = process.read_line(1)
        assert line is None, "the end of the connection was not noticed"
        assert process.exit_code(1) is None
    finally:
        victim.link_up()
        transport.close()


def test_sshd_killed_looks_like_a_lost_host_not_like_a_failed_command(
    hosts: dict[str, Host], lab_hosts: Lab
) -> None:
    victim = lab_hosts.host(hosts["one"].name)
    transport = SshTransport(hosts["one"], SHORT)
    process = transport.start("sleep 100")
    victim.kill_sshd()
    try:
        assert process.read_line(10) is None
        assert process.exit_code(2) is None
        with pytest.raises(HostUnreachable):
            transport.start("true")
    finally:
        victim.restart_sshd()
        transport.close()
