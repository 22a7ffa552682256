"""What the lab needs to know of the machine that it runs on."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from lab import documents, plan
from lab.state import cache_home, state_home

PROJECT = Path(__file__).resolve().parent.parent
SYSTEM_PATH = "/usr/bin:/bin:/usr/local/bin"


def siblings(cpus: Sequence[int]) -> dict[int, tuple[int, ...]]:
    """For each CPU the CPUs of its physical core, as far as the kernel tells."""
    found: dict[int, tuple[int, ...]] = {}
    for cpu in cpus:
        path = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        if path.exists():
            found[cpu] = plan.parse_cpu_list(path.read_text())
    return found


def private_directories() -> set[Path]:
    """Directories of the machine that a host must not see: homes, the checkout, the lab's own state."""
    homes = [Path.home(), Path("/root"), Path("/home")]
    if "SUDO_USER" in os.environ:
        homes.append(Path(f"~{os.environ['SUDO_USER']}").expanduser())
    return {path.resolve() for path in [PROJECT, state_home(), cache_home(), *homes]}


def resolv_conf() -> str:
    """Text of a resolv.conf that works on another host: systemd's stub on loopback does not."""
    candidates = [Path("/etc/resolv.conf"), Path("/run/systemd/resolve/resolv.conf")]
    text = documents.choose_resolv_conf(path.read_text() for path in candidates if path.is_file())
    return text if text is not None else "# the machine's name servers answer on its loopback only\n"


def own_environment() -> dict[str, str]:
    """Environment for the lab's own background processes."""
    return {"PATH": os.defpath, "PYTHONPATH": str(PROJECT), "LANG": "C.UTF-8"}


def system_python() -> str:
    """Find the Python that a host offers to Ansible: the system's, not that of a virtual environment."""
    return shutil.which("python3", path=SYSTEM_PATH) or sys.executable
