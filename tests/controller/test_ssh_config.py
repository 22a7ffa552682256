from __future__ import annotations

from pathlib import Path

import pytest

from controller.errors import HostUnreachable
from controller.inventory import Host
from controller.ssh_config import resolve


def resolved(directory: Path, config: str | bytes, **more: str | bytes) -> Host:
    """Return a host called `web` that has nothing but what files with these texts say of it."""
    for name, text in {"config": config, **more}.items():
        (directory / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return resolve(Host("web", "web", "web", config_file=str(directory / "config")))


def test_what_ssh_knows_of_a_host_holds(tmp_path: Path) -> None:
    found = resolved(
        tmp_path,
        "Host web\n HostName 192.0.2.4\n Port 2222\n User me\n IdentityFile /k\n ProxyJump gate\n"
        " UserKnownHostsFile /a /b\nHost *\n User other\n",
    )
    assert (found.address, found.port, found.user, found.private_key) == ("192.0.2.4", 2222, "me", "/k")
    assert (found.proxy_jump, found.known_hosts) == ("gate", ("/a", "/b"))


def test_files_that_the_configuration_includes_are_read(tmp_path: Path) -> None:
    found = resolved(
        tmp_path,
        f"Include {tmp_path}/*.conf\nPort 2222\nHost web\n Include={tmp_path}/user\n IdentityFile /k\n",
        **{"1.conf": "Host other\n  User nobody\n", "2.conf": "Host web\n  HostName 192.0.2.4\n"},
        user="User me\n",
    )
    # the port stands behind the included files and belongs to none of their blocks
    assert (found.address, found.port, found.user, found.private_key) == ("192.0.2.4", 2222, "me", "/k")


def test_a_file_that_includes_itself_comes_to_an_end(tmp_path: Path) -> None:
    assert resolved(tmp_path, f"Include {tmp_path}/config\nUser me\n").user == "me"


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("ProxyCommand nc gate 22\n", "leads to web by ProxyCommand, which .*; write the way as ProxyJump"),
        ("Host web\n  Frob\n", r"cannot be used \(Unparsable line Frob\); correct it, or name another"),
        ("Port ssh\n", r"cannot be used \(invalid literal .* 'ssh'\)"),
        ("CanonicalizeHostname yes\n", r"cannot be used \('canonicaldomains'\)"),
    ],
)
def test_a_configuration_that_cannot_be_followed_is_named(tmp_path: Path, config: str, words: str) -> None:
    with pytest.raises(HostUnreachable, match=f"web: {tmp_path}/config {words}"):
        resolved(tmp_path, config)


def test_a_comment_in_another_encoding_and_a_command_that_is_not_needed_do_no_harm(tmp_path: Path) -> None:
    assert resolved(tmp_path, b"# m\xfcller\nUser me\n").user == "me"
    assert resolved(tmp_path, "ProxyCommand none\nUser me\n").user == "me"
    assert resolved(tmp_path, "ProxyJump gate\nProxyCommand nc gate 22\n").proxy_jump == "gate"
