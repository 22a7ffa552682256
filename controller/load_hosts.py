"""Which inventory host makes the load for which, and whether it can."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path

from controller.errors import InventoryError, RemoteError
from controller.experiment import Experiment
from controller.host_facts import HostFacts
from controller.inventory import Host, read_hosts
from controller.trial import LoadSite


def find_load_hosts(
    inventory: Path, project: Path, experiment: Experiment, hosts: Sequence[Host]
) -> dict[str, Host]:
    """Return the load host of each host that has one, as far as the experiment asks for it.

    Raises
    ------
    InventoryError
        When `load_from` names a host that is not there.
    """
    if "remote" not in experiment.factors.placement:
        return {}
    found = named_load_hosts(inventory, project, hosts)
    for host in hosts:
        if found.get(host.name, host) is None:
            raise InventoryError(f"{inventory}: {host.name}: {unknown_load_host(host)}")
    return {name: load_host for name, load_host in found.items() if load_host is not None}


def named_load_hosts(inventory: Path, project: Path, hosts: Sequence[Host]) -> dict[str, Host | None]:
    """Return the load host of each host that names one; None where the inventory has none of that name."""
    wanted = {host.name: host.load_from for host in hosts if host.load_from is not None}
    known = {host.name: host for host in hosts}
    if others := sorted(set(wanted.values()) - set(known)):
        try:
            known.update({host.name: host for host in read_hosts(inventory, ",".join(others), project)})
        except InventoryError as error:
            if "selects no host" not in str(error):
                raise
    return {name: known.get(load_from) for name, load_from in wanted.items()}


def unknown_load_host(host: Host) -> str:
    """Say that the inventory has no host of the name that `load_from` gives, and what to do."""
    return (
        f"load_from names {host.load_from!r}, which is no host of the inventory; "
        "add it there, or correct the name"
    )


def load_site(host: Host, load_host: Host, answers: Mapping[str, HostFacts | RemoteError]) -> LoadSite | str:
    """Return the load host of a host, ready to be used, or why it cannot be."""
    answer, where = answers[load_host.name], f"load host {load_host.name}"
    remedy = f"run 'fcgi-sweep provision --limit {load_host.name}'"
    if isinstance(answer, RemoteError):
        return f"{answer.kind}: {where}: {answer.reason}"
    if answer.manifest is None:
        return f"not_provisioned: {where}: provisioning never finished there; {remedy}"
    try:
        return LoadSite(load_host, answer, server_address(host))
    except ValueError as error:
        return f"not_provisioned: placement remote: {error}; set fcgi_sweep_address for it in the inventory"


def server_address(host: Host) -> str:
    """Return the IP address on which a host's lighttpd listens for a load from another host.

    Raises
    ------
    ValueError
        When none is known, or it is one that no other host can reach.
    """
    name = host.listen_address or host.address
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except OSError as error:
        raise ValueError(f"its address {name!r} cannot be resolved ({error})") from error
    addresses = sorted({str(entry[4][0]) for entry in found}, key=lambda each: ":" in each)
    address = ipaddress.ip_address(addresses[0])
    if address.is_unspecified or (address.is_loopback and host.listen_address is None):
        raise ValueError(f"its address {name!r} is {address}, which another host cannot reach")
    return str(address)
