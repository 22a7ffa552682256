"""A lab host as seen from the machine: look inside, and break it on purpose."""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

from lab import network, plan, procfs
from lab.commands import run
from lab.documents import Access
from lab.errors import LabError
from lab.plan import HostSpec
from lab.procfs import Process
from lab.state import State

SSH_TIMEOUT_S = 5
DISK = "/tmp"  # noqa: S108 - a directory of the host that lies on its disk
KEYGEN = ("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f")


class LabHost(ABC):
    """One host of a lab.

    Attributes
    ----------
    spec : HostSpec
        Its name, address and CPUs.
    access : Access
        How to log in.
    """

    def __init__(self, lab: str, spec: HostSpec, access: Access) -> None:
        self.lab = lab
        self.spec = spec
        self.access = access
        self.state = State(lab)

    @property
    def name(self) -> str:
        """Inventory name, host name and network namespace."""
        return self.spec.name

    @abstractmethod
    def first(self) -> Process | None:
        """Its first process, on which all others depend; None when the host is dead."""

    @abstractmethod
    def processes(self) -> list[Process]:
        """Every live process of the host, its first process and sshd included."""

    @abstractmethod
    def exec(self, argv: Sequence[str], timeout_s: float = 60.0) -> subprocess.CompletedProcess[str]:
        """Run a command inside as root, without ssh."""

    @abstractmethod
    def start_sshd(self) -> None:
        """Start sshd, which must not run."""

    @abstractmethod
    def change_host_key(self) -> None:
        """Let sshd present another host key than the one in known_hosts; `restore_host_key` undoes it."""

    @abstractmethod
    def restore_host_key(self) -> None:
        """Let sshd present the key of known_hosts again."""

    @abstractmethod
    def listeners(self) -> list[Process]:
        """Find the sshd that takes new connections."""

    @abstractmethod
    def foundation(self) -> set[int]:
        """Pids of what a host has without guests: its first process and sshd's own processes."""

    def guests(self) -> list[Process]:
        """List the processes that a user started: empty when nothing is left of a trial."""
        own = self.foundation()
        return [process for process in self.processes() if process.pid not in own]

    def freeze(self) -> None:
        """Stop every process (SIGSTOP), like a machine that hangs: its kernel still takes connections."""
        deadline = time.monotonic() + 5
        while True:
            running = [process.pid for process in self.processes() if process.state != "T"]
            if not running:
                return
            if time.monotonic() > deadline:
                raise LabError(f"{self.name}: processes do not stop: {running}")
            procfs.send(running, signal.SIGSTOP)
            time.sleep(0.005)

    def thaw(self) -> None:
        """Let every process go on after `freeze`."""
        procfs.send((process.pid for process in self.processes()), signal.SIGCONT)

    def kill_sshd(self) -> None:
        """Kill sshd and every session's sshd; what the sessions started is left alone."""
        own = {process.pid for process in self.processes() if is_sshd(process)}

        def alive() -> list[Process]:
            return [process for process in self.processes() if process.pid in own]

        procfs.kill_all(alive, f"{self.name}: sshd")

    def restart_sshd(self) -> None:
        """Stop taking connections and start again; sessions go on."""
        procfs.kill_all(self.listeners, f"{self.name}: sshd")
        self.start_sshd()

    def answers(self, timeout_s: float = 1.0) -> bool:
        """Whether an ssh server greets at its address."""
        try:
            with socket.create_connection(
                (self.spec.address, self.spec.port), timeout=timeout_s
            ) as connection:
                connection.settimeout(timeout_s)
                return connection.recv(4) == b"SSH-"
        except OSError:
            return False

    def wait_ready(self, timeout_s: float = 10.0) -> None:
        """Wait until its ssh server greets.

        Raises
        ------
        LabError
            It did not within `timeout_s`.
        """
        deadline = time.monotonic() + timeout_s
        while not self.answers():
            if time.monotonic() > deadline:
                raise LabError(
                    f"{self.name}: no ssh server at {self.spec.address}:{self.spec.port} within "
                    f"{timeout_s:g} s; see {self.state.host_dir(self.name)}"
                )
            time.sleep(0.02)

    def ssh(
        self, argv: Sequence[str], user: str | None = None, timeout_s: float = 60.0
    ) -> subprocess.CompletedProcess[str]:
        """Run a command through the ssh client, with the lab's own key and known_hosts.

        Parameters
        ----------
        argv : sequence of str
            Joined by blanks by ssh and split by the shell of the host.
        user : str, optional
            The bench user unless given.
        """
        command = ["ssh", "-F", str(self.state.ssh_config), "-o", "BatchMode=yes"]
        command += ["-o", f"ConnectTimeout={SSH_TIMEOUT_S}", "-l", user or self.access.user, self.name, *argv]
        return subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout_s, check=False
        )


def is_sshd(process: Process) -> bool:
    """Whether a process is an sshd: the one that listens or one that serves a session."""
    command = process.command
    return (
        command.startswith(("sshd:", "sshd-session:", "sshd-auth:"))
        or "sshd" in Path(command.split(" ", 1)[0]).name
    )


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

    def foundation(self) -> set[int]:
        """Pids of its first process and of all sshd processes."""
        return {process.pid for process in self.processes() if process.inner_pid == 1 or is_sshd(process)}

    def listeners(self) -> list[Process]:
        """Find the sshd that takes new connections: a child of the first process."""
        first = self.first()
        return [
            process
            for process in self.processes()
            if first is not None and process.parent == first.pid and is_sshd(process)
        ]

    def kill(self) -> None:
        """Kill the host as a whole, also what is left of one that died on the way up."""

        def first() -> list[Process]:
            found = self._in_network()
            inits = [process for process in found if process.inner_pid == 1]
            return inits or found

        procfs.kill_all(first, self.name)

    def exec(self, argv: Sequence[str], timeout_s: float = 60.0) -> subprocess.CompletedProcess[str]:
        """Run a command inside as root, without ssh, on the host's CPUs."""
        cpus = ",".join(map(str, self.spec.cpus))
        enter = ["nsenter", "--target", str(self._living().pid)]
        enter += ["--mount", "--uts", "--ipc", "--net", "--pid"]
        return subprocess.run(
            ["taskset", "--cpu-list", cpus, *enter, *argv],
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
        sshd = (
            "exec env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin $(command -v sshd)"
        )
        self._inside("/bin/sh", "-c", f"PATH=/usr/local/sbin:/usr/sbin:/sbin; {sshd} -E /var/log/sshd.log")
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

    def restart(self) -> None:
        """Go away and come back as after a reset: no process survives, the disk does."""
        self.power_off()
        self.power_on()

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

    def free_disk(self, size_bytes: int) -> None:
        """Give the disk its size back."""
        self._resize_disk(size_bytes)

    def _resize_disk(self, size_bytes: int) -> None:
        self._inside("mount", "-i", "-o", f"remount,size={size_bytes}", DISK)
