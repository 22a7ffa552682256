"""What a host is: read once a run, stored with every result."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import resource
import shutil
import subprocess
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional

from agent import __version__, lock, manifest, marked, procfs
from agent.records import AgentFacts, Clock, Facts

_CPU = Path("/sys/devices/system/cpu")
_SYSCTLS = (
    "net.core.somaxconn",
    "net.ipv4.tcp_tw_reuse",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_max_syn_backlog",
    "net.ipv4.tcp_fin_timeout",
    "kernel.randomize_va_space",
    "vm.swappiness",
)
_DESCRIBE_TIMEOUT_S = 20.0


def gather(prefix: Path, workloads: Sequence[str] = ()) -> Facts:
    """Return the facts of this host; what it does not say is None.

    `workloads` are described besides those without parameters: `cpu(500)`.
    """
    model, _ = procfs.parse_cpuinfo((procfs.PROC / "cpuinfo").read_text())
    cpus = tuple(sorted(os.sched_getaffinity(0)))
    found = manifest.read(prefix)
    described = describe_handlers(found, workloads)
    uname = platform.uname()
    return Facts(
        hostname=uname.node,
        os=uname.system.lower(),
        os_release=_os_release(),
        kernel=uname.release,
        arch=uname.machine,
        cpu_model=model,
        cpus=cpus,
        cores=len(cpus),
        sockets=len({_topology(cpu, "physical_package_id") for cpu in cpus}),
        threads_per_core=_threads_per_core(cpus),
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        governor=_text(_CPU / f"cpu{cpus[0]}/cpufreq/scaling_governor"),
        turbo=_turbo(),
        virtualisation=_virtualisation(),
        sysctls=_sysctls(),
        limits={"nofile": resource.getrlimit(resource.RLIMIT_NOFILE)[0]},
        clock=Clock(wall_s=time.time(), monotonic_s=time.monotonic()),
        python=platform.python_version(),
        agent=AgentFacts(version=__version__, fingerprint=fingerprint()),
        prefix=str(prefix),
        manifest=found,
        handlers=tuple(described["models"]),
        workloads=tuple(described["workloads"]),
        orphans=len(marked.find(str(prefix))),
        disk_free_bytes=shutil.disk_usage(_existing(prefix)).free,
        uid=os.getuid(),
        lock=lock.holder(prefix / "run"),
        absent_handlers=tuple(described.get("absent", ())),
    )


def describe_handlers(
    found: Optional[dict[str, Any]], workloads: Sequence[str] = ()
) -> dict[str, list[dict[str, Any]]]:
    """Ask the provisioned handlers what they promise; empty where there are none or they cannot answer."""
    nothing: dict[str, list[dict[str, Any]]] = {"models": [], "workloads": []}
    if found is None:
        return nothing
    try:
        command, environment = manifest.handlers_command(found, "describe", *workloads)
        answer = subprocess.run(
            command,
            env={**os.environ, **environment},
            cwd=manifest.handlers_directory(found),
            capture_output=True,
            timeout=_DESCRIBE_TIMEOUT_S,
            check=True,
        )
        described: dict[str, list[dict[str, Any]]] = json.loads(answer.stdout)
    except (LookupError, OSError, ValueError, subprocess.SubprocessError):
        return nothing
    return described


def fingerprint() -> str:
    """Return a digest of the agent's own files, the same in a source tree and in a zip archive."""
    home = Path(__file__).parent
    if home.is_dir():
        files = {
            path.relative_to(home.parent).as_posix(): path.read_bytes()
            for path in home.rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        }
    else:
        with zipfile.ZipFile(home.parent) as archive:
            files = {name: archive.read(name) for name in archive.namelist() if "/" in name}
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(f"{name}\0{len(files[name])}\0".encode() + files[name])
    return digest.hexdigest()


def _existing(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path


def _text(path: Path) -> Optional[str]:
    try:
        return path.read_text().strip()
    except OSError:
        return None


def _topology(cpu: int, what: str) -> str:
    return _text(_CPU / f"cpu{cpu}" / "topology" / what) or "0"


def _threads_per_core(cpus: tuple[int, ...]) -> int:
    cores = {(_topology(cpu, "physical_package_id"), _topology(cpu, "core_id")) for cpu in cpus}
    return max(1, len(cpus) // len(cores)) if _text(_CPU / f"cpu{cpus[0]}/topology/core_id") else 1


def _turbo() -> Optional[bool]:
    no_turbo = _text(_CPU / "intel_pstate/no_turbo")
    if no_turbo is not None:
        return no_turbo == "0"
    boost = _text(_CPU / "cpufreq/boost")
    return None if boost is None else boost == "1"


def _virtualisation() -> Optional[str]:
    container = _text(Path("/run/systemd/container"))
    if container:
        return container
    if "hypervisor" not in (procfs.PROC / "cpuinfo").read_text().split():
        return None
    maker = _text(Path("/sys/hypervisor/type")) or _text(Path("/sys/class/dmi/id/sys_vendor"))
    return maker or "unknown hypervisor"


def _sysctls() -> dict[str, str]:
    values = {name: _text(procfs.PROC / "sys" / name.replace(".", "/")) for name in _SYSCTLS}
    return {name: " ".join(value.split()) for name, value in values.items() if value is not None}


def _os_release() -> str:
    for line in (_text(Path("/etc/os-release")) or "").splitlines():
        key, _, value = line.partition("=")
        if key == "PRETTY_NAME":
            return value.strip('"')
    return "unknown"
