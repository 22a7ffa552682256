"""What is to be said of hosts that were looked at. Pure: facts in, findings out."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import agent
import fcgi_handlers
from controller.host_facts import HostFacts
from controller.inventory import Host

MAX_CLOCK_OFFSET_S = 2.0
MIN_DISK_FREE_BYTES = 200 << 20
MIN_OPEN_FILES = 1024
OLDEST_PYTHON = (3, 9)
OLDEST_KERNEL = (5, 4)
"""The first one on which a process can be waited for by a descriptor."""
STEADY_GOVERNOR = "performance"


class Level(StrEnum):
    """How much a finding matters: as it should be, good to know, or to be mended."""

    OK = "ok"
    HINT = "hint"
    BAD = "BAD"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes
    ----------
    host, check : str
        Where, and what.
    level : Level
        Whether it is as it should be.
    text : str
        The fact and, if it is not good, the next step.
    """

    host: str
    check: str
    level: Level
    text: str


@dataclass(slots=True)
class Examined:
    """A host and what was learnt about it, as far as it went.

    Attributes
    ----------
    findings : list of Finding
        What was found so far.
    survey : mapping or None
        What `controller.survey` printed there.
    facts : HostFacts or None
        What its agent said.
    """

    host: Host
    findings: list[Finding] = field(default_factory=list)
    survey: Mapping[str, Any] | None = None
    facts: HostFacts | None = None


def source_fingerprint(package: Path) -> str:
    """Return the digest of a package's files, as agent and provisioning compute it."""
    digest = hashlib.sha256()
    files = {
        path.relative_to(package.parent).as_posix(): path
        for path in package.rglob("*")
        if path.is_file()
        and not any(part == "__pycache__" or part[0] == "." for part in path.relative_to(package).parts)
    }
    for name in sorted(files):
        content = files[name].read_bytes()
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def judge(host: str, check: str, problem: str | None, fine: str, level: Level = Level.BAD) -> Finding:
    """Return a finding: `fine` where there is no problem, else the problem with its next step."""
    return Finding(host, check, Level.OK if problem is None else level, problem or fine)


def python_finding(host: Host, said: str, errors: str) -> Finding:
    """Judge what a host's Python answered when it was asked for its version, such as `3.11`."""
    remedy = f"set ansible_python_interpreter for {host.name}"
    major, dot, minor = said.strip().partition(".")
    if not dot or not (major + minor).isdigit():
        last = (errors.strip() or said.strip() or "it said nothing").splitlines()[-1]
        return Finding(host.name, "python", Level.BAD, f"{host.python} does not run there ({last}); {remedy}")
    old = (int(major), int(minor)) < OLDEST_PYTHON
    oldest = ".".join(map(str, OLDEST_PYTHON))
    problem = f"{host.python} is Python {said.strip()}, {oldest} or later is needed; {remedy}"
    return judge(host.name, "python", problem if old else None, f"{host.python} is {said.strip()}")


def survey_findings(host: Host, survey: Mapping[str, Any], measuring: bool) -> Iterator[Finding]:
    """Judge what a host has, provisioned or not; `measuring` tells that a trial is under way there."""
    blocked = survey["not_writable"]
    whom = f"user {host.user}" if host.user else "the user who logs in"
    yield judge(
        host.name, "prefix",
        f"{whom} may not write: {blocked}; give it to that user, "
        "or set ansible_user or fcgi_sweep_prefix for the host" if blocked else None,
        f"{survey['prefix']} can be written",
    )  # fmt: skip
    free = int(survey["disk_free_bytes"])
    short = f"{free >> 20} MiB free where {survey['prefix']} lies; make room, {MIN_DISK_FREE_BYTES >> 20} MiB"
    yield judge(host.name, "disk", short if free < MIN_DISK_FREE_BYTES else None, f"{free >> 20} MiB free")
    problem, port = survey["port_problem"], host.listen_port
    if measuring:
        problem = None
    elif problem == "in use":
        problem = f"{port} is in use there ('ss -ltnp' tells by whom); stop that service, or"
    elif problem:
        problem = f"{port} cannot be used there ({problem});"
    yield judge(
        host.name, "port",
        f"{problem} set fcgi_sweep_port for the host" if problem else None,
        f"{port} is in use by the trial that runs" if measuring else f"{port} is free",
    )  # fmt: skip


def facts_findings(host: Host, survey: Mapping[str, Any], facts: HostFacts) -> Iterator[Finding]:
    """Judge what provisioning left on a host, and the host itself."""
    yield Finding(host.name, "facts", Level.OK, facts.label(host.name))
    if facts.manifest is None:
        yield Finding(
            host.name, "provisioned", Level.BAD, f"provisioning never finished there; {provision(host)}"
        )
    else:
        yield from _build_findings(host, survey, facts)
    yield from _leftover_findings(host, facts)
    yield from _hardware_findings(host, facts)


def provision(host: Host) -> str:
    """Return the next step for a host on which something of ours is missing."""
    return f"run 'fcgi-sweep provision --limit {host.name}'"


def clock_finding(host: Host, offset_s: float) -> Finding:
    """Judge how far a host's clock is ahead of this machine's."""
    off = (
        f"{offset_s:+.1f} s against this machine; start a time service there (durations do not depend on it)"
    )
    wrong = abs(offset_s) > MAX_CLOCK_OFFSET_S
    return judge(host.name, "clock", off if wrong else None, f"{offset_s:+.1f} s", Level.HINT)


def machine_findings(examined: Sequence[Examined]) -> Iterator[Finding]:
    """Judge whether hosts that share a machine say so: they must not be measured at the same time."""
    kernels: dict[str, list[Host]] = {}
    for each in examined:
        if each.survey and each.survey["boot_id"]:
            kernels.setdefault(each.survey["boot_id"], []).append(each.host)
    for boot_id, hosts in kernels.items():
        if len({host.machine for host in hosts}) > 1:
            others = ", ".join(host.name for host in hosts[1:])
            named = ", ".join(sorted({host.machine for host in hosts}))
            yield Finding(
                hosts[0].name, "machine", Level.BAD,
                f"is one machine with {others} (boot id {boot_id[:8]}), but by 'machine' they are {named} "
                "and would be measured at the same time; give them the same 'machine'",
            )  # fmt: skip
    guests = [
        each.host
        for each in examined
        if each.facts and each.facts.document.get("virtualisation") and each.host.machine == each.host.name
    ]
    if len(guests) > 1:
        yield Finding(
            guests[0].name, "machine", Level.HINT,
            f"{', '.join(host.name for host in guests)} are virtual machines without 'machine'; "
            "if some of them share a box, give those the same 'machine'",
        )  # fmt: skip


def _build_findings(host: Host, survey: Mapping[str, Any], facts: HostFacts) -> Iterator[Finding]:
    manifest = facts.manifest or {}
    builds = ", ".join(build.version + (" (default)" if build.default else "") for build in facts.lighttpd)
    yield judge(
        host.name, "lighttpd", None if builds else f"no build in the manifest; {provision(host)}", builds
    )
    if host.load_from is None:
        tools = ", ".join(sorted(manifest.get("load_generators", {})))
        none = f"none; name one in fcgi_sweep_load_generators, then {provision(host)}"
        yield judge(host.name, "load generators", None if tools else none, tools)
    broken = ", ".join(survey["broken_programs"])
    yield judge(
        host.name, "programs", f"do not run any more: {broken}; {provision(host)}" if broken else None,
        "all of the manifest run",
    )  # fmt: skip
    fingerprints = facts.fingerprint()
    for name, package in (("agent", agent), ("handlers", fcgi_handlers)):
        same = fingerprints[name] == source_fingerprint(Path(package.__path__[0]))
        other = f"of another version than this checkout; {provision(host)}"
        yield judge(host.name, name, None if same else other, "as in this checkout")


def _leftover_findings(host: Host, facts: HostFacts) -> Iterator[Finding]:
    orphans = int(facts.document["orphans"])
    # while a trial runs, its processes are no orphans
    left = orphans if facts.lock is None else 0
    yield judge(
        host.name, "orphans",
        f"{left} processes of a dead trial; the next trial ends them, or at once, on the host: "
        f"{host.python} {facts.prefix}/agent.pyz clean" if left else None,
        "none",
    )  # fmt: skip
    held = facts.lock
    yield judge(
        host.name, "lock",
        None if held is None else
        f"trial {held.get('trial_id', '?')} of run {held.get('run_id', '?')} is measured there by process "
        f"{held.get('pid', '?')} since {held.get('since', 'just now')}; wait for its end",
        "free",
    )  # fmt: skip


def _hardware_findings(host: Host, facts: HostFacts) -> Iterator[Finding]:
    kernel = str(facts.document.get("kernel", ""))
    old = (
        f"Linux {kernel}: the agent needs {'.'.join(map(str, OLDEST_KERNEL))} or later; measure another host"
    )
    yield judge(host.name, "kernel", old if _is_old(kernel) else None, f"Linux {kernel}")
    files = int(facts.document["limits"].get("nofile", 0))
    few = f"limit {files}; raise the user's nofile limit to {MIN_OPEN_FILES} or more"
    yield judge(host.name, "open files", few if files < MIN_OPEN_FILES else None, f"limit {files}")
    yield judge(host.name, "cpus", _cpu_problem(host, facts), f"{len(facts.cpus)} to be used")
    governor = facts.document.get("governor")
    yield judge(
        host.name, "governor",
        f"{governor}: the clock follows the load, and results scatter; as root on the host: "
        "cpupower frequency-set -g performance" if governor not in (None, STEADY_GOVERNOR) else None,
        governor or "the host shows none", Level.HINT,
    )  # fmt: skip


def _is_old(kernel: str) -> bool:
    found = re.match(r"(\d+)\.(\d+)", kernel)
    return found is not None and (int(found[1]), int(found[2])) < OLDEST_KERNEL


def _cpu_problem(host: Host, facts: HostFacts) -> str | None:
    for variable, cpus in (("server_cpus", host.server_cpus), ("load_cpus", host.load_cpus)):
        absent = sorted(set(cpus or ()) - set(facts.cpus))
        if absent:
            return (
                f"{variable} names CPU {absent[0]}, the host has {list(facts.cpus)} for us: none that is "
                "isolated, or denied to this login by a cgroup; correct it for this host"
            )
    both = sorted(set(host.server_cpus or ()) & set(host.load_cpus or ()))
    if both:
        return (
            f"server_cpus and load_cpus both name CPU {both[0]}: server and load would share it; "
            "correct one of them for this host"
        )
    return None
