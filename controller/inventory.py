"""Hosts, from the same inventory that Ansible provisions them with."""

from __future__ import annotations

import re
import shlex
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from controller.ansible import read_inventory_document
from controller.errors import InventoryError

HOST_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
DEFAULT_LISTEN_PORT = 8080
EVERYWHERE = ("*", "0.0.0.0", "::", "[::]")  # noqa: S104  (these are refused)
AUTOMATIC_PYTHON = ("", "auto", "auto_silent", "auto_legacy", "auto_legacy_silent")


@dataclass(frozen=True, slots=True)
class SshOptions:
    """What `ansible_ssh_common_args` and its kin say, as far as the controller needs it."""

    user: str | None = None
    port: int | None = None
    private_key: str | None = None
    known_hosts: tuple[str, ...] = ()
    proxy_jump: str | None = None
    config_file: str | None = None


@dataclass(frozen=True, slots=True)
class Host:
    """One inventory host and how to reach it.

    Attributes
    ----------
    name, machine : str
        Inventory name, and the physical box: hosts of one machine are never measured at the same time.
    address, port, user, private_key, password
        How to log in; None where ssh's own configuration decides.
    connection : str
        `ssh` or `local`.
    known_hosts : tuple of str
        Files with host keys; empty for the user's own.
    proxy_jump : str or None
        Hosts to jump through, as OpenSSH writes them.
    config_file : str or None
        ssh configuration to use instead of the user's own; `none` for no configuration at all.
    load_from : str or None
        Inventory host that generates the load.
    server_cpus, load_cpus : tuple of int or None
        CPUs that server and load generator may use; None for the host's own choice.
    prefix : str or None
        Directory that provisioning fills; None for `~/.fcgi-sweep`.
    python : str
        Interpreter that runs the agent.
    listen_port : int
        Where lighttpd listens during a trial.
    listen_address : str or None
        Where it listens for a load from another host; None for `address`.
    """

    name: str
    machine: str
    address: str
    port: int | None = None
    user: str | None = None
    connection: str = "ssh"
    private_key: str | None = None
    password: str | None = field(default=None, repr=False)
    known_hosts: tuple[str, ...] = ()
    proxy_jump: str | None = None
    config_file: str | None = None
    load_from: str | None = None
    server_cpus: tuple[int, ...] | None = None
    load_cpus: tuple[int, ...] | None = None
    prefix: str | None = None
    python: str = "python3"
    listen_port: int = DEFAULT_LISTEN_PORT
    listen_address: str | None = None


def read_hosts(inventory: Path, pattern: str, project: Path) -> tuple[Host, ...]:
    """Return the hosts that a pattern selects, in inventory order.

    Raises
    ------
    InventoryError
        When the inventory cannot be read, a variable makes no sense, or no host is selected.
    """
    document = read_inventory_document(inventory, pattern, project)
    variables = document.get("_meta", {}).get("hostvars", {})
    names = list(variables) or _grouped_hosts(document)
    if not names:
        everything = read_inventory_document(inventory, "all", project)
        groups = sorted(set(everything) - {"_meta", "all", "ungrouped"})
        known = sorted(everything.get("_meta", {}).get("hostvars", {})) or _grouped_hosts(everything)
        raise InventoryError(
            f"{inventory}: the host pattern {pattern!r} selects no host; "
            f"groups: {', '.join(groups) or 'none'}; hosts: {', '.join(known) or 'none'}"
        )
    return tuple(host_from_variables(name, variables.get(name, {}), inventory) for name in names)


def _grouped_hosts(document: Mapping[str, Any]) -> list[str]:
    hosts: dict[str, None] = {}
    for name, group in document.items():
        if name != "_meta":
            hosts.update(dict.fromkeys(group.get("hosts", ())))
    return list(hosts)


def host_from_variables(name: str, variables: Mapping[str, Any], inventory: Path) -> Host:
    """Turn the Ansible variables of a host into a `Host`.

    Raises
    ------
    InventoryError
        Naming the host and the variable.
    """

    def complain(variable: str, reason: str) -> InventoryError:
        return InventoryError(f"{inventory}: {name}: {variable} {reason}")

    def text(*names: str) -> str | None:
        for variable in names:
            value = variables.get(variable)
            if value not in (None, ""):
                if isinstance(value, Mapping):  # so Ansible prints what stands in the file as !vault
                    raise complain(
                        variable,
                        "stands there encrypted, which only Ansible can open; encrypt the whole file "
                        "with ansible-vault instead, or let the host take a key",
                    )
                if "{{" in str(value):
                    raise complain(
                        variable, "holds a template, which only Ansible can resolve; write its value"
                    )
                return str(value)
        return None

    def number(variable: str) -> int | None:
        value = text(variable)
        if value is None:
            return None
        if not value.isdigit() or not 0 < int(value) < 65536:
            raise complain(variable, f"is {value!r}; it must be a port number from 1 to 65535")
        return int(value)

    def cpus(variable: str) -> tuple[int, ...] | None:
        value = variables.get(variable)
        if value is None:
            return None
        try:
            return parse_cpus(value)
        except ValueError as error:
            raise complain(variable, str(error)) from error

    if not HOST_NAME.match(name):
        raise InventoryError(
            f"{inventory}: host {name!r}: its name becomes part of file names; "
            "use letters, digits, '.', '_' and '-'"
        )
    connection = (text("ansible_connection") or "ssh").removeprefix("ansible.builtin.")
    if connection not in {"ssh", "paramiko", "paramiko_ssh", "smart", "local"}:
        raise complain("ansible_connection", f"is {connection!r}; the sweep speaks 'ssh' and 'local'")
    arguments = " ".join(
        filter(
            None, (text("ansible_ssh_args"), text("ansible_ssh_common_args"), text("ansible_ssh_extra_args"))
        )
    )
    try:
        options = parse_ssh_arguments(arguments)
    except ValueError as error:
        raise complain("ansible_ssh_common_args", str(error)) from error
    prefix = text("fcgi_sweep_prefix")
    if prefix and (re.search(r"\s", prefix) or not prefix.startswith(("/", "~/"))):
        raise complain("fcgi_sweep_prefix", f"is {prefix!r}; it must be an absolute path without spaces")
    load_from = text("load_from")
    if load_from == name:
        raise complain("load_from", "names the host itself; leave it out, and use placement shared or split")
    listen_address = text("fcgi_sweep_address")
    if listen_address in EVERYWHERE:
        raise complain("fcgi_sweep_address", f"is {listen_address!r}; name one address of the host, not all")
    python = text("ansible_python_interpreter") or ""
    return Host(
        name=name,
        machine=text("machine") or (socket.gethostname() if connection == "local" else name),
        address=text("ansible_host", "ansible_ssh_host") or name,
        port=number("ansible_port") or number("ansible_ssh_port") or options.port,
        user=text("ansible_user", "ansible_ssh_user") or options.user,
        connection="local" if connection == "local" else "ssh",
        private_key=text("ansible_ssh_private_key_file", "ansible_private_key_file") or options.private_key,
        password=text("ansible_password", "ansible_ssh_pass", "ansible_ssh_password"),
        known_hosts=options.known_hosts,
        proxy_jump=options.proxy_jump,
        config_file=options.config_file,
        load_from=load_from,
        server_cpus=cpus("server_cpus"),
        load_cpus=cpus("load_cpus"),
        prefix=prefix,
        python="python3" if python in AUTOMATIC_PYTHON else python,
        listen_port=number("fcgi_sweep_port") or DEFAULT_LISTEN_PORT,
        listen_address=listen_address,
    )


def parse_cpus(written: Any) -> tuple[int, ...]:
    """Turn `[0, 1]`, `0-3` or `0,2-3` into CPU numbers.

    Raises
    ------
    ValueError
        For anything else.
    """
    if (
        isinstance(written, list | tuple)
        and all(type(cpu) is int and cpu >= 0 for cpu in written)
        and written
    ):
        return tuple(sorted(set(written)))
    found: set[int] = set()
    for part in str(written).split(","):
        match = re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", part)
        if match is None or int(match[2] or match[1]) < int(match[1]):
            raise ValueError(f"is {written!r}; write CPUs as [0, 1] or '0-3'")
        found.update(range(int(match[1]), int(match[2] or match[1]) + 1))
    return tuple(sorted(found))


def parse_ssh_arguments(arguments: str) -> SshOptions:
    """Read the options of an ssh command line that decide where a connection goes and whom it trusts.

    Other options (ciphers, ControlPersist, …) are OpenSSH's business and are passed over.

    Raises
    ------
    ValueError
        For options that cannot be honoured without OpenSSH itself.
    """
    words = shlex.split(arguments)
    found = SshOptions()
    while words:
        word = words.pop(0)
        if not re.match(r"-[A-Za-z0-9]", word):
            raise ValueError(f"contains {word!r}, which is no option of ssh")
        letter, value = word[1], word[2:]
        if letter in "BbcDEeFIiJLlmOopQRSWw":
            value = value or (words.pop(0) if words else "")
            found = _with_option(found, letter, value)
    return found


def _with_option(found: SshOptions, letter: str, value: str) -> SshOptions:
    if letter == "o":
        key, _, setting = value.replace("=", " ", 1).partition(" ")
        return _with_setting(found, key.lower(), setting.strip().strip('"'))
    keys = {"l": "user", "p": "port", "i": "identityfile", "J": "proxyjump"}
    if letter == "F":
        return replace(found, config_file=value)
    return _with_setting(found, keys[letter], value) if letter in keys else found


def _with_setting(found: SshOptions, key: str, value: str) -> SshOptions:
    if key == "proxycommand" and value.lower() != "none":
        raise ValueError("uses ProxyCommand, which the sweep cannot follow; write the way as -o ProxyJump=…")
    if key == "port" and not value.isdigit():
        raise ValueError(f"gives the port {value!r}, which is no number")
    settings: dict[str, tuple[str, Any]] = {
        "user": ("user", value),
        "port": ("port", int(value) if value.isdigit() else None),
        "identityfile": ("private_key", value),
        "userknownhostsfile": ("known_hosts", tuple(shlex.split(value))),
        "proxyjump": ("proxy_jump", value),
    }
    name, setting = settings.get(key, ("", None))
    if not name or getattr(found, name):  # as in OpenSSH, the first one counts
        return found
    return replace(found, **{name: setting})
