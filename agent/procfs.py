"""What the kernel says in /proc: parsers of its texts, and readers of one moment."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

PROC = Path("/proc")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_LISTEN = "0A"


@dataclass(frozen=True)
class Stat:
    """`/proc/<pid>/stat`, as far as it matters here; `started_ticks` makes a pid unique since boot."""

    state: str
    ppid: int
    cpu_user_s: float
    cpu_sys_s: float
    threads: int
    started_ticks: int
    rss_bytes: int


@dataclass(frozen=True)
class CpuTime:
    """The first line of `/proc/stat` in ticks over all CPUs, and the context switches since boot."""

    total: int
    idle: int
    steal: int
    ctx: int


@dataclass(frozen=True)
class Listener:
    """A TCP socket that listens."""

    port: int
    inode: int


def parse_stat(text: str) -> Stat:
    """Parse `/proc/<pid>/stat`; the command may hold blanks and brackets."""
    rest = text[text.rindex(")") + 2 :].split()
    return Stat(
        state=rest[0],
        ppid=int(rest[1]),
        cpu_user_s=int(rest[11]) / _TICKS_PER_S,
        cpu_sys_s=int(rest[12]) / _TICKS_PER_S,
        threads=int(rest[17]),
        started_ticks=int(rest[19]),
        rss_bytes=int(rest[21]) * _PAGE_BYTES,
    )


def parse_switches(text: str) -> tuple[int, int]:
    """Return voluntary and involuntary context switches from `/proc/<pid>/status` (of that one thread)."""
    found = dict(line.split(":", 1) for line in text.splitlines() if "ctxt_switches" in line)
    return int(found["voluntary_ctxt_switches"]), int(found["nonvoluntary_ctxt_switches"])


def parse_run_queue_wait(text: str) -> float:
    """Return the seconds spent runnable but not running, from `schedstat` of a thread."""
    return int(text.split()[1]) / 1e9


def parse_cpu_time(text: str, cpus: Collection[int]) -> CpuTime:
    """Return from `/proc/stat` the time of some CPUs. Guest time is part of user time: not counted twice."""
    rows = {words[0]: words[1:] for words in map(str.split, text.splitlines()) if words}
    names, shown = {f"cpu{cpu}" for cpu in cpus}, {name for name in rows if name.startswith("cpu")} - {"cpu"}
    # The sum over all is exact, where that of rounded rows is not. And lxcfs numbers the CPUs of a container
    # anew, from 0 on, and shows no others.
    if names == shown or not names <= shown:
        names = {"cpu"}
    of_each = [[int(each) for each in rows[name][:8]] for name in names]
    user, nice, system, idle, iowait, irq, softirq, steal = map(sum, zip(*of_each))  # noqa: B905 - Python 3.9
    ctx = int(rows["ctxt"][0])
    total = user + nice + system + idle + iowait + irq + softirq + steal
    return CpuTime(total=total, idle=idle + iowait, steal=steal, ctx=ctx)


def parse_table(text: str, section: str) -> dict[str, int]:
    """Return one section of `/proc/net/netstat` or `/proc/net/snmp`: a line of names, a line of values."""
    names, values = (line.split()[1:] for line in text.splitlines() if line.startswith(section + ":"))
    return dict(zip(names, map(int, values)))  # noqa: B905 - Python 3.9 has no strict=


def parse_time_wait(text: str) -> int:
    """Return the TCP sockets in TIME_WAIT from `/proc/net/sockstat`."""
    words = next(line for line in text.splitlines() if line.startswith("TCP:")).split()
    return int(words[words.index("tw") + 1])


def parse_environ(data: bytes) -> dict[str, str]:
    """Parse `/proc/<pid>/environ`."""
    pairs = (entry.partition(b"=") for entry in data.split(b"\0") if b"=" in entry)
    return {os.fsdecode(name): os.fsdecode(value) for name, _, value in pairs}


def parse_listeners(text: str) -> list[Listener]:
    """Return the listening sockets of `/proc/net/tcp` or `tcp6`."""
    rows = (line.split() for line in text.splitlines()[1:])
    return [Listener(int(row[1].rsplit(":", 1)[1], 16), int(row[9])) for row in rows if row[3] == _LISTEN]


def parse_cpuinfo(text: str) -> tuple[str, Optional[float]]:
    """Return the CPU's model and the mean of the present clock rates in MHz (None where not shown)."""
    model, rates = "unknown", []
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("model name", "Model", "cpu model") and model == "unknown":
            model = " ".join(value.split())
        elif key.strip() == "cpu MHz":
            rates.append(float(value))
    return model, sum(rates) / len(rates) if rates else None


def stat(pid: int) -> Optional[Stat]:
    """Return a process's stat, or None when there is no such process."""
    try:
        return parse_stat((PROC / str(pid) / "stat").read_text())
    except (FileNotFoundError, ProcessLookupError):
        return None


def is_running(pid: int) -> bool:
    """Whether the process exists and is more than a zombie."""
    found = stat(pid)
    return found is not None and found.state not in "ZX"


def command(pid: int) -> str:
    """Return a process's command line, or an empty string when it cannot be read."""
    try:
        words = (PROC / str(pid) / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return ""
    return b" ".join(words).decode(errors="replace").strip()


def environ(pid: int) -> dict[str, str]:
    """Return a process's environment as it was at its start; empty when it cannot be read."""
    try:
        return parse_environ((PROC / str(pid) / "environ").read_bytes())
    except OSError:
        return {}


def descriptors(pid: int) -> int:
    """Return how many descriptors a process has open; 0 when that cannot be read."""
    try:
        return len(os.listdir(PROC / str(pid) / "fd"))  # noqa: PTH208 - one call a look
    except OSError:
        return 0


def pids() -> list[int]:
    """Return all process ids."""
    return [int(name) for name in os.listdir(PROC) if name.isdigit()]  # noqa: PTH208 - one call a scan


def listener_owner(port: int) -> str:
    """Say which process listens on a TCP port, as far as this user may know."""
    listeners: list[Listener] = []
    for table in ("tcp", "tcp6"):
        if (PROC / "net" / table).exists():
            listeners += parse_listeners((PROC / "net" / table).read_text())
    sockets = {f"socket:[{each.inode}]" for each in listeners if each.port == port}
    for pid in pids():
        if sockets.intersection(_open_files(pid)):
            return f"process {pid} ({command(pid)})"
    return "a process that this user may not see"


def _open_files(pid: int) -> set[str]:
    found = set()
    with contextlib.suppress(OSError):
        for link in (PROC / str(pid) / "fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # closed in the meantime
                found.add(str(link.readlink()))
    return found
