"""A lab host where namespaces are not permitted: an sshd of its own on a loopback address.

It has its own host key, prefix and CPUs, but shares files, users and network with the machine.
"""

from __future__ import annotations

import getpass
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from lab import documents, machine, plan, preflight, procfs
from lab.commands import run
from lab.errors import LabError
from lab.host import KEYGEN, LabHost, Launch, is_sshd
from lab.procfs import Process
from lab.state import State, write_atomically

MARK = "FCGI_SWEEP_LAB_HOST"
FIRST_PORT = 2201


def free_port(address: str, start: int = FIRST_PORT) -> int:
    """Find a port that nobody listens on."""
    for port in range(start, 65536):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, port))
            except OSError:
                continue
            return port
    raise LabError(f"no free port on {address} from {start} on")


def prefix(name: str) -> Path:
    """Directory that takes the place of ~/.fcgi-sweep on a host."""
    return Path.home() / f".fcgi-sweep-{name}"


def existing(lab: str) -> list[str]:
    """Names of the hosts of a lab, found by their processes, their files and their prefixes."""
    pattern = plan.host_pattern(lab)
    names = {path.name for path in State(lab).path.glob("*") if path.is_dir()}
    names |= {path.name.removeprefix(".fcgi-sweep-") for path in Path.home().glob(".fcgi-sweep-*")}
    for process in procfs.processes():
        names.update(re.findall(rf"{re.escape(str(State(lab).path))}/([^/ ]+)/", process.command))
        names.add(procfs.environment(process.pid).get(MARK, ""))
    return sorted(name for name in names if pattern.fullmatch(name))


class ProcessHost(LabHost):
    """A host made of plain processes."""

    @property
    def directory(self) -> Path:
        """Where its configuration, keys and logs lie."""
        return self.state.host_dir(self.name)

    def first(self) -> Process | None:
        """Its keeper; None when the host is dead."""
        plan_file = str(self.directory / "plan.json")
        for process in procfs.processes():
            if "lab.keeper" in process.command and plan_file in process.command:
                return process
        return None

    def processes(self) -> list[Process]:
        """Every live process of the host: what its keeper or, without one, its sshd started."""
        mine = f"{self.directory}/"
        roots = [
            process.pid
            for process in procfs.processes()
            if (mine in process.command and ("lab.keeper" in process.command or is_sshd(process)))
            or self._started_here(process.pid)
        ]
        return procfs.descendants(roots)

    def _started_here(self, pid: int) -> bool:
        # what a trial starts need not pass the lab's own mark on, but carries the prefix
        environment = procfs.environment(pid)
        return environment.get(MARK) == self.name or environment.get("FCGI_SWEEP_PREFIX") == str(
            prefix(self.name)
        )

    def launch(self, orders: Launch) -> None:
        """Make the host from scratch; what is left of a dead one goes first."""
        self.kill()
        sshd = preflight.which("sshd")
        if sshd is None:
            raise LabError("sshd is not installed on this machine")
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._serve_known_key()
        write_atomically(self.directory / "authorized_keys", f"{orders.client_key}\n", mode=0o600)
        settings = {
            "ListenAddress": f"{self.spec.address}:{self.spec.port}",
            "HostKey": str(self.directory / "served_key"),
            "AuthorizedKeysFile": str(self.directory / "authorized_keys"),
            "PidFile": "none",
            "PermitUserRC": "no",
            "SetEnv": f"LANG=C.UTF-8 {MARK}={self.name}",
        }
        config = self.directory / "sshd_config"
        write_atomically(config, documents.sshd_config(settings, user=getpass.getuser()))
        command = [sshd, "-D", "-f", str(config), "-E", str(self.directory / "sshd.log")]
        write_atomically(
            self.directory / "plan.json", json.dumps({"cpus": self.spec.cpus, "sshd": command}, indent=1)
        )
        with (self.directory / "keeper.log").open("ab") as log:
            subprocess.run(
                [sys.executable, "-m", "lab.keeper", str(self.directory / "plan.json")],
                cwd="/",
                env=machine.own_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # the host outlives this command and its terminal
                timeout=10,
                check=True,
            )
        self.wait_ready()

    def kill(self) -> bool:
        """Kill the keeper and everything below it; False when there was nothing."""
        return bool(procfs.kill_all(self.processes, self.name))

    def remove_files(self) -> bool:
        """Remove its prefix; False when there was none."""
        if not prefix(self.name).exists():
            return False
        shutil.rmtree(prefix(self.name))
        return True

    def exec(self, argv: Sequence[str], timeout_s: float = 60.0) -> subprocess.CompletedProcess[str]:
        """Run a command on the host's CPUs as this user, without ssh."""
        return subprocess.run(
            ["taskset", "--cpu-list", ",".join(map(str, self.spec.cpus)), *argv],
            env={**os.environ, MARK: self.name},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def start_sshd(self) -> None:
        """Have the keeper start sshd."""
        first = self.first()
        if first is None:
            raise LabError(f"{self.name}: the host is dead; `python -m lab up --name {self.lab}` mends it")
        procfs.send([first.pid], signal.SIGUSR1)
        self.wait_ready()

    def _serve_known_key(self) -> None:
        key = self.state.host_key(self.name).read_text()
        write_atomically(self.directory / "served_key", key, mode=0o600)

    def change_host_key(self) -> None:
        """Present a fresh host key."""
        served = self.directory / "served_key"
        served.unlink()
        run([*KEYGEN, str(served)])
        self.restart_sshd()

    def restore_host_key(self) -> None:
        """Present the key of known_hosts again."""
        self._serve_known_key()
        self.restart_sshd()
