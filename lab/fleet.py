"""A lab: bring its hosts up, take them down, tell how they are."""

from __future__ import annotations

import ipaddress
import json
import os
import socket
import subprocess
import sys
import uuid
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from lab import debian, documents, network, plan, preflight
from lab.documents import Access
from lab.errors import LabError
from lab.host import LabHost, NamespaceHost
from lab.plan import HostSpec
from lab.rootfs import READY, RootPlan
from lab.state import Record, State, cache_home, state_home, write_atomically

PROJECT = Path(__file__).resolve().parent.parent
DEFAULT_INVENTORY = PROJECT / "inventory" / "10-lab.yml"
DISK_BYTES = 3 << 30
START_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Deed:
    """What `up` did about a host."""

    host: str
    action: str


@dataclass(frozen=True, slots=True)
class HostStatus:
    """How a host is: ``up``, ``dead`` or ``no ssh``."""

    spec: HostSpec
    condition: str
    pid: int | None


class Lab:
    """The lab called `name`.

    Parameters
    ----------
    cores : sequence of int, optional
        One host for each number of cores; by default those that are up already, or 1, 2 and 4 as far as the
        machine has so many.
    rootfs : str, optional
        ``overlay`` (the machine's own files show through) or ``debian:<suite>`` (a bare machine).
    inventory : Path, optional
        Where `up` writes the inventory file; the default lab has a place of its own, others write none.
    disk_bytes : int
        Size of each host's disk. It lies in memory, which is taken only as the disk fills.
    say : callable
        Told what takes minutes.
    """

    def __init__(
        self,
        name: str = plan.DEFAULT_NAME,
        cores: Sequence[int] | None = None,
        rootfs: str | None = None,
        *,
        inventory: Path | None = None,
        disk_bytes: int = DISK_BYTES,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.name = plan.check_name(name)
        self.state = State(self.name)
        self._cores = cores
        self._rootfs = rootfs
        self._inventory = inventory
        self._disk_bytes = disk_bytes
        self._say = say

    def __enter__(self) -> Lab:
        self.up()
        return self

    def __exit__(self, *_: object) -> None:
        self.down()

    @property
    def access(self) -> Access:
        """How to log in to the hosts."""
        return Access(documents.USER, self.state.client_key, self.state.known_hosts)

    @property
    def hosts(self) -> dict[str, LabHost]:
        """The hosts of the lab by name; empty when it is not up."""
        record = self.state.load()
        return {} if record is None else {spec.name: self._host(spec) for spec in record.hosts}

    def host(self, name: str) -> LabHost:
        """Return a host by its name or its number of cores (``2`` for ``lab-2core``)."""
        hosts = self.hosts
        wanted = plan.host_name(self.name, int(name)) if name.isdigit() else name
        if wanted not in hosts:
            raise LabError(
                f"lab {self.name} has no host {wanted}; it has: {', '.join(hosts) or 'none, it is not up'}"
            )
        return hosts[wanted]

    def _host(self, spec: HostSpec) -> NamespaceHost:
        return NamespaceHost(self.name, spec, self.access)

    def status(self) -> list[HostStatus]:
        """How each host is."""
        found: list[HostStatus] = []
        for host in self.hosts.values():
            first = host.first()
            condition = "dead" if first is None else "up" if host.answers() else "no ssh"
            found.append(HostStatus(host.spec, condition, first.pid if first else None))
        return found

    def up(self) -> list[Deed]:
        """Bring up what is not up; hosts that live are left alone.

        Returns
        -------
        list of Deed
            What was done, a line a host.

        Raises
        ------
        LabError
            With what is missing and how to get it.
        """
        preflight.require(preflight.NEEDED, preflight.NEEDED_AS_ROOT)
        refused = preflight.namespaces_refused()
        if refused:
            raise LabError(f"namespaces are not permitted here: {refused}")
        with self.state.locked() as lock:
            record = self._intend()
            lower = debian.prepare(record.rootfs, self._say)
            self.state.save(record)
            client_key = self._write_access(record)
            subnet = ipaddress.IPv4Network(record.network)
            network.ensure(self.name, subnet, self.state.path)
            deeds = [self._raise_host(record, spec, lower, client_key, lock) for spec in record.hosts]
            self._write_inventory(record)
        return deeds

    def _intend(self) -> Record:
        """Decide what the lab is to be, from what was asked for and what is there."""
        before = self.state.load()
        note = network.note(self.name)
        if note is not None and note.state != self.state.path:
            raise LabError(
                f"lab {self.name} is up already, with its state in {note.state}: use another --name, or take "
                f"it down first with `python -m lab down --name {self.name}`"
            )
        rootfs = debian.check_rootfs(self._rootfs or (before.rootfs if before else debian.OVERLAY))
        if before is not None and before.rootfs != rootfs:
            raise LabError(
                f"lab {self.name} is up with --rootfs {before.rootfs}: take it down or use another --name"
            )
        available = sorted(os.sched_getaffinity(0))
        kept = {spec.cores: spec for spec in before.hosts} if before else {}
        wanted = self._cores or tuple(kept) or plan.default_cores(len(available))
        if before is not None and before.network:
            subnet = ipaddress.IPv4Network(before.network)
        else:
            own = plan.bridge_name(self.name)
            taken = [found for device, found in network.networks().items() if device != own]
            subnet = plan.subnet(self.name, taken)
        for cores in wanted:
            if cores not in kept:
                kept[cores] = HostSpec(
                    name=plan.host_name(self.name, cores),
                    cores=cores,
                    cpus=plan.choose_cpus(available, _siblings(available), cores),
                    address=plan.address(subnet, cores),
                    port=22,
                )
        inventory = self._inventory or (DEFAULT_INVENTORY if self.name == plan.DEFAULT_NAME else None)
        return Record(
            name=self.name,
            mode="namespaces",
            rootfs=rootfs,
            network=str(subnet),
            hosts=tuple(kept[cores] for cores in sorted(kept)),
            inventory=str(inventory.absolute()) if inventory else before.inventory if before else None,
        )

    def _write_access(self, record: Record) -> str:
        client_key = self.state.make_key(self.state.client_key, f"fcgi-sweep lab {self.name}")
        lines = [
            documents.known_hosts_line(spec, self.state.make_key(self.state.host_key(spec.name), spec.name))
            for spec in record.hosts
        ]
        write_atomically(self.state.known_hosts, "".join(lines))
        write_atomically(self.state.ssh_config, documents.ssh_config(record.hosts, self.access))
        return client_key

    def _write_inventory(self, record: Record) -> None:
        if record.inventory is None:
            return
        path = Path(record.inventory)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, documents.inventory(record.hosts, self.access, f"{socket.gethostname()}-lab"))

    def _raise_host(self, record: Record, spec: HostSpec, lower: str, client_key: str, lock: int) -> Deed:
        host = self._host(spec)
        if host.first() is not None:
            if host.answers():
                return Deed(spec.name, "left alone, it is up")
            if not host.listeners():
                host.start_sshd()
                return Deed(spec.name, "sshd started again")
        found = (network.NETNS_DIR / spec.name).exists()
        host.kill()
        network.connect(self.name, spec, ipaddress.IPv4Network(record.network))
        self._start(record, spec, lower, client_key, lock)
        host.wait_ready()
        return Deed(spec.name, "it was dead: made again, with a fresh disk" if found else "started")

    def _start(self, record: Record, spec: HostSpec, lower: str, client_key: str, lock: int) -> None:
        directory = self.state.host_dir(spec.name)
        scratch = directory / "root"
        scratch.mkdir(parents=True, exist_ok=True)
        names = {other.name: other.address for other in record.hosts}
        root = RootPlan(
            hostname=spec.name,
            scratch=str(scratch),
            lower=lower,
            hidden=tuple(sorted({str(path) for path in _private_directories()})),
            disk_bytes=self._disk_bytes,
            files={
                "/etc/hosts": documents.hosts_file(names, spec.name),
                "/etc/resolv.conf": _resolv_conf(),
                **debian.apt_files(record.rootfs),
            },
            host_key=self.state.host_key(spec.name).read_text(),
            authorized_key=client_key,
            machine_id=uuid.uuid4().hex,
        )
        orders = {"netns": str(network.NETNS_DIR / spec.name), "cpus": spec.cpus, "root": asdict(root)}
        write_atomically(directory / "plan.json", json.dumps(orders, indent=1), mode=0o600)
        reader, writer = os.pipe()
        with (directory / "init.log").open("ab") as log:
            subprocess.Popen(
                [sys.executable, "-m", "lab.init", str(directory / "plan.json"), str(writer), str(lock)],
                cwd="/",
                env={"PATH": os.defpath, "PYTHONPATH": str(PROJECT), "LANG": "C.UTF-8"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(writer, lock),
                start_new_session=True,  # the host outlives this command and its terminal
            ).wait(START_TIMEOUT_S)
        os.close(writer)
        with os.fdopen(reader) as answer:
            said = answer.read()
        if said != READY:
            raise LabError(f"{spec.name} did not start: {said.strip() or 'its first process was killed'}")

    def down(self) -> list[str]:
        """Take away everything of the lab, whatever state it is in.

        Returns
        -------
        list of str
            What was removed; empty when there was nothing.
        """
        removed: list[str] = []
        with self.state.locked():
            try:
                record = self.state.load()
                inventory = Path(record.inventory) if record and record.inventory else None
            except LabError:  # unreadable: everything else is found in the kernel
                inventory = DEFAULT_INVENTORY if self.name == plan.DEFAULT_NAME else None
            if inventory is not None and _is_generated(inventory):
                inventory.unlink()
                removed.append(f"inventory file {inventory}")
            if preflight.namespaces_refused() is None and preflight.which("ip") and preflight.which("nft"):
                for name in network.namespaces(self.name):
                    NamespaceHost(self.name, _unknown(name), self.access).kill()
                    removed.append(f"host {name}")
                removed += network.remove(self.name)
            if self.state.remove():
                removed.append(f"state directory {self.state.path}")
        return removed


def _unknown(name: str) -> HostSpec:
    return HostSpec(name=name, cores=0, cpus=(), address="", port=0)


def _is_generated(path: Path) -> bool:
    return path.is_file() and path.read_text().startswith(documents.GENERATED)


def _siblings(cpus: Sequence[int]) -> dict[int, tuple[int, ...]]:
    found: dict[int, tuple[int, ...]] = {}
    for cpu in cpus:
        path = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        if path.exists():
            found[cpu] = plan.parse_cpu_list(path.read_text())
    return found


def _private_directories() -> list[Path]:
    """Directories of the machine that a host must not see."""
    homes = [Path.home(), Path("/root"), Path("/home")]
    if "SUDO_USER" in os.environ:
        homes.append(Path(f"~{os.environ['SUDO_USER']}").expanduser())
    return [path.resolve() for path in [PROJECT, state_home(), cache_home(), *homes]]


def _resolv_conf() -> str:
    candidates = [Path("/etc/resolv.conf"), Path("/run/systemd/resolve/resolv.conf")]
    text = documents.choose_resolv_conf(path.read_text() for path in candidates if path.is_file())
    return text if text is not None else "# the machine's name servers answer on its loopback only\n"
