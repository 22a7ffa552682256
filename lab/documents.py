"""The texts the lab writes: what goes into /etc of a host, and what tells ssh and Ansible about it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.plan import HostSpec

USER = "bench"
GENERATED = "# Written by `python -m lab up`, removed by `python -m lab down`: do not edit."
SUDOERS = f"""\
Defaults env_reset
Defaults secure_path="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
root ALL=(ALL:ALL) ALL
{USER} ALL=(ALL:ALL) NOPASSWD: ALL
"""


@dataclass(frozen=True, slots=True)
class Access:
    """How to log in to the hosts of a lab."""

    user: str
    private_key: Path
    known_hosts: Path


def sshd_config(settings: Mapping[str, str], user: str | None = None) -> str:
    """Text of an sshd_config: one key, no passwords, no PAM, no DNS.

    Parameters
    ----------
    settings : mapping
        What differs between hosts: HostKey, AuthorizedKeysFile, PidFile, ListenAddress ...
    user : str, optional
        The only user who may log in.
    """
    common = {
        "AuthenticationMethods": "publickey",
        "PasswordAuthentication": "no",
        "KbdInteractiveAuthentication": "no",
        "PermitRootLogin": "prohibit-password",
        "UsePAM": "no",
        "UseDNS": "no",
        "PrintMotd": "no",
        "StrictModes": "no",
        "MaxStartups": "200:30:400",
        "MaxSessions": "200",
        "LogLevel": "VERBOSE",
        "Subsystem": "sftp internal-sftp",
    }
    if user is not None:
        common["AllowUsers"] = user
    return "".join(f"{key} {value}\n" for key, value in {**common, **settings}.items())


def add_user(passwd: str, group: str, shadow: str, shell: str) -> tuple[str, str, str, int]:
    """Add the bench user to the three account files, and let root log in by key.

    Without PAM sshd refuses an account whose password is locked (``!``), so both get ``*``.

    Returns
    -------
    tuple
        passwd, group and shadow as they should be, and the user's uid.
    """
    accounts = [line for line in passwd.splitlines() if line and not line.startswith(f"{USER}:")]
    groups = [line for line in group.splitlines() if line and not line.startswith(f"{USER}:")]
    secrets = [line for line in shadow.splitlines() if line and not line.startswith((f"{USER}:", "root:"))]
    used = {int(line.split(":")[2]) for line in [*accounts, *groups] if line.split(":")[2].isdigit()}
    uid = next(number for number in range(2000, 60000) if number not in used)
    accounts.append(f"{USER}:x:{uid}:{uid}:lab user:/home/{USER}:{shell}")
    groups.append(f"{USER}:x:{uid}:")
    secrets += ["root:*:19000:0:99999:7:::", f"{USER}:*:19000:0:99999:7:::"]

    def text(lines: list[str]) -> str:
        return "\n".join(lines) + "\n"

    return text(accounts), text(groups), text(secrets), uid


def nameservers(resolv_conf: str) -> list[str]:
    """Addresses of the name servers in a resolv.conf."""
    words = (line.split() for line in resolv_conf.splitlines())
    return [line[1] for line in words if len(line) >= 2 and line[0] == "nameserver"]


def is_loopback(server: str) -> bool:
    """Whether a name server answers on this machine only."""
    return server.startswith("127.") or server == "::1"


def choose_resolv_conf(candidates: Iterable[str]) -> str | None:
    """Choose the first resolv.conf that names a server which another host can reach.

    Returns
    -------
    str or None
        The text, without servers on loopback addresses; None when every candidate has only those.
    """
    for text in candidates:
        if any(not is_loopback(server) for server in nameservers(text)):
            kept = [
                line
                for line in text.splitlines()
                if not (line.split()[:1] == ["nameserver"] and all(map(is_loopback, line.split()[1:2])))
            ]
            return "\n".join(kept) + "\n"
    return None


def hosts_file(hosts: Mapping[str, str], own_name: str) -> str:
    """Text of /etc/hosts: loopback, and every host of the lab by name."""
    lines = ["127.0.0.1 localhost", "::1 localhost ip6-localhost"]
    lines += [f"{address} {name}" for name, address in hosts.items()]
    if own_name not in hosts:
        lines.append(f"127.0.1.1 {own_name}")
    return "\n".join(lines) + "\n"


def known_hosts_line(spec: HostSpec, public_key: str) -> str:
    """Line of known_hosts for a host."""
    where = spec.address if spec.port == 22 else f"[{spec.address}]:{spec.port}"
    return f"{where} {' '.join(public_key.split()[:2])}\n"


def ssh_config(hosts: Sequence[HostSpec], access: Access) -> str:
    """Text of a client configuration: ``ssh -F <file> lab-1core``."""
    blocks = [GENERATED]
    for spec in hosts:
        blocks.append(
            f"Host {spec.name}\n    HostName {spec.address}\n    Port {spec.port}\n    User {access.user}\n"
        )
    blocks.append(
        "Host *\n"
        f'    IdentityFile "{access.private_key}"\n'
        "    IdentitiesOnly yes\n"
        f'    UserKnownHostsFile "{access.known_hosts}"\n'
        "    GlobalKnownHostsFile /dev/null\n"
        "    StrictHostKeyChecking yes\n"
    )
    return "\n".join(blocks)


def inventory(
    hosts: Sequence[HostSpec],
    access: Access,
    machine: str,
    own: Mapping[str, Mapping[str, str]] | None = None,
) -> str:
    """Text of the inventory file: group ``lab``, a child of ``targets``.

    Parameters
    ----------
    machine : str
        The machine that the hosts share; hosts of one machine are measured one at a time.
    own : mapping, optional
        Further variables by host name.
    """
    known_hosts = shlex.quote(f"UserKnownHostsFile={access.known_hosts}")
    lines = [GENERATED, "targets:", "  children:", "    lab:", "      hosts:"]
    for spec in hosts:
        # all of it per host, so that inventories of several labs can be read together
        variables = {
            "ansible_host": spec.address,
            "ansible_port": spec.port,
            "ansible_user": access.user,
            "ansible_ssh_private_key_file": str(access.private_key),
            "ansible_ssh_common_args": f"-o {known_hosts} -o StrictHostKeyChecking=yes -o IdentitiesOnly=yes",
            "ansible_python_interpreter": "/usr/bin/python3",
            "machine": machine,
            **(own or {}).get(spec.name, {}),
        }
        lines.append(f"        {spec.name}:")
        lines += [f"          {key}: {json.dumps(value)}" for key, value in variables.items()]
    return "\n".join(lines) + "\n"
