"""What ssh's own configuration says of a host, as far as the controller needs it."""

from __future__ import annotations

import glob
import os
import shlex
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import paramiko

from controller.errors import HostUnreachable
from controller.inventory import Host

MAX_INCLUDES = 16
"""How deep files may include each other, as in OpenSSH."""


def resolve(host: Host) -> Host:
    """Fill in what the inventory leaves to ssh's own configuration, as OpenSSH would for Ansible.

    Raises
    ------
    HostUnreachable
        The configuration cannot be read, or leads to the host by a command.
    """
    path = Path(host.config_file or "~/.ssh/config").expanduser()
    try:
        if host.config_file == "none" or not path.exists():
            return host
        found = paramiko.SSHConfig.from_text("\n".join(_lines(path))).lookup(host.address)
        port = int(found["port"]) if "port" in found else None
    except (paramiko.SSHException, OSError, ValueError, LookupError) as error:
        raise HostUnreachable(
            host.name,
            f"{path} cannot be used ({error}); correct it, or name another one with '-F FILE' in "
            "ansible_ssh_common_args",
        ) from error
    identity, jump = found.get("identityfile"), host.proxy_jump or found.get("proxyjump")
    if found.get("proxycommand") and not jump:
        raise HostUnreachable(
            host.name,
            f"{path} leads to {host.address} by ProxyCommand, which the sweep cannot follow; write the way "
            "as ProxyJump",
        )
    return replace(
        host,
        address=found.get("hostname", host.address),
        user=host.user or found.get("user"),
        port=host.port or port,
        private_key=host.private_key or (identity[0] if identity else None),
        known_hosts=host.known_hosts or tuple(found.get("userknownhostsfile", "").split()),
        proxy_jump=jump,
    )


def _lines(path: Path, depth: int = 0) -> Iterator[str]:
    """Yield the lines of a configuration, and in their place those of the files that it includes."""
    block = "Host *"
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        keyword, _, value = line.strip().replace("=", " ", 1).partition(" ")
        if keyword.lower() in {"host", "match"}:
            block = line
        if keyword.lower() != "include" or depth == MAX_INCLUDES:
            yield line
            continue
        for pattern in shlex.split(value):
            # a relative name is one beside the user's own configuration
            whole = Path("~/.ssh").expanduser() / Path(pattern).expanduser()
            for included in sorted(glob.glob(os.fspath(whole))):  # noqa: PTH207  (as ssh's: without hidden files)
                yield from _lines(Path(included), depth + 1)
        yield block  # what follows belongs to the block that it stands in
