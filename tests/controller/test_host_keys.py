from __future__ import annotations

from pathlib import Path

import paramiko
import pytest

from controller.errors import HostUnreachable
from controller.host_keys import OfferedKey, accept_key
from controller.inventory import Host
from controller.ssh import known_hosts_files, load_known_hosts

KEY = paramiko.ECDSAKey.generate()
LINE = f"web2 {KEY.get_name()} {KEY.get_base64()}"


def known(path: Path) -> paramiko.HostKeys:
    found = paramiko.HostKeys()
    load_known_hosts(Host("web1", "web1", "web1", known_hosts=(str(path), f"{path}.absent")), found.load)
    return found


@pytest.mark.parametrize("before", ["", f"{LINE}\n", LINE], ids=["new", "whole", "without its last line end"])
def test_an_accepted_key_gets_a_line_of_its_own(tmp_path: Path, before: str) -> None:
    path = tmp_path / "ssh" / "known_hosts"
    if before:
        path.parent.mkdir()
        path.write_text(before)
    accept_key(OfferedKey("web1", KEY, path, known=False, conflict=False))
    assert known(path).check("web1", KEY)
    assert known(path).check("web2", KEY) is bool(before)
    assert path.read_text().splitlines() == ([LINE] if before else []) + [LINE.replace("web2", "web1")]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (
            "web1 ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHostx",
            "has a line that is no host key .'web1 .*remove it",
        ),
        ("web1 ssh-ed25519 AAAAC3NzaC1lZDI1NTE5", "cannot be read as host keys .*; mend it, or name another"),
        ("# m\udcfcller", "cannot be read as host keys .*; mend it, or name another UserKnownHostsFile"),
    ],
)
def test_known_hosts_that_cannot_be_read_are_named_with_the_host(
    tmp_path: Path, line: str, words: str
) -> None:
    path = tmp_path / "known_hosts"
    path.write_bytes(f"{LINE}\n{line}\n".encode(errors="surrogateescape"))
    with pytest.raises(HostUnreachable, match=f"web1: {path} {words}"):
        known(path)


def test_keys_that_an_inventory_throws_away_are_looked_up_in_the_user_s_own_files() -> None:
    own = known_hosts_files(Host("web1", "web1", "web1"))
    assert known_hosts_files(Host("web1", "web1", "web1", known_hosts=("/dev/null",))) == own
    assert own[0] == Path("~/.ssh/known_hosts").expanduser()
