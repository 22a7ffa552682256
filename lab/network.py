"""The network of a lab: bridge, NAT, cables and network namespaces.

Everything is found by its name in the kernel, so taking it away needs no file. What must be restored
afterwards stands in the alias of the bridge, which therefore comes first and goes last.
"""

from __future__ import annotations

import fcntl
import ipaddress
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lab import plan, syscalls
from lab.commands import run
from lab.errors import LabError
from lab.plan import BridgeNote, HostSpec

NETNS_DIR = Path("/run/netns")
IP_FORWARD = Path("/proc/sys/net/ipv4/ip_forward")


def mounts_on(point: Path) -> int:
    """Count the mounts on a directory (a bind mount on itself escapes `Path.is_mount`)."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return sum(line.split()[4] == str(point) for line in lines)


def links() -> dict[str, dict[str, Any]]:
    """All network interfaces of the machine by name, as ``ip -json`` describes them."""
    described: list[dict[str, Any]] = json.loads(run(["ip", "-json", "address", "show"]) or "[]")
    return {link["ifname"]: link for link in described}


def networks() -> dict[str, ipaddress.IPv4Network]:
    """IPv4 networks of the machine's routes, by interface (the widest where there are several)."""
    found: dict[str, ipaddress.IPv4Network] = {}
    routes: list[dict[str, Any]] = json.loads(
        run(["ip", "-json", "-4", "route", "show", "table", "all"]) or "[]"
    )
    for route in routes:
        if route["dst"] != "default" and route.get("type", "unicast") == "unicast":
            network = ipaddress.IPv4Network(route["dst"], strict=False)
            known = found.get(route.get("dev", route["dst"]))
            if known is None or known.prefixlen > network.prefixlen:
                found[route.get("dev", route["dst"])] = network
    return found


def namespaces(lab: str) -> list[str]:
    """Names of the network namespaces of a lab."""
    if not NETNS_DIR.is_dir():
        return []
    pattern = plan.host_pattern(lab)
    return sorted(entry.name for entry in NETNS_DIR.iterdir() if pattern.fullmatch(entry.name))


def note(lab: str) -> BridgeNote | None:
    """Read what the bridge of a lab remembers; None without bridge."""
    alias = Path("/sys/class/net", plan.bridge_name(lab), "ifalias")
    try:
        return BridgeNote.parse(alias.read_text().strip())
    except FileNotFoundError:
        return None


def other_notes(lab: str) -> list[BridgeNote]:
    """Read what the bridges of all other labs on this machine remember."""
    own = plan.bridge_name(lab)
    aliases = [
        path.read_text().strip()
        for path in Path("/sys/class/net").glob("fl-*/ifalias")
        if path.parent.name != own
    ]
    return [found for found in map(BridgeNote.parse, aliases) if found is not None]


@contextmanager
def _machine_settings() -> Iterator[None]:
    """Keep other labs out while the settings that all labs share are read and written."""
    descriptor = os.open(IP_FORWARD, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def nat_rules(lab: str, network: ipaddress.IPv4Network) -> str:
    """Text for nft: the table of a lab, made afresh in one transaction."""
    table = f"table ip {plan.table_name(lab)}"
    return (
        f"{table}\ndelete {table}\n{table} {{\n"
        f"  chain postrouting {{\n    type nat hook postrouting priority srcnat; policy accept;\n"
        f'    ip saddr {network} oifname != "{plan.bridge_name(lab)}" masquerade\n  }}\n}}\n'
    )


def dropping_chains(chains: str) -> list[str]:
    """Find the chains that drop what the machine forwards unless told otherwise (Docker makes such a chain).

    Parameters
    ----------
    chains : str
        Output of ``nft -json list chains``.
    """
    items = [item.get("chain", {}) for item in json.loads(chains or "{}").get("nftables", [])]
    return [
        f"{chain['family']} {chain['table']} {chain['name']}"
        for chain in items
        if chain.get("hook") == "forward" and chain.get("policy") == "drop" and chain["family"] != "ip6"
    ]


def obstacle(lab: str) -> str | None:
    """Tell what may keep the hosts from reaching package mirrors, and the remedy; None if nothing."""
    chains = dropping_chains(run(["nft", "-j", "list", "chains"]))
    if not chains:
        return None
    bridge = plan.bridge_name(lab)
    return (
        f"the machine's firewall drops what it forwards (nft chain {', '.join(chains)}): unless a rule lets "
        f"them, the hosts reach no package mirror. Let them with: iptables -I FORWARD -i {bridge} -j ACCEPT; "
        f"iptables -I FORWARD -o {bridge} -j ACCEPT"
    )


def ensure(lab: str, network: ipaddress.IPv4Network, state: Path) -> list[str]:
    """Make the bridge and the NAT of a lab, or what is missing of them.

    Returns
    -------
    list of str
        What was made.
    """
    bridge = plan.bridge_name(lab)
    made: list[str] = []
    with _machine_settings():
        present = note(lab)
        if present is None:
            others = other_notes(lab)
            present = BridgeNote(
                ip_forward=others[0].ip_forward if others else IP_FORWARD.read_text().strip() == "1",
                netns_mounted=others[0].netns_mounted if others else mounts_on(NETNS_DIR) > 0,
                state=state,
            )
            if bridge not in links():
                hardware = ["address", plan.mac(plan.gateway(network))]
                run(["ip", "link", "add", "name", bridge, *hardware, "type", "bridge", "forward_delay", "0"])
            run(["ip", "link", "set", "dev", bridge, "alias", present.alias()])
            made.append(f"bridge {bridge}")
        run(["ip", "address", "replace", f"{plan.gateway(network)}/{network.prefixlen}", "dev", bridge])
        run(["ip", "link", "set", "dev", bridge, "up"])
        if plan.table_name(lab) not in run(["nft", "list", "tables", "ip"]).split():
            made.append(f"NAT for {network}")
        run(["nft", "-f", "-"], text=nat_rules(lab, network))
        IP_FORWARD.write_text("1")
    return made


def connect(lab: str, spec: HostSpec, network: ipaddress.IPv4Network) -> None:
    """Make the network namespace of a host and its cable to the bridge, from scratch."""
    disconnect(lab, spec.name, spec.cores)
    veth = plan.veth_name(lab, spec.cores)
    with _machine_settings():
        run(["ip", "netns", "add", spec.name])
    peer = ["peer", "name", "eth0", "address", plan.mac(spec.address), "netns", spec.name]
    run(["ip", "link", "add", veth, "type", "veth", *peer])
    run(["ip", "link", "set", "dev", veth, "master", plan.bridge_name(lab), "up"])
    inside = ["ip", "-netns", spec.name]
    run([*inside, "link", "set", "dev", "lo", "up"])
    run([*inside, "address", "replace", f"{spec.address}/{network.prefixlen}", "dev", "eth0"])
    run([*inside, "link", "set", "dev", "eth0", "up"])
    run([*inside, "route", "replace", "default", "via", plan.gateway(network)])


def disconnect(lab: str, name: str, cores: int) -> None:
    """Take away the cable and the network namespace of a host, as far as they are there."""
    delete_link(plan.veth_name(lab, cores))
    if (NETNS_DIR / name).exists():
        run(["ip", "netns", "delete", name])


def delete_link(name: str) -> bool:
    """Delete a network interface; False when there is none of that name."""
    if name not in links():
        return False
    try:
        run(["ip", "link", "delete", "dev", name])
    except LabError:
        # a veth goes by itself when the namespace at its other end dies, which may be right now
        if name in links():
            raise
    return True


def remove(lab: str) -> list[str]:
    """Take away all of a lab's network and restore the machine's settings after the last lab.

    The processes in the namespaces must be dead already.

    Returns
    -------
    list of str
        What was removed.
    """
    removed: list[str] = []
    for veth in filter(plan.veth_pattern(lab).fullmatch, list(links())):
        delete_link(veth)
    for name in namespaces(lab):
        run(["ip", "netns", "delete", name])
        removed.append(f"host {name} and its network namespace")
    table = plan.table_name(lab)
    if table in run(["nft", "list", "tables", "ip"]).split():
        run(["nft", "delete", "table", "ip", table])
        removed.append(f"nft table {table}")
    with _machine_settings():
        remembered = note(lab)
        if remembered is not None and not other_notes(lab):
            IP_FORWARD.write_text("1" if remembered.ip_forward else "0")
            if not remembered.netns_mounted:
                _unmount_empty_netns_dir()
        if delete_link(plan.bridge_name(lab)):
            removed.append(f"bridge {plan.bridge_name(lab)}")
    return removed


def _unmount_empty_netns_dir() -> None:
    # `ip netns add` mounts this directory on itself and leaves it so for ever
    if NETNS_DIR.is_dir() and not any(NETNS_DIR.iterdir()):
        for _ in range(mounts_on(NETNS_DIR)):
            syscalls.unmount(NETNS_DIR, syscalls.MNT_DETACH)
        NETNS_DIR.rmdir()
