"""The state directory of a lab: its lock, its record and its keys."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from lab.commands import run
from lab.errors import LabError
from lab.plan import HostSpec

SCHEMA = 1


def state_home() -> Path:
    """Directory of all labs of this user."""
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base).absolute() / "fcgi-sweep" / "lab"


def cache_home() -> Path:
    """Directory of what can be made again: root file systems."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "fcgi-sweep"


@dataclass(frozen=True, slots=True)
class Record:
    """What `up` was asked for; written before anything is made.

    Attributes
    ----------
    mode : str
        ``namespaces`` or ``processes``.
    rootfs : str
        ``overlay`` or ``debian:<suite>``.
    network : str
        The /24 of the lab; empty in mode ``processes``.
    inventory : str or None
        Inventory file that `up` writes and `down` removes.
    """

    name: str
    mode: str
    rootfs: str
    network: str
    hosts: tuple[HostSpec, ...]
    inventory: str | None

    def with_hosts(self, hosts: Sequence[HostSpec]) -> Record:
        """Return the record with other hosts."""
        return replace(self, hosts=tuple(hosts))


def write_atomically(path: Path, text: str, mode: int = 0o644) -> None:
    """Write a file so that a reader sees the old text or the new one, never a part."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.write_text(text)
    fresh.chmod(mode)
    fresh.replace(path)


@dataclass(frozen=True, slots=True)
class State:
    """State directory of the lab called `name`."""

    name: str

    @property
    def path(self) -> Path:
        """The directory."""
        return state_home() / self.name

    @property
    def record_file(self) -> Path:
        """The record, as JSON."""
        return self.path / "lab.json"

    @property
    def client_key(self) -> Path:
        """Private key for logging in."""
        return self.path / "id_ed25519"

    @property
    def known_hosts(self) -> Path:
        """Host keys of the lab, for every ssh client."""
        return self.path / "known_hosts"

    @property
    def ssh_config(self) -> Path:
        """Configuration for ``ssh -F``."""
        return self.path / "ssh_config"

    def host_dir(self, host: str) -> Path:
        """Directory of what belongs to one host."""
        return self.path / host

    def host_key(self, host: str) -> Path:
        """Private key of a host's sshd."""
        return self.host_dir(host) / "ssh_host_ed25519_key"

    def load(self) -> Record | None:
        """Read the record; None when the lab is not up.

        Raises
        ------
        LabError
            The record is no record of this version.
        """
        try:
            document: dict[str, Any] = json.loads(self.record_file.read_text())
            if document.pop("schema") != SCHEMA:
                raise ValueError("another schema")
            hosts = [HostSpec(**{**host, "cpus": tuple(host["cpus"])}) for host in document.pop("hosts")]
            return Record(**document, hosts=tuple(hosts))
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise LabError(
                f"{self.record_file} cannot be read ({error}): take the lab down with "
                f"`python -m lab down --name {self.name}`"
            ) from error

    def save(self, record: Record) -> None:
        """Write the record."""
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_atomically(self.record_file, json.dumps({"schema": SCHEMA, **asdict(record)}, indent=1) + "\n")

    def make_key(self, path: Path, comment: str) -> str:
        """Make a key pair unless it is there; return the public key."""
        public = path.with_name(path.name + ".pub")
        if not (path.exists() and public.exists()):
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            path.unlink(missing_ok=True)
            run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(path)])
        return public.read_text().strip()

    def remove(self) -> bool:
        """Remove the directory; the record goes last. False when there was none."""
        if not self.path.exists():
            return False
        for entry in self.path.iterdir():
            if entry.is_dir():
                shutil.rmtree(entry)
            elif entry != self.record_file:
                entry.unlink()
        shutil.rmtree(self.path)
        return True

    @contextlib.contextmanager
    def locked(self, timeout_s: float = 300.0) -> Iterator[int]:
        """Hold the lab for this process and the children that inherit the descriptor.

        Yields
        ------
        int
            The descriptor. Whoever holds it keeps others out, so that a host whose `up` was killed is
            complete or gone before the next command looks.
        """
        state_home().mkdir(parents=True, exist_ok=True, mode=0o700)
        path = state_home() / f"{self.name}.lock"
        deadline = time.monotonic() + timeout_s
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            if _lock(descriptor, path):
                break
            os.close(descriptor)
            if time.monotonic() > deadline:
                raise LabError(
                    f"another command has held lab {self.name} for {timeout_s:g} s: "
                    f"wait for it or end it ({path})"
                )
            time.sleep(0.05)
        try:
            yield descriptor
        finally:
            if not self.path.exists():
                path.unlink(missing_ok=True)
            os.close(descriptor)


def _lock(descriptor: int, path: Path) -> bool:
    """Take the lock; False when someone has it or has just removed the file."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.fstat(descriptor).st_ino == path.stat().st_ino
    except (BlockingIOError, FileNotFoundError):
        return False
