"""A lab host as seen from the machine: look inside, and break it on purpose."""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lab import procfs
from lab.documents import Access
from lab.errors import LabError
from lab.plan import HostSpec
from lab.procfs import Process
from lab.state import Record, State

SSH_TIMEOUT_S = 5
MEND_TIMEOUT_S = 3.0
KEYGEN = ("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f")


@dataclass(frozen=True, slots=True)
class Launch:
    """What it takes to make a host.

    Attributes
    ----------
    lower : str
        The directory that shows through as its root.
    lock : int
        Descriptor of the lab's lock, which the host holds until it is complete.
    """

    record: Record
    lower: str
    client_key: str
    disk_bytes: int
    lock: int


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
    def launch(self, orders: Launch) -> None:
        """Make the host from scratch; what is left of a dead one goes first."""

    @abstractmethod
    def kill(self) -> bool:
        """Kill everything of the host, dead or alive; False when there was nothing."""

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

    def listeners(self) -> list[Process]:
        """Find the sshd that takes new connections: a child of the first process."""
        first = self.first()
        return [
            process
            for process in self.processes()
            if first is not None and process.parent == first.pid and is_sshd(process)
        ]

    def foundation(self) -> set[int]:
        """Pids of what a host has without guests: its first process and sshd's own processes."""
        first = self.first()
        own = {process.pid for process in self.processes() if is_sshd(process)}
        return own | ({first.pid} if first else set())

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

    def link_down(self) -> None:
        """Pull the cable."""
        raise self._without_namespaces()

    def link_up(self) -> None:
        """Plug the cable in again."""
        raise self._without_namespaces()

    def power_off(self) -> None:
        """Kill all but the first process and pull the cable; the disk stays."""
        raise self._without_namespaces()

    def power_on(self) -> None:
        """Come back after `power_off`: empty /run and /tmp, cable in, sshd up."""
        raise self._without_namespaces()

    def fill_disk(self, left_bytes: int = 0) -> None:
        """Leave only `left_bytes` free on the disk."""
        raise self._without_namespaces()

    def free_disk(self) -> None:
        """Give the disk its size back."""
        raise self._without_namespaces()

    def disk_free_bytes(self) -> int:
        """Free space of the disk."""
        raise self._without_namespaces()

    def _without_namespaces(self) -> LabError:
        return LabError(f"{self.name}: a host without namespaces has neither a cable nor a disk of its own")

    def restart(self) -> None:
        """Go away and come back as after a reset: no process survives, the disk does."""
        self.power_off()
        self.power_on()

    def mend(self) -> str | None:
        """Get a living host to answer again without losing its disk.

        Returns
        -------
        str or None
            What was wrong; None when the host is dead or still does not answer.
        """
        if self.first() is None:
            return None
        self.thaw()
        if not self.listeners():
            self.start_sshd()
            return "its sshd was dead: started again"
        try:
            self.wait_ready(MEND_TIMEOUT_S)
        except LabError:
            return None
        return "it was frozen or cut off: let go on"

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
