"""What is wrong with the hosts, and what to do about it. Changes known_hosts at most, and only when asked."""

from __future__ import annotations

import contextlib
import json
import shlex
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from controller import survey
from controller.errors import AgentFailed, HostLost, RemoteError
from controller.facts_cache import remember_facts
from controller.facts_query import for_each_host, query_facts
from controller.findings import (
    Examined,
    Finding,
    Level,
    clock_finding,
    facts_findings,
    judge,
    machine_findings,
    provision,
    python_finding,
    survey_findings,
)
from controller.inventory import Host
from controller.load_hosts import server_address, unknown_load_host
from controller.remote import NoLineYet, Transport, run_for_line
from controller.transports import open_transport

ANSWER_TIMEOUT_S = 15.0
CONNECT_TIMEOUT_S = 4.0
VERSION = "import sys; print('%d.%d' % sys.version_info[:2])"
LISTEN = """\
import socket, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
with socket.socket(family) as server:
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        server.bind((sys.argv[1], int(sys.argv[2])))
        server.listen()
    except OSError as error:
        sys.exit(print(error.strerror))
    print("listening", flush=True)
    sys.stdin.read()
"""
CONNECT = """\
import socket, sys
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), float(sys.argv[3])).close()
    print("connected")
except OSError as error:
    print(error.strerror or error)
"""


def examine(
    hosts: Sequence[Host],
    accept_host_keys: bool,
    load_hosts: Mapping[str, Host | None] | None = None,
) -> list[Finding]:
    """Look at every host, all at once.

    Parameters
    ----------
    hosts : sequence of Host
        Which.
    accept_host_keys : bool
        Whether unknown host keys may be added to known_hosts. A changed key is never accepted.
    load_hosts : mapping of str to Host, optional
        The load host of each host that names one, as `named_load_hosts` has them. They are looked at as well.
    """
    pairs = load_hosts or {}
    load_makers = (each for each in pairs.values() if each is not None)
    everyone = {host.name: Examined(host) for host in (*hosts, *load_makers)}

    def look(host: Host) -> None:
        _examine_host(everyone[host.name], accept_host_keys)

    def look_at_pair(host: Host) -> list[Finding]:
        return [_examine_load_host(host, pairs[host.name], everyone)]

    for name, answer in for_each_host([each.host for each in everyone.values()], look).items():
        if isinstance(answer, RemoteError):
            everyone[name].findings.append(Finding(name, answer.kind, Level.BAD, answer.reason))
    servers = [everyone[name].host for name in pairs]
    return [
        *(finding for each in everyone.values() for finding in each.findings),
        *machine_findings(list(everyone.values())),
        *_findings(for_each_host(servers, look_at_pair), "load host"),
    ]


def examine_host_keys(hosts: Sequence[Host], accept: bool) -> list[Finding]:
    """Look at the host keys only, and accept unknown ones when told to; hosts without ssh are left out."""
    with_keys = [host for host in hosts if host.connection == "ssh"]
    return _findings(
        for_each_host(with_keys, lambda host: list(_examine_host_keys(host, accept))), "host key"
    )


def _findings(answers: Mapping[str, list[Finding] | RemoteError], check: str) -> list[Finding]:
    found: list[Finding] = []
    for name, answer in answers.items():
        if isinstance(answer, RemoteError):
            found.append(Finding(name, check, Level.BAD, answer.reason))
        else:
            found += answer
    return found


def _examine_host(examined: Examined, accept_host_keys: bool) -> None:
    host, findings = examined.host, examined.findings
    if host.connection == "ssh":
        for finding in _examine_way_in(host, accept_host_keys):
            findings.append(finding)
            if finding.level is Level.BAD:
                return
    with contextlib.closing(open_transport(host)) as transport:
        said, _, errors = run_for_line(transport, _python(host, VERSION), ANSWER_TIMEOUT_S)
        findings.append(python_finding(host, said, errors))
        if findings[-1].level is Level.BAD:
            return
        examined.survey = _survey(host, transport)
        asked_at = time.time()
        try:
            examined.facts = query_facts(transport)
        except AgentFailed as error:
            findings.append(Finding(host.name, error.kind, Level.BAD, error.reason))
            findings += survey_findings(host, examined.survey, measuring=False)
            return
        middle = (asked_at + time.time()) / 2
    facts = examined.facts
    remember_facts(host, facts)
    findings += facts_findings(host, examined.survey, facts)
    findings += survey_findings(host, examined.survey, measuring=facts.lock is not None)
    findings.append(clock_finding(host, float(facts.document["clock"]["wall_s"]) - middle))


def _examine_way_in(host: Host, accept_host_keys: bool) -> Iterator[Finding]:
    from controller.ssh_config import resolve  # noqa: PLC0415  (paramiko is slow to import)

    key = resolve(host).private_key
    if key is not None:
        yield _examine_key_file(host, Path(key).expanduser())
    yield from _examine_host_keys(host, accept_host_keys)


def _examine_key_file(host: Host, key: Path) -> Finding:
    if not key.is_file():
        text = f"{key} is not there; correct ansible_ssh_private_key_file, or leave it out for ssh's own keys"
        return Finding(host.name, "ssh key", Level.BAD, text)
    if stat.S_IMODE(key.stat().st_mode) & 0o077:
        text = f"{key} can be read by others, so ssh does not use it; chmod 600 {shlex.quote(str(key))}"
        return Finding(host.name, "ssh key", Level.BAD, text)
    return Finding(host.name, "ssh key", Level.OK, str(key))


def _examine_host_keys(host: Host, accept: bool) -> Iterator[Finding]:
    """Look at the keys of the hosts to jump through, then at that of the host itself."""
    from controller.ssh import jump_host  # noqa: PLC0415  (paramiko is slow to import)
    from controller.ssh_config import resolve  # noqa: PLC0415

    through = jump_host(resolve(host))
    if through is not None:
        for finding in _examine_host_keys(through, accept):
            yield replace(finding, host=host.name, text=f"of the jump host {through.name}: {finding.text}")
            if finding.level is Level.BAD:
                return
    yield _examine_host_key(host, accept)


def _examine_host_key(host: Host, accept: bool) -> Finding:
    from controller.host_keys import accept_key, offered_key  # noqa: PLC0415  (paramiko is slow to import)

    offered = offered_key(host)
    shown = f"{offered.key.get_name()} {offered.key.fingerprint}"
    if offered.known:
        return Finding(host.name, "host key", Level.OK, shown)
    if offered.conflict:
        return Finding(
            host.name, "host key", Level.BAD,
            f"has CHANGED: the host shows {shown}, {offered.file} has another one; "
            "if it was installed anew, remove the old key and come back: "
            f"ssh-keygen -R {shlex.quote(offered.name)} -f {offered.file}",
        )  # fmt: skip
    if not accept:
        return Finding(
            host.name, "host key", Level.BAD,
            f"is not in {offered.file}: the host shows {shown}; compare it there, then accept it with "
            "'fcgi-sweep doctor --accept-host-keys'",
        )  # fmt: skip
    accept_key(offered)
    return Finding(host.name, "host key", Level.OK, f"accepted into {offered.file}: {shown}")


def _survey(host: Host, transport: Transport) -> dict[str, Any]:
    """Let `controller.survey` look round on a host."""
    source = Path(survey.__file__).read_text(encoding="utf-8")
    command = _python(host, source, host.prefix or "~/.fcgi-sweep", str(host.listen_port))
    line, code, errors = run_for_line(transport, command, ANSWER_TIMEOUT_S)
    try:
        found: dict[str, Any] = json.loads(line)
    except ValueError as error:
        last = (errors.strip() or line or f"exit code {code}").splitlines()[-1]
        raise AgentFailed(
            host.name, "internal", f"{host.python} could not look round there ({last}); log in and try it"
        ) from error
    return found


def _examine_load_host(host: Host, load_host: Host | None, known: Mapping[str, Examined]) -> Finding:
    """Judge whether the host that `load_from` names can make the load."""
    problem = (
        unknown_load_host(host)
        if load_host is None
        else _load_maker_problem(known[load_host.name]) or _way_problem(known[host.name], load_host)
    )
    return judge(host.name, "load host", problem, f"{host.load_from} reaches port {host.listen_port}")


def _load_maker_problem(maker: Examined) -> str | None:
    name = maker.host.name
    if maker.survey is None:
        return f"{name} cannot be used; mend what is said of it"
    if maker.facts is None or maker.facts.manifest is None:
        return f"{name} is not provisioned; {provision(maker.host)}"
    if not maker.facts.manifest.get("load_generators"):
        remedy = f"name one in fcgi_sweep_load_generators, then {provision(maker.host)}"
        return f"{name} has no load generator; {remedy}"
    return None


def _way_problem(server: Examined, load_host: Host) -> str | None:
    """Listen on a host as lighttpd will, connect from its load host, and tell what went wrong."""
    host = server.host
    if server.survey is None or server.survey["port_problem"]:
        return f"whether {load_host.name} reaches port {host.listen_port} is not known; mend the host first"
    try:
        address = server_address(host)
    except ValueError as error:
        return f"{error}; set fcgi_sweep_address for the host"
    with (
        contextlib.closing(open_transport(host)) as here,
        contextlib.closing(open_transport(load_host)) as there,
        contextlib.closing(here.start(_python(host, LISTEN, address, str(host.listen_port)))) as listener,
    ):
        try:
            ready = listener.read_line(ANSWER_TIMEOUT_S)
        except NoLineYet:
            raise HostLost(host.name, f"no answer within {ANSWER_TIMEOUT_S:.0f} s; is it frozen?") from None
        if ready != "listening":
            said = ready or listener.error_text().strip()
            remedy = "set fcgi_sweep_address to one of its addresses"
            return f"the host cannot listen on {address} ({said}); {remedy}"
        arguments = (address, str(host.listen_port), str(CONNECT_TIMEOUT_S))
        answer, _, errors = run_for_line(there, _python(load_host, CONNECT, *arguments), ANSWER_TIMEOUT_S)
    if answer == "connected":
        return None
    return (
        f"{load_host.name} cannot reach {address} port {host.listen_port} ({answer or errors.strip()}); open "
        "the firewall between them, or set fcgi_sweep_address to an address that it reaches"
    )


def _python(host: Host, code: str, *arguments: str) -> str:
    return f"exec {shlex.join([host.python, '-c', code, *arguments])}"
