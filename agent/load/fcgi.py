"""The project's own FastCGI client: it drives handler processes on their sockets, without a web server.

The order's URL is `fcgi:` and the path of a file with the whole load (`agent.wire.command.load_to_json`); its
path is that of the agent's archive, which runs the client in a process of its own.
"""

from __future__ import annotations

import json
import sys

from agent.load.report import LoadError, LoadReport, Order, Output, last_line
from agent.records import LatencyMs
from agent.wire.results import WireResult

SCHEME = "fcgi:"
TAKES_FRACTIONS = True


def command(order: Order) -> list[str]:
    """Return the argument list.

    Raises
    ------
    LoadError
        The URL is that of a web server.
    """
    if not order.url.startswith(SCHEME):
        raise LoadError(
            f"fcgi drives handlers on their own sockets, not {order.url}; choose ab, wrk or h2load"
        )
    return [sys.executable, order.path, "wire-load", order.url[len(SCHEME) :], str(order.seconds)]


def result(output: Output) -> WireResult:
    """Return all that the client found out.

    Raises
    ------
    LoadError
        It did not come to its end.
    """
    try:
        if output.status == 0:
            return WireResult.from_json(json.loads(last_json_line(output.text)))
    except (ValueError, TypeError, KeyError) as error:
        raise LoadError(f"what fcgi said cannot be understood ({error}): {last_line(output.text)}") from error
    raise LoadError(f"fcgi ended with status {output.status}: {last_line(output.text)}")


def last_json_line(text: str) -> str:
    """Return the last line that holds an object: complaints of the interpreter may stand beside it."""
    return next((line for line in reversed(text.splitlines()) if line.startswith("{")), "")


def parse(output: Output) -> LoadReport:
    """Put what the client found out into the form that all load generators share.

    Raises
    ------
    LoadError
        It did not come to its end.
    """
    found = result(output)
    mean_ms = found.latency_ms["mean"]
    return LoadReport(
        measured_s=found.measured_s,
        complete=found.complete,
        failed=found.failed,
        non_2xx=found.faults.get("bad_status", 0),
        write_errors=0,
        length_failures=found.faults.get("bad_length", 0) + found.faults.get("bad_body", 0),
        keepalive=found.sent - found.evidence.connections_opened,
        body_bytes=found.body_bytes,
        mean_ms=None if mean_ms is None else (mean_ms, mean_ms),
        latency_ms=LatencyMs(**found.latency_ms),
        cpu_s=found.client_cpu_s,
        complaint=next(iter(found.examples), ""),
    )
