"""The counters of a moment, and what happened between two moments."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Optional

from agent import procfs
from agent.handler_stats import HandlerStats
from agent.process import Ended
from agent.records import GroupCounters, SystemCounters


@dataclass(frozen=True)
class GroupSnapshot:
    """What a group of processes has used so far; run-queue waits by thread.

    Context switches are None where one of the processes could not say.
    """

    cpu_user_s: float
    cpu_sys_s: float
    rss_bytes: int
    threads: int
    descriptors: int
    processes: int
    ctx_voluntary: Optional[int]
    ctx_involuntary: Optional[int]
    run_queue_waits_s: Mapping[int, float]


@dataclass(frozen=True)
class SystemSnapshot:
    """What the host has done so far; `wall_s` is what its wall clock says at `at_s`.

    `cpu` is the time of the server's CPUs, `cpu_host` of all that this host may use, the load's included.
    """

    at_s: float
    wall_s: float
    cpu: procfs.CpuTime
    cpu_host: procfs.CpuTime
    listen_drops: int
    listen_overflows: int
    passive_opens: int
    time_wait: int


def system(cpus: Optional[Collection[int]] = None) -> SystemSnapshot:
    """Return the host's counters now; `cpus` are the server's, None for all that this host may use."""
    usable = os.sched_getaffinity(0)
    stat = (procfs.PROC / "stat").read_text()
    extended = procfs.parse_table((procfs.PROC / "net/netstat").read_text(), "TcpExt")
    basic = procfs.parse_table((procfs.PROC / "net/snmp").read_text(), "Tcp")
    return SystemSnapshot(
        at_s=time.monotonic(),
        wall_s=time.time(),
        cpu=procfs.parse_cpu_time(stat, cpus or usable),
        cpu_host=procfs.parse_cpu_time(stat, usable),
        listen_drops=extended["ListenDrops"],
        listen_overflows=extended["ListenOverflows"],
        passive_opens=basic["PassiveOpens"],
        time_wait=procfs.parse_time_wait((procfs.PROC / "net/sockstat").read_text()),
    )


def group(pids: Iterable[int], stats: Optional[Mapping[int, HandlerStats]] = None) -> GroupSnapshot:
    """Return the counters of processes now; those that have ended count nothing.

    Context switches come from `stats` of those that have some: /proc forgets those of threads that ended.
    """
    user_s = sys_s = 0.0
    rss = threads = descriptors = processes = 0
    voluntary: Optional[int] = 0
    involuntary: Optional[int] = 0
    switches: tuple[Optional[int], Optional[int]]
    waits: dict[int, float] = {}
    for pid in pids:
        found = procfs.stat(pid)
        if found is None or found.state in "ZX":
            continue
        user_s += found.cpu_user_s
        sys_s += found.cpu_sys_s
        rss += found.rss_bytes
        threads += found.threads
        descriptors += procfs.descriptors(pid)
        processes += 1
        waits.update(_run_queue_waits(pid))
        if stats is None or pid not in stats:
            switches = procfs.parse_switches((procfs.PROC / str(pid) / "status").read_text())
        else:
            switches = stats[pid].ctx_voluntary, stats[pid].ctx_involuntary
        voluntary, involuntary = _sum(voluntary, switches[0]), _sum(involuntary, switches[1])
    return GroupSnapshot(
        cpu_user_s=user_s,
        cpu_sys_s=sys_s,
        rss_bytes=rss,
        threads=threads,
        descriptors=descriptors,
        processes=processes,
        ctx_voluntary=voluntary,
        ctx_involuntary=involuntary,
        run_queue_waits_s=waits,
    )


def _sum(one: Optional[int], other: Optional[int]) -> Optional[int]:
    return None if one is None or other is None else one + other


def group_between(before: GroupSnapshot, after: GroupSnapshot) -> GroupCounters:
    """Return what a group used between two moments."""
    waits = after.run_queue_waits_s.items()
    wait_s = sum(wait_s - before.run_queue_waits_s.get(thread, 0.0) for thread, wait_s in waits)
    return GroupCounters(
        cpu_user_s=round(after.cpu_user_s - before.cpu_user_s, 6),
        cpu_sys_s=round(after.cpu_sys_s - before.cpu_sys_s, 6),
        ctx_voluntary=_difference(after.ctx_voluntary, before.ctx_voluntary),
        ctx_involuntary=_difference(after.ctx_involuntary, before.ctx_involuntary),
        run_queue_wait_s=round(wait_s, 6),
        rss_bytes=after.rss_bytes,
        threads=after.threads,
        descriptors=after.descriptors,
        processes=after.processes,
    )


def _difference(after: Optional[int], before: Optional[int]) -> Optional[int]:
    return None if after is None or before is None else after - before


def system_between(before: SystemSnapshot, after: SystemSnapshot) -> SystemCounters:
    """Return what the host did between two moments."""
    ticks = max(1, after.cpu.total - before.cpu.total)
    ticks_host = max(1, after.cpu_host.total - before.cpu_host.total)
    _, freq_mhz = procfs.parse_cpuinfo((procfs.PROC / "cpuinfo").read_text())
    return SystemCounters(
        window_s=round(after.at_s - before.at_s, 6),
        clock_step_s=round(after.wall_s - before.wall_s - (after.at_s - before.at_s), 6),
        steal_share=(after.cpu_host.steal - before.cpu_host.steal) / ticks_host,
        idle_share=(after.cpu.idle - before.cpu.idle) / ticks,
        listen_drops=after.listen_drops - before.listen_drops,
        listen_overflows=after.listen_overflows - before.listen_overflows,
        passive_opens=after.passive_opens - before.passive_opens,
        time_wait=after.time_wait,
        ctx_total=after.cpu.ctx - before.cpu.ctx,
        load1=os.getloadavg()[0],
        freq_mhz=freq_mhz,
    )


def ended(end: Ended) -> GroupCounters:
    """Return what a program used in all its life."""
    return GroupCounters(
        cpu_user_s=end.usage.ru_utime,
        cpu_sys_s=end.usage.ru_stime,
        ctx_voluntary=end.usage.ru_nvcsw,
        ctx_involuntary=end.usage.ru_nivcsw,
        run_queue_wait_s=end.run_queue_wait_s,
        rss_bytes=end.usage.ru_maxrss * 1024,
        processes=1,
    )


def _run_queue_waits(pid: int) -> dict[int, float]:
    waits = {}
    try:
        for thread in (procfs.PROC / str(pid) / "task").iterdir():
            waits[int(thread.name)] = procfs.parse_run_queue_wait((thread / "schedstat").read_text())
    except OSError:
        return waits  # a thread or a kernel without this: what is known counts
    return waits
