"""Looking at one FastCGI responder, from this machine or from a host: the agent's own client does it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass

from controller.errors import AgentFailed, HostLost, InputError
from controller.inventory import Host
from controller.remote import NoLineYet, agent_command
from controller.run_directory import PROJECT
from controller.transports import open_transport

WAITS = 12
"""How often a probe waits for an answer at most."""
SLACK_S = 10.0
BAD_INPUT = 2


@dataclass(frozen=True, slots=True)
class ProbeOrder:
    """What is asked of the agent's probe.

    Attributes
    ----------
    address : str
        A unix socket's path, or host:port.
    url, query : str
        What to ask the responder for.
    params : tuple of str
        More CGI variables, each `NAME=VALUE`.
    timeout_s : float
        How long to wait for any one answer.
    as_json : bool
        Whether the answer is to be one JSON document.
    """

    address: str
    url: str
    query: str
    params: tuple[str, ...]
    timeout_s: float
    as_json: bool

    def arguments(self) -> list[str]:
        """Return the order as arguments of the agent's `wire-probe`."""
        words = [self.address, "--url", self.url, "--query", self.query, "--timeout", f"{self.timeout_s:g}"]
        for param in self.params:
            words += ["--param", param]
        return [*words, "--json"] if self.as_json else words


def probe_from_here(order: ProbeOrder) -> int:
    """Probe from this machine; the answer goes to standard output. Return the exit code of the probe."""
    paths = [str(PROJECT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, "-m", "agent.wire", "probe", *order.arguments()]
    return subprocess.run(command, env=environment, check=False).returncode


def probe_from(host: Host, order: ProbeOrder, say: Callable[[str], None]) -> int:
    """Probe from a host, with the agent there; each line of the answer is said. Return its exit code.

    Raises
    ------
    RemoteError
        The host cannot be reached, has no agent, or gave no answer.
    InputError
        The agent did not understand the order.
    """
    transport = open_transport(host)
    with contextlib.closing(transport):
        command = agent_command(host, "wire-probe", *order.arguments())
        with contextlib.closing(transport.start(command)) as process:
            process.close_input()
            limit_s = WAITS * order.timeout_s + SLACK_S
            try:
                while (line := process.read_line(limit_s)) is not None:
                    if reason := _failure(line):
                        raise AgentFailed(
                            host.name,
                            "not_provisioned",
                            f"{reason}; run 'fcgi-sweep provision --limit {host.name}'",
                        )
                    say(line)
            except NoLineYet:
                raise HostLost(host.name, f"the probe gave no answer within {limit_s:.0f} s") from None
            code = process.exit_code(SLACK_S)
            if code is None:
                raise HostLost(host.name, "the probe did not come to its end")
            if code == BAD_INPUT:
                raise InputError(f"{host.name}: {process.error_text().strip()}")
            return code


def _failure(line: str) -> str:
    """Return why the agent could not be started, when that is what a line says."""
    document = json.loads(line) if line.startswith('{"event":"failure"') else {}
    return str(document.get("reason", ""))
