"""A lab: bring its hosts up, take them down, tell how they are."""

from __future__ import annotations

import getpass
import ipaddress
import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lab import debian, documents, machine, network, plan, preflight, process_host
from lab.documents import Access
from lab.errors import LabError
from lab.host import LabHost, Launch
from lab.namespace_host import NamespaceHost
from lab.plan import HostSpec
from lab.process_host import ProcessHost
from lab.state import Record, State, write_atomically

DEFAULT_INVENTORY = machine.PROJECT / "inventory" / "10-lab.yml"
DISK_BYTES = 3 << 30
NAMESPACES = "namespaces"
PROCESSES = "processes"
AUTO = "auto"
MODES = (AUTO, NAMESPACES, PROCESSES)


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
    mode : str
        ``namespaces``, ``processes`` (plain sshd processes on loopback addresses) or ``auto``: namespaces
        where they are permitted.
    inventory : Path, optional
        Where `up` writes the inventory file; the default lab has a place of its own, others write none.
    disk_bytes : int
        Size of each host's disk. It lies in memory, which is taken only as the disk fills.
    say : callable
        Told what takes minutes and what is less than was asked for.
    """

    def __init__(
        self,
        name: str = plan.DEFAULT_NAME,
        cores: Sequence[int] | None = None,
        rootfs: str | None = None,
        *,
        mode: str = AUTO,
        inventory: Path | None = None,
        disk_bytes: int = DISK_BYTES,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        if mode not in MODES:
            raise LabError(f"mode {mode}: use one of {', '.join(MODES)}")
        self.name = plan.check_name(name)
        self.state = State(self.name)
        self._cores = cores
        self._rootfs = rootfs
        self._mode = mode
        self._inventory = inventory
        self._disk_bytes = disk_bytes
        self._say = say

    def __enter__(self) -> Lab:
        self.up()
        return self

    def __exit__(self, *_: object) -> None:
        self.down()

    @property
    def hosts(self) -> dict[str, LabHost]:
        """The hosts of the lab by name; empty when it is not up."""
        record = self.state.load()
        return {} if record is None else {spec.name: self._host(record.mode, spec) for spec in record.hosts}

    def host(self, name: str) -> LabHost:
        """Return a host by its name or its number of cores (``2`` for ``lab-2core``)."""
        hosts = self.hosts
        wanted = plan.host_name(self.name, int(name)) if name.isdigit() else name
        if wanted not in hosts:
            raise LabError(
                f"lab {self.name} has no host {wanted}; it has: {', '.join(hosts) or 'none, it is not up'}"
            )
        return hosts[wanted]

    def _access(self, mode: str) -> Access:
        user = documents.USER if mode == NAMESPACES else getpass.getuser()
        return Access(user, self.state.client_key, self.state.known_hosts)

    def _host(self, mode: str, spec: HostSpec) -> LabHost:
        kind = NamespaceHost if mode == NAMESPACES else ProcessHost
        return kind(self.name, spec, self._access(mode))

    def status(self) -> list[HostStatus]:
        """Tell how each host is."""
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
        with self.state.locked() as lock:
            before = self.state.load()
            mode = self._choose_mode(before)
            rootfs = self._choose_rootfs(before, mode)
            record = self._intend(before, mode, rootfs)
            lower = debian.prepare(rootfs, self._say)
            self.state.save(record)
            client_key = self._write_access(record)
            if mode == NAMESPACES:
                network.ensure(self.name, ipaddress.IPv4Network(record.network), self.state.path)
                obstacle = network.obstacle(self.name)
                if obstacle:
                    self._say(obstacle)
            orders = Launch(record, lower, client_key, self._disk_bytes, lock)
            known = {spec.name for spec in before.hosts} if before else set()
            deeds = [self._raise_host(spec, orders, spec.name in known) for spec in record.hosts]
            self._write_inventory(record)
        return deeds

    def _choose_mode(self, before: Record | None) -> str:
        if before is not None:
            if self._mode not in (AUTO, before.mode):
                raise LabError(
                    f"lab {self.name} is up in mode {before.mode}: take it down or use another --name"
                )
            mode = before.mode
        elif self._mode == PROCESSES:
            mode = PROCESSES
        else:
            refused = preflight.namespaces_refused()
            if refused and self._mode == NAMESPACES:
                raise LabError(f"namespaces are not permitted here: {refused}; use --mode processes")
            if refused:
                self._say(
                    f"namespaces are not permitted here ({refused}): the hosts are plain sshd processes that "
                    "share files, network and users with this machine"
                )
            mode = PROCESSES if refused else NAMESPACES
        preflight.require(preflight.NEEDED, preflight.NEEDED_AS_ROOT if mode == NAMESPACES else {})
        return mode

    def _choose_rootfs(self, before: Record | None, mode: str) -> str:
        rootfs = debian.check_rootfs(self._rootfs or (before.rootfs if before else debian.OVERLAY))
        if before is not None and before.rootfs != rootfs:
            raise LabError(
                f"lab {self.name} is up with --rootfs {before.rootfs}: take it down or use another --name"
            )
        if mode == PROCESSES and rootfs != debian.OVERLAY:
            raise LabError(f"--rootfs {rootfs} needs namespaces: run this as root")
        return rootfs

    def _intend(self, before: Record | None, mode: str, rootfs: str) -> Record:
        """Decide what the lab is to be, from what was asked for and what is there."""
        subnet = self._choose_network(before) if mode == NAMESPACES else None
        available = sorted(os.sched_getaffinity(0))
        kept = {spec.cores: spec for spec in before.hosts} if before else {}
        for cores in self._cores or tuple(kept) or plan.default_cores(len(available)):
            if cores not in kept:
                address = plan.address(subnet, cores) if subnet else plan.loopback_address(cores)
                kept[cores] = HostSpec(
                    name=plan.host_name(self.name, cores),
                    cores=cores,
                    cpus=plan.choose_cpus(available, machine.siblings(available), cores),
                    address=address,
                    port=22 if subnet else process_host.free_port(address),
                )
        inventory = self._inventory or (DEFAULT_INVENTORY if self.name == plan.DEFAULT_NAME else None)
        return Record(
            name=self.name,
            mode=mode,
            rootfs=rootfs,
            network=str(subnet or ""),
            hosts=tuple(kept[cores] for cores in sorted(kept)),
            inventory=str(inventory.absolute()) if inventory else before.inventory if before else None,
        )

    def _choose_network(self, before: Record | None) -> ipaddress.IPv4Network:
        note = network.note(self.name)
        if note is not None and note.state != self.state.path:
            raise LabError(
                f"lab {self.name} is up already, with its state in {note.state}: use another --name, or take "
                f"it down first with `python -m lab down --name {self.name}`"
            )
        if before is not None:
            return ipaddress.IPv4Network(before.network)
        own = plan.bridge_name(self.name)
        return plan.subnet(
            self.name, [found for device, found in network.networks().items() if device != own]
        )

    def _write_access(self, record: Record) -> str:
        client_key = self.state.make_key(self.state.client_key, f"fcgi-sweep lab {self.name}")
        lines = [
            documents.known_hosts_line(spec, self.state.make_key(self.state.host_key(spec.name), spec.name))
            for spec in record.hosts
        ]
        write_atomically(self.state.known_hosts, "".join(lines))
        write_atomically(self.state.ssh_config, documents.ssh_config(record.hosts, self._access(record.mode)))
        return client_key

    def _write_inventory(self, record: Record) -> None:
        if record.inventory is None:
            return
        own: dict[str, dict[str, str]] = {}
        if record.mode == PROCESSES:
            python = machine.system_python()
            own = {
                spec.name: {
                    "ansible_python_interpreter": python,
                    "fcgi_sweep_prefix": str(process_host.prefix(spec.name)),
                }
                for spec in record.hosts
            }
        path = Path(record.inventory)
        path.parent.mkdir(parents=True, exist_ok=True)
        text = documents.inventory(record.hosts, self._access(record.mode), socket.gethostname(), own)
        write_atomically(path, text)

    def _raise_host(self, spec: HostSpec, orders: Launch, known: bool) -> Deed:
        host = self._host(orders.record.mode, spec)
        if host.first() is not None and host.answers():
            return Deed(spec.name, "left alone, it is up")
        mended = host.mend()
        if mended is not None:
            return Deed(spec.name, mended)
        host.launch(orders)
        return Deed(spec.name, "it was dead: made again, with a fresh disk" if known else "started")

    def down(self) -> list[str]:
        """Take away everything of the lab, whatever state it is in.

        Returns
        -------
        list of str
            What was removed; empty when there was nothing.
        """
        removed: list[str] = []
        with self.state.locked():
            inventory = self._inventory_to_remove()
            if inventory is not None:
                inventory.unlink()
                removed.append(f"inventory file {inventory}")
            # until there is nothing: an `up` that was killed may have left a tool that was still at work
            while found := self._remove_hosts():
                removed += found
            if self.state.remove():
                removed.append(f"state directory {self.state.path}")
        return removed

    def _inventory_to_remove(self) -> Path | None:
        try:
            record = self.state.load()
            path = Path(record.inventory) if record and record.inventory else None
        except LabError:  # unreadable, and no reason to leave the rest standing
            path = DEFAULT_INVENTORY if self.name == plan.DEFAULT_NAME else None
        if path is None or not path.is_file() or not path.read_text().startswith(documents.GENERATED):
            return None
        return path

    def _remove_hosts(self) -> list[str]:
        """Remove all that is found without the record: by names in the kernel and in the process table."""
        removed: list[str] = []
        for name in process_host.existing(self.name):
            process = ProcessHost(self.name, _unknown(name), self._access(PROCESSES))
            if process.kill() or process.remove_files():
                removed.append(f"host {name}")
        if os.geteuid() == 0 and preflight.which("ip") and preflight.which("nft"):
            for name in network.namespaces(self.name):
                NamespaceHost(self.name, _unknown(name), self._access(NAMESPACES)).kill()
            removed += network.remove(self.name)
        return removed


def _unknown(name: str) -> HostSpec:
    return HostSpec(name=name, cores=0, cpus=(), address="", port=0)
