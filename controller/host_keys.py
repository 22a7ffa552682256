"""Learning a host's key, with the user's consent and never otherwise."""

from __future__ import annotations

import contextlib
import os
import socket
from dataclasses import dataclass
from pathlib import Path

import paramiko

from controller.errors import HostUnreachable
from controller.inventory import Host
from controller.ssh import TIMEOUTS, connect, disconnect, jump_host, known_hosts_files, load_known_hosts
from controller.ssh_config import resolve

SIGNATURES = {"ssh-rsa": ("rsa-sha2-512", "rsa-sha2-256")}
"""Algorithms that use a kind of key, where they have other names than the key."""


@dataclass(frozen=True, slots=True)
class OfferedKey:
    """The key that a host shows.

    Attributes
    ----------
    name : str
        As known_hosts names the host.
    key : paramiko.PKey
        The key.
    file : Path
        known_hosts file that counts for the host.
    known : bool
        Whether that file has this very key.
    conflict : bool
        Whether it has another key for the host.
    """

    name: str
    key: paramiko.PKey
    file: Path
    known: bool
    conflict: bool


def offered_key(host: Host) -> OfferedKey:
    """Ask a host for its key without logging in.

    Raises
    ------
    HostUnreachable
        When nothing there speaks ssh.
    """
    resolved = resolve(host)
    port = resolved.port or 22
    name = resolved.address if port == 22 else f"[{resolved.address}]:{port}"
    stored = paramiko.HostKeys()
    load_known_hosts(resolved, stored.load)
    known = stored.lookup(name)
    try:
        key = _ask(resolved, port, list(known.keys()) if known else [])
    except (paramiko.SSHException, OSError, EOFError) as error:
        detail = str(error) or type(error).__name__
        raise HostUnreachable(
            host.name,
            f"nothing at {name} shows a host key ({detail}); is the host up and sshd running, "
            "are ansible_host and ansible_port right?",
        ) from error
    same = stored.check(name, key)
    return OfferedKey(name, key, known_hosts_files(resolved)[0], same, known is not None and not same)


def accept_key(offered: OfferedKey) -> None:
    """Append a key to the known_hosts file that Ansible and the sweep share."""
    offered.file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with offered.file.open("a+b") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - 1))
        before = b"\n" if file.read() not in {b"", b"\n"} else b""  # the last line may lack its end
        line = f"{offered.name} {offered.key.get_name()} {offered.key.get_base64()}\n"
        file.write(before + line.encode())


def _ask(host: Host, port: int, kinds: list[str]) -> paramiko.PKey:
    through = jump_host(host)
    with contextlib.ExitStack() as stack:
        if through is not None:
            gateway = connect(through, as_gate=True)
            stack.callback(disconnect, gateway)
            wire = gateway.transport.open_channel("direct-tcpip", (host.address, port), ("", 0))
        else:
            wire = socket.create_connection((host.address, port), timeout=TIMEOUTS.connect_s)
        transport = stack.enter_context(contextlib.closing(paramiko.Transport(wire)))
        transport.banner_timeout = TIMEOUTS.banner_s
        if kinds:
            options = transport.get_security_options()
            algorithms = {name for kind in kinds for name in (kind, *SIGNATURES.get(kind, ()))}
            options.key_types = [
                each for each in options.key_types if each in algorithms
            ] or options.key_types
        transport.start_client(timeout=TIMEOUTS.login_s)
        return transport.get_remote_server_key()
