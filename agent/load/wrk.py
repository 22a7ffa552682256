"""The load generator wrk, with one thread so that its processor share means the same as that of ab.

It knows no body lengths, counts a connection that the server closes without a word as a read error, and does
not time how long a new connection takes.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Optional

from agent.load.report import BODY_TYPE, LoadError, LoadReport, Order, Output, last_line
from agent.records import LatencyMs

_TOTAL = re.compile(r"(\d+) requests in ([0-9.]+)(us|ms|s|m|h), ([0-9.]+)(B|KB|MB|GB|TB) read")
_ERRORS = re.compile(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)")
_NON_2XX = re.compile(r"Non-2xx or 3xx responses: (\d+)")
_LATENCY = re.compile(r"^\s+Latency\s+([0-9.]+)(us|ms|s|m)\s+\S+\s+([0-9.]+)(us|ms|s|m)", re.MULTILINE)
_PERCENTILE = r"^\s+{}%\s+([0-9.]+)(us|ms|s|m)"
_MS = {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 6e4, "h": 3.6e6}
_BYTES = {"B": 1, "KB": 1024, "MB": 1024**2, "GB": 1024**3, "TB": 1024**4}


def command(order: Order) -> list[str]:
    """Return the argument list."""
    words = [order.path, "--latency", "-t", "1", "-c", str(order.concurrency), "-d", f"{order.seconds}s"]
    words += [] if order.keepalive else ["-H", "Connection: close"]
    words += ["-s", str(_post_script(order.body))] if order.body else []
    return [*words, order.url]


def _post_script(body: Path) -> Path:
    """Write, beside the body, the only way to have wrk send one."""
    script = body.with_suffix(".lua")
    script.write_text(
        f'local file = assert(io.open("{body}", "rb"))\n'
        'wrk.method, wrk.body = "POST", file:read("*a")\n'
        f'wrk.headers["Content-Type"] = "{BODY_TYPE}"\n'
        "file:close()\n",
        encoding="utf-8",
    )
    return script


def parse(output: Output) -> LoadReport:
    """Read what wrk printed.

    Raises
    ------
    LoadError
        It did not come to its end.
    """
    total = _TOTAL.search(output.text)
    if output.status != 0 or total is None:
        raise LoadError(f"wrk ended with status {output.status}: {last_line(output.text)}")
    complete, measured, unit, read, read_unit = total.groups()
    errors = _ERRORS.search(output.text)
    connect, receive, write, timeout = (int(each) for each in errors.groups()) if errors else (0, 0, 0, 0)
    non_2xx = _NON_2XX.search(output.text)
    latency = _LATENCY.search(output.text) if int(complete) else None
    mean = float(latency.group(1)) * _MS[latency.group(2)] if latency else None
    return LoadReport(
        measured_s=float(measured) * _MS[unit] / 1e3,
        complete=int(complete),
        failed=connect + receive + write + timeout,
        non_2xx=int(non_2xx.group(1)) if non_2xx else 0,
        write_errors=write,
        length_failures=0,
        read_bytes=round(float(read) * _BYTES[read_unit]),
        mean_ms=None if mean is None else (mean, mean),
        latency_ms=LatencyMs(
            mean=mean,
            p50=_percentile(output.text, 50) if latency else None,
            p90=_percentile(output.text, 90) if latency else None,
            p99=_percentile(output.text, 99) if latency else None,
            max=float(latency.group(3)) * _MS[latency.group(4)] if latency else None,
        ),
        times_whole_cycle=False,
    )


def _percentile(text: str, percent: int) -> Optional[float]:
    found = re.search(_PERCENTILE.format(percent), text, re.MULTILINE)
    return float(found.group(1)) * _MS[found.group(2)] if found else None
