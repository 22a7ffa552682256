"""What every load generator is told, and what is understood of its answer."""

from __future__ import annotations

import importlib
import math
import pkgutil
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Optional, cast

from agent.records import LatencyMs, LoadSpec, Record

_NOT_TOOLS = {"report"}


BODY_TYPE = "application/octet-stream"


class LoadError(ValueError):
    """A load generator that cannot do what is asked, or whose output cannot be understood."""


@dataclass(frozen=True)
class Order:
    """One run of a load generator; most of them count in whole seconds.

    With `body`, a file, every request is a POST of its content, else a GET.
    """

    path: str
    url: str
    concurrency: int
    seconds: float
    keepalive: bool
    csv: Path
    body: Optional[Path] = None


@dataclass(frozen=True)
class Output:
    """What a run left: its text, its table where it writes one, its exit status."""

    text: str
    csv: str
    status: int


@dataclass(frozen=True)
class LoadReport(Record):
    """What a load generator says it did.

    `mean_ms` is an interval that holds the mean response time: some tools only print percentiles. `keepalive`
    counts re-used connections, `document_bytes` is the body of the first response, `body_bytes` that of all,
    `read_bytes` includes headers; each is None where the tool does not say. `times_whole_cycle` tells
    whether the response time covers all that a connection does: only then does Little's law apply. `cpu_s` is
    the processor time of the load alone, without that to start and to sum up. `complaint` is the first thing
    that went wrong, in words.
    """

    measured_s: float
    complete: int
    failed: int
    non_2xx: int
    write_errors: int
    length_failures: int
    mean_ms: Optional[tuple[float, float]]
    latency_ms: LatencyMs
    keepalive: Optional[int] = None
    document_bytes: Optional[int] = None
    body_bytes: Optional[int] = None
    read_bytes: Optional[int] = None
    times_whole_cycle: bool = True
    cpu_s: Optional[float] = None
    complaint: str = ""


@dataclass(frozen=True)
class Tool:
    """A load generator.

    One that takes fractions of seconds is over in its time, and has an answer to each of its requests then.
    """

    name: str
    command: Callable[[Order], list[str]]
    parse: Callable[[Output], LoadReport]
    takes_fractions: bool = False


def names() -> list[str]:
    """Return the names of all load generators."""
    modules = {module.name for module in pkgutil.iter_modules([str(Path(__file__).parent)])}
    return sorted(modules - _NOT_TOOLS)


def tool(name: str) -> Tool:
    """Return the load generator called `name`.

    Raises
    ------
    LoadError
        There is none.
    """
    if name not in names():
        raise LoadError(f"no load generator is called {name!r}; this agent knows {', '.join(names())}")
    module = importlib.import_module(f"agent.load.{name}")
    return Tool(
        name=name,
        command=cast("Callable[[Order], list[str]]", module.command),
        parse=cast("Callable[[Output], LoadReport]", module.parse),
        takes_fractions=getattr(module, "TAKES_FRACTIONS", False),
    )


def whole_seconds(duration_s: float) -> int:
    """Return the whole seconds that a tool is asked for: at least one, a fraction rounded up."""
    return max(1, math.ceil(duration_s))


def order(spec: LoadSpec, url: str, seconds: float, csv: Path, body: Optional[Path]) -> Order:
    """Return the order for a part of a trial."""
    return Order(
        path=spec.path,
        url=url,
        concurrency=spec.concurrency,
        seconds=seconds,
        keepalive=spec.keepalive,
        csv=csv,
        body=body,
    )


def last_line(text: str) -> str:
    """Return the last line that says something, to quote in a reason."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][-300:] if lines else "no output"
