"""A lab host made of Linux namespaces."""

from __future__ import annotations

import ipaddress
import json
import os
import resource
import subprocess
import sys
import uuid
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from lab import debian, documents, machine, network, plan, procfs
from lab.commands import run
from lab.errors import LabError
from lab.host import KEYGEN, LabHost, Launch
from lab.procfs import Process
from lab.rootfs import READY, ROOT_PATH, SSHD_LOG, RootPlan
from lab.state import write_atomically

DISK = "/tmp"  # noqa: S108 - a directory of the host that lies on its disk
START_TIMEOUT_S = 60.0


class NamespaceHost(LabHost):
    """A host made of network, mount, pid, uts and ipc namespaces."""

    def first(self) -> Process | None:
        """Its pid 1; None when the host is dead."""
        for process in self._in_network():
            if process.inner_pid == 1 and process.pid != 1:
                return process
        return None

    def _in_network(self) -> list[Process]:
        try:
            inode = (network.NETNS_DIR / self.name).stat().st_ino
        except FileNotFoundError:
            return []
        return procfs.in_namespace("net", inode)

    def _living(self) -> Process:
        first = self.first()
        if first is None:
            raise LabError(f"{self.name}: the host is dead; `python -m lab up --name {self.lab}` mends it")
        return first

    def processes(self) -> list[Process]:
        """Every live process in its pid namespace."""
        first = self.first()
        if first is None:
            return []
        inode = procfs.namespace_id(first.pid, "pid")
        return procfs.in_namespace("pid", inode) if inode is not None else []

    def launch(self, orders: Launch) -> None:
        """Make the host from scratch; what is left of a dead one goes first."""
        self.kill()
        network.connect(self.lab, self.spec, ipaddress.IPv4Network(orders.record.network))
        directory = self.state.host_dir(self.name)
        scratch = directory / "root"
        scratch.mkdir(parents=True, exist_ok=True)
        names = {other.name: other.address for other in orders.record.hosts}
        root = RootPlan(
            hostname=self.name,
            scratch=str(scratch),
            lower=orders.lower,
            hidden=tuple(sorted(map(str, machine.private_directories()))),
            disk_bytes=orders.disk_bytes,
            files={
                "/etc/hosts": documents.hosts_file(names, self.name),
                "/etc/resolv.conf": machine.resolv_conf(),
                **debian.apt_files(orders.record.rootfs),
            },
            host_key=self.state.host_key(self.name).read_text(),
            authorized_key=orders.client_key,
            machine_id=uuid.uuid4().hex,
        )
        what = {"netns": str(network.NETNS_DIR / self.name), "cpus": self.spec.cpus, "root": asdict(root)}
        write_atomically(directory / "plan.json", json.dumps(what, indent=1), mode=0o600)
        said = self._start_init(directory, orders.lock)
        if said != READY:
            raise LabError(f"{self.name} did not start: {said.strip() or 'its first process was killed'}")
        self.wait_ready()

    def _start_init(self, directory: Path, lock: int) -> str:
        reader, writer = os.pipe()
        with (directory / "init.log").open("ab") as log:
            subprocess.run(
                [sys.executable, "-m", "lab.init", str(directory / "plan.json"), str(writer), str(lock)],
                cwd="/",
                env=machine.own_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(writer, lock),
                start_new_session=True,  # the host outlives this command and its terminal
                timeout=START_TIMEOUT_S,
                check=False,
            )
        os.close(writer)
        with os.fdopen(reader) as answer:
            return answer.read()

    def kill(self) -> bool:
        """Kill the host as a whole, also what is left of one that died on the way up."""

        def first() -> list[Process]:
            found = self._in_network()
            inits = [process for process in found if process.inner_pid == 1]
            return inits or found

        return bool(procfs.kill_all(first, self.name))

    def exec(self, argv: Sequence[str], timeout_s: float = 60.0) -> subprocess.CompletedProcess[str]:
        """Run a command inside as root, without ssh, on the host's CPUs and with its limits."""
        first = self._living()
        soft, hard = resource.prlimit(first.pid, resource.RLIMIT_NOFILE)
        cpus = ",".join(map(str, self.spec.cpus))
        enter = ["prlimit", f"--nofile={soft}:{hard}", "taskset", "--cpu-list", cpus]
        enter += ["nsenter", "--target", str(first.pid), "--mount", "--uts", "--ipc", "--net", "--pid"]
        return subprocess.run(
            [*enter, *argv],
            env={"PATH": ROOT_PATH, "HOME": "/root", "LANG": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def _inside(self, *argv: str) -> str:
        done = self.exec(argv)
        if done.returncode != 0:
            raise LabError(f"{self.name}: {' '.join(argv)}: exit {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def start_sshd(self) -> None:
        """Start sshd, which goes to the background and so to the host's first process."""
        # sshd wants to be called by its absolute path
        self._inside("/bin/sh", "-c", f'exec "$(command -v sshd)" -E {SSHD_LOG}')
        self.wait_ready()

    def change_host_key(self) -> None:
        """Present a fresh host key."""
        path = "/etc/ssh/ssh_host_ed25519_key"
        self._inside("rm", "-f", path, f"{path}.pub")
        self._inside(*KEYGEN, path)
        self.restart_sshd()

    def restore_host_key(self) -> None:
        """Present the key of known_hosts again."""
        key = self.state.host_key(self.name).read_text()
        path = "/etc/ssh/ssh_host_ed25519_key"
        self._inside("/bin/sh", "-c", f'printf "%s" "$1" > {path}; rm -f {path}.pub', "sh", key)
        self.restart_sshd()

    def link_down(self) -> None:
        """Pull the cable."""
        run(["ip", "link", "set", "dev", plan.veth_name(self.lab, self.spec.cores), "down"])

    def link_up(self) -> None:
        """Plug the cable in again."""
        run(["ip", "link", "set", "dev", plan.veth_name(self.lab, self.spec.cores), "up"])

    def power_off(self) -> None:
        """Kill all but the first process and pull the cable; the disk stays."""
        self.link_down()

        def others() -> list[Process]:
            return [process for process in self.processes() if process.inner_pid != 1]

        procfs.kill_all(others, self.name)

    def power_on(self) -> None:
        """Come back after `power_off`: empty /run and /tmp, cable in, sshd up."""
        self._inside("/bin/sh", "-c", "find /tmp /run -mindepth 1 -delete; mkdir -m 755 /run/sshd")
        self._inside("/bin/sh", "-c", "mkdir -m 1777 /run/lock; mkdir -m 755 /run/user")
        self.link_up()
        self.start_sshd()

    def disk_free_bytes(self) -> int:
        """Free space of its disk."""
        return int(self._inside("stat", "--file-system", "--format=%a", DISK)) * self._block_bytes()

    def _block_bytes(self) -> int:
        return int(self._inside("stat", "--file-system", "--format=%S", DISK))

    def fill_disk(self, left_bytes: int = 0) -> None:
        """Leave only `left_bytes` free, by shrinking the disk: it costs neither time nor memory."""
        blocks, free = map(int, self._inside("stat", "--file-system", "--format=%b %f", DISK).split())
        size = (blocks - free) * self._block_bytes() + left_bytes
        self._resize_disk(max(size, self._block_bytes()))

    def free_disk(self) -> None:
        """Give the disk the size back that it was made with."""
        orders = json.loads((self.state.host_dir(self.name) / "plan.json").read_text())
        self._resize_disk(orders["root"]["disk_bytes"])

    def _resize_disk(self, size_bytes: int) -> None:
        self._inside("mount", "-i", "-o", f"remount,size={size_bytes}", DISK)

    def mend(self) -> str | None:
        """Get a living host to answer again without losing its disk, cable first."""
        if self.first() is None:
            return None
        self.link_up()
        return super().mend()
