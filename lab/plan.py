"""What a lab consists of: names, addresses and CPUs. Nothing here touches the machine."""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.errors import LabError

DEFAULT_NAME = "lab"
MAX_NAME_LENGTH = 8  # the longest interface name, fl-<name>-<cores>, has room for 15 characters
MAX_CORES = 200
BENCHMARK_RANGE = ipaddress.IPv4Network("198.18.0.0/15")
_ALIAS = re.compile(r"fcgi-sweep ip_forward=(?P<forward>[01]) netns=(?P<netns>[01]) state=(?P<state>.*)")


@dataclass(frozen=True, slots=True)
class HostSpec:
    """One lab host.

    Attributes
    ----------
    name : str
        Also its host name, its network namespace and its inventory name: ``<lab>-<cores>core``.
    cpus : tuple of int
        The machine's CPUs that it may use.
    """

    name: str
    cores: int
    cpus: tuple[int, ...]
    address: str
    port: int


@dataclass(frozen=True, slots=True)
class BridgeNote:
    """What the bridge of a lab remembers (in its alias), so that `down` needs no file.

    Attributes
    ----------
    ip_forward : bool
        The machine's setting before the first lab.
    netns_mounted : bool
        Whether /run/netns was there before the first lab.
    state : Path
        The state directory of the lab that made the bridge.
    """

    ip_forward: bool
    netns_mounted: bool
    state: Path

    def alias(self) -> str:
        """Text for ``ip link set ... alias``."""
        return f"fcgi-sweep ip_forward={self.ip_forward:d} netns={self.netns_mounted:d} state={self.state}"

    @classmethod
    def parse(cls, alias: str) -> BridgeNote | None:
        """Read an alias; None when it is not one of ours."""
        match = _ALIAS.fullmatch(alias)
        if match is None:
            return None
        return cls(match["forward"] == "1", match["netns"] == "1", Path(match["state"]))


def check_name(name: str) -> str:
    """Return `name` if a lab can have it."""
    if not re.fullmatch(rf"[a-z][a-z0-9]{{0,{MAX_NAME_LENGTH - 1}}}", name):
        raise LabError(
            f"lab name {name!r}: use 1 to {MAX_NAME_LENGTH} lower-case letters and digits, a letter first"
        )
    return name


def bridge_name(lab: str) -> str:
    """Name of the bridge of a lab."""
    return f"fl-{lab}"


def veth_name(lab: str, cores: int) -> str:
    """Name of the machine's end of a host's cable."""
    return f"fl-{lab}-{cores}"


def table_name(lab: str) -> str:
    """Name of the nft table of a lab."""
    return f"fcgi_sweep_{lab}"


def host_name(lab: str, cores: int) -> str:
    """Name of a host of a lab."""
    return f"{lab}-{cores}core"


def host_pattern(lab: str) -> re.Pattern[str]:
    """Match the names of the hosts (and network namespaces) of a lab, and no others."""
    return re.compile(rf"{re.escape(lab)}-(\d+)core")


def veth_pattern(lab: str) -> re.Pattern[str]:
    """Match the machine's ends of the cables of a lab, and no others."""
    return re.compile(rf"{re.escape(bridge_name(lab))}-(\d+)")


def subnet(lab: str, taken: Iterable[ipaddress.IPv4Network] = ()) -> ipaddress.IPv4Network:
    """Choose the /24 of a lab: the first of the benchmark range for the default lab, by hash for others.

    Parameters
    ----------
    taken : iterable of IPv4Network
        Networks that the machine has already; the choice overlaps none of them.
    """
    choices = list(BENCHMARK_RANGE.subnets(new_prefix=24))
    used = list(taken)
    digest = int.from_bytes(hashlib.sha256(lab.encode()).digest()[:4], "big")
    start = 0 if lab == DEFAULT_NAME else 1 + digest % (len(choices) - 1)
    for step in range(len(choices)):
        choice = choices[(start + step) % len(choices)]
        if not any(choice.overlaps(network) for network in used):
            return choice
    raise LabError(f"every network of {BENCHMARK_RANGE} is in use on this machine: take a lab down")


def gateway(network: ipaddress.IPv4Network) -> str:
    """Address of the machine in the network of a lab."""
    return str(network[1])


def address(network: ipaddress.IPv4Network, cores: int) -> str:
    """Address of the host with so many cores."""
    return str(network[10 + cores])


def loopback_address(cores: int) -> str:
    """Address of the host with so many cores where it has no network of its own."""
    return f"127.0.0.{10 + cores}"


def mac(ip: str) -> str:
    """Hardware address that goes with `ip`, so that no neighbour table goes stale when a host is remade."""
    return "02:46:" + ":".join(f"{byte:02x}" for byte in ipaddress.IPv4Address(ip).packed)


def default_cores(available: int) -> tuple[int, ...]:
    """Hosts that a machine with so many CPUs gets unless told otherwise."""
    return tuple(cores for cores in (1, 2, 4) if cores <= available)


def choose_cpus(
    available: Sequence[int], siblings: Mapping[int, Sequence[int]], cores: int
) -> tuple[int, ...]:
    """Choose the CPUs of a host: different physical cores before second threads of one.

    Parameters
    ----------
    available : sequence of int
        CPUs that this process may use.
    siblings : mapping of int to sequence of int
        For each CPU the CPUs of its physical core, itself included; may be incomplete.
    cores : int
        How many to choose.
    """
    if not 1 <= cores <= MAX_CORES:
        raise LabError(f"a lab host has 1 to {MAX_CORES} cores, not {cores}")
    if cores > len(available):
        raise LabError(
            f"a host with {cores} cores was asked for, this machine offers {len(available)} "
            f"(CPUs {', '.join(map(str, sorted(available)))}): ask for fewer with --hosts"
        )

    def thread_of_core(cpu: int) -> int:
        return sorted(siblings.get(cpu, (cpu,))).index(cpu)

    return tuple(sorted(sorted(available, key=lambda cpu: (thread_of_core(cpu), cpu))[:cores]))


def parse_cpu_list(text: str) -> tuple[int, ...]:
    """Read the kernel's CPU lists: ``0-2,5`` is (0, 1, 2, 5)."""
    cpus: list[int] = []
    for part in text.strip().split(","):
        if part:
            first, _, last = part.partition("-")
            cpus.extend(range(int(first), int(last or first) + 1))
    return tuple(cpus)


def parse_cores(text: str) -> tuple[int, ...]:
    """Read ``--hosts``: ``1,2,4`` or host names like ``lab-2core``."""
    cores: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(?:[a-z][a-z0-9]*-)?(\d+)(?:core)?\s*", part)
        if match is None or not 1 <= int(match[1]) <= MAX_CORES:
            raise LabError(f"--hosts {text}: {part.strip()!r} is no number of cores; write for example 1,2")
        cores.append(int(match[1]))
    return tuple(sorted(set(cores)))
