"""The load generator h2load, speaking HTTP/1.1 with one thread.

It always keeps its connections: told to close them, version 1.52 does not come to an end. It prints no
percentiles.
"""

from __future__ import annotations

import re

from agent.load.report import BODY_TYPE, LoadError, LoadReport, Order, Output, last_line
from agent.records import LatencyMs

_FINISHED = re.compile(r"^finished in ([0-9.]+)(us|ms|s|m|h)", re.MULTILINE)
_REQUESTS = re.compile(
    r"^requests: .*, (\d+) done, \d+ succeeded, (\d+) failed, (\d+) errored, (\d+) timeout",
    re.MULTILINE,
)
_STATUS = re.compile(r"^status codes: (\d+) 2xx", re.MULTILINE)
_DATA = re.compile(r"^traffic: \S+ \((\d+)\) total, .* \((\d+)\) data", re.MULTILINE)
_TIME = re.compile(r"^time for request:\s+\S+\s+([0-9.]+)(us|ms|s)\s+([0-9.]+)(us|ms|s)", re.MULTILINE)
_MS = {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 6e4, "h": 3.6e6}


def command(order: Order) -> list[str]:
    """Return the argument list.

    Raises
    ------
    LoadError
        A connection per request is asked for.
    """
    if not order.keepalive:
        raise LoadError("h2load always keeps its connections; use ab or wrk for keepalive: false")
    words = [order.path, "--h1", "-t", "1", "-c", str(order.concurrency), "-D", str(order.seconds)]
    words += ["-d", str(order.body), "-H", f"content-type: {BODY_TYPE}"] if order.body else []
    return [*words, order.url]


def parse(output: Output) -> LoadReport:
    """Read what h2load printed.

    Raises
    ------
    LoadError
        It did not come to its end.
    """
    finished, requests = _FINISHED.search(output.text), _REQUESTS.search(output.text)
    status, data = _STATUS.search(output.text), _DATA.search(output.text)
    if output.status != 0 or not (finished and requests and status and data):
        raise LoadError(f"h2load ended with status {output.status}: {last_line(output.text)}")
    done, failed, errored, timeout = (int(each) for each in requests.groups())
    time = _TIME.search(output.text) if done else None
    mean = float(time.group(3)) * _MS[time.group(4)] if time else None
    return LoadReport(
        measured_s=float(finished.group(1)) * _MS[finished.group(2)] / 1e3,
        complete=done,
        failed=max(failed, errored) + timeout,  # h2load counts what is errored as failed, too
        non_2xx=max(0, done - int(status.group(1))),  # it counts statuses of what was cut off, too
        write_errors=0,
        length_failures=0,
        body_bytes=int(data.group(2)),
        read_bytes=int(data.group(1)),
        mean_ms=None if mean is None else (mean, mean),
        latency_ms=LatencyMs(mean=mean, max=float(time.group(1)) * _MS[time.group(2)] if time else None),
    )
