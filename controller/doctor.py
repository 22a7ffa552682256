"""What is wrong with the hosts, and what to do about it. Changes known_hosts at most, and only when asked."""

from __future__ import annotations

import contextlib
import hashlib
import shlex
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import agent
import fcgi_handlers
from controller.errors import RemoteError
from controller.facts_cache import remember_facts
from controller.facts_query import for_each_host, query_facts
from controller.host_facts import HostFacts
from controller.inventory import Host
from controller.remote import Transport, open_transport, run_for_line

MAX_CLOCK_OFFSET_S = 2.0
MIN_DISK_FREE_BYTES = 200 << 20
MIN_OPEN_FILES = 1024
PORT_PROBE = (
    "import socket as s; w = s.socket(); w.setsockopt(s.SOL_SOCKET, s.SO_REUSEADDR, 1); "
    "print(w.connect_ex(('127.0.0.1', {port})))"
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes
    ----------
    host, check : str
        Where, and what.
    good : bool
        Whether it is as it should be.
    text : str
        The fact and, if it is not good, the remedy.
    """

    host: str
    check: str
    good: bool
    text: str


def examine(hosts: Sequence[Host], accept_host_keys: bool) -> list[Finding]:
    """Look at every host, all at once.

    Parameters
    ----------
    hosts : sequence of Host
        Which.
    accept_host_keys : bool
        Whether unknown host keys may be added to known_hosts. A changed key is never accepted.
    """

    def look(host: Host) -> list[Finding]:
        return list(_examine_host(host, accept_host_keys))

    findings = []
    for host, answer in for_each_host(hosts, look).items():
        if isinstance(answer, RemoteError):
            findings.append(Finding(host, answer.kind, False, answer.reason))
        else:
            findings.extend(answer)
    return findings


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


def _examine_host(host: Host, accept_host_keys: bool) -> Iterator[Finding]:
    if host.connection == "ssh":
        key = _examine_key(host, accept_host_keys)
        yield key
        if not key.good:
            return
    transport = open_transport(host)
    with contextlib.closing(transport):
        try:
            asked_at = time.time()
            facts = query_facts(transport)
            answered_at = time.time()
        except RemoteError as error:
            yield Finding(host.name, error.kind, False, error.reason)
            return
        remember_facts(host, facts)
        yield Finding(host.name, "facts", True, facts.label(host.name))
        yield from _examine_facts(host, facts)
        offset_s = float(facts.document["clock"]["wall_s"]) - (asked_at + answered_at) / 2
        near = abs(offset_s) <= MAX_CLOCK_OFFSET_S
        remedy = "" if near else "; start a time service there (durations do not depend on it)"
        yield Finding(host.name, "clock", near, f"{offset_s:+.1f} s against this machine{remedy}")
        yield _examine_port(host, transport)


def _examine_key(host: Host, accept: bool) -> Finding:
    from controller.host_keys import accept_key, offered_key  # noqa: PLC0415  (paramiko is slow to import)

    offered = offered_key(host)
    shown = f"{offered.key.get_name()} {offered.key.fingerprint}"
    if offered.known:
        return Finding(host.name, "host key", True, shown)
    if offered.conflict:
        return Finding(
            host.name, "host key", False,
            f"has CHANGED: the host shows {shown}, {offered.file} has another one; "
            "if it was installed anew, remove the old key and come back: "
            f"ssh-keygen -R {shlex.quote(offered.name)} -f {offered.file}",
        )  # fmt: skip
    if not accept:
        return Finding(
            host.name, "host key", False,
            f"is not in {offered.file}: the host shows {shown}; compare it there, then accept it with "
            "'fcgi-sweep doctor --accept-host-keys'",
        )  # fmt: skip
    accept_key(offered)
    return Finding(host.name, "host key", True, f"accepted into {offered.file}: {shown}")


def _examine_facts(host: Host, facts: HostFacts) -> Iterator[Finding]:
    remedy = f"run 'fcgi-sweep provision --limit {host.name}'"
    manifest = facts.manifest
    if manifest is None:
        yield Finding(host.name, "provisioned", False, f"provisioning never finished there; {remedy}")
        return
    builds = ", ".join(build.version + (" (default)" if build.default else "") for build in facts.lighttpd)
    yield Finding(host.name, "lighttpd", bool(builds), builds or f"no build in the manifest; {remedy}")
    tools = ", ".join(sorted(manifest.get("load_generators", {})))
    yield Finding(host.name, "load generators", bool(tools), tools or f"none; {remedy}")
    fingerprints = facts.fingerprint()
    for name, package in (("agent", agent), ("handlers", fcgi_handlers)):
        same = fingerprints[name] == source_fingerprint(Path(package.__path__[0]))
        yield Finding(
            host.name, name, same, "as in this checkout" if same else f"not those of this checkout; {remedy}"
        )
    free = int(facts.document["disk_free_bytes"])
    roomy = free >= MIN_DISK_FREE_BYTES
    yield Finding(host.name, "disk", roomy, f"{free >> 20} MiB free" + ("" if roomy else "; make room there"))
    files = int(facts.document["limits"].get("nofile", 0))
    enough = files >= MIN_OPEN_FILES
    yield Finding(
        host.name,
        "open files",
        enough,
        f"limit {files}" + ("" if enough else "; raise the user's nofile limit"),
    )
    orphans = int(facts.document["orphans"])
    yield Finding(
        host.name, "orphans", orphans == 0,
        "none" if orphans == 0 else f"{orphans} processes of a dead trial; the next trial removes them",
    )  # fmt: skip
    yield Finding(
        host.name, "lock", facts.lock is None,
        "free" if facts.lock is None else f"held: {facts.lock}; wait for that trial to end",
    )  # fmt: skip


def _examine_port(host: Host, transport: Transport) -> Finding:
    probe = PORT_PROBE.format(port=host.listen_port)
    command = f"exec {shlex.quote(host.python)} -c {shlex.quote(probe)}"
    line, _, errors = run_for_line(transport, command, 10.0)
    free = line.strip() not in {"0", ""}
    if not line:
        return Finding(host.name, "port", False, f"could not be tried: {errors.strip()[-200:]}")
    return Finding(
        host.name, "port", free,
        f"{host.listen_port} is free" if free else
        f"{host.listen_port} is in use there; stop that service, or set fcgi_sweep_port for the host",
    )  # fmt: skip
