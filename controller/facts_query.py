"""Asking hosts what they are."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from agent.records import Facts, RecordError
from controller.errors import AgentFailed, RemoteError
from controller.host_facts import HostFacts
from controller.inventory import Host
from controller.remote import Transport, agent_command, run_for_line
from controller.transports import open_transport

FACTS_TIMEOUT_S = 15.0
MAX_AT_ONCE = 16
T = TypeVar("T")


def query_facts(transport: Transport, workloads: Sequence[str] = ()) -> HostFacts:
    """Ask the agent of a host for its facts; `workloads` with parameters are described in them, too.

    Raises
    ------
    RemoteError
        `not_provisioned` without an agent, `internal` when it says something else, and what the connection
        may raise.
    """
    host = transport.host.name
    line, code, errors = run_for_line(
        transport, agent_command(transport.host, "facts", *workloads), FACTS_TIMEOUT_S
    )
    last = errors.strip().splitlines()[-1:] or ["it said nothing"]
    try:
        document = json.loads(line)
        if isinstance(document, dict) and document.get("event") == "failure":
            kind, reason = str(document["kind"]), str(document["reason"])
            raise AgentFailed(host, kind, f"{reason}; run 'fcgi-sweep provision --limit {host}'")
        Facts.from_json(document)
    except (ValueError, KeyError, RecordError) as error:
        detail = str(error) if line else f"exit code {code}: {last[0]}"
        kind = "not_provisioned" if code == 127 else "internal"
        raise AgentFailed(
            host, kind, f"the agent gave no facts ({detail}); run 'fcgi-sweep provision --limit {host}'"
        ) from error
    return HostFacts(document)


def for_each_host(hosts: Sequence[Host], ask: Callable[[Host], T]) -> dict[str, T | RemoteError]:
    """Do something with every host at the same time; what went wrong stands in place of the answer."""

    def guarded(host: Host) -> T | RemoteError:
        try:
            return ask(host)
        except RemoteError as error:
            return error

    if not hosts:
        return {}
    with ThreadPoolExecutor(max_workers=min(len(hosts), MAX_AT_ONCE)) as pool:
        return dict(zip((host.name for host in hosts), pool.map(guarded, hosts), strict=True))


def facts_of(hosts: Sequence[Host], workloads: Sequence[str] = ()) -> Mapping[str, HostFacts | RemoteError]:
    """Ask every host for its facts, all at once; `workloads` as in `query_facts`."""

    def ask(host: Host) -> HostFacts:
        transport = open_transport(host)
        try:
            return query_facts(transport, workloads)
        finally:
            transport.close()

    return for_each_host(hosts, ask)
