"""Apache Bench.

`-t` sets its own request limit, so `-n` must come after it. `-r` makes it count broken connections instead of
stopping at the first. Non-2xx responses are no failures to ab, and with `-r` refused connections are complete
requests: neither its exit status nor its rate says anything about success.
"""

from __future__ import annotations

import csv
import io
import re
from typing import Optional

from agent.load.report import BODY_TYPE, LoadError, LoadReport, Order, Output, last_line
from agent.records import LatencyMs

# More than ab can do; it sets 32 bytes aside for each, so that no limit at all is not to be had.
_FASTEST_RPS = 100_000
_FIELD = re.compile(r"^([A-Z][A-Za-z0-9 -]*?):\s+([0-9.]+)", re.MULTILINE)
_KINDS = re.compile(r"\(Connect: (\d+), Receive: (\d+), Length: (\d+), Exceptions: (\d+)\)")


def command(order: Order) -> list[str]:
    """Return the argument list."""
    words = [
        order.path,
        "-t",
        str(order.seconds),
        "-n",
        str(_FASTEST_RPS * order.seconds),
        "-c",
        str(order.concurrency),
    ]
    # A server that never answers ends the run with an error instead of holding it for the usual 30 s.
    words += ["-s", str(order.seconds), "-q", "-r", "-e", str(order.csv)]
    words += ["-k"] if order.keepalive else []
    words += ["-p", str(order.body), "-T", BODY_TYPE] if order.body else []
    return [*words, order.url]


def parse(output: Output) -> LoadReport:
    """Read what ab printed.

    Raises
    ------
    LoadError
        It did not come to its end.
    """
    found = dict(_FIELD.findall(output.text))
    if output.status != 0 or "Complete requests" not in found:
        raise LoadError(f"ab ended with status {output.status}: {last_line(output.text)}")
    kinds = _KINDS.search(output.text)
    table = _percentiles(output.csv)
    return LoadReport(
        measured_s=float(found["Time taken for tests"]),
        complete=int(found["Complete requests"]),
        failed=int(found["Failed requests"]),
        non_2xx=int(found.get("Non-2xx responses", 0)),
        write_errors=int(found.get("Write errors", 0)),
        length_failures=int(kinds.group(3)) if kinds else 0,
        keepalive=int(found.get("Keep-Alive requests", 0)),
        document_bytes=int(found["Document Length"]),
        body_bytes=int(found["HTML transferred"]),
        mean_ms=_mean(table),
        latency_ms=_latency(table),
    )


def _percentiles(text: str) -> Optional[list[float]]:
    rows = list(csv.reader(io.StringIO(text)))
    if len(rows) != 102:  # a header and the percentiles 0 to 100
        return None
    return [float(row[1]) for row in rows[1:]]


def _mean(table: Optional[list[float]]) -> Optional[tuple[float, float]]:
    """Return bounds of the mean: between two percentiles lie times from the lower to the upper."""
    if table is None:
        return None
    return sum(table[:-1]) / 100, sum(table[1:]) / 100


def _latency(table: Optional[list[float]]) -> LatencyMs:
    if table is None:
        return LatencyMs()
    middle = (sum(table) - (table[0] + table[100]) / 2) / 100
    return LatencyMs(mean=middle, p50=table[50], p90=table[90], p95=table[95], p99=table[99], max=table[100])
